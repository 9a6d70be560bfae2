"""MI-FGSM: signed gradient steps that keep a momentum."""

from typing import Literal

from robustmix.attacks.attack import attack, own_keys
from robustmix.attacks.ball import check_problem, lengths, per_sample, project
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.expectation import Looks
from robustmix.attacks.losses import Goal
from robustmix.attacks.outcome import Outcome
from robustmix.attacks.search import Leader
from robustmix.later import Tensor, torch
from robustmix.types import Model


@attack
def mifgsm(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Literal["linf"] = "linf",
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    eot: int = 1,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Raise the cross-entropy inside a ball by signed steps along a sum of all gradients so far.

    Each gradient is divided by the sum of its absolute values, so that all weigh alike, and what
    was summed before is multiplied by ``decay``. The images are what is made for other models too:
    the outcome's ``last`` is the last iterate, which has gone farthest whether or not this model
    was fooled on the way.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf``.
        steps: gradient steps, all of which every sample makes.
        step_size: length of a step, in the unit of the radius; by default the radius over the
            number of steps.
        decay: what is kept of the earlier gradients at each step; 0 makes it the basic iterative
            method.
        eot: passes that each gradient is the mean of, for a network whose answers are random
            (expectation over transformation); its draws follow from the keys.
        seed: what the network draws with several passes follows from, where there are no keys.
        keys: likewise, one 64-bit key a sample, int64 (N,); without effect on one pass.

    Returns:
        Images (N, C, H, W): of all iterates one that reached the goal if any did, and of those the
        one of highest loss. The outcome has ``loss`` and ``last``.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Dong et al. 2018, arXiv:1710.06081, algorithm 1, which returns the last iterate.

    Example:
        >>> toward = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1)
        >>> image, label = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
        >>> mifgsm(toward, image, label, eps=0.25, steps=2).flatten().tolist()
        [0.25, 0.75]
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if norm != "linf":
        raise ValueError(f"expected norm linf, got {norm!r}")
    if steps < 1 or not (step_size is None or step_size > 0) or not 0 <= decay < torch.inf:
        raise ValueError(
            "expected steps >= 1, step_size > 0 and decay >= 0, got "
            f"{steps}, {'none' if step_size is None else step_size} and {decay}"
        )
    looks = Looks(eot, own_keys(keys, seed, images))
    length = eps / steps if step_size is None else step_size
    best, goal, adv = Leader(images), Goal("ce", labels), images
    rows, momentum = best.survivors(), torch.zeros_like(images)
    for _ in range(steps if len(images) else 0):
        value, reached, gradient, _ = looks.slope(model, adv, goal, doubts)
        best.offer(rows, adv, reached, value)
        momentum = decay * momentum + _of_mass_one(gradient)
        adv = project(images, adv + length * momentum.sign(), norm=norm, eps=eps)
    if len(images):
        value, reached = looks.standing(model, adv, goal, doubts)
        best.offer(rows, adv, reached, value)
    doubts.settle()
    passes = torch.full_like(labels, steps)
    return Outcome(
        images=best.images,
        success=best.reached,
        loss=best.loss,
        last=adv,
        forwards=eot * (passes + 1),
        backwards=eot * passes,
    )


def _of_mass_one(gradient: Tensor) -> Tensor:
    """Divide each sample's gradient by the sum of its absolute values; zeros stay zeros.

    By the largest entry first, so that the sum neither vanishes nor overflows.
    """
    largest = per_sample(lengths(gradient, norm="linf"))
    scaled = torch.where(largest > 0, gradient / largest, 0.0)
    mass = scaled.flatten(1).abs().sum(dim=1)
    return scaled / per_sample(mass.clamp_min(1.0))
