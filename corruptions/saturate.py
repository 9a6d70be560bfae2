"""Saturate: the HSV saturation scaled and shifted."""

from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.hsv import hsv_to_rgb, rgb_to_hsv
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels_, to_unit

GAIN_SHIFT: Severities[tuple[float, float]] = {
    "cifar": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    "tiny": ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (30.0, 0.2)),
    "imagenet": ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
}
"""Factor of the saturation and what is added to it: 1 and 2 wash out, 3 to 5 oversaturate."""


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Change the HSV saturation, keeping hue and value.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W). Grey turns reddish where something is added: its hue counts as 0.

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B.
    """
    gain, shift = GAIN_SHIFT[profile][severity - 1]
    hsv = rgb_to_hsv(to_unit(images))
    saturation = (hsv.saturation * gain + shift).clamp(0, 1)
    return to_grey_levels_(hsv_to_rgb(hsv._replace(saturation=saturation)))


CORRUPTION = Corruption(name="saturate", constants=GAIN_SHIFT, apply=apply)
