"""JPEG compression: the lossy part of a baseline round trip, 4:2:0, in whole numbers.

The arithmetic is the IJG library's, version 9, which the released benchmark was made with. From
version 7 on it halves the chroma planes inside the transform (16 pixels to 8 coefficients), so its
pictures differ visibly from those of libjpeg-turbo, which averages pixels.

All values are whole numbers held in float64, where matrix products of this size are exact.
"""

from collections.abc import Sequence

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
    """Return a colour coefficient with 16 fractional bits."""
    return int(65536 * value + 0.5)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Divide by 2^bits in place, rounding half up."""
    return x.add_(2 ** (bits - 1)).mul_(2.0**-bits).floor_()


def _along_rows(x: Tensor, matrix: Tensor, bits: int) -> Tensor:
    """Transform runs of pixels within each row: (..., H, W) -> (..., H, W · out / in)."""
    runs = x.reshape(*x.shape[:-1], -1, matrix.shape[1])
    return _shift(runs @ matrix.T, bits).flatten(-2)


def _down_columns(x: Tensor, matrix: Tensor, bits: int) -> Tensor:
    """Transform runs of pixels within each column: (..., H, W) -> (..., H · out / in, W)."""
    runs = x.reshape(*x.shape[:-2], -1, matrix.shape[1], x.shape[-1])
    return _shift(matrix @ runs, bits).flatten(-3, -2)


def _quantise(coefficients: Tensor, steps: Tensor) -> Tensor:
    """Round coefficients (..., H, W), eight times too large, to multiples of their steps (8, 8)."""
    *leading, height, width = coefficients.shape
    blocks = coefficients.reshape(*leading, height // 8, 8, width // 8, 8)
    step = steps.unsqueeze(1)
    whole = ((blocks.abs() + 4 * step) / (8 * step)).floor_()
    return (whole * step).copysign_(blocks).reshape(coefficients.shape)


def _plane_round_trip(
    plane: Tensor, forward: Tensor, inverse: Tensor, steps: Tensor, column_bits: int
) -> Tensor:
    """Encode and decode planes (..., H, W) of levels centred on 0; returns levels in [0, 255]."""
    coefficients = _down_columns(_along_rows(plane, forward, 11), forward, column_bits)
    kept = _quantise(coefficients, steps)
    return _along_rows(_down_columns(kept, inverse, 11), inverse, 18).add_(128).clamp_(0, 255)


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
    device = images.device
    rows = torch.arange(-(-height // 16) * 16, device=device).clamp(max=height - 1)
    columns = torch.arange(-(-width // 16) * 16, device=device).clamp(max=width - 1)
    whole = images.index_select(2, rows).index_select(3, columns)
    red, green, blue = whole.to(torch.float64).unbind(1)

    luma = _fixed(0.299) * red + _fixed(0.587) * green + _fixed(0.114) * blue
    half = _fixed(0.5)
    # One less than half before the shift: rounds, but never up to 256.
    offset = 2**23 + 2**15 - 1
    blueness = half * blue - _fixed(0.168735892) * red - _fixed(0.331264108) * green
    redness = half * red - _fixed(0.418687589) * green - _fixed(0.081312411) * blue
    chroma = torch.stack([blueness, redness], dim=1).add_(offset).mul_(2.0**-16).floor_()

    cosines = LUMA_COSINES.to(device)
    steps = quantisation(LUMA_TABLE, quality).to(device)
    luma = _plane_round_trip(_shift(luma, 16).sub_(128), cosines, cosines.T, steps, 15)
    forward, inverse = CHROMA_FORWARD.to(device), CHROMA_INVERSE.to(device)
    steps = quantisation(CHROMA_TABLE, quality).to(device)
    chroma = _plane_round_trip(chroma.sub_(128), forward, inverse, steps, 17).sub_(128)

    blueness, redness = chroma.unbind(1)
    greenness = -_fixed(0.344136286) * blueness - _fixed(0.714136286) * redness
    decoded = torch.stack(
        [
            luma + _shift(_fixed(1.402) * redness, 16),
            luma + _shift(greenness, 16),
            luma + _shift(_fixed(1.772) * blueness, 16),
        ],
        dim=1,
    )
    return decoded.clamp_(0, 255).to(torch.uint8)[..., :height, :width].contiguous()


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
