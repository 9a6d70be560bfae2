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

    zero_gradient: Tensor
    """(N,): share of exactly zero entries in the gradient at the first start; 1 for no steps."""


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
    stop_early: bool = False,
) -> PgdOutcome:
    """Raise a loss inside a ball by steps of fixed length along the gradient.

    Every iterate is projected into the ball and [0, 1]. The first restart makes all its steps for
    every sample; later ones take only the samples of which no iterate has reached the goal yet,
    so success never falls as restarts are added.

    With ``stop_early`` a sample's search ends at the first iterate that reaches the goal. Which
    samples are reached, and after how many steps, is the same; ``loss``, ``last`` and what was
    noted of later steps is not, for these are not made.

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
        stop_early: leave a sample alone once its goal is reached.

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
    _check_starts(random_start, restarts, keys)
    tries, planning = plan(model, images, labels, loss=loss, targets=targets, restarts=restarts)
    record = _Record(images, steps, planning)
    for stream, whole in tries:
        rows = record.best.survivors()
        if not len(rows):
            break
        centres = adv = images[rows]
        if random_start and keys is not None:
            own = keys.to(images.device)[rows]
            adv = start_in_ball(centres, own, norm=norm, eps=eps, stream=stream)
        goal = whole.take(rows)
        for step in range(steps):
            value, reached, gradient = slope(model, adv, goal)
            record.iterate(step, rows, adv, reached, value, gradient)
            if stop_early and bool(reached.any()):
                record.last.offer(rows[reached], adv[reached], reached[reached], value[reached])
                left = ~reached
                rows, adv, centres, gradient = rows[left], adv[left], centres[left], gradient[left]
                goal = whole.take(rows)
                if not len(rows):
                    break
            adv = adv + step_size * ascent_direction(gradient, norm=norm)
            adv = project(centres, adv, norm=norm, eps=eps)
        if len(rows):
            value, reached = standing(model, adv, goal)
            record.iterate(steps, rows, adv, reached, value)
            record.last.offer(rows, adv, reached, value)
    return record.outcome()


def _check_starts(random_start: bool, restarts: int, keys: Tensor | None) -> None:
    if random_start and keys is None:
        raise ValueError("a random start needs keys")
    if restarts > 1 and not random_start:
        raise ValueError("restarts without a random start would repeat the same search")


class _Record:
    """What is kept of the iterates."""

    def __init__(self, images: Tensor, steps: int, planning: int) -> None:
        n, device = len(images), images.device
        self.best, self.last = Leader(images), Leader(images)
        self.reached_at = torch.zeros(steps + 1, n, dtype=torch.bool, device=device)
        self.loss_at = self.best.loss.repeat(steps + 1, 1)  # all minus infinity
        self.forwards = torch.full((n,), planning, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.zero_gradient: Tensor | None = None

    def iterate(
        self,
        step: int,
        rows: Tensor,
        adv: Tensor,
        reached: Tensor,
        loss: Tensor,
        gradient: Tensor | None = None,
    ) -> None:
        """Note the iterates of some samples after so many steps, and the gradient there."""
        self.best.offer(rows, adv, reached, loss)
        self.reached_at[step, rows] |= reached
        self.loss_at[step, rows] = self.loss_at[step, rows].maximum(loss)
        self.forwards[rows] += 1
        if gradient is not None:
            self.backwards[rows] += 1
            if self.zero_gradient is None:  # the first gradient is taken of all samples
                self.zero_gradient = (gradient == 0).flatten(1).to(loss.dtype).mean(dim=1)

    def outcome(self) -> PgdOutcome:
        """Return it as the attack's result."""
        flat = self.zero_gradient
        return PgdOutcome(
            best=self.best.images,
            success=self.best.reached,
            loss=self.best.loss,
            last=self.last.images,
            last_success=self.last.reached,
            last_loss=self.last.loss,
            reached_at=self.reached_at,
            loss_at=self.loss_at,
            zero_gradient=torch.ones_like(self.best.loss) if flat is None else flat,
            forwards=self.forwards,
            backwards=self.backwards,
        )
