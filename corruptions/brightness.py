"""Brightness: a constant added to the HSV value."""

from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.hsv import hsv_to_rgb, rgb_to_hsv
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels_, to_unit

SHIFT: Severities[float] = {
    "cifar": (0.05, 0.10, 0.15, 0.20, 0.30),
    "tiny": (0.1, 0.2, 0.3, 0.4, 0.5),
    "imagenet": (0.1, 0.2, 0.3, 0.4, 0.5),
}
"""What is added to the value, in [0, 1] units."""


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Raise the HSV value, keeping hue and saturation.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    hsv = rgb_to_hsv(to_unit(images))
    brighter = (hsv.value + SHIFT[profile][severity - 1]).clamp(0, 1)
    return to_grey_levels_(hsv_to_rgb(hsv._replace(value=brighter)))


CORRUPTION = Corruption(name="brightness", constants=SHIFT, apply=apply)
