"""The round trip of ``jpeg_compression`` in NumPy: its products of small matrices are fast.

The whole numbers are the same, hence every bit. Each product is cut into one a row of blocks: so
small ones go to kernels that copy nothing first, and never to several threads.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Single = NDArray[np.float32]
Double = NDArray[np.float64]
Bytes = NDArray[np.uint8]


class Plane(NamedTuple):
    """What one kind of plane is transformed with; matrices as in ``jpeg_compression``."""

    along: Single  # (side, 8), side: pixels of a block, 8 or 16
    down: Double  # (8, side)
    inverse: Double  # (side, 8)
    inverse_along: Double  # (8, side)
    step: Tensor  # (8, W / side * 8) float64
    per_step: Tensor  # likewise
    raised: Double  # (W / side * 8), what is added to the coefficients of the lowest row


class Codec(NamedTuple):
    """What images of one width are encoded and decoded with."""

    luma: Plane
    chroma: Plane
    to_colours: Single  # (3, 4), what is added to colours last
    from_colours: Single  # (3, 3)


ROUNDED = 1 / 8
"""A coefficient of the lowest row that counts a half in all sums down its column."""

CENTRE = 128
"""What pixels are raised by until they are cut to bytes, which is done from 0 on."""


def raised(columns: int) -> Double:
    """Return what the lowest row of coefficients is raised by, float64 (columns,).

    So much that all sums down the columns are rounded by rounding down, and those along the rows,
    too, where pixels come out greater by ``CENTRE``. The lowest frequency of a row counts 8192 /
    2^11 = 4 times in the first sums and 8192 / 2^18 = 1 / 32 times in the others.
    """
    row = np.full(columns, ROUNDED)
    row[::8] += (CENTRE + 0.5) * 32 / 4
    return row


def round_trip(images: Bytes, codec: Codec) -> Bytes:
    """Encode and decode images, uint8 (N, 3, H, W), as ``jpeg_round_trip`` does."""
    n, _, height, width = images.shape
    planes = images.transpose(1, 0, 2, 3)
    if height % 16 or width % 16:
        grown = [(0, 0), (0, 0), (0, -height % 16), (0, -width % 16)]
        planes = np.pad(planes, grown, "edge")
    _, _, tall, wide = planes.shape
    levels = np.empty((4, n, tall, wide), np.float32)
    levels[:3], levels[3] = planes, 1
    # One row of the largest blocks after the other.
    bands = levels.reshape(4, -1, 16 * wide).swapaxes(0, 1)
    colours = np.empty((3, n * tall * wide), np.float32)
    in_bands = colours.reshape(3, -1, 16 * wide).swapaxes(0, 1)
    np.matmul(codec.to_colours, bands, out=in_bands)
    np.floor(colours, out=colours)
    _code(colours[:1], wide, codec.luma)
    _code(colours[1:], wide, codec.chroma)
    decoded = levels[:3]
    # Sums from -128 to 128 are exact in any order; all others come out beyond black and white.
    np.matmul(codec.from_colours, in_bands, out=bands[:, :3])
    decoded += np.float32(CENTRE + 0.5)
    torch.from_numpy(decoded).clamp_(0, 255)
    pixels = np.empty(images.shape, np.uint8)
    shown = decoded[:, :, :height, :width].transpose(1, 0, 2, 3)
    np.copyto(pixels, shown, casting="unsafe")
    return pixels


def _code(planes: Single, width: int, plane: Plane) -> None:
    """Encode and decode planes of one kind, whole numbers from -128 to 127, in place.

    Args:
        planes: (P, N * H * W), contiguous.
        width: of the images.
        plane: what planes of this kind and width are transformed with.
    """
    side = len(plane.along)
    columns = width // side * 8
    rows = np.matmul(planes.reshape(-1, width, side), plane.along)
    rows += np.float32(0.5)
    np.floor(rows, out=rows)
    runs = rows.astype(np.float64).reshape(-1, side, columns)
    coefficients = np.matmul(plane.down, runs)
    coefficients += 0.5
    np.floor(coefficients, out=coefficients)
    quantised = torch.from_numpy(coefficients)
    quantised.mul_(plane.per_step)  # torch repeats a table more quickly
    np.rint(coefficients, out=coefficients)
    quantised.mul_(plane.step)
    coefficients[:, 0] += plane.raised
    np.matmul(plane.inverse, coefficients, out=runs)
    np.floor(runs, out=runs)
    pixels = np.matmul(runs.reshape(-1, columns, 8), plane.inverse_along)
    # Whole numbers of 16 bits hold any sum of 64 coefficients. Cutting fractions off rounds up only
    # what lies below 0.
    levels = pixels.astype(np.int16)
    torch.from_numpy(levels).clamp_(0, 255)
    levels -= np.int16(CENTRE)
    np.copyto(planes, levels.reshape(planes.shape))
