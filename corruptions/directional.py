"""A blur along a direction, as ImageMagick's motion blur makes it: one-sided and truncated."""

import functools
import math

import torch
from torch import Tensor

from robustmix.corruptions.pixels import settled

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
    if images.device.type == "cpu":
        return _dragged(images, down, right, taps)
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
    return _quantised(total).view(images.shape)


def _quantised(levels: Tensor) -> Tensor:
    """Round grey levels, float64, to 16 bits and truncate these to 8, uint8; overwrites them."""
    quantised = levels.mul_(QUANTUM).add_(0.5).floor_()
    return quantised.div_(QUANTUM, rounding_mode="floor").to(torch.uint8)


def _dragged(images: Tensor, down: Tensor, right: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Add up shifted images in float32, and in float64 the few values that this leaves open.

    Args:
        images: grey levels, uint8 (N, C, H, W), on a CPU.
        down: rows to the pixel of each tap, int64 (N, taps).
        right: columns to it, likewise.
        taps: their weights.
    """
    height, width = images.shape[2:]
    top, left = (max(0, -int(shift.min())) for shift in (down, right))
    bottom, beyond = (max(0, int(shift.max())) for shift in (down, right))
    padded = torch.nn.functional.pad(
        images.to(torch.float32), (left, beyond, top, bottom), mode="replicate"
    )
    nearly = torch.empty(images.shape)
    for image, total, rows, columns in zip(
        padded, nearly, down.tolist(), right.tolist(), strict=True
    ):
        weights: dict[tuple[int, int], float] = {}
        for row, column, weight in zip(rows, columns, taps, strict=True):
            at = (top + row, left + column)
            weights[at] = weights.get(at, 0.0) + weight
        for i, ((y, x), weight) in enumerate(weights.items()):
            window = image[:, y : y + height, x : x + width]
            if i == 0:
                torch.mul(window, weight, out=total)
            else:
                total.add_(window, alpha=weight)
    # A level n begins at n - 0.5 / 257. Every tap is rounded once as a weight and twice in the sum.
    blurred, open_ = settled(nearly.add_(0.5 / QUANTUM), (3 * len(taps) + 8) * 2.0**-24 * 256)
    places = open_.flatten().nonzero().squeeze(1)
    if len(places):
        plane, place = places // (height * width), places % (height * width)
        sample = plane // images.shape[1]
        row = ((place // width).unsqueeze(1) + down[sample]).clamp_(0, height - 1)
        column = ((place % width).unsqueeze(1) + right[sample]).clamp_(0, width - 1)
        source = (plane.unsqueeze(1) * height + row) * width + column
        levels = images.flatten()[source].to(torch.float64)
        # The CPU's cumulative sum adds one by one.
        added = (levels * torch.tensor(taps, dtype=torch.float64)).cumsum(dim=1)[:, -1]
        blurred.flatten()[places] = _quantised(added)
    return blurred
