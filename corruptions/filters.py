"""Filters with the borders and the summation order of the benchmark's scripts."""

import functools
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Border: TypeAlias = Literal["edge", "mirror", "sym"]
"""``edge`` repeats the border pixel (aa|abc|cc); ``mirror`` reflects without repeating it
(cb|abc|ba), ``sym`` reflects with it (ba|abc|cb)."""


def mirrored(position: Tensor, size: int) -> Tensor:
    """Fold whole positions into [0, size), reflecting at the border pixels' centres."""
    if size > 1 and _once(position, 1 - size, 2 * size - 2):
        inside = position.abs()
        return torch.minimum(inside, 2 * (size - 1) - inside)
    period = max(2 * (size - 1), 1)
    folded = position.remainder(period)
    return torch.minimum(folded, (period - folded).remainder(period))


def repeated(position: Tensor, size: int) -> Tensor:
    """Fold whole positions into [0, size), reflecting at the border pixels' outer edges."""
    if _once(position, -size, 2 * size - 1):
        inside = torch.maximum(position, -1 - position)
        return torch.minimum(inside, 2 * size - 1 - inside)
    folded = position.remainder(2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


def _once(position: Tensor, first: int, last: int) -> bool:
    """Return whether one fold is known to be enough: remainders are slow on a CPU."""
    if position.device.type != "cpu" or not position.numel():
        return False
    low, high = torch.aminmax(position)
    return first <= int(low) and int(high) <= last


def pad(images: Tensor, reach: int, border: Border, *, dim: int) -> Tensor:
    """Return ``images`` grown by ``reach`` values at both ends of ``dim``; any reach, any size.

    Example:
        >>> pad(torch.tensor([1, 2, 3]), 2, "mirror", dim=0)
        tensor([3, 2, 1, 2, 3, 2, 1])
    """
    if reach == 0:
        return images
    before, after = beyond(images.shape[dim], reach, border, images.device)
    ends = (images.index_select(dim, places) for places in (before, after))
    return torch.cat([next(ends), images, next(ends)], dim=dim)


def grow(images: Tensor, reach: int, size: int, border: Border, *, dim: int) -> None:
    """Fill ``reach`` places before and behind the ``size`` of ``dim`` that an image stands in.

    It is what ``pad`` returns, where there is room for it.
    """
    inside = images.narrow(dim, reach, size)
    if border == "mirror" and reach < size:  # turned pieces, which single columns are slower than
        ends = (inside.narrow(dim, first, reach).flip(dim) for first in (1, size - 1 - reach))
    else:
        places = beyond(size, reach, border, images.device)
        ends = (inside.index_select(dim, some) for some in places)
    images.narrow(dim, 0, reach).copy_(next(ends))
    images.narrow(dim, reach + size, reach).copy_(next(ends))


@functools.lru_cache(maxsize=64)
def beyond(size: int, reach: int, border: Border, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what stands in the ``reach`` places before an axis and in those after it."""
    position = torch.cat([torch.arange(-reach, 0), torch.arange(size, size + reach)])
    if border == "edge":
        source = position.clamp(0, size - 1)
    else:
        source = mirrored(position, size) if border == "mirror" else repeated(position, size)
    source = source.to(device)
    return source[:reach], source[reach:]


@functools.lru_cache(maxsize=64)
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
    on_cpu = images.device.type == "cpu"
    if on_cpu and images.numel() <= FEW_VALUES and images.dtype == torch.float64:
        values = images.numpy()
        for axis in (-2, -1):
            values = _correlate_few(values, taps, border, axis)
        return torch.from_numpy(values)
    for dim in (-2, -1):
        images = _correlate_symmetric(images, taps, border, dim)
    return images


def _correlate_symmetric(images: Tensor, taps: Sequence[float], border: Border, dim: int) -> Tensor:
    reach, size = len(taps) - 1, images.shape[dim]
    padded = pad(images, reach, border, dim=dim)
    total = padded.narrow(dim, reach, size) * taps[0]
    pair = torch.empty_like(total)
    for j in range(reach, 0, -1):
        low, high = padded.narrow(dim, reach - j, size), padded.narrow(dim, reach + j, size)
        total += torch.add(low, high, out=pair).mul_(taps[j])
    return total


FEW_VALUES = 2**13
"""Up to here NumPy, which begins an operation earlier, is faster than torch on a CPU."""


FEW_TAPS = 4
"""Reach, in pixels, of kernels that so few values are filtered with faster than multiplied."""


def _correlate_few(
    images: NDArray[np.float64], taps: Sequence[float], border: Border, axis: int
) -> NDArray[np.float64]:
    """Do the same with the same operations in the same order."""
    reach, size = len(taps) - 1, images.shape[axis]
    padded = images.take(_with_border(size, reach, border), axis).swapaxes(0, axis)
    total = padded[reach : reach + size] * taps[0]
    for j in range(reach, 0, -1):
        pair = padded[reach - j : reach - j + size] + padded[reach + j : reach + j + size]
        pair *= taps[j]
        total += pair
    return total.swapaxes(0, axis)


@functools.lru_cache(maxsize=64)
def _with_border(size: int, reach: int, border: Border) -> NDArray[np.int64]:
    before, after = beyond(size, reach, border, torch.device("cpu"))
    return np.concatenate([before.numpy(), np.arange(size), after.numpy()])


LARGEST_MATRIX = 512
"""Longest axis, in pixels, for which a blur is one matrix product."""


def gaussian_nearly(
    images: Tensor, sigma: float, *, truncate: float = 4.0, border: Border = "edge"
) -> tuple[Tensor, float] | None:
    """Blur with a Gaussian by matrix products: fast, and not in the benchmark's order.

    Args:
        images: (..., H, W), computed with in float64.
        sigma: standard deviation in pixels.
        truncate: reach of the kernel in deviations.
        border: what lies outside the image.

    Returns:
        The blurred images, float64, and how far they may be from ``gaussian_filter``'s, at most, if
        absolute values are up to 1; None where that one is not slower, or not exactly known.
    """
    height, width = images.shape[-2:]
    reach, longest = len(gaussian_taps(sigma, truncate)) - 1, max(height, width)
    if images.device.type != "cpu" or longest > LARGEST_MATRIX:
        return None
    by_bands = longest >= max(4 * reach, SMALLEST_BANDED)
    if reach < (LEAST_REACH if by_bands else longest / 32):
        return None
    if reach <= FEW_TAPS and images.numel() <= FEW_VALUES:
        return None
    down, across = (_blur_matrix(side, sigma, truncate, border) for side in (height, width))
    # Each of two passes adds up to ``longest`` products in one order, and 2 reach in the other.
    error = 2 * (longest + 2 * reach + 8) * 2.0**-52
    sharp = images.to(torch.float64)
    blurred = _by_bands(sharp, down, across, reach) if by_bands else down @ sharp @ across.T
    return blurred, error


SMALLEST_BANDED = 128
"""Shortest axis, in pixels, for which the zeros of a blur's matrix are worth leaving out."""

LEAST_REACH = 3
"""Of the shortest kernel, in pixels, for which a product by bands is faster than its few sums."""


def _by_bands(images: Tensor, down: Tensor, across: Tensor, reach: int) -> Tensor:
    """Return ``down @ images @ across.T`` where the matrices' bands are ``reach`` wide."""
    height, width = images.shape[-2:]
    planes = images.reshape(-1, height, width)
    halfway, blurred = torch.empty_like(planes), torch.empty_like(planes)
    for plane, into in zip(planes, halfway, strict=True):
        for rows, near in _bands(height, reach):
            torch.mm(down[rows, near], plane[near], out=into[rows])
    lines, into = halfway.view(-1, width), blurred.view(-1, width)
    for columns, near in _bands(width, reach):
        torch.mm(lines[:, near], across[columns, near].T, out=into[:, columns])
    return blurred.view(images.shape)


@functools.lru_cache(maxsize=16)
def _bands(size: int, reach: int) -> list[tuple[slice, slice]]:
    """Divide an axis into bands; beside each stands what a filter of this reach makes it of."""
    step = max(2 * reach + 8, 32)
    bands = [slice(start, min(start + step, size)) for start in range(0, size, step)]
    return [(b, slice(max(b.start - reach, 0), min(b.stop + reach, size))) for b in bands]


@functools.lru_cache(maxsize=16)
def _blur_matrix(size: int, sigma: float, truncate: float, border: Border) -> Tensor:
    taps = gaussian_taps(sigma, truncate)
    reach = len(taps) - 1
    kernel = torch.tensor(taps[:0:-1] + taps, dtype=torch.float64)
    source = pad(torch.arange(size), reach, border, dim=0)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for row in range(size):
        matrix[row].index_add_(0, source[row : row + 2 * reach + 1], kernel)
    return matrix


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
    taps, reach = taps_of(kernel)
    padded = pad(pad(images, reach, border, dim=-2), reach, border, dim=-1)
    total, product = torch.zeros_like(images), torch.empty_like(images)
    for row, column, weight in taps:
        window = padded[..., row : row + height, column : column + width]
        total += torch.mul(window, weight, out=product)
    return total


def taps_of(kernel: Tensor) -> tuple[list[tuple[int, int, float]], int]:
    """Return a kernel's taps above 1e-12, by row and column from the first, and their reach."""
    rows, columns = (kernel.abs() > 1e-12).nonzero(as_tuple=True)
    centre = kernel.shape[0] // 2
    reach = int(torch.cat([rows - centre, columns - centre]).abs().max())
    first = centre - reach
    weights = kernel[rows, columns].tolist()
    places = zip(rows.tolist(), columns.tolist(), weights, strict=True)
    return [(row - first, column - first, weight) for row, column, weight in places], reach
