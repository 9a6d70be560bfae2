"""Pixelate: box resampling to a smaller size and back."""

import functools
import math
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
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


class _Sums(NamedTuple):
    """Which pixels are added up: the first ones of all runs, the second ones, and so on.

    Where a run has no such pixel its place is the axis' size, where a zero stands.
    """

    places: list[Tensor]
    """Each int64 (new_size,)."""

    weight: Tensor
    """int64 (new_size, 1), in units of 2^-22."""

    whole: bool
    """Whether all runs are of one length, so that no zero is needed."""


@functools.lru_cache(maxsize=64)
def _sums(size: int, new_size: int, device: torch.device) -> _Sums:
    first, length, weight = box_runs(size, new_size)
    most = int(length.max())
    places = [torch.where(length > i, first + i, size).to(device) for i in range(most)]
    return _Sums(places, weight.unsqueeze(1).to(device), int(length.min()) == most)


_HALF = 2 ** (_PRECISION - 1)


def _resample(planes: Tensor, new_size: int) -> Tensor:
    """Resample down the columns: uint8 (P, H, W) of any strides -> uint8 (P, new_size, W)."""
    size, width = planes.shape[1:]
    places, weight, whole = _sums(size, new_size, planes.device)
    if len(places) == 1:  # a mean of one pixel is that pixel
        return planes.index_select(1, places[0])
    if not whole:
        planes = torch.cat([planes, planes.new_zeros(len(planes), 1, width)], dim=1)
    wide = planes.to(torch.int32)
    total = wide.index_select(1, places[0])
    for place in places[1:]:
        total += wide.index_select(1, place)
    # At most 255.5 x 2^22 and half a unit, which int32 holds.
    return total.mul_(weight).add_(_HALF).bitwise_right_shift_(_PRECISION).to(torch.uint8)


_Whole: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]


class _SumsOnCpu(NamedTuple):
    """The same for NumPy."""

    places: list[NDArray[np.int64]]
    weight: _Whole  # (new_size, 1), in units of 2^-bits; of the type that means are computed in
    bits: np.uint16 | np.uint32
    half: np.uint16 | np.uint32
    whole: bool


@functools.lru_cache(maxsize=64)
def _sums_on_cpu(size: int, new_size: int) -> _SumsOnCpu:
    places, weight, whole = _sums(size, new_size, torch.device("cpu"))
    taken = [place.numpy() for place in places]
    if bool((weight % 2 ** (_PRECISION - 2)).any()):
        wide, bits, half = weight.numpy().astype(np.uint32), np.uint32(_PRECISION), np.uint32(_HALF)
        return _SumsOnCpu(taken, wide, bits, half, whole)
    # Means of 1, 2 and 4 bytes need two fractional bits, and numbers of half the size.
    quarters = (weight >> (_PRECISION - 2)).numpy().astype(np.uint16)
    return _SumsOnCpu(taken, quarters, np.uint16(2), np.uint16(2), whole)


def _resampled(planes: NDArray[np.uint8], new_size: int) -> NDArray[np.uint8]:
    """Return the same from NumPy, which adds bytes and takes rows much faster on a CPU."""
    count, size, width = planes.shape
    places, weight, bits, half, whole = _sums_on_cpu(size, new_size)
    if len(places) == 1:
        return planes.take(places[0], 1)
    padded = np.empty((count, size + (not whole), width), np.uint8)
    padded[:, :size] = planes
    padded[:, size:] = 0
    # A sum holds 257 bytes; the factors are such that there are 5 at most.
    total = np.add(padded.take(places[0], 1), padded.take(places[1], 1), dtype=np.uint16)
    for place in places[2:]:
        total += padded.take(place, 1)
    means = np.multiply(total, weight, dtype=weight.dtype)
    means += half
    means >>= bits
    levels: NDArray[np.uint8] = means.astype(np.uint8)
    return levels


def box_resize(levels: Tensor, height: int, width: int) -> Tensor:
    """Resample images as Pillow's ``BOX`` filter does: rows, rounded, then columns, rounded.

    Args:
        levels: grey levels, uint8 (N, 3, H, W).
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        uint8 (N, 3, height, width).
    """
    # Rows are turned into columns: whole rows of memory are then taken and added.
    if levels.device.type == "cpu":
        planes = levels.numpy().reshape(-1, *levels.shape[2:])
        turned = _resampled(planes.transpose(0, 2, 1), width).transpose(0, 2, 1)
        return torch.from_numpy(
            _resampled(turned, height).reshape(*levels.shape[:2], height, width)
        )
    wide = _resample(levels.flatten(0, 1).transpose(1, 2), width)
    return _resample(wide.transpose(1, 2), height).view(*levels.shape[:2], height, width)


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
