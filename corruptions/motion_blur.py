"""Motion blur: the image is dragged along a random direction."""

from typing import NamedTuple

from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.directional import directional_blur
from robustmix.corruptions.names import Profile
from robustmix.rng import uniform

RADIUS_SIGMA: Severities[tuple[float, float]] = {
    "cifar": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "tiny": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    "imagenet": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
}
"""Half the length of the blur and the deviation of its weights, in pixels."""

LARGEST_ANGLE = 45.0
"""Directions lie between -45 and 45 degrees, so the image is never dragged the other way."""


class MotionBlur(NamedTuple):
    """What motion blur draws."""

    angles: Tensor  # (N,) degrees, float64 in (-45, 45)


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> MotionBlur:
    """Draw one direction an image."""
    return MotionBlur((2 * uniform(keys, 1).squeeze(1) - 1) * LARGEST_ANGLE)


def apply(images: Tensor, draws: MotionBlur, severity: int, profile: Profile) -> Tensor:
    """Blur every image along its direction.

    Args:
        images: uint8 (N, 3, H, W).
        draws: the directions.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    return directional_blur(images, draws.angles, *RADIUS_SIGMA[profile][severity - 1])


CORRUPTION = Corruption(name="motion_blur", constants=RADIUS_SIGMA, apply=apply, draw=draw)
