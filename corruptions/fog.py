"""Fog: a fractal haze is added, and the contrast lowered in return."""

from typing import NamedTuple

import torch
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


def plasma(heights: Tensor, side: int, decay: float) -> Tensor:
    """Return fractal maps by the diamond-square algorithm on a torus, in [0, 1].

    Args:
        heights: float64 (N, side^2 - 1) in [0, 1).
        side: a power of two.
        decay: what the roughness is divided by at each finer scale. A deviation is roughness times
            a number between plus and minus roughness, hence falls by its square; as published.

    Returns:
        float64 (N, side, side).
    """
    n = len(heights)
    maps = heights.new_zeros(n, 1, 1)
    roughness, used = FIRST_ROUGHNESS, 0
    for count in (2**i for i in range(side.bit_length() - 1)):
        taken = heights[:, used : used + 3 * count**2].view(n, 3, count, count)
        deviations = (2 * roughness * taken).sub_(roughness).mul_(roughness)
        used, roughness = used + 3 * count**2, roughness / decay
        finer = heights.new_empty(n, count, 2, count, 2)
        centres, tops, lefts = (finer[:, :, i, :, j] for i, j in ((1, 1), (0, 1), (1, 0)))
        finer[:, :, 0, :, 0] = maps
        # With the neighbours across the border, behind the last ones or before the first.
        around = torch.cat([maps, maps[:, :1]], dim=1)
        around = torch.cat([around, around[..., :1]], dim=2)
        below = around[:, :-1] + around[:, 1:]
        middle = (below[..., :-1] + below[..., 1:]).div_(4).add_(deviations[:, 0])
        centres.copy_(middle)
        around_it = torch.cat([middle[:, -1:], middle], dim=1)
        around_it = torch.cat([around_it[..., -1:], around_it], dim=2)
        above = around_it[:, 1:, 1:] + around_it[:, :-1, 1:]
        beside = around[:, :-1, :-1] + around[:, :-1, 1:]
        tops.copy_(above.add_(beside).div_(4).add_(deviations[:, 1]))
        before = around_it[:, 1:, 1:] + around_it[:, 1:, :-1]
        lefts.copy_(before.add_(below[..., :-1]).div_(4).add_(deviations[:, 2]))
        maps = finer.view(n, 2 * count, 2 * count)
    maps -= maps.amin(dim=(1, 2), keepdim=True)
    return maps.div_(maps.amax(dim=(1, 2), keepdim=True))


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
    maps = plasma(draws.heights, _map_side(images, profile), decay)[:, :height, :width]
    brightest = to_unit(images.flatten(1).amax(dim=1)).view(-1, 1, 1, 1)
    hazy = x.add_((strength * maps).unsqueeze(1))
    return to_grey_levels_(hazy.mul_(brightest).div_(brightest + strength))


CORRUPTION = Corruption(name="fog", constants=STRENGTH_DECAY, apply=apply, draw=draw)
