"""Shot noise: every value is a number of photons, Poisson distributed."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels_
from robustmix.rng import uniform

PHOTONS: Severities[int] = {
    "cifar": (500, 250, 100, 75, 50),
    "tiny": (250, 100, 50, 30, 15),
    "imagenet": (60, 25, 12, 5, 3),
}
"""Expected count of a white value."""


class ShotNoise(NamedTuple):
    """What shot noise draws."""

    counts: Tensor  # (N, 3, H, W) photons, whole numbers of any type, at least 0


@functools.cache
def cumulative_counts(photons: int) -> Tensor:
    """Return P(count <= j) for every grey level and j < ``photons``, float64 (256, photons).

    Counts from ``photons`` on all mean white, so no more columns are needed.
    """
    rate = torch.arange(256, dtype=torch.float64) / 255 * photons
    j = torch.arange(photons, dtype=torch.float64)
    table = torch.special.gammaincc(j + 1, rate.unsqueeze(1))
    # Rounding must not break the order that a search relies on.
    ascending: Tensor = table.cummax(dim=1).values
    return ascending


class _Search(NamedTuple):
    """The tables of all grey levels, laid out for one search over values of any level."""

    row: Tensor  # (256 · photons,) ascending: the table of grey level g, raised by g
    guide: Tensor  # (256 · _CELLS,) int32: entries of the row below i / _CELLS, twice, and 1 more
    # where there are others before (i + 1) / _CELLS


_CELLS = 2048


@functools.lru_cache(maxsize=16)
def _search(photons: int, device: torch.device) -> _Search:
    levels = torch.arange(256, dtype=torch.float64).unsqueeze(1)
    row = (cumulative_counts(photons) + levels).flatten()
    edges = torch.arange(256 * _CELLS + 1, dtype=torch.float64) / _CELLS
    below = torch.searchsorted(row, edges, out_int32=True)
    guide = 2 * below[:-1] + (below[1:] != below[:-1])
    return _Search(row.to(device), guide.to(device))


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> ShotNoise:
    """Draw the counts by inverting their distribution at one uniform a value.

    Counts at and above the expected count of white are all drawn as that count.
    """
    photons = PHOTONS[profile][severity - 1]
    row, guide = _search(photons, images.device)
    grey = images.flatten().to(torch.int32)
    # The uniforms hold 33 bits, so adding a grey level to them is exact.
    position = uniform(keys, images[0].numel()).flatten().add_(grey)
    if images.device.type == "cpu":
        found = guide.index_select(0, (position * _CELLS).to(torch.int32))
        # Most cells of the guide hold no entry; only values in the others need the search.
        open_ = (found & 1).nonzero().squeeze(1)
        below = found >> 1
        below[open_] = torch.searchsorted(row, position[open_], out_int32=True)
    else:  # counting the open ones would wait for the device
        below = torch.searchsorted(row, position, out_int32=True)
    return ShotNoise(below.sub_(grey * photons).reshape(images.shape))


def apply(images: Tensor, draws: ShotNoise, severity: int, profile: Profile) -> Tensor:
    """Replace every value by its drawn count over the expected count of white.

    Args:
        images: uint8 (N, 3, H, W); they enter through the draws alone.
        draws: the counts.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    return to_grey_levels_(draws.counts.to(torch.float64).div_(PHOTONS[profile][severity - 1]))


CORRUPTION = Corruption(name="shot_noise", constants=PHOTONS, apply=apply, draw=draw)
