"""Between grey levels and the unit interval."""

import torch
from torch import Tensor


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 grey levels as float64 in [0, 1], same shape."""
    return images.to(torch.float64) / 255


def to_grey_levels(images: Tensor) -> Tensor:
    """Clip to [0, 1] and truncate to uint8 grey levels, same shape.

    The benchmark truncates. Rounding would be half a grey level brighter everywhere; casting
    before clipping would wrap white to black.
    """
    return images.clamp(0, 1).mul_(255).to(torch.uint8)
