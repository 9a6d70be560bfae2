"""Spatter: drops of water, or splashes of mud, on the lens."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.corruptions import drops_on_cpu
from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.drops import (
    FIXED,
    box_sum,
    chamfer_lengths,
    correlated,
    edges,
    equalised,
    nearest_edge,
)
from robustmix.corruptions.filters import gaussian_filter, gaussian_nearly
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import grey_levels_on_cpu_, to_grey_levels_, to_single_unit
from robustmix.rng import normal


class Splash(NamedTuple):
    """The constants of one severity."""

    mean: float
    """Of the noise that drops are cut from."""

    deviation: float
    """Of that noise."""

    sigma: float
    """Deviation of the Gaussian that smooths it, in pixels."""

    threshold: float
    """Smoothed noise below it is dry."""

    strength: float
    """Of water its opacity, of mud the deviation of a second Gaussian, in pixels."""

    mud: bool


SPLASHES: Severities[Splash] = {
    "cifar": (
        Splash(0.62, 0.1, 0.7, 0.7, 0.5, False),
        Splash(0.65, 0.1, 0.8, 0.7, 0.5, False),
        Splash(0.65, 0.3, 1, 0.69, 0.5, False),
        Splash(0.65, 0.1, 0.7, 0.69, 0.6, True),
        Splash(0.65, 0.1, 0.5, 0.68, 0.6, True),
    ),
    "tiny": (
        Splash(0.62, 0.1, 0.7, 0.7, 0.6, False),
        Splash(0.65, 0.1, 0.8, 0.7, 0.6, False),
        Splash(0.65, 0.3, 1, 0.69, 0.6, False),
        Splash(0.65, 0.1, 0.7, 0.68, 0.6, True),
        Splash(0.65, 0.1, 0.5, 0.67, 0.6, True),
    ),
    "imagenet": (
        Splash(0.65, 0.3, 4, 0.69, 0.6, False),
        Splash(0.65, 0.3, 3, 0.68, 0.6, False),
        Splash(0.65, 0.3, 2, 0.68, 0.5, False),
        Splash(0.65, 0.3, 1, 0.65, 1.5, True),
        Splash(0.67, 0.4, 1, 0.65, 1.5, True),
    ),
}

WATER = (175, 238, 238)
MUD = (63, 42, 20)
"""Colours, red, green and blue in grey levels."""

LEAST_MUD = 0.8
"""Thinner mud is wiped away."""

FARTHEST = 20
"""Distances from a drop's rim are cut off here, in pixels."""

LOW, HIGH = 50, 150
"""Thresholds of an edge's gradient, in grey levels."""

RELIEF = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
"""The kernel that makes drops look lit from a corner."""


class Spatter(NamedTuple):
    """What spatter draws."""

    noise: Tensor  # (N, H, W) standard normal, float64


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> Spatter:
    """Draw a normal a pixel."""
    height, width = images.shape[2:]
    return Spatter(normal(keys, height * width).view(len(images), height, width))


def water(liquid: Tensor, strength: float) -> Tensor:
    """Return how much water colour is added, float32 (N, H, W) in [0, strength].

    Args:
        liquid: float64 (N, H, W), 0 where it is dry.
        strength: opacity at an image's wettest pixel.
    """
    layer = (255 * liquid).to(torch.int32).bitwise_and_(255)
    distance = nearest_edge(edges(layer, low=LOW, high=HIGH), FARTHEST)
    # The distances' fractional bits go with the mean's divisor: a power of two changes no digit.
    near = (box_sum(distance).double() * (1 / 9 / FIXED)).to(torch.int64)
    lit = correlated(equalised(near).to(torch.int32), RELIEF).clamp_(0, 255)
    smooth = (box_sum(lit).double() * (1 / 9)).round_()
    amount = smooth.mul_(layer).to(torch.float32)
    most = amount.amax(dim=(1, 2), keepdim=True)
    # A layer without any drop is left dry; the benchmark divides by zero there.
    return amount / most.clamp_min(1e-30) * strength


def _water_on_cpu(liquid: NDArray[np.float64], strength: float) -> NDArray[np.float32]:
    """Return the same, from the same steps in NumPy."""
    layer = (255 * liquid).astype(np.int32).astype(np.uint8)
    lengths = chamfer_lengths(FARTHEST)
    distance = drops_on_cpu.nearest_edge(drops_on_cpu.edges(layer, LOW, HIGH), lengths)
    near = (drops_on_cpu.box_sum(distance) * (1 / 9 / FIXED)).astype(np.int64)
    lit = drops_on_cpu.correlated(drops_on_cpu.equalised(near), RELIEF)
    np.minimum(np.maximum(lit, 0, out=lit), 255, out=lit)
    smooth = np.rint(drops_on_cpu.box_sum(lit) * (1 / 9))
    smooth *= layer
    amount: NDArray[np.float32] = smooth.astype(np.float32)
    amount /= np.maximum(amount.max(axis=(1, 2), keepdims=True), np.float32(1e-30))
    amount *= strength
    return amount


def apply(images: Tensor, draws: Spatter, severity: int, profile: Profile) -> Tensor:
    """Add water (severities 1 to 3) or cover with mud (4 and 5).

    Args:
        images: uint8 (N, 3, H, W).
        draws: the noise.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B.
    """
    splash = SPLASHES[profile][severity - 1]
    if images.device.type == "cpu":
        return torch.from_numpy(_apply_on_cpu(images.numpy(), draws.noise.numpy(), splash))
    liquid = gaussian_filter(splash.mean + splash.deviation * draws.noise, splash.sigma)
    liquid = torch.where(liquid < splash.threshold, 0.0, liquid)
    x, colour = to_single_unit(images), _colour(splash.mud, images.device)
    if not splash.mud:
        amount = water(liquid, splash.strength).unsqueeze(1)
        return to_grey_levels_((amount * colour).to(torch.float32).add_(x))
    cover = gaussian_filter((liquid > splash.threshold).to(torch.float64), splash.strength)
    cover = torch.where(cover < LEAST_MUD, 0.0, cover).unsqueeze(1)
    return to_grey_levels_((x * (1 - cover)).add_(cover * colour))


def _apply_on_cpu(
    images: NDArray[np.uint8], noise: NDArray[np.float64], splash: Splash
) -> NDArray[np.uint8]:
    """Do the same with NumPy, which begins each of many small operations sooner."""
    noise = splash.deviation * noise
    noise += splash.mean
    liquid = _smoothed(noise, splash)
    liquid[liquid < splash.threshold] = 0
    single, colour = images / _WHITE, _colour(splash.mud, _CPU).numpy()
    if not splash.mud:
        amount = _water_on_cpu(liquid, splash.strength)[:, None]
        added = np.multiply(amount, colour, dtype=np.float64)
        single += added.astype(np.float32)
        return grey_levels_on_cpu_(single)
    mud = torch.from_numpy((liquid > splash.threshold).astype(np.float64))
    cover = gaussian_filter(mud, splash.strength).numpy()[:, None]
    cover[cover < LEAST_MUD] = 0
    seen = single * (1 - cover)
    seen += cover * colour
    return grey_levels_on_cpu_(seen)


_WHITE = np.float32(255)
_CPU = torch.device("cpu")


def _smoothed(noise: NDArray[np.float64], splash: Splash) -> NDArray[np.float64]:
    """Return the smoothed noise, or a fast one of the same grey levels and the same dry places."""
    nearly = gaussian_nearly(torch.from_numpy(noise), splash.sigma)
    if nearly is not None:
        values, error = nearly[0].numpy(), nearly[1]
        error *= float(np.abs(noise).max())
        low, high = (((values + by) * 255).astype(np.int32) for by in (-error, error))
        unsure = np.abs(values - splash.threshold) <= error
        unsure |= low != high
        if not unsure.any():
            return values
    return gaussian_filter(torch.from_numpy(noise), splash.sigma).numpy()


@functools.lru_cache(maxsize=8)
def _colour(mud: bool, device: torch.device) -> Tensor:
    colour = torch.tensor(MUD if mud else WATER, dtype=torch.float64) / 255
    return colour.view(1, 3, 1, 1).to(device)


CORRUPTION = Corruption(name="spatter", constants=SPLASHES, apply=apply, draw=draw)
