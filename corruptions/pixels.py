"""Between grey levels and the unit interval, and from nearly known values to whole levels."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CACHED = 2**16
"""Values that are worked on at once: in float64 half a megabyte, which a cache holds."""

# On a CPU, NumPy converts types piece by piece within one operation, so that a large image is not
# written to memory and read again between its conversion and the rest.


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 grey levels as float64 in [0, 1], same shape."""
    if images.device.type == "cpu":
        return torch.from_numpy(np.divide(images.numpy(), 255.0))
    return images.to(torch.float64).div_(255)


def to_single_unit(images: Tensor) -> Tensor:
    """Return uint8 grey levels as float32 in [0, 1], same shape."""
    if images.device.type == "cpu":
        return torch.from_numpy(np.divide(images.numpy(), np.float32(255)))
    return images.to(torch.float32).div_(255)


def to_grey_levels_(images: Tensor) -> Tensor:
    """Clip to [0, 1] and truncate to uint8 grey levels, same shape; ``images`` is overwritten.

    The benchmark truncates. Rounding would be half a grey level brighter everywhere; casting
    before clipping would wrap white to black.
    """
    if images.device.type == "cpu":
        return torch.from_numpy(grey_levels_on_cpu_(images.numpy()))
    return truncated(images.clamp_(0, 1).mul_(255))


def grey_levels_on_cpu_(
    images: NDArray[np.float64] | NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Return the same of NumPy's arrays, which are overwritten."""
    images.clip(0, 1, out=images)
    levels = np.empty(images.shape, np.uint8)
    return np.multiply(images, 255, out=levels, casting="unsafe")


def truncated(levels: Tensor) -> Tensor:
    """Return floating point grey levels in [0, 255] truncated to uint8, same shape."""
    if levels.device.type == "cpu":
        return torch.from_numpy(levels.numpy().astype(np.uint8))
    # Through int32: two vectorised conversions in place of a slow one.
    return levels.to(torch.int32).to(torch.uint8)


def settled(levels: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Truncate grey levels that are known to within ``error``, and say which are not certain.

    Sums in another order than the benchmark's are faster, and nearly always truncate to the same
    level; where they need not, the caller computes in the benchmark's order.

    Args:
        levels: floating point, any shape, on a CPU; values outside [0, 255] are cut off.
            Overwritten.
        error: how far from the benchmark's value they may be, at most.

    Returns:
        The levels, uint8, and bool of the same shape: whether another level is possible.

    Example:
        >>> settled(torch.tensor([6.9, 7.0001, 300.0]), 0.01)
        (tensor([  6,   6, 255], dtype=torch.uint8), tensor([False,  True, False]))
    """
    low = np.empty(levels.shape, np.uint8)
    open_ = np.empty(levels.shape, np.bool_)
    # Some planes at a time, all steps of which are taken while a cache holds them.
    step = max(1, CACHED // max(1, math.prod(levels.shape[-2:])))
    planes = levels.flatten(0, -3) if levels.ndim > 3 else levels.view(-1, *levels.shape[-2:])
    lows, opens = (made.reshape(planes.shape) for made in (low, open_))
    for start in range(0, len(planes), step):
        some = slice(start, start + step)
        above = planes[some].sub_(error).clamp_(0, 255)
        np.copyto(lows[some], above.numpy(), casting="unsafe")  # which truncates
        # What lies two errors higher has another level if it reaches the next one; the third error
        # is for the roundings here.
        np.greater_equal(above.frac_().numpy(), 1 - 3 * error, out=opens[some])
    return torch.from_numpy(low), torch.from_numpy(open_)
