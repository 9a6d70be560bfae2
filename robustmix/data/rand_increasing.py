"""RandAugment's operations for ImageNet, each stronger at a higher level: timm's ``rand-...-inc1``.

OpenMixup's transformers on ImageNet are trained with two forms of the same fifteen operations. Its
``imagenet/swin_sz224_8xbs128`` (AutoMix, and DeiT's baselines) calls timm itself;
``swin_sz224_4xbs256`` (Swin's and ConvNeXt's baselines) has OpenCV's operations with the same
ranges. This follows timm, value for value of what Pillow computes. The other form differs in this:
    Posterize keeps int(4 - 0.4 level) bits, here 4 - int(0.4 level): at level 9 none, here one.
    Colour, contrast, sharpness and movements are OpenCV's, as ``rand_augment`` has them.
    It uncovers (104, 116, 124), ImageNet's mean with red and blue exchanged; timm (124, 116, 104).
    It erases before normalisation, clipped noise, and never gives up (``erasing`` follows timm).
In both an operation is applied with probability 1/2, drawn with replacement, and its level is
normally distributed and ends at 0 and ``TOP_LEVEL``.

Pillow 13 refuses to posterize to 0 bits, which level 10 asks for; here the image is black then, as
under all earlier versions.

Reference:
    Cubuk et al. 2020, arXiv:1909.13719; timm, ``data/auto_augment.py``; Pillow's ``transform``.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import robustmix.data.rand_augment as fixmatch
from robustmix.data.augment import RGB, RandPolicy
from robustmix.data.rand_augment import TOP_LEVEL, Move, Operation, Policy

OPERATIONS: dict[str, Operation] = {
    "autocontrast": Operation(0.0, 0.0, False),
    "equalize": Operation(0.0, 0.0, False),
    "invert": Operation(0.0, 0.0, False),
    "rotate": Operation(0.0, 30.0, True),
    "posterize": Operation(4.0, 0.0, False, whole=True),
    "solarize": Operation(256.0, 0.0, False, whole=True),
    "solarize-add": Operation(0.0, 110.0, False, whole=True),
    "color": Operation(0.0, 0.9, True),
    "contrast": Operation(0.0, 0.9, True),
    "brightness": Operation(0.0, 0.9, True),
    "sharpness": Operation(0.0, 0.9, True),
    "shear-x": Operation(0.0, 0.3, True),
    "shear-y": Operation(0.0, 0.3, True),
    "translate-x": Operation(0.0, 0.45, True),
    "translate-y": Operation(0.0, 0.45, True),
}
"""Units: degrees counter-clockwise, bits kept, threshold and addend in grey levels, change of the
factor 1, slope, share of the side to the left or up."""


def strength(name: str, level: Tensor, negated: Tensor) -> Tensor:
    """Return the strength of an operation in its own unit, float64, shaped like ``level``."""
    operation = OPERATIONS[name]
    # In timm's order: the last bit decides where a strength is cut to a whole number.
    distance = level / TOP_LEVEL * (operation.at_most - operation.at_none)
    value = operation.at_none + (distance.trunc() if operation.whole else distance)
    return torch.where(negated, -value, value) if operation.signed else value


def invert(images: Tensor, _: Tensor) -> Tensor:
    """Turn black into white."""
    return 255 - images


def solarize_add(images: Tensor, addend: Tensor) -> Tensor:
    """Brighten the values below 128."""
    added = (images.int() + fixmatch.per_image(addend, images).int()).clamp_(max=255)
    return torch.where(images < 128, added.to(torch.uint8), images)


# FixMatch's operations take red for blue, round colours and sharpen the edge.


def color(images: Tensor, change: Tensor) -> Tensor:
    """Move away from the grey image (change > 0), or towards it."""
    return fixmatch.blend(fixmatch.grey(images.flip(1)), images, change)


def contrast(images: Tensor, change: Tensor) -> Tensor:
    """Move away from the mean grey level (change > 0), or towards it."""
    return fixmatch.contrast(images.flip(1), change).flip(1)


def sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Move away from the smoothed image (change > 0), or towards it; the edge stays as it is."""
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = fixmatch.sharpness(images, change)[:, :, 1:-1, 1:-1]
    return result


def rotate(degrees: Tensor, height: int, width: int) -> Tensor:
    """Turn counter-clockwise about the centre."""
    turns = [_turn(angle, width / 2, height / 2) for angle in degrees.tolist()]
    return torch.tensor(turns, dtype=torch.float64)


def shear_x(slope: Tensor, height: int, width: int) -> Tensor:
    """Move row y to the left by ``slope`` y."""
    return fixmatch.identity_but(0, 1, slope)


def shear_y(slope: Tensor, height: int, width: int) -> Tensor:
    """Move column x up by ``slope`` x."""
    return fixmatch.identity_but(1, 0, slope)


def translate_x(share: Tensor, height: int, width: int) -> Tensor:
    """Move to the left by a share of the width."""
    return fixmatch.identity_but(0, 2, share * width)


def translate_y(share: Tensor, height: int, width: int) -> Tensor:
    """Move up by a share of the height."""
    return fixmatch.identity_but(1, 2, share * height)


def warp(images: Tensor, matrices: Tensor, fill: RGB) -> Tensor:
    """Resample images under affine maps, bicubic, as Pillow's ``transform`` does.

    Every sum is in Pillow's order, in float64 and without fused multiply-adds, since Pillow cuts
    the result off: a last bit can be worth a grey level.

    Args:
        images: uint8, (n, 3, H, W).
        matrices: float64 (n, 2, 3): source (x, y) = matrix @ (x, y, 1), in pixels from the upper
            left corner of the image.
        fill: the colour where the source of a pixel's centre lies outside the image.

    Returns:
        uint8 (n, 3, H, W).
    """
    channels, height, width = images.shape[1:]
    x = torch.arange(width, device=images.device, dtype=torch.float64) + 0.5
    y = torch.arange(height, device=images.device, dtype=torch.float64)[:, None] + 0.5
    a, b, c = matrices.to(images.device)[..., None, None].unbind(2)
    u, v = (a * x + b * y + c).flatten(2).unbind(1)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    left, top = (u - 0.5).floor(), (v - 0.5).floor()
    pixels = images.flatten(2).double()
    columns = [(left + i).clamp_(0, width - 1).long() for i in range(-1, 3)]
    rows = []
    for j in range(-1, 3):
        row = (top + j).clamp_(0, height - 1).long().mul_(width)
        places = [(row + column)[:, None].expand(-1, channels, -1) for column in columns]
        taken = [pixels.gather(2, place) for place in places]
        rows.append(_cubic(taken, (u - 0.5 - left)[:, None]))
    moved = _cubic(rows, (v - 0.5 - top)[:, None]).clamp_(0, 255).to(torch.uint8)
    for channel, value in zip(moved.unbind(1), fill, strict=True):
        channel.masked_fill_(~inside, value)
    return moved.view_as(images)


def _cubic(values: list[Tensor], t: Tensor) -> Tensor:
    """Interpolate between the second and third of four equally spaced values (a = -1)."""
    first, second, third, fourth = values
    quadratic = 2 * (first - second) + third - fourth
    cubic = -first + second - third + fourth
    return second + t * (-first + third + t * (quadratic + t * cubic))


def _turn(degrees: float, x: float, y: float) -> list[list[float]]:
    """Return the matrix of a turn about (x, y) to the 15 decimals that Pillow keeps."""
    angle = -math.radians(degrees % 360)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    return [[cos, sin, cos * -x + sin * -y + x], [-sin, cos, -sin * -x + cos * -y + y]]


INCREASING = Policy(
    operations=OPERATIONS,
    strength=strength,
    colours={
        "autocontrast": fixmatch.autocontrast,
        "equalize": fixmatch.equalize,
        "invert": invert,
        "posterize": fixmatch.posterize,
        "solarize": fixmatch.solarize,
        "solarize-add": solarize_add,
        "color": color,
        "contrast": contrast,
        "brightness": fixmatch.brightness,
        "sharpness": sharpness,
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

POLICIES: Mapping[RandPolicy, Policy] = {
    "fixmatch": fixmatch.FIXMATCH,
    "increasing": INCREASING,
}
"""By the name that ``Augment`` gives them."""
