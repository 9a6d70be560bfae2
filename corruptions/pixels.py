"""Between grey levels and the unit interval, and from nearly known values to whole levels."""

import torch
from torch import Tensor


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 grey levels as float64 in [0, 1], same shape."""
    return images.to(torch.float64).div_(255)


def to_grey_levels_(images: Tensor) -> Tensor:
    """Clip to [0, 1] and truncate to uint8 grey levels, same shape; ``images`` is overwritten.

    The benchmark truncates. Rounding would be half a grey level brighter everywhere; casting
    before clipping would wrap white to black.
    """
    # Through int32: two vectorised conversions in place of a slow one.
    return images.clamp_(0, 1).mul_(255).to(torch.int32).to(torch.uint8)


def settled(levels: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Truncate grey levels that are known to within ``error``, and say which are not certain.

    Sums in another order than the benchmark's are faster, and nearly always truncate to the same
    level; where they need not, the caller computes in the benchmark's order.

    Args:
        levels: floating point, any shape; values outside [0, 255] are cut off. Overwritten.
        error: how far from the benchmark's value they may be, at most.

    Returns:
        The levels, uint8, and bool of the same shape: whether another level is possible.

    Example:
        >>> settled(torch.tensor([6.9, 7.0001, 300.0]), 0.01)
        (tensor([  6,   6, 255], dtype=torch.uint8), tensor([False,  True, False]))
    """
    low = levels.sub_(error).clamp(0, 255).to(torch.int32)
    high = levels.add_(2 * error).clamp_(0, 255).to(torch.int32)
    return low.to(torch.uint8), low != high
