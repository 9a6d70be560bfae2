"""Speckle noise: normal noise in proportion to the value it disturbs."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import grey_levels_on_cpu_, to_grey_levels_, to_unit
from robustmix.rng import normal

SIGMA: Severities[float] = {
    "cifar": (0.06, 0.10, 0.12, 0.16, 0.20),
    "tiny": (0.15, 0.20, 0.25, 0.30, 0.35),
    "imagenet": (0.15, 0.20, 0.35, 0.45, 0.60),
}
"""Standard deviation of the noise, as a fraction of the value."""


class SpeckleNoise(NamedTuple):
    """What speckle noise draws."""

    noise: Tensor  # (N, 3, H, W) standard normal, float64


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> SpeckleNoise:
    """Draw one standard normal a value."""
    return SpeckleNoise(normal(keys, math.prod(images.shape[1:])).reshape(images.shape))


def apply(images: Tensor, draws: SpeckleNoise, severity: int, profile: Profile) -> Tensor:
    """Add to every value its product with normal noise.

    Args:
        images: uint8 (N, 3, H, W).
        draws: the noise.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W). Black stays black.

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B.
    """
    sigma = SIGMA[profile][severity - 1]
    if images.device.type == "cpu":
        values = images.numpy() / 255.0
        noisy = draws.noise.numpy() * sigma
        noisy *= values
        noisy += values
        return torch.from_numpy(grey_levels_on_cpu_(noisy))
    x = to_unit(images)
    return to_grey_levels_((draws.noise * sigma).mul_(x).add_(x))


CORRUPTION = Corruption(name="speckle_noise", constants=SIGMA, apply=apply, draw=draw)
