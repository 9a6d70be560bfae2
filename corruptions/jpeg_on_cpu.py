"""The round trip of ``jpeg_compression`` in NumPy: its products of small matrices are fast.

The whole numbers are the same, hence every bit. Each product is cut into one a row of blocks: so
small ones go to kernels that copy nothing first, and never to several threads. What is done to
every number is done to luma and chroma in one operation, and arrays lie where others have been:
of an image of 224 pixels all that is worked on has to stay in a processor's cache.
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
    raised: Tensor  # likewise, what is added to the coefficients


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

# Arrays without axes: NumPy takes longer to find out what to do with a number.
_HALF = np.array(0.5)
_SINGLE_HALF = np.array(0.5, np.float32)
_CENTRE = np.array(CENTRE, np.int16)
_ROUNDED_CENTRE = np.array(CENTRE + 0.5, np.float32)


def raised(columns: int) -> Tensor:
    """Return what coefficients are raised by, float64 (8, columns).

    So much that all sums down the columns are rounded by rounding down, and those along the rows,
    too, where pixels come out greater by ``CENTRE``. The lowest frequency of a row counts 8192 /
    2^11 = 4 times in the first sums and 8192 / 2^18 = 1 / 32 times in the others.
    """
    added = torch.zeros(8, columns, dtype=torch.float64)
    added[0] = ROUNDED
    added[0, ::8] += (CENTRE + 0.5) * 32 / 4
    return added


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
    _code(colours, wide, codec)
    decoded = levels[:3]
    # Sums from -128 to 128 are exact in any order; all others come out beyond black and white.
    np.matmul(codec.from_colours, in_bands, out=bands[:, :3])
    decoded += _ROUNDED_CENTRE
    decoded.clip(0, 255, out=decoded)
    pixels = np.empty(images.shape, np.uint8)
    shown = decoded[:, :, :height, :width].transpose(1, 0, 2, 3)
    np.copyto(pixels, shown, casting="unsafe")
    return pixels


def _code(colours: Single, width: int, codec: Codec) -> None:
    """Encode and decode luma, blueness and redness in place.

    Args:
        colours: (3, N * H * W), whole numbers from -128 to 127.
        width: of the images.
        codec: for that width.
    """
    luma, chroma = codec.luma, codec.chroma
    size, half = colours.shape[1], width // 2
    # Rows, then coefficients and last pixels lie here: 2 numbers of four bytes a pixel, 1.5 behind
    # them of eight, and 3 when neither is needed any more.
    work = np.empty(3 * size)
    rows, coefficients = work[:size].view(np.float32), work[size : 2 * size + size // 2]
    runs = np.empty(2 * size)
    np.matmul(colours[0].reshape(-1, width, 8), luma.along, out=rows[:size].reshape(-1, width, 8))
    np.matmul(
        colours[1:].reshape(-1, width, 16), chroma.along, out=rows[size:].reshape(-1, width, 8)
    )
    np.add(rows, _SINGLE_HALF, out=rows)
    np.floor(rows, out=rows)
    np.copyto(runs, rows)
    of_luma, of_chroma = runs[:size].reshape(-1, 8, width), runs[size:].reshape(-1, 16, half)
    coded_luma = coefficients[:size].reshape(-1, 8, width)
    coded_chroma = coefficients[size:].reshape(-1, 8, half)
    np.matmul(luma.down, of_luma, out=coded_luma)
    np.matmul(chroma.down, of_chroma, out=coded_chroma)
    np.add(coefficients, _HALF, out=coefficients)
    np.floor(coefficients, out=coefficients)
    # torch repeats a table more quickly.
    quantised = torch.from_numpy(coded_luma), torch.from_numpy(coded_chroma)
    for values, plane in zip(quantised, (luma, chroma), strict=True):
        values.mul_(plane.per_step)
    np.rint(coefficients, out=coefficients)
    for values, plane in zip(quantised, (luma, chroma), strict=True):
        torch.addcmul(plane.raised, values, plane.step, out=values)
    np.matmul(luma.inverse, coded_luma, out=of_luma)
    np.matmul(chroma.inverse, coded_chroma, out=of_chroma)
    np.floor(runs, out=runs)
    np.matmul(
        runs[:size].reshape(-1, width, 8),
        luma.inverse_along,
        out=work[:size].reshape(-1, width, 8),
    )
    np.matmul(
        runs[size:].reshape(-1, width, 8),
        chroma.inverse_along,
        out=work[size:].reshape(-1, width, 16),
    )
    # Whole numbers of 16 bits hold any sum of 64 coefficients. Cutting fractions off rounds up only
    # what lies below 0.
    levels = work.astype(np.int16)
    levels.clip(0, 255, out=levels)
    np.subtract(levels, _CENTRE, out=colours.reshape(-1))
