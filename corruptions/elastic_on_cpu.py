"""Interpolation of ``elastic_transform`` in NumPy, with one place to look up a pixel, not four.

A border as wide as pixels are moved is laid around the images. No place then has to be folded back
into them, and the three neighbours of a pixel stand at the same distances from it everywhere.
"""

from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from robustmix.corruptions.filters import Border, beyond

Int32 = NDArray[np.int32]
Float = TypeVar("Float", np.float32, np.float64)

MOST_BORDER = 8
"""How many times as many pixels images may have with their border; else it does not pay."""


def reach_of(left: Int32, top: Int32, height: int, width: int) -> int | None:
    """Return how far pixels, and the next ones right and below, lie outside, in pixels.

    Args:
        left: columns of pixels.
        top: their rows.
        height: of the images.
        width: of the images.

    Returns:
        At least 0; None where a border of that many pixels is too large.
    """
    ends = [(int(places.min()), int(places.max())) for places in (left, top)]
    outside = [
        (-low, high + 2 - size) for (low, high), size in zip(ends, (width, height), strict=True)
    ]
    reach = max(0, *(most for pair in outside for most in pair))
    area = (height + 2 * reach) * (width + 2 * reach)
    return reach if area <= MOST_BORDER * height * width else None


def between(
    images: NDArray[np.float32],
    left: Int32,
    top: Int32,
    fx: NDArray[Float],
    fy: NDArray[Float],
    border: Border,
    reach: int,
) -> NDArray[Float]:
    """Interpolate linearly in the fractions' type.

    Args:
        images: float32 (N, C, H, W).
        left: the pixels' columns, (N, h, w).
        top: their rows.
        fx: how far each value is from its pixel to the next one, in [0, 1).
        fy: how far from its row to the next one.
        border: what lies outside the image.
        reach: what ``reach_of`` says.

    Returns:
        (N, C, h, w).
    """
    bordered = _bordered(images, reach, border, fx.dtype)
    n, channels, height, width = bordered.shape
    values, plane = bordered.reshape(-1), height * width
    place = top * np.int32(width)
    place += left
    place += np.int32(reach * (width + 1))
    places: NDArray[np.int64] = place.astype(np.int64)
    if n > 1:
        places += channels * plane * np.arange(n).reshape(-1, 1, 1)
    total = np.empty((n, channels, *places.shape[1:]), fx.dtype)
    # The four corners one after the other: the sum's order shows in the bytes.
    for below, weight_y in ((0, 1 - fy), (width, fy)):
        for right, weight_x in ((0, 1 - fx), (1, fx)):
            weight = weight_y * weight_x
            for channel in range(channels):
                corner = values[channel * plane + below + right :].take(places)
                if below + right == 0:
                    np.multiply(corner, weight, out=total[:, channel])
                else:
                    corner *= weight
                    total[:, channel] += corner
    return total


def _bordered(
    images: NDArray[np.float32], reach: int, border: Border, dtype: np.dtype[Float]
) -> NDArray[Float]:
    n, channels, height, width = images.shape
    grown = np.empty((n, channels, height + 2 * reach, width + 2 * reach), dtype)
    rows, columns = slice(reach, reach + height), slice(reach, reach + width)
    grown[:, :, rows, columns] = images
    if reach:
        cpu = torch.device("cpu")
        above, below = (ends.numpy() for ends in beyond(height, reach, border, cpu))
        before, after = (ends.numpy() for ends in beyond(width, reach, border, cpu))
        grown[:, :, :reach, columns] = images[:, :, above]
        grown[:, :, reach + height :, columns] = images[:, :, below]
        grown[..., :reach] = grown[..., reach + before]
        grown[..., reach + width :] = grown[..., reach + after]
    return grown


class Places(NamedTuple):
    """Where values are taken from, (N, H, W) each: a pixel, and how far from it to the next one."""

    left: Int32
    top: Int32
    fx: NDArray[np.float32]
    fy: NDArray[np.float32]


def affine_places(
    inverse: NDArray[np.float64], height: int, width: int, scale: int, grid: int
) -> Places:
    """Return where the maps lead, in whole units of 1 / grid pixels.

    Args:
        inverse: the maps, (N, 2, 3).
        height: of the images.
        width: of the images.
        scale: units to a pixel that both addends are rounded to; a power of two, as ``grid`` is.
        grid: units to a pixel that their sum is rounded to.
    """
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    finer, bits = scale // grid, grid.bit_length() - 1
    pixels, fractions = [], []
    with np.errstate(invalid="ignore"):  # images of 2 pixels have no such map
        for a, b, c in inverse.transpose(1, 2, 0)[..., None, None]:
            # Whole numbers: a position of 2^21 pixels would still fit.
            along = np.rint(a * x * scale).astype(np.int32) + np.int32(finer // 2)
            place = along + np.rint((b * y + c) * scale).astype(np.int32)
            place >>= finer.bit_length() - 1
            pixels.append(place >> bits)
            fraction = (place & (grid - 1)).astype(np.float32)
            fraction /= grid
            fractions.append(fraction)
    return Places(*pixels, *fractions)
