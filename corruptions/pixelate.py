"""Pixelate: box resampling to a smaller size and back."""

import functools
import math

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile

FACTOR: Severities[float] = {
    "cifar": (0.95, 0.9, 0.85, 0.75, 0.65),
    "tiny": (0.9, 0.8, 0.7, 0.6, 0.5),
    "imagenet": (0.6, 0.5, 0.4, 0.3, 0.25),
}
"""The small side is this fraction of the large one, rounded down to whole pixels."""

_PRECISION = 22
"""Fractional bits of Pillow's resampling weights."""


@functools.cache
def box_weights(size: int, new_size: int) -> Tensor:
    """Return Pillow's box filter from ``size`` to ``new_size`` pixels, float64 (new_size, size).

    Whole pixels are counted or left out, never cut. The weights are whole multiples of 2^-22, held
    as whole numbers.
    """
    scale = size / new_size
    stretch = max(scale, 1.0)
    weights = torch.zeros(new_size, size, dtype=torch.float64)
    for i in range(new_size):
        centre = (i + 0.5) * scale
        first = max(math.floor(centre - 0.5 * stretch + 0.5), 0)
        last = min(math.floor(centre + 0.5 * stretch + 0.5), size)
        inside = [j for j in range(first, last) if -0.5 < (j - centre + 0.5) / stretch <= 0.5]
        weights[i, inside] = math.floor(2**_PRECISION / len(inside) + 0.5)
    return weights


def _resample_rows(levels: Tensor, new_size: int) -> Tensor:
    """Resample whole grey levels (..., W) to (..., new_size), rounding to whole levels."""
    weights = box_weights(levels.shape[-1], new_size).to(levels.device)
    # Whole numbers below 2^53 throughout, so the product is exact in any order.
    total = levels @ weights.T
    return total.add_(2 ** (_PRECISION - 1)).mul_(2.0**-_PRECISION).floor_().clamp_(0, 255)


def box_resize(levels: Tensor, height: int, width: int) -> Tensor:
    """Resample images as Pillow's ``BOX`` filter does: rows, rounded, then columns, rounded.

    Args:
        levels: whole grey levels, float64 (N, 3, H, W).
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        Whole grey levels, float64 (N, 3, height, width).
    """
    return _resample_rows(_resample_rows(levels, width).mT, height).mT


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Scale down and up again.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    height, width = images.shape[-2:]
    factor = FACTOR[profile][severity - 1]
    small = box_resize(images.to(torch.float64), int(height * factor), int(width * factor))
    return box_resize(small, height, width).to(torch.uint8)


CORRUPTION = Corruption(name="pixelate", constants=FACTOR, apply=apply)
