"""Snow: flakes smeared by motion, on a whitened image."""

from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.directional import directional_blur
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels_, to_single_unit, to_unit
from robustmix.corruptions.zoom import zoom
from robustmix.rng import normal, uniform


class Snowfall(NamedTuple):
    """The constants of one severity."""

    mean: float
    """Of the noise that flakes are cut from, in [0, 1] pixel units."""

    deviation: float
    """Of that noise."""

    zoom: float
    """How much the noise is magnified, so that flakes grow."""

    threshold: float
    """Noise below it is no flake."""

    radius: int
    """Half the length of the motion blur, in pixels."""

    sigma: float
    """Deviation of its weights."""

    mix: float
    """Share of the image itself; the rest is its whitened version."""


SNOWFALL: Severities[Snowfall] = {
    "cifar": (
        Snowfall(0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        Snowfall(0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        Snowfall(0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        Snowfall(0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        Snowfall(0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "tiny": (
        Snowfall(0.1, 0.2, 1.0, 0.6, 8, 3, 0.8),
        Snowfall(0.1, 0.2, 1.0, 0.5, 10, 4, 0.8),
        Snowfall(0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        Snowfall(0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        Snowfall(0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    "imagenet": (
        Snowfall(0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
        Snowfall(0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
        Snowfall(0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
        Snowfall(0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        Snowfall(0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
}

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the whitened image."""


class Snow(NamedTuple):
    """What snow draws."""

    noise: Tensor  # (N, H, W) standard normal, float64
    angles: Tensor  # (N,) degrees, float64 in (-135, -45): pixels come from above


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> Snow:
    """Draw a normal a pixel and a direction an image."""
    height, width = images.shape[2:]
    noise = normal(keys, height * width).view(len(images), height, width)
    angles = -135 + 90 * uniform(keys, 1, counter_high=1).squeeze(1)
    return Snow(noise, angles)


def flakes(draws: Snow, fall: Snowfall) -> Tensor:
    """Return the blurred layer of flakes, grey levels uint8 (N, 1, H, W)."""
    layer = zoom(fall.mean + fall.deviation * draws.noise, fall.zoom)
    layer = torch.where(layer < fall.threshold, 0.0, layer).unsqueeze(1)
    return directional_blur(to_grey_levels_(layer), draws.angles, fall.radius, fall.sigma)


def apply(images: Tensor, draws: Snow, severity: int, profile: Profile) -> Tensor:
    """Whiten the image and add the flakes, once as they are and once turned upside down.

    Args:
        images: uint8 (N, 3, H, W).
        draws: the noise and the directions.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    fall = SNOWFALL[profile][severity - 1]
    layer = to_unit(flakes(draws, fall))
    x = to_single_unit(images)
    red, green, blue = (x[:, i : i + 1] * weight for i, weight in enumerate(GREY))
    white = torch.maximum(x, red.add_(green).add_(blue).mul_(1.5).add_(0.5))
    mixed = x.mul_(fall.mix).add_(white.mul_(1 - fall.mix)).to(torch.float64)
    return to_grey_levels_(mixed.add_(layer).add_(layer.flip((2, 3))))


CORRUPTION = Corruption(name="snow", constants=SNOWFALL, apply=apply, draw=draw)
