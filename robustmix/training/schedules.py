"""Learning rates: a pure function of the iteration, so that resuming needs no state."""

import math
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["cosine", "cosine-iter", "constant", "step"]
"""``cosine`` is constant inside an epoch, ``cosine-iter`` moves at every iteration."""

WARMUP_RATIO = 1e-5
"""Share of the regular learning rate at iteration 0 of a linear warm-up."""


def cosine(progress: float, base: float, minimum: float) -> float:
    """Return ``base`` at progress 0, ``minimum`` at progress 1, half a cosine in between."""
    return minimum + 0.5 * (base - minimum) * (1 + math.cos(math.pi * progress))


def warmup_factor(iteration: int, warmup: int) -> float:
    """Return what the regular learning rate is multiplied with: 1e-5 rising linearly to 1.

    Args:
        iteration: 0-based.
        warmup: length of the warm-up in iterations; 0 is none.
    """
    if iteration >= warmup:
        return 1.0
    return 1 - (1 - iteration / warmup) * (1 - WARMUP_RATIO)


def learning_rate(
    schedule: Schedule,
    iteration: int,
    *,
    base: float,
    minimum: float,
    epochs: int,
    iters_per_epoch: int,
    warmup_epochs: int = 0,
    milestones: tuple[int, ...] = (),
    gamma: float = 0.1,
) -> float:
    """Return the learning rate of one iteration.

    Args:
        schedule: which rule. A cosine never reaches ``minimum`` exactly: its last epoch or
            iteration is one before the end.
        iteration: 0-based, over the whole run.
        base: learning rate at the start, after the warm-up.
        minimum: what the cosine falls to, and what ``step`` does not fall below.
        epochs: length of the run.
        iters_per_epoch: batches in an epoch.
        warmup_epochs: length of the linear warm-up, which scales whatever the rule gives.
        milestones: epochs (0-based) from which on ``step`` multiplies by ``gamma`` once more.
        gamma: factor of ``step``.

    Reference:
        mmcv 1.7, ``CosineAnnealing`` with ``by_epoch`` and ``warmup="linear"``.
    """
    epoch = iteration // iters_per_epoch
    match schedule:
        case "cosine":
            regular = cosine(epoch / epochs, base, minimum)
        case "cosine-iter":
            regular = cosine(iteration / (epochs * iters_per_epoch), base, minimum)
        case "step":
            passed = sum(epoch >= milestone for milestone in milestones)
            regular = max(base * gamma**passed, minimum)
        case "constant":
            regular = base
    return regular * warmup_factor(iteration, warmup_epochs * iters_per_epoch)
