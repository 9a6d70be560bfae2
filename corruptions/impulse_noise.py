"""Impulse noise: salt and pepper on single values."""

from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.rng import uniform

AMOUNT: Severities[float] = {
    "cifar": (0.01, 0.02, 0.03, 0.05, 0.07),
    "tiny": (0.01, 0.02, 0.05, 0.08, 0.14),
    "imagenet": (0.03, 0.06, 0.09, 0.17, 0.27),
}
"""Probability that a value is replaced, each channel by itself."""


class ImpulseNoise(NamedTuple):
    """What impulse noise draws."""

    flip: Tensor  # (N, 3, H, W) bool, whether the value is replaced
    salt: Tensor  # (N, 3, H, W) bool, by white (else black); matters where ``flip`` holds


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> ImpulseNoise:
    """Draw both choices from one uniform a value."""
    amount = AMOUNT[profile][severity - 1]
    u = uniform(keys, images[0].numel()).reshape(images.shape)
    # Given u < amount, u < amount / 2 has probability 1/2: that is all that salt has to be.
    return ImpulseNoise(flip=u < amount, salt=u < amount / 2)


def apply(images: Tensor, draws: ImpulseNoise, severity: int, profile: Profile) -> Tensor:
    """Set the chosen values to white or black.

    Args:
        images: uint8 (N, 3, H, W).
        draws: which values, and which of the two.
        severity: 1 to 5; it enters through the draws alone.
        profile: as severity.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    return torch.where(draws.flip, draws.salt.to(torch.uint8) * 255, images)


CORRUPTION = Corruption(name="impulse_noise", constants=AMOUNT, apply=apply, draw=draw)
