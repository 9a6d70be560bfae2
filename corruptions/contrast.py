"""Contrast: values drawn towards the mean of their channel."""

from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels_, to_unit

FACTOR: Severities[float] = {
    "cifar": (0.75, 0.5, 0.4, 0.3, 0.15),
    "tiny": (0.4, 0.3, 0.2, 0.1, 0.05),
    "imagenet": (0.4, 0.3, 0.2, 0.1, 0.05),
}
"""What remains of the distance to the mean."""


def raster_mean(x: Tensor) -> Tensor:
    """Return the mean of each channel, (N, 3, 1, 1), the values added one by one in raster order.

    Another order changes the last bit of the mean, and with it single grey levels. The CPU's
    cumulative sum adds one by one; other devices add in parallel, so the sum is made there.
    """
    running = x.flatten(2).cpu().cumsum(dim=2)
    return (running[..., -1:] / running.shape[2]).unsqueeze(3).to(x.device)


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Shrink the distance of every value to the mean of its channel.

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
    x = to_unit(images)
    mean = raster_mean(x)
    return to_grey_levels_(x.sub_(mean).mul_(FACTOR[profile][severity - 1]).add_(mean))


CORRUPTION = Corruption(name="contrast", constants=FACTOR, apply=apply)
