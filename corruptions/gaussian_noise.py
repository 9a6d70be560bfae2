"""Gaussian noise: independent normal noise on every value."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import grey_levels_on_cpu_, to_grey_levels_, to_unit
from robustmix.rng import normal

SIGMA: Severities[float] = {
    "cifar": (0.04, 0.06, 0.08, 0.09, 0.10),
    "tiny": (0.04, 0.08, 0.12, 0.15, 0.18),
    "imagenet": (0.08, 0.12, 0.18, 0.26, 0.38),
}
"""Standard deviation of the noise, in [0, 1] pixel units."""


class GaussianNoise(NamedTuple):
    """What Gaussian noise draws."""

    noise: Tensor  # (N, 3, H, W) standard normal, float64


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> GaussianNoise:
    """Draw one standard normal a value."""
    return GaussianNoise(normal(keys, math.prod(images.shape[1:])).reshape(images.shape))


def apply(images: Tensor, draws: GaussianNoise, severity: int, profile: Profile) -> Tensor:
    """Add normal noise of the severity's deviation.

    Args:
        images: uint8 (N, 3, H, W).
        draws: the noise.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    sigma = SIGMA[profile][severity - 1]
    if images.device.type == "cpu":
        noisy = draws.noise.numpy() * sigma
        noisy += images.numpy() / 255.0
        return torch.from_numpy(grey_levels_on_cpu_(noisy))
    return to_grey_levels_((draws.noise * sigma).add_(to_unit(images)))


CORRUPTION = Corruption(name="gaussian_noise", constants=SIGMA, apply=apply, draw=draw)
