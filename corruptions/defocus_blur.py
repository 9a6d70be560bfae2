"""Defocus blur: correlation with a slightly smoothed disk."""

import functools
import math

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.filters import correlate, pad
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels, to_unit

RADIUS_SIGMA: Severities[tuple[float, float]] = {
    "cifar": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    "tiny": ((0.5, 0.6), (1.0, 0.1), (1.5, 0.1), (2.5, 0.01), (3.0, 0.1)),
    "imagenet": ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
}
"""Radius of the disk and deviation of the Gaussian that smooths its rim, in pixels."""


@functools.cache
def disk_kernel(radius: float, sigma: float) -> Tensor:
    """Return the smoothed disk, float32 (17, 17), or larger for a radius above 8.

    The sum is not always 1: a disk that touches the border of its lattice gains mass from the
    mirror (ImageNet severities 4 and 5 by about 1 %). The benchmark has it so.

    Args:
        radius: of the disk, in pixels; below 1 it is a single pixel.
        sigma: deviation of the smoothing, in pixels.
    """
    half = max(8, int(radius))
    axis = torch.arange(-half, half + 1)
    disk = (axis.square().unsqueeze(1) + axis.square() <= radius**2).to(torch.float32)
    kernel = disk / disk.sum()
    reach = 1 if radius <= 8 else 2
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    taps = torch.tensor([weight / total for weight in weights], dtype=torch.float32)
    for dim in (1, 0):
        size = kernel.shape[dim]
        padded = pad(kernel, reach, "mirror", dim=dim)
        kernel = padded.narrow(dim, reach, size) * taps[0]
        for j in range(1, reach + 1):
            pair = padded.narrow(dim, reach - j, size) + padded.narrow(dim, reach + j, size)
            kernel = kernel + pair * taps[j]
    return kernel


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Correlate every channel with the smoothed disk; the border mirrors.

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
    kernel = disk_kernel(*RADIUS_SIGMA[profile][severity - 1]).to(torch.float64)
    return to_grey_levels(correlate(to_unit(images), kernel, border="mirror"))


CORRUPTION = Corruption(name="defocus_blur", constants=RADIUS_SIGMA, apply=apply)
