"""RandAugment, and FixMatch's operations for it, as OpenMixup configures them for CIFAR-100.

What is random is drawn beforehand, the same count for every image; then whole groups of images that
drew the same operation are changed at once, each by its own strength, on their own device. Sums are
of whole numbers, or of floats that add without rounding, so the bits of an image depend neither on
its batch nor on the device.

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

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robustmix.data.augment import CIFAR_FILL, RGB


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

    moves: Mapping[str, Callable[[Tensor, Tensor, RGB], Tensor]]
    """Name -> what moves the pixels of images by strengths; the colour is of what it uncovers."""


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


# Every operation: images uint8 (n, 3, H, W), strengths float64 (n,) on the CPU -> new images; those
# that move pixels are told the colour of what they uncover. Strengths stay on the CPU so that sines
# are the same for images on any device.


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


def rotate(images: Tensor, degrees: Tensor, fill: RGB) -> Tensor:
    """Turn clockwise about the centre."""
    height, width = images.shape[2:]
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    x, y = (width - 1) / 2, (height - 1) / 2
    across = torch.stack([cos, sin, (1 - cos) * x - sin * y], dim=1)
    down = torch.stack([-sin, cos, sin * x + (1 - cos) * y], dim=1)
    return warp(images, torch.stack([across, down], dim=1), fill)


def shear_x(images: Tensor, slope: Tensor, fill: RGB) -> Tensor:
    """Move row y to the right by ``slope`` y."""
    matrices = _identity(slope)
    matrices[:, 0, 1] = -slope
    return warp(images, matrices, fill)


def shear_y(images: Tensor, slope: Tensor, fill: RGB) -> Tensor:
    """Move column x down by ``slope`` x."""
    matrices = _identity(slope)
    matrices[:, 1, 0] = -slope
    return warp(images, matrices, fill)


def translate_x(images: Tensor, share: Tensor, fill: RGB) -> Tensor:
    """Move to the right by a share of the width."""
    matrices = _identity(share)
    matrices[:, 0, 2] = -share * images.shape[3]
    return warp(images, matrices, fill)


def translate_y(images: Tensor, share: Tensor, fill: RGB) -> Tensor:
    """Move down by a share of the height."""
    matrices = _identity(share)
    matrices[:, 1, 2] = -share * images.shape[2]
    return warp(images, matrices, fill)


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
        "rotate": rotate,
        "shear-x": shear_x,
        "shear-y": shear_y,
        "translate-x": translate_x,
        "translate-y": translate_y,
    },
)


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
    for step in range(draws.operation.shape[1]):
        chosen, applied = draws.operation[:, step], draws.applied[:, step]
        for place, name in enumerate(policy.operations):
            rows = (applied & (chosen == place)).nonzero().flatten()
            if len(rows) == 0:
                continue
            strengths = policy.strength(name, draws.level[rows, step], draws.negated[rows, step])
            where = rows.to(images.device)
            if name in policy.moves:
                images[where] = policy.moves[name](images[where], strengths, fill)
            elif name in policy.colours:
                images[where] = policy.colours[name](images[where], strengths)
    return images


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
    outside = torch.tensor(fill, device=images.device, dtype=torch.float64)[:, None]
    pixels = images.flatten(2).double()
    total = torch.zeros_like(pixels)
    for j in range(4):
        for i in range(4):
            column, row = first_x + i, first_y + j
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            places = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            taken = pixels.gather(2, places.view(n, 1, -1).expand(-1, channels, -1))
            taken = torch.where(inside.view(n, 1, -1), taken, outside)
            total += (weights_x[i] * weights_y[j]).view(n, 1, -1) * taken
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


def _identity(like: Tensor) -> Tensor:
    return torch.eye(2, 3, dtype=torch.float64).repeat(len(like), 1, 1)


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
    weights = torch.tensor(_GREY, device=images.device)[:, None, None]
    return ((images.long() * weights).sum(dim=1, keepdim=True) + 2**15) >> 16
