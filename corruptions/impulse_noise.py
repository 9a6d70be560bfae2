"""Impulse noise: salt and pepper on single values."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.rng import philox, words_on_cpu

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
    amount, count = AMOUNT[profile][severity - 1], images[0].numel()
    # Given u < amount, u < amount / 2 has probability 1/2: that is all that salt has to be.
    limits = [_words_below(share) for share in (amount, amount / 2)]
    if keys.device.type == "cpu":
        words = words_on_cpu(keys, count)
        below = [torch.from_numpy(words < limit) for limit in limits]
    else:
        drawn = philox(keys, count)
        below = [drawn < limit for limit in limits]
    flip, salt = (chosen.reshape(images.shape) for chosen in below)
    return ImpulseNoise(flip, salt)


def _words_below(share: float) -> int:
    """Return how many of the 2^32 words give a uniform (word + 1/2) / 2^32 below ``share``."""
    return math.ceil(share * 2**32 - 0.5)


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
    # Bytes of ones where the value is replaced, and where by white; bits are chosen, not bytes.
    flip, white = (chosen.to(torch.uint8).neg_() for chosen in draws)
    return white.bitwise_xor_(images).bitwise_and_(flip).bitwise_xor_(images)


CORRUPTION = Corruption(name="impulse_noise", constants=AMOUNT, apply=apply, draw=draw)
