"""RandAugment, and FixMatch's operations for it, as OpenMixup configures them for CIFAR-100.

What is random is drawn beforehand, the same count for every image; then whole groups of images that
drew the same operation are changed at once, each by its own strength, on their own device; all that
are turned, sheared or moved are one group. Sums are of whole numbers, or of floats that add without
rounding, so the bits of an image depend neither on its batch nor on the device.

Where the released code has its peculiarities, this has them too:
    Every operation is applied with probability 1/2 only, so half of the draws change nothing.
    It converts to grey with the weights of red and blue exchanged, for it takes RGB for BGR.
    What a geometric operation uncovers gets the data set's mean colour with red and blue
    exchanged, for the same reason.
ImageNet's operations are in ``rand_increasing``.

Reference:
    Cubuk et al. 2020, arXiv:1909.13719; Sohn et al. 2020 (FixMatch), arXiv:2001.07685, appendix D.
    OpenMixup, ``cifar100/sz32_randaug_bs100`` and ``sz224_randaug_bs100``; OpenCV's ``warpAffine``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robustmix.data.augment import CIFAR_FILL, RGB
from robustmix.upload import uploaded


class Operation(NamedTuple):
    """How the level of a draw becomes the strength of an operation."""

    at_none: float
    """Strength at level 0."""

    at_most: float
    """Strength at level ``TOP_LEVEL``."""

    signed: bool
    """Whether half of the strengths are negated."""

    whole: bool = False
    """Whether the distance from ``at_none`` is cut to a whole number."""


class Policy(NamedTuple):
    """Operations that RandAugment chooses among, each as likely as any other."""

    operations: Mapping[str, Operation]
    """By name; one that is neither in ``colours`` nor in ``moves`` changes nothing."""

    strength: Callable[[str, Tensor, Tensor], Tensor]
    """Name, levels and signs -> strengths, as ``strength`` has it."""

    colours: Mapping[str, Callable[[Tensor, Tensor], Tensor]]
    """Name -> what changes the colours of images by strengths."""

    moves: Mapping[str, "Move"]
    """Name -> what moves the pixels of images by strengths; all resample in the same way."""


class Move(NamedTuple):
    """An operation that moves pixels."""

    matrices: Callable[[Tensor, int, int], Tensor]
    """Strengths (n,), height, width -> float64 (n, 2, 3): where each pixel comes from."""

    warp: Callable[[Tensor, Tensor, RGB], Tensor]
    """Images, matrices and the colour of what is uncovered -> images resampled under them."""

    def __call__(self, images: Tensor, strengths: Tensor, fill: RGB) -> Tensor:
        """Move the pixels of images uint8 (n, 3, H, W), each by its strength."""
        return self.warp(images, self.matrices(strengths, *images.shape[2:]), fill)


TOP_LEVEL = 10.0
"""Levels end here, whatever was drawn."""

OPERATIONS: dict[str, Operation] = {
    "autocontrast": Operation(0.0, 0.0, False),
    "brightness": Operation(0.05, 0.95, True),
    "color": Operation(0.05, 0.95, True),
    "contrast": Operation(0.05, 0.95, True),
    "equalize": Operation(0.0, 0.0, False),
    "identity": Operation(0.0, 0.0, False),
    "posterize": Operation(4.0, 8.0, False),
    "rotate": Operation(0.0, 30.0, True),
    "sharpness": Operation(0.05, 0.95, True),
    "shear-x": Operation(0.0, 0.3, True),
    "shear-y": Operation(0.0, 0.3, True),
    "solarize": Operation(256.0, 0.0, False),
    "translate-x": Operation(0.0, 0.3, True),
    "translate-y": Operation(0.0, 0.3, True),
}
"""FixMatch's. Units: change of the factor 1, bits kept, degrees clockwise, slope, threshold in grey
levels, share of the side to the right or down."""

_GREY = (7471, 38470, 19595)  # 2^16 times Rec. 601's weights of blue, green and red
_CUBIC = -0.75  # OpenCV's and torch's bicubic; Pillow resizes with -0.5 and transforms with -1
_SUBPIXELS = 32  # source coordinates are whole multiples of its inverse
_FIXED = 1024  # before that, of this one's


class RandOps(NamedTuple):
    """What RandAugment draws for one batch: everything random, nothing else."""

    operation: Tensor  # (n, ops) int64, places among a policy's operations
    level: Tensor  # (n, ops) float64 in [0, TOP_LEVEL]
    applied: Tensor  # (n, ops) bool, whether the operation is carried out
    negated: Tensor  # (n, ops) bool, whether a signed strength is negated


def draw_rand_ops(
    n: int,
    ops: int,
    *,
    magnitude: float,
    std: float,
    generator: torch.Generator,
    choices: int = len(OPERATIONS),
) -> RandOps:
    """Draw the operations of a batch.

    Args:
        n: number of images.
        ops: operations an image.
        magnitude: mean level, in [0, TOP_LEVEL].
        std: standard deviation of the level, which is clamped to [0, TOP_LEVEL].
        generator: a CPU generator; it advances by four uniforms for every operation.
        choices: how many operations the policy has.

    Returns:
        Draws on the CPU.
    """
    uniforms = torch.rand(n, ops, 4, generator=generator, dtype=torch.float64)
    choice, height, applied, negated = uniforms.unbind(2)
    normal = torch.special.ndtri(height.clamp_min(2.0**-53))
    return RandOps(
        operation=(choice * choices).long(),
        level=(magnitude + std * normal).clamp(0, TOP_LEVEL),
        applied=applied < 0.5,
        negated=negated < 0.5,
    )


def strength(name: str, level: Tensor, negated: Tensor) -> Tensor:
    """Return the strength of an operation in its own unit, float64, shaped like ``level``."""
    operation = OPERATIONS[name]
    value = operation.at_none + (operation.at_most - operation.at_none) * level / TOP_LEVEL
    return torch.where(negated, -value, value) if operation.signed else value


# Every operation on colours: images uint8 (n, 3, H, W), strengths float64 (n,) -> new images. Those
# that move pixels: strengths -> matrices, on the CPU, so that sines are the same for images on any
# device.


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch every channel so that it reaches from 0 to 255."""
    low = images.amin(dim=(2, 3), keepdim=True).double()
    high = images.amax(dim=(2, 3), keepdim=True).double()
    # Not 255.0 / ..., which torch takes as 255 times a rounded reciprocal.
    scale = torch.full_like(low, 255.0) / (high - low).clamp_min(1)
    stretched = (images * scale + -low * scale).clamp_(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Map every channel so that its histogram becomes as even as it can."""
    pixels = images.flatten(2)
    values = torch.arange(256, device=images.device).expand(*pixels.shape[:2], 256).contiguous()
    # Counting by sorting: exact and without atomics, so it is the same on any device.
    ranked = pixels.to(torch.int64).sort(dim=2).values
    below = torch.searchsorted(ranked, values)
    top = torch.searchsorted(ranked, ranked[:, :, -1:].contiguous())
    step = torch.div(top, 255, rounding_mode="floor")
    table = torch.div(below + step // 2, step.clamp_min(1), rounding_mode="floor").clamp_(0, 255)
    table = torch.where(step > 0, table, values)
    return table.gather(2, pixels.long()).view_as(images).to(torch.uint8)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of every value, as many as the whole part of ``bits``."""
    shift = per_image(8 - bits.trunc(), images).int()
    return ((images.int() >> shift) << shift).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values that are not below the threshold."""
    return torch.where(images < per_image(threshold, images), images, 255 - images)


def brightness(images: Tensor, change: Tensor) -> Tensor:
    """Multiply by 1 + ``change``."""
    return blend(torch.zeros_like(images), images, change)


def color(images: Tensor, change: Tensor) -> Tensor:
    """Move away from the grey image (change > 0), or towards it; rounds, unlike the others."""
    return blend(grey(images), images, change, rounded=True)


def contrast(images: Tensor, change: Tensor) -> Tensor:
    """Move away from the mean grey level (change > 0), or towards it."""
    pixels = images.shape[2] * images.shape[3]
    total = grey(images).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
    return blend((2 * total + pixels) // (2 * pixels), images, change)


def sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Move away from the smoothed image (change > 0), or towards it."""
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="reflect")
    total = 4 * images.int()
    for top in range(3):
        for left in range(3):
            total += padded[:, :, top : top + height, left : left + width].int()
    return blend((2 * total + 13) // 26, images, change)


def rotate(degrees: Tensor, height: int, width: int) -> Tensor:
    """Turn clockwise about the centre."""
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    x, y = (width - 1) / 2, (height - 1) / 2
    across = torch.stack([cos, sin, (1 - cos) * x - sin * y], dim=1)
    down = torch.stack([-sin, cos, sin * x + (1 - cos) * y], dim=1)
    return torch.stack([across, down], dim=1)


def shear_x(slope: Tensor, height: int, width: int) -> Tensor:
    """Move row y to the right by ``slope`` y."""
    return identity_but(0, 1, -slope)


def shear_y(slope: Tensor, height: int, width: int) -> Tensor:
    """Move column x down by ``slope`` x."""
    return identity_but(1, 0, -slope)


def translate_x(share: Tensor, height: int, width: int) -> Tensor:
    """Move to the right by a share of the width."""
    return identity_but(0, 2, -share * width)


def translate_y(share: Tensor, height: int, width: int) -> Tensor:
    """Move down by a share of the height."""
    return identity_but(1, 2, -share * height)


def warp(images: Tensor, matrices: Tensor, fill: RGB) -> Tensor:
    """Resample images under affine maps, bicubic, as OpenCV's ``warpAffine`` does.

    Source coordinates are rounded to 1/32 of a pixel. The weights are then multiples of 2^-34, and
    float64 adds such multiples of grey levels without rounding.

    Args:
        images: uint8, (n, 3, H, W).
        matrices: float64 (n, 2, 3): source (x, y) = matrix @ (x, y, 1), in pixels from the centre
            of the first one.
        fill: the colour that lies outside the image.

    Returns:
        uint8 (n, 3, H, W).
    """
    n, channels, height, width = images.shape
    x = torch.arange(width, device=images.device, dtype=torch.float64)
    y = torch.arange(height, device=images.device, dtype=torch.float64)
    source = [_source(row, x, y) for row in matrices.to(images.device).unbind(1)]
    (first_x, weights_x), (first_y, weights_y) = map(_taps, source)
    # Within a border of one pixel, which all lies outside that is asked for.
    pixels = images.new_empty((n, channels, height + 2, width + 2), dtype=torch.float64)
    for channel, value in zip(pixels.unbind(1), fill, strict=True):
        channel.fill_(value)
    pixels[:, :, 1:-1, 1:-1] = images
    pixels = pixels.flatten(2)
    columns = [(first_x + (i + 1)).clamp_(0, width + 1) for i in range(4)]
    total: Tensor | None = None
    for j, weight_y in enumerate(weights_y):
        row = (first_y + (j + 1)).clamp_(0, height + 1).mul_(width + 2)
        part: Tensor | None = None
        for column, weight_x in zip(columns, weights_x, strict=True):
            places = (row + column).view(n, 1, -1).expand(-1, channels, -1)
            term = pixels.gather(2, places).mul_(weight_x.view(n, 1, -1))
            part = term if part is None else part.add_(term)
        assert part is not None
        part.mul_(weight_y.view(n, 1, -1))
        total = part if total is None else total.add_(part)
    assert total is not None
    return (total + 0.5).floor_().clamp_(0, 255).to(torch.uint8).view_as(images)


def _source(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return one source coordinate in 1/32 of a pixel, int64 (n, H, W)."""
    along = (row[:, 0, None] * x * _FIXED).round().long()
    start = ((row[:, 1, None] * y + row[:, 2, None]) * _FIXED).round().long()
    step = _FIXED // _SUBPIXELS
    return (start[:, :, None] + along[:, None, :] + step // 2).div(step, rounding_mode="floor")


def _taps(source: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the first of four neighbours, and the weight of each."""
    whole = source.div(_SUBPIXELS, rounding_mode="floor")
    t = (source - whole * _SUBPIXELS).double() / _SUBPIXELS
    outer = [_CUBIC * d * (1 - d) ** 2 for d in (t, 1 - t)]
    near = ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1
    return whole - 1, [outer[0], near, 1 - outer[0] - near - outer[1], outer[1]]


def identity_but(row: int, column: int, values: Tensor) -> Tensor:
    """Return matrices of the identity, float64 (n, 2, 3), but for one entry, values (n,)."""
    matrices = torch.eye(2, 3, dtype=torch.float64).repeat(len(values), 1, 1)
    matrices[:, row, column] = values
    return matrices


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Return values (n,) as (n, 1, 1, 1) on the images' device."""
    return values.to(images.device)[:, None, None, None]


def blend(degenerate: Tensor, images: Tensor, change: Tensor, *, rounded: bool = False) -> Tensor:
    """Return degenerate + (1 + change) (images - degenerate), in float32 as Pillow does."""
    base = degenerate.float()
    moved = base + per_image(1 + change, images).float() * (images.float() - base)
    return (moved.round_() if rounded else moved).clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Return the grey image, int64 (n, 1, H, W), red and blue exchanged."""
    channels = zip(images.long().unbind(1), _GREY, strict=True)
    first, second, third = (channel * weight for channel, weight in channels)
    return ((first + second + third + 2**15) >> 16)[:, None]


FIXMATCH = Policy(
    operations=OPERATIONS,
    strength=strength,
    colours={
        "autocontrast": autocontrast,
        "brightness": brightness,
        "color": color,
        "contrast": contrast,
        "equalize": equalize,
        "posterize": posterize,
        "sharpness": sharpness,
        "solarize": solarize,
    },
    moves={
        name: Move(matrices, warp)
        for name, matrices in {
            "rotate": rotate,
            "shear-x": shear_x,
            "shear-y": shear_y,
            "translate-x": translate_x,
            "translate-y": translate_y,
        }.items()
    },
)


class Group(NamedTuple):
    """Images of a batch that are changed at once."""

    name: str
    """What is done to them, or ``MOVED``."""

    rows: Tensor
    """int64 (m,), their places in the batch."""

    values: Tensor
    """float64 (m,) strengths, or (m, 2, 3) matrices of those that are moved."""


MOVED = "moved"


def in_groups(
    rows: Mapping[str, Tensor],
    strengths: Mapping[str, Tensor],
    matrices: Mapping[str, Callable[[Tensor], Tensor]],
) -> tuple[Group, ...]:
    """Return the groups of one operation an image; all that are moved are one.

    Args:
        rows: of each operation that is carried out, int64 (m,) on the CPU.
        strengths: of each, float64 (m,) on the CPU.
        matrices: of each that moves pixels, strengths -> (m, 2, 3).
    """
    present = [name for name, some in rows.items() if len(some)]
    groups = [Group(name, rows[name], strengths[name]) for name in present if name not in matrices]
    moved = [name for name in present if name in matrices]
    if moved:
        places = torch.cat([rows[name] for name in moved])
        values = torch.cat([matrices[name](strengths[name]) for name in moved])
        groups.append(Group(MOVED, places, values))
    return tuple(groups)


def change_(
    images: Tensor,
    groups: Sequence[Group],
    colours: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    move: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Carry out one operation an image, in place.

    Args:
        images: uint8 (n, 3, H, W).
        groups: on the images' device; no image is in two.
        colours: by name what is done to images by strengths.
        move: images and matrices -> resampled images.
    """
    for name, rows, values in groups:
        images[rows] = (move if name == MOVED else colours[name])(images[rows], values)


def rand_augment(
    images: Tensor, draws: RandOps, *, policy: Policy = FIXMATCH, fill: RGB = CIFAR_FILL
) -> Tensor:
    """Carry out each image's operations, one after the other.

    Args:
        images: uint8, (n, 3, H, W) in RGB; sides of at least 2 pixels.
        draws: operations of the policy, on the CPU.
        policy: what the operations are.
        fill: red, green and blue, from 0 to 255, of what is uncovered.

    Returns:
        New images, same shape, dtype and device.
    """
    images = images.clone()
    height, width = images.shape[2:]
    matrices = {
        name: partial(_matrices, move, height, width) for name, move in policy.moves.items()
    }
    steps = tuple(
        in_groups(*_rows_and_strengths(draws, step, policy), matrices)
        for step in range(draws.operation.shape[1])
    )
    (resample,) = {move.warp for move in policy.moves.values()}
    for groups in uploaded(steps, images.device):
        change_(images, groups, policy.colours, lambda some, m: resample(some, m, fill))
    return images


def _matrices(move: Move, height: int, width: int, strengths: Tensor) -> Tensor:
    return move.matrices(strengths, height, width)


def _rows_and_strengths(
    draws: RandOps, step: int, policy: Policy
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    rows, strengths = {}, {}
    for place, name in enumerate(policy.operations):
        if name in policy.colours or name in policy.moves:
            chosen = draws.applied[:, step] & (draws.operation[:, step] == place)
            some = rows[name] = chosen.nonzero().flatten()
            strengths[name] = policy.strength(
                name, draws.level[some, step], draws.negated[some, step]
            )
    return rows, strengths
