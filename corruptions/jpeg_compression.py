"""JPEG compression: the lossy part of a baseline round trip, 4:2:0, in whole numbers.

The arithmetic is the IJG library's, version 9, which the released benchmark was made with. From
version 7 on it halves the chroma planes inside the transform (16 pixels to 8 coefficients), so its
pictures differ visibly from those of libjpeg-turbo, which averages pixels.

All values are whole numbers, held in floating point where matrix products of their size are exact.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile

QUALITY: Severities[int] = {
    "cifar": (80, 65, 58, 50, 40),
    "tiny": (65, 58, 50, 40, 25),
    "imagenet": (25, 18, 15, 10, 7),
}
"""Quality setting of the IJG library, 1 to 100."""

LUMA_TABLE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Quantisation of luma at quality 50 (ITU-T T.81, table K.1)."""

CHROMA_TABLE = torch.tensor(
    [
        [17, 18, 24, 47, 99, 99, 99, 99],
        [18, 21, 26, 66, 99, 99, 99, 99],
        [24, 26, 56, 99, 99, 99, 99, 99],
        [47, 66, 99, 99, 99, 99, 99, 99],
        *[[99] * 8] * 4,
    ]
)
"""Quantisation of chroma at quality 50 (ITU-T T.81, table K.2)."""


def _cosines(left_half: Sequence[Sequence[int]]) -> Tensor:
    """Complete cosine rows from their left halves: even ones are symmetric, odd ones the opposite.

    Returns:
        float64, one row a frequency.
    """
    left = torch.tensor(left_half, dtype=torch.float64)
    sign = torch.ones(len(left), 1, dtype=torch.float64)
    sign[1::2] = -1
    return torch.cat([left, sign * left.flip(1)], dim=1)


# The library's fixed-point cosines, 13 fractional bits: the response of its fast transforms to
# single pixels and coefficients. Rounding inside them makes entries differ by one from the formula.
LUMA_COSINES = _cosines(
    [
        [8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260],
        [10703, 4433, -4433, -10703],
        [9633, -2259, -11362, -6436],
        [8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633],
        [4433, -10704, 10704, -4433],
        [2260, -6436, 9633, -11363],
    ]
)
"""Row = frequency, column = pixel (8, 8); the inverse transform is the transpose."""

CHROMA_FORWARD = _cosines(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11529, 11086, 10217, 8956, 7350, 5461, 3363, 1135],
        [11363, 9633, 6436, 2260, -2260, -6436, -9633, -11363],
        [11086, 7350, 1136, -5461, -10217, -11529, -8956, -3363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [10217, 1136, -8955, -11086, -3363, 7350, 11529, 5461],
        [9633, -2260, -11363, -6437, 6437, 11363, 2260, -9633],
        [8956, -5461, -11086, 1137, 11530, 3363, -10217, -7350],
    ]
)
"""The eight lowest frequencies of 16 pixels (8, 16)."""

CHROMA_INVERSE = _cosines(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11529, 11086, 10217, 8956, 7350, 5461, 3363, 1136],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [11086, 7350, 1136, -5461, -10217, -11529, -8955, -3363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [10217, 1136, -8955, -11086, -3363, 7349, 11529, 5461],
        [9632, -2260, -11363, -6436, 6436, 11363, 2260, -9632],
        [8956, -5461, -11086, 1137, 11529, 3363, -10217, -7350],
    ]
).T
"""The way back (16, 8); not quite the transpose."""


def quantisation(table: Tensor, quality: int) -> Tensor:
    """Return the quantisation steps (8, 8) of a standard table at a quality of 1 to 100, float64.

    Example:
        >>> int(quantisation(LUMA_TABLE, 50)[0, 0]), int(quantisation(LUMA_TABLE, 25)[0, 0])
        (16, 32)
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((table * percent + 50) // 100).clamp(1, 255).to(torch.float64)


def _fixed(value: float) -> int:
    """Return a colour coefficient with 16 fractional bits; halves of both signs round outwards."""
    return int(65536 * value + math.copysign(0.5, value))


def _scaled(matrix: Tensor, bits: int) -> Tensor:
    """Return a matrix of whole numbers over 2^bits, which is exact."""
    return matrix * 2.0**-bits


class _Plane(NamedTuple):
    """What one kind of plane is transformed with, on one device."""

    along: Tensor  # float32, from pixels of a row to its frequencies
    down: Tensor  # float64, from pixels of a column to its frequencies
    inverse: Tensor  # float64, from frequencies of a column to its pixels, over 2^11
    inverse_along: Tensor  # float64, from frequencies of a row to its pixels, over 2^18
    step: Tensor  # (8, W / 8 · 8) float64, what coefficients are multiples of
    per_step: Tensor  # its inverse over 8


@functools.lru_cache(maxsize=32)
def _planes(quality: int, width: int, device: torch.device) -> tuple[_Plane, _Plane]:
    """Return what luma and chroma are transformed with; ``width`` is a multiple of 16."""
    made = []
    for forward, inverse, table, bits, blocks in (
        (LUMA_COSINES, LUMA_COSINES.T, LUMA_TABLE, 15, width // 8),
        (CHROMA_FORWARD, CHROMA_INVERSE, CHROMA_TABLE, 17, width // 16),
    ):
        step = quantisation(table, quality).repeat(1, blocks)
        plane = _Plane(
            _scaled(forward, 11).T.to(torch.float32),
            _scaled(forward, bits),
            _scaled(inverse, 11),
            _scaled(inverse, 18).T,
            step,
            # So little more that only halves are rounded elsewhere, and these away from zero:
            # coefficients are whole numbers below 2^15, hence others at least 2^-15 / step away.
            (1 + 1e-7) / (8 * step),
        )
        made.append(_Plane(*(part.contiguous().to(device) for part in plane)))
    return made[0], made[1]


def _along_rows(x: Tensor, matrix: Tensor) -> Tensor:
    """Transform runs of pixels within each row: (..., H, W) -> (..., H, W · out / in)."""
    runs = x.reshape(-1, matrix.shape[0]) @ matrix
    return runs.view(*x.shape[:-1], -1)


def _down_columns(x: Tensor, matrix: Tensor) -> Tensor:
    """Transform runs of pixels within each column: (..., H, W) -> (..., H · out / in, W)."""
    runs = x.reshape(*x.shape[:-2], -1, matrix.shape[1], x.shape[-1])
    return (matrix @ runs).flatten(-3, -2)


def _plane_round_trip(plane: Tensor, with_: _Plane) -> Tensor:
    """Encode and decode planes (..., H, W), float32 levels centred on 0; returns such levels.

    Sums of a row stay below 2^24 and are exact in float32; all others are in float64.
    """
    rows = _along_rows(plane, with_.along).add_(0.5).floor_().to(torch.float64)
    coefficients = _down_columns(rows, with_.down).add_(0.5).floor_()
    blocks = coefficients.view(*coefficients.shape[:-2], -1, 8, coefficients.shape[-1])
    kept = blocks.mul_(with_.per_step).round_().mul_(with_.step).view(coefficients.shape)
    columns = _down_columns(kept, with_.inverse).add_(0.5).floor_()
    pixels = _along_rows(columns, with_.inverse_along).add_(0.5).floor_()
    return pixels.to(torch.float32).clamp_(-128, 127)


def jpeg_round_trip(images: Tensor, quality: int) -> Tensor:
    """Encode and decode with the IJG library's integer arithmetic, version 9.

    Args:
        images: uint8 (N, 3, H, W); sides that are no multiples of 16 are grown by repeating the
            last row and column, as the encoder does.
        quality: 1 to 100.

    Returns:
        uint8 (N, 3, H, W).
    """
    height, width = images.shape[-2:]
    levels = images.to(torch.float32)
    if height % 16 or width % 16:
        grown = (0, -width % 16, 0, -height % 16)
        levels = torch.nn.functional.pad(levels, grown, mode="replicate")
    red, green, blue = levels.unbind(1)
    luma_with, chroma_with = _planes(quality, levels.shape[3], images.device)

    # All sums are whole numbers up to 2^24, so float32 holds them in any order.
    luma = _weighted((red, 0.299), (green, 0.587), (blue, 0.114))
    luma = luma.add_(2**15 - 128 * 2**16).mul_(2.0**-16).floor_()
    blueness = _weighted((blue, 0.5), (red, -0.168735892), (green, -0.331264108))
    redness = _weighted((red, 0.5), (green, -0.418687589), (blue, -0.081312411))
    # One less than half before the shift: rounds, but never up to 256.
    chroma = torch.stack([blueness, redness], dim=1).add_(2**15 - 1).mul_(2.0**-16).floor_()

    luma = _plane_round_trip(luma, luma_with).add_(128)
    blueness, redness = _plane_round_trip(chroma, chroma_with).unbind(1)

    greenness = _weighted((blueness, -0.344136286), (redness, -0.714136286))
    decoded = torch.stack(
        [
            _weighted((redness, 1.402)).mul_(2.0**-16).add_(0.5).floor_().add_(luma),
            greenness.mul_(2.0**-16).add_(0.5).floor_().add_(luma),
            _weighted((blueness, 1.772)).mul_(2.0**-16).add_(0.5).floor_().add_(luma),
        ],
        dim=1,
    )
    decoded = decoded.clamp_(0, 255).to(torch.int32).to(torch.uint8)
    return decoded[..., :height, :width].contiguous()


def _weighted(*terms: tuple[Tensor, float]) -> Tensor:
    """Return the sum of planes times coefficients with 16 fractional bits, times 2^16."""
    (first, weight), *others = terms
    total = first * _fixed(weight)
    for plane, weight in others:
        total.add_(plane, alpha=_fixed(weight))
    return total


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Compress and decompress.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2; ITU-T T.81.
    """
    return jpeg_round_trip(images, QUALITY[profile][severity - 1])


CORRUPTION = Corruption(name="jpeg_compression", constants=QUALITY, apply=apply)
