"""JPEG compression: the lossy part of a baseline round trip, 4:2:0, in whole numbers.

The arithmetic is the IJG library's, version 9, which the released benchmark was made with. From
version 7 on it halves the chroma planes inside the transform (16 pixels to 8 coefficients), so its
pictures differ visibly from those of libjpeg-turbo, which averages pixels.

All values are whole numbers, held in floating point where matrix products of their size are
exact. That is float64 here: other devices than a CPU may multiply float32 in fewer digits. On a CPU
``jpeg_on_cpu`` does it.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions import jpeg_on_cpu
from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import truncated

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


def _colours(rows: Sequence[Sequence[float]]) -> Tensor:
    return _scaled(torch.tensor([[_fixed(value) for value in row] for row in rows]).double(), 16)


TO_COLOURS = _colours(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ]
)
"""From red, green and blue to luma, blueness and redness."""

FROM_COLOURS = _colours([[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]])


class _Plane(NamedTuple):
    """What one kind of plane is transformed with, on one device, float64."""

    along: Tensor  # from pixels of a row to its frequencies, over 2^11
    down: Tensor  # from pixels of a column to its frequencies
    inverse: Tensor  # from frequencies of a column to its pixels, over 2^11
    inverse_along: Tensor  # from frequencies of a row to its pixels, over 2^18
    step: Tensor  # (8, W / 8 · 8), what coefficients are multiples of
    per_step: Tensor  # its inverse over 8


class _Codec(NamedTuple):
    """What images of one width are encoded and decoded with, on one device."""

    luma: _Plane
    chroma: _Plane
    to_colours: Tensor  # (3, 3)
    shift: Tensor  # (3, 1), added to colours before they are rounded down
    from_colours: Tensor  # (3, 3)


@functools.lru_cache(maxsize=32)
def _codec(quality: int, width: int, device: torch.device) -> _Codec:
    """Return what images are encoded with; ``width`` is a multiple of 16."""
    made = []
    for forward, inverse, table, bits, blocks in (
        (LUMA_COSINES, LUMA_COSINES.T, LUMA_TABLE, 15, width // 8),
        (CHROMA_FORWARD, CHROMA_INVERSE, CHROMA_TABLE, 17, width // 16),
    ):
        step = quantisation(table, quality).repeat(1, blocks)
        plane = _Plane(
            _scaled(forward, 11).T,
            _scaled(forward, bits),
            _scaled(inverse, 11),
            _scaled(inverse, 18).T,
            step,
            # So little more that only halves are rounded elsewhere, and these away from zero:
            # coefficients are whole numbers below 2^15, hence others at least 2^-15 / step away.
            (1 + 1e-7) / (8 * step),
        )
        made.append(_Plane(*(part.contiguous().to(device) for part in plane)))
    # Luma is rounded, and centred on 0 as chroma is. Of chroma halves are rounded down: one less
    # than half is added before the shift by 16 bits, so that it never comes up to 128.
    shift = torch.tensor([[0.5 - 128], [0.5 - 2.0**-16], [0.5 - 2.0**-16]]).double()
    others = (part.to(device) for part in (TO_COLOURS, shift, FROM_COLOURS))
    return _Codec(made[0], made[1], *others)


@functools.lru_cache(maxsize=32)
def _codec_on_cpu(quality: int, width: int) -> jpeg_on_cpu.Codec:
    """Return the same for NumPy; sums up to 2^24 are exact in float32, in any order."""
    codec = _codec(quality, width, torch.device("cpu"))
    luma, chroma = (
        jpeg_on_cpu.Plane(
            along=plane.along.float().numpy(),
            down=plane.down.numpy(),
            inverse=plane.inverse.numpy(),
            inverse_along=plane.inverse_along.numpy(),
            step=plane.step,
            per_step=plane.per_step,
            raised=jpeg_on_cpu.raised(plane.step.shape[1]),
        )
        for plane in (codec.luma, codec.chroma)
    )
    to_colours = torch.cat([codec.to_colours, codec.shift], dim=1).float().numpy()
    return jpeg_on_cpu.Codec(luma, chroma, to_colours, codec.from_colours.float().numpy())


def _encoded(colours: Tensor, width: int, codec: _Codec) -> tuple[Tensor, Tensor]:
    """Return quantised coefficients of luma (B, 8, W) and of chroma (B, 8, W / 2), float64.

    Args:
        colours: luma, blueness and redness, (3, N · H · W), whole numbers centred on 0.
        width: of the images.
        codec: for that width.
    """
    # The values of luma and of chroma lie behind each other, so that one operation does for both.
    luma, chroma = codec.luma, codec.chroma
    size, half = colours.shape[1], width // 2
    rows = colours.new_empty(2 * size)
    torch.mm(colours[0].view(-1, 8), luma.along, out=rows[:size].view(-1, 8))
    torch.mm(colours[1:].view(-1, 16), chroma.along, out=rows[size:].view(-1, 8))
    rows.add_(0.5).floor_()
    coefficients = rows.new_empty(size + size // 2)
    of_luma = coefficients[:size].view(-1, 8, width)
    of_chroma = coefficients[size:].view(-1, 8, half)
    _down_columns(luma.down, rows[:size].view(-1, 8, width), of_luma)
    _down_columns(chroma.down, rows[size:].view(-1, 16, half), of_chroma)
    coefficients.add_(0.5).floor_()
    of_luma.mul_(luma.per_step)
    of_chroma.mul_(chroma.per_step)
    coefficients.round_()
    return of_luma.mul_(luma.step), of_chroma.mul_(chroma.step)


def _decoded(of_luma: Tensor, of_chroma: Tensor, codec: _Codec) -> Tensor:
    """Return luma, blueness and redness, float64 (3, N · H · W), of coefficients; overwritten."""
    luma, chroma = codec.luma, codec.chroma
    size, width = of_luma.numel(), of_luma.shape[2]
    # A half is added to all sums by way of what each holds in the same proportion, the lowest
    # frequency: of columns it counts 8192 / 2^11 times, of rows 8192 / 2^18 times.
    of_luma[:, 0] += 1 / 8
    of_chroma[:, 0] += 1 / 8
    columns = of_luma.new_empty(2 * size)
    _down_columns(luma.inverse, of_luma, columns[:size].view(-1, 8, width))
    _down_columns(chroma.inverse, of_chroma, columns[size:].view(-1, 16, width // 2))
    runs = columns.floor_().view(-1, 8)
    runs[:, 0] += 16
    pixels = of_luma.new_empty(3 * size)
    torch.mm(runs[: size // 8], luma.inverse_along, out=pixels[:size].view(-1, 8))
    torch.mm(runs[size // 8 :], chroma.inverse_along, out=pixels[size:].view(-1, 16))
    return pixels.floor_().view(3, size)


def _down_columns(matrix: Tensor, runs: Tensor, out: Tensor) -> None:
    """Transform runs of pixels within columns: (B, in, W) -> (B, out, W)."""
    torch.bmm(matrix.expand(len(runs), -1, -1), runs, out=out)


def jpeg_round_trip(images: Tensor, quality: int) -> Tensor:
    """Encode and decode with the IJG library's integer arithmetic, version 9.

    Args:
        images: uint8 (N, 3, H, W); sides that are no multiples of 16 are grown by repeating the
            last row and column, as the encoder does.
        quality: 1 to 100.

    Returns:
        uint8 (N, 3, H, W).
    """
    if images.device.type == "cpu":
        codec = _codec_on_cpu(quality, images.shape[3] + -images.shape[3] % 16)
        return torch.from_numpy(jpeg_on_cpu.round_trip(images.numpy(), codec))
    return _round_trip(images, quality)


def _round_trip(images: Tensor, quality: int) -> Tensor:
    height, width = images.shape[-2:]
    levels = images.transpose(0, 1).to(torch.float64, memory_format=torch.contiguous_format)
    if height % 16 or width % 16:
        grown = (0, -width % 16, 0, -height % 16)
        levels = torch.nn.functional.pad(levels, grown, mode="replicate")
    codec = _codec(quality, levels.shape[3], images.device)
    colours = torch.mm(codec.to_colours, levels.flatten(1)).add_(codec.shift).floor_()
    coded = _encoded(colours, levels.shape[3], codec)
    colours = _decoded(*coded, codec).clamp_(-128, 127)
    # A half is added to round, and 128 because luma is centred on 0.
    decoded = torch.mm(codec.from_colours, colours).add_(128.5).clamp_(0, 255)
    pixels = decoded.view(levels.shape)[..., :height, :width].transpose(0, 1)
    return truncated(pixels).contiguous()


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
