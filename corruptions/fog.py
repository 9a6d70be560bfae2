"""Fog: a fractal haze is added, and the contrast lowered in return."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels_, to_unit
from robustmix.rng import uniform

STRENGTH_DECAY: Severities[tuple[float, float]] = {
    "cifar": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    "tiny": ((0.4, 3.0), (0.7, 3.0), (1.0, 2.5), (1.5, 2.0), (2.0, 1.75)),
    "imagenet": ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
}
"""Weight of the haze, and what its roughness is divided by from one scale to the next finer."""

MAP_SIDE: dict[Profile, int] = {"cifar": 32, "tiny": 64, "imagenet": 256}
"""Side of the haze map, a power of two."""

FIRST_ROUGHNESS = 100.0

Values = TypeVar("Values", Tensor, NDArray[np.float64])


class Fog(NamedTuple):
    """What fog draws."""

    heights: Tensor  # (N, side^2 - 1) float64 in [0, 1), scale by scale, in the order of use


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> Fog:
    """Draw one number for every point of the map but the first."""
    return Fog(uniform(keys, _map_side(images, profile) ** 2 - 1))


def _map_side(images: Tensor, profile: Profile) -> int:
    side = MAP_SIDE[profile]
    while side < max(images.shape[2:]):  # a profile for larger images than it was made for
        side *= 2
    return side


def plasma(
    heights: Tensor, side: int, decay: float, shown: tuple[int, int] | None = None
) -> Tensor:
    """Return fractal maps by the diamond-square algorithm on a torus, in [0, 1].

    Args:
        heights: float64 (N, side^2 - 1) in [0, 1).
        side: a power of two.
        decay: what the roughness is divided by at each finer scale. A deviation is roughness times
            a number between plus and minus roughness, hence falls by its square; as published.
        shown: first rows and columns that are wanted of each map; all if None.

    Returns:
        float64 (N, side, side), or (N, *shown).
    """
    rows, columns = (side, side) if shown is None else shown
    if heights.device.type == "cpu":  # the same operators on arrays, which take half the time
        levels = _levels(heights.numpy(), side, decay, np.empty)
        low, high = (most(axis=(1, 2), keepdims=True) for most in (levels.min, levels.max))
        # The largest difference is that of the largest level: rounding keeps the order.
        stretched = levels[:, :rows, :columns] - low
        stretched /= high - low
        return torch.from_numpy(stretched)
    maps = _levels(heights, side, decay, heights.new_empty)
    low, high = (most(dim=(1, 2), keepdim=True) for most in (maps.amin, maps.amax))
    return (maps[:, :rows, :columns] - low).div_(high - low)


def _levels(
    heights: Values, side: int, decay: float, empty: Callable[[tuple[int, int, int]], Values]
) -> Values:
    """Return the maps before they are stretched to [0, 1]; ``empty`` makes float64 of a shape."""
    n = len(heights)
    roughness, used = FIRST_ROUGHNESS, 0
    # One row and one column more than there are: the first ones again, as on a torus.
    grid = empty((n, 2, 2))
    grid[:] = 0
    for count in (2**i for i in range(side.bit_length() - 1)):
        taken = heights[:, used : used + 3 * count**2].reshape(n, 3, count, count)
        deviations = 2 * roughness * taken
        deviations -= roughness
        deviations *= roughness
        used, roughness = used + 3 * count**2, roughness / decay
        finer = empty((n, 2 * count + 1, 2 * count + 1))
        corners = grid[:, :-1, :-1]
        finer[:, :-1:2, :-1:2] = corners

        below = grid[:, :-1] + grid[:, 1:]
        around = empty((n, count + 1, count + 1))  # centres, behind the last ones of both axes
        centres = around[:, 1:, 1:]
        centres[:] = below[:, :, :-1] + below[:, :, 1:]
        centres /= 4
        centres += deviations[:, 0]
        around[:, 0, 1:] = around[:, count, 1:]
        around[:, :, 0] = around[:, :, count]
        finer[:, 1::2, 1::2] = centres

        tops = centres + around[:, :-1, 1:]
        tops += corners + grid[:, :-1, 1:]
        tops /= 4
        tops += deviations[:, 1]
        finer[:, :-1:2, 1::2] = tops
        lefts = centres + around[:, 1:, :-1]
        lefts += below[:, :, :-1]
        lefts /= 4
        lefts += deviations[:, 2]
        finer[:, 1::2, :-1:2] = lefts

        finer[:, -1, :-1] = finer[:, 0, :-1]
        finer[:, :, -1] = finer[:, :, 0]
        grid = finer
    return grid[:, :-1, :-1]


def apply(images: Tensor, draws: Fog, severity: int, profile: Profile) -> Tensor:
    """Add the haze and scale the image so that its brightest value stays.

    Args:
        images: uint8 (N, 3, H, W).
        draws: the map's random numbers.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    strength, decay = STRENGTH_DECAY[profile][severity - 1]
    x = to_unit(images)
    height, width = images.shape[2:]
    maps = plasma(draws.heights, _map_side(images, profile), decay, (height, width))
    brightest = to_unit(images.flatten(1).amax(dim=1)).view(-1, 1, 1, 1)
    hazy = x.add_((strength * maps).unsqueeze(1))
    return to_grey_levels_(hazy.mul_(brightest).div_(brightest + strength))


CORRUPTION = Corruption(name="fog", constants=STRENGTH_DECAY, apply=apply, draw=draw)
