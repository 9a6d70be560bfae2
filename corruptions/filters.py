"""Filters with the borders and the summation order of the benchmark's scripts."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Border: TypeAlias = Literal["edge", "mirror", "sym"]
"""``edge`` repeats the border pixel (aa|abc|cc); ``mirror`` reflects without repeating it
(cb|abc|ba), ``sym`` reflects with it (ba|abc|cb)."""


def mirrored(position: Tensor, size: int) -> Tensor:
    """Fold whole positions into [0, size), reflecting at the border pixels' centres."""
    period = max(2 * (size - 1), 1)
    folded = position.remainder(period)
    return torch.minimum(folded, (period - folded).remainder(period))


def repeated(position: Tensor, size: int) -> Tensor:
    """Fold whole positions into [0, size), reflecting at the border pixels' outer edges."""
    folded = position.remainder(2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


def pad(images: Tensor, reach: int, border: Border, *, dim: int) -> Tensor:
    """Return ``images`` grown by ``reach`` values at both ends of ``dim``; any reach, any size.

    Example:
        >>> pad(torch.tensor([1, 2, 3]), 2, "mirror", dim=0)
        tensor([3, 2, 1, 2, 3, 2, 1])
    """
    size = images.shape[dim]
    position = torch.arange(-reach, size + reach, device=images.device)
    if border == "edge":
        source = position.clamp(0, size - 1)
    else:
        source = mirrored(position, size) if border == "mirror" else repeated(position, size)
    return images.index_select(dim, source)


def gaussian_taps(sigma: float, truncate: float = 4.0) -> tuple[float, ...]:
    """Return the right half of a normalised Gaussian kernel, the centre first.

    Args:
        sigma: standard deviation in pixels, at least 0.
        truncate: reach of the kernel in deviations, rounded to whole pixels.
    """
    reach = int(truncate * sigma + 0.5)
    if reach == 0:
        return (1.0,)
    # The last bit matters: math.exp, the products from left to right, and a plain sum, which
    # the built-in ``sum`` is not (from Python 3.12 on it compensates).
    scale = -0.5 / (sigma * sigma)
    taps = [math.exp((scale * i) * i) for i in range(reach + 1)]
    total = 0.0
    for i in range(-reach, reach + 1):
        total += taps[abs(i)]
    return tuple(tap / total for tap in taps)


def gaussian_filter(
    images: Tensor, sigma: float, *, truncate: float = 4.0, border: Border = "edge"
) -> Tensor:
    """Blur with a Gaussian, down the columns first, then along the rows.

    Args:
        images: (..., H, W), floating point.
        sigma: standard deviation in pixels.
        truncate: reach of the kernel in deviations.
        border: what lies outside the image.

    Returns:
        (..., H, W), same type; bit for bit what ``scipy.ndimage.gaussian_filter`` computes.
    """
    taps = gaussian_taps(sigma, truncate)
    for dim in (-2, -1):
        images = _correlate_symmetric(images, taps, border, dim)
    return images


def _correlate_symmetric(images: Tensor, taps: Sequence[float], border: Border, dim: int) -> Tensor:
    reach, size = len(taps) - 1, images.shape[dim]
    padded = pad(images, reach, border, dim=dim)
    total = padded.narrow(dim, reach, size) * taps[0]
    for j in range(reach, 0, -1):
        pair = padded.narrow(dim, reach - j, size) + padded.narrow(dim, reach + j, size)
        total += pair.mul_(taps[j])
    return total


def correlate(images: Tensor, kernel: Tensor, *, border: Border) -> Tensor:
    """Correlate every channel with one kernel, adding its taps in raster order.

    Args:
        images: (..., H, W), float64.
        kernel: (2r + 1, 2r + 1), float64, on the CPU; taps up to 1e-12 are left out.
        border: what lies outside the image.

    Returns:
        (..., H, W), float64.
    """
    height, width = images.shape[-2:]
    rows, columns = (kernel.abs() > 1e-12).nonzero(as_tuple=True)
    centre = kernel.shape[0] // 2
    reach = int(torch.cat([rows - centre, columns - centre]).abs().max())
    padded = pad(pad(images, reach, border, dim=-2), reach, border, dim=-1)
    total = torch.zeros_like(images)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        top, left = row - centre + reach, column - centre + reach
        window = padded[..., top : top + height, left : left + width]
        total += window * float(kernel[row, column])
    return total
