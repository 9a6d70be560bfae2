"""A blur along a direction, as ImageMagick's motion blur makes it: one-sided and truncated."""

import functools
import math

import torch
from torch import Tensor

QUANTUM = 257
"""Levels of the 16-bit arithmetic that it rounds in, to one grey level."""


@functools.cache
def one_sided_taps(radius: float, sigma: float) -> tuple[float, ...]:
    """Return 2 ceil(radius) + 1 weights falling as a half Gaussian, which sum to 1.

    Example:
        >>> taps = one_sided_taps(6, 1.0)
        >>> len(taps), round(taps[1] / taps[0], 4)
        (13, 0.6065)
    """
    length = 2 * math.ceil(radius) + 1
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(length)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def directional_blur(images: Tensor, angles: Tensor, radius: float, sigma: float) -> Tensor:
    """Blur every image along its own direction; what is dragged comes from that side only.

    Args:
        images: grey levels, uint8 (N, C, H, W).
        angles: float64 (N,), in degrees; 0 takes pixels from the right, 90 from below.
        radius: half the length of the blur, in pixels.
        sigma: deviation of the weights along it, in pixels.

    Returns:
        uint8 (N, C, H, W); the border pixels repeat outwards.
    """
    n, channels, height, width = images.shape
    taps = one_sided_taps(radius, sigma)
    steps = torch.arange(len(taps), dtype=torch.float64, device=images.device)
    turn = torch.deg2rad(angles).unsqueeze(1)
    right = torch.ceil(steps * torch.cos(turn) - 0.5).to(torch.int64)
    down = torch.ceil(steps * torch.sin(turn) - 0.5).to(torch.int64)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    levels = images.flatten(2).to(torch.float64)
    total = torch.zeros_like(levels)
    for i, weight in enumerate(taps):
        row = (rows + down[:, i : i + 1]).clamp_(0, height - 1)
        column = (columns + right[:, i : i + 1]).clamp_(0, width - 1)
        source = (row.unsqueeze(2) * width + column.unsqueeze(1)).flatten(1)
        index = source.unsqueeze(1).expand(n, channels, height * width)
        total += levels.gather(2, index).mul_(weight)
    quantised = total.mul_(QUANTUM).add_(0.5).floor_()
    return quantised.div_(QUANTUM, rounding_mode="floor").to(torch.uint8).view(images.shape)
