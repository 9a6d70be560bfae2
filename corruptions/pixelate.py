"""Pixelate: box resampling to a smaller size and back."""

import functools
import math
from typing import NamedTuple

import numpy as np
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


class Runs(NamedTuple):
    """Which pixels each new pixel is the mean of: a run of them, all of one weight."""

    first: Tensor
    """Place of the first, int64 (new_size,)."""

    length: Tensor
    """How many, int32 (new_size,), at least 1."""

    weight: Tensor
    """Of each, int32 (new_size,), in units of 2^-22."""


@functools.lru_cache(maxsize=64)
def _runs_on(size: int, new_size: int, device: torch.device) -> tuple[list[Tensor], Tensor, int]:
    """Return places and weights on a device, and how many pixels the longest run has.

    The places are those of the runs' first pixels, of their second ones, and so on. Where a run has
    no such pixel its place is ``size``.
    """
    first, length, weight = box_runs(size, new_size)
    most = int(length.max())
    places = [torch.where(length > i, first + i, size).to(device) for i in range(most)]
    return places, weight.to(device), most


@functools.cache
def box_runs(size: int, new_size: int) -> Runs:
    """Return Pillow's box filter from ``size`` to ``new_size`` pixels.

    Whole pixels are counted or left out, never cut.
    """
    scale = size / new_size
    stretch = max(scale, 1.0)
    runs = []
    for i in range(new_size):
        centre = (i + 0.5) * scale
        first = max(math.floor(centre - 0.5 * stretch + 0.5), 0)
        last = min(math.floor(centre + 0.5 * stretch + 0.5), size)
        inside = [j for j in range(first, last) if -0.5 < (j - centre + 0.5) / stretch <= 0.5]
        runs.append((inside[0], len(inside), math.floor(2**_PRECISION / len(inside) + 0.5)))
    table = torch.tensor(runs)
    return Runs(table[:, 0], table[:, 1].to(torch.int32), table[:, 2].to(torch.int32))


def _resample(levels: Tensor, new_size: int, dim: int) -> Tensor:
    """Resample grey levels, uint8, along their last axis (-1) or the one before (-2)."""
    places, weight, most = _runs_on(levels.shape[dim], new_size, levels.device)
    if most == 1:  # a mean of one pixel is that pixel
        if levels.device.type == "cpu":
            return torch.from_numpy(levels.numpy().take(places[0].numpy(), dim))
        return levels.index_select(dim, places[0])
    nothing = torch.zeros_like(levels.narrow(dim, 0, 1))
    padded = torch.cat([levels, nothing], dim=dim).to(torch.int32)
    total = padded.index_select(dim, places[0])
    for place in places[1:]:
        total += padded.index_select(dim, place)
    # At most 255.5 x 2^22 and half a unit, which int32 holds.
    total.mul_(weight.view((-1, 1) if dim == -2 else (-1,))).add_(2 ** (_PRECISION - 1))
    return total.bitwise_right_shift_(_PRECISION).clamp_(0, 255).to(torch.uint8)


def box_resize(levels: Tensor, height: int, width: int) -> Tensor:
    """Resample images as Pillow's ``BOX`` filter does: rows, rounded, then columns, rounded.

    Args:
        levels: grey levels, uint8 (N, 3, H, W).
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        uint8 (N, 3, height, width).
    """
    smaller = 0 < height <= levels.shape[2] and 0 < width <= levels.shape[3]
    if levels.device.type == "cpu" and smaller and levels[0, 0].numel() >= LARGE:
        return _by_pillow(levels, height, width)
    return _resample(_resample(levels, width, -1), height, -2)


LARGE = 2**13
"""Pixels from which calling Pillow once a plane pays."""


def _by_pillow(levels: Tensor, height: int, width: int) -> Tensor:
    """Shrink, plane by plane: uint8 (N, 3, H, W) -> uint8 (N, 3, height, width)."""
    from PIL import Image

    resized = np.empty((*levels.shape[:2], height, width), np.uint8)
    planes = levels.flatten(0, 1).numpy()
    for plane, into in zip(planes, resized.reshape(-1, height, width), strict=True):
        into[:] = Image.fromarray(plane).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(resized)


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
    small = box_resize(images, int(height * factor), int(width * factor))
    return box_resize(small, height, width)


CORRUPTION = Corruption(name="pixelate", constants=FACTOR, apply=apply)
