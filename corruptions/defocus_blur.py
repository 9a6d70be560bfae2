"""Defocus blur: correlation with a slightly smoothed disk."""

import functools
import math

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.filters import correlate, grow, pad, taps_of
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import settled, to_grey_levels_, to_unit

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


MANY_TAPS = 16
"""Kernels of more taps are applied by Fourier transforms."""


def by_transform(images: Tensor, kernel: tuple[float, float]) -> tuple[Tensor, float]:
    """Correlate by Fourier transforms: fast, and not in the benchmark's order.

    Args:
        images: grey levels, uint8 (N, C, H, W).
        kernel: radius and sigma of ``disk_kernel``; more than ``MANY_TAPS`` taps.

    Returns:
        Grey levels, float64 (N, C, H, W), and how far they may be from the benchmark's, at most.
    """
    height, width = images.shape[2:]
    _, reach = _taps(*kernel)
    size = tuple(-(-(side + 2 * reach) // 16) * 16 for side in (height, width))
    whole = images.new_empty(*images.shape[:2], *size, dtype=torch.float64)
    # No result is of what lies beyond the borders, if only it is finite.
    whole[:, :, height + 2 * reach :] = 0
    whole[..., width + 2 * reach :] = 0
    rows = whole[:, :, reach : reach + height]
    rows[..., reach : reach + width] = images
    grow(rows, reach, width, "mirror", dim=3)
    grow(whole, reach, height, "mirror", dim=2)
    spectrum = torch.fft.rfft2(whole).mul_(_kernel_spectrum(*kernel, *size))
    levels = torch.fft.irfft2(spectrum, s=size)[..., :height, :width]
    # Six roundings a level of the transforms, of values whose squares add up to the pixels' number,
    # spread by a kernel whose norm is below 1/4.
    return levels, 64 * 2.0**-52 * 255 * math.sqrt(size[0] * size[1])


@functools.cache
def _taps(radius: float, sigma: float) -> tuple[list[tuple[int, int, float]], int]:
    return taps_of(disk_kernel(radius, sigma).to(torch.float64))


@functools.lru_cache(maxsize=8)
def _kernel_spectrum(radius: float, sigma: float, height: int, width: int) -> Tensor:
    kernel = torch.zeros(height, width, dtype=torch.float64)
    for row, column, weight in _taps(radius, sigma)[0]:
        kernel[row, column] = weight
    spectrum: Tensor = torch.fft.rfft2(kernel)
    return spectrum.conj().resolve_conj()


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
    disk = RADIUS_SIGMA[profile][severity - 1]
    if images.device.type == "cpu" and len(_taps(*disk)[0]) > MANY_TAPS:
        blurred, open_ = settled(*by_transform(images, disk))
        unsure = torch.from_numpy(open_.numpy().any(axis=(1, 2, 3)))
        if bool(unsure.any()):
            blurred[unsure] = _in_order(images[unsure], disk)
        return blurred
    return _in_order(images, disk)


def _in_order(images: Tensor, disk: tuple[float, float]) -> Tensor:
    kernel = disk_kernel(*disk).to(torch.float64)
    return to_grey_levels_(correlate(to_unit(images), kernel, border="mirror"))


CORRUPTION = Corruption(name="defocus_blur", constants=RADIUS_SIGMA, apply=apply)
