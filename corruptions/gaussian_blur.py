"""Gaussian blur."""

from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.filters import gaussian_filter
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels, to_unit

SIGMA: Severities[float] = {
    "cifar": (0.4, 0.6, 0.7, 0.8, 1.0),
    "tiny": (0.5, 0.75, 1.0, 1.25, 1.5),
    "imagenet": (1.0, 2.0, 3.0, 4.0, 6.0),
}
"""Standard deviation of the kernel, in pixels."""


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Blur every channel with a Gaussian; the border pixels repeat outwards.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B.
    """
    return to_grey_levels(gaussian_filter(to_unit(images), SIGMA[profile][severity - 1]))


CORRUPTION = Corruption(name="gaussian_blur", constants=SIGMA, apply=apply)
