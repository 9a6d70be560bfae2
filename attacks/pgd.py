"""Projected gradient ascent in an L-infinity or L2 ball."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustmix.attacks.ball import Norm, ascent_direction, check_problem, project, start_in_ball
from robustmix.attacks.losses import Loss, slope, standing
from robustmix.attacks.search import Leader, Outcome, plan
from robustmix.types import Model


@dataclass(frozen=True, kw_only=True)
class PgdOutcome(Outcome):
    """The worst case over all steps and restarts, and where the last step ended."""

    last: Tensor
    """(N, C, H, W): the worst last iterate over the restarts made."""

    last_success: Tensor
    """bool (N,): whether ``last`` reached the goal."""

    last_loss: Tensor
    """(N,): the loss of ``last``."""

    reached_at: Tensor
    """bool (steps + 1, N): whether the iterate after so many steps reached it, in any restart."""

    loss_at: Tensor
    """(steps + 1, N): the highest loss after so many steps over the restarts."""


def pgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    norm: Norm = "linf",
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "ce",
    targets: Tensor | int | None = None,
    keys: Tensor | None = None,
) -> PgdOutcome:
    """Raise a loss inside a ball by steps of fixed length along the gradient.

    Every iterate is projected into the ball and [0, 1]. The first restart makes all its steps for
    every sample; later ones take only the samples of which no iterate has reached the goal yet,
    so success never falls as restarts are added.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        step_size: length of one step in the same norm and unit.
        steps: gradient steps a restart; 0 scores the start alone.
        norm: ``linf`` steps along the sign of the gradient, ``l2`` along the gradient itself.
        restarts: number of random starts (for every target).
        random_start: start at a uniformly random point of the ball, else at the image.
        loss: ``ce``, ``margin`` or ``dlr`` (at least 3 classes, with targets 4).
        targets: None: away from the label. Classes (N,): towards these, and only they count as
            success. A number such as 9: towards each of that many highest other classes in turn;
            any wrong class counts as success.
        keys: one 64-bit key a sample for the random starts, int64 (N,)
            (:func:`robustmix.rng.sample_keys`); no draw depends on the batch.

    Raises:
        ValueError: an argument that cannot be meant.
        IncompleteError: the model returned NaN or infinite logits.

    Reference:
        Madry et al. 2018, arXiv:1706.06083, section 2.1.

    Example:
        >>> toward = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1)
        >>> found = pgd(toward, torch.full((1, 1, 1, 2), 0.5), torch.tensor([0]),
        ...             eps=0.25, step_size=0.125, steps=3, random_start=False)
        >>> found.best.flatten().tolist(), found.success.tolist()
        ([0.25, 0.75], [True])
    """
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys)
    if steps < 0 or not step_size > 0:
        raise ValueError(f"expected steps >= 0 and step_size > 0, got {steps} and {step_size}")
    if random_start and keys is None:
        raise ValueError("a random start needs keys")
    if restarts > 1 and not random_start:
        raise ValueError("restarts without a random start would repeat the same search")
    tries, planning = plan(model, images, labels, loss=loss, targets=targets, restarts=restarts)
    n, device = len(images), images.device
    best, last = Leader(images), Leader(images)
    reached_at = torch.zeros(steps + 1, n, dtype=torch.bool, device=device)
    loss_at = torch.full((steps + 1, n), -torch.inf, dtype=images.dtype, device=device)
    rounds = torch.zeros(n, dtype=torch.int64, device=device)
    for stream, whole in tries:
        rows = best.survivors()
        if not len(rows):
            break
        centres, goal = images[rows], whole.take(rows)
        adv = centres
        if random_start and keys is not None:
            own = keys.to(device)[rows]
            adv = start_in_ball(centres, own, norm=norm, eps=eps, stream=stream)
        for step in range(steps):
            value, reached, gradient = slope(model, adv, goal)
            best.offer(rows, adv, reached, value)
            reached_at[step, rows] |= reached
            loss_at[step, rows] = loss_at[step, rows].maximum(value)
            adv = adv + step_size * ascent_direction(gradient, norm=norm)
            adv = project(centres, adv, norm=norm, eps=eps)
        value, reached = standing(model, adv, goal)
        best.offer(rows, adv, reached, value)
        last.offer(rows, adv, reached, value)
        reached_at[steps, rows] |= reached
        loss_at[steps, rows] = loss_at[steps, rows].maximum(value)
        rounds[rows] += 1
    return PgdOutcome(
        best=best.images,
        success=best.reached,
        loss=best.loss,
        last=last.images,
        last_success=last.reached,
        last_loss=last.loss,
        reached_at=reached_at,
        loss_at=loss_at,
        forwards=rounds * (steps + 1) + planning,
        backwards=rounds * steps,
    )
