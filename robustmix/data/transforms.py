"""Batched image transforms on the images' own device; what is random is drawn beforehand."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from robustmix.data.augment import Interpolation, PadMode
from robustmix.later import Tensor, torch
from robustmix.upload import uploaded

BOX_TRIALS = 10
"""Boxes that ``crop_boxes`` tries before it falls back to the centre."""

BOX_UNIFORMS = 2 * BOX_TRIALS + 2
"""Uniforms a box takes: an area and a ratio for each trial, then the two offsets."""


class CropFlip(NamedTuple):
    """What cropping and flipping one batch draws: everything random, nothing else."""

    top: Tensor  # (n,) int64 in [0, 2 padding], first row of the crop in the padded image
    left: Tensor  # (n,) int64 in [0, 2 padding], first column
    flip: Tensor  # (n,) bool, whether the crop is mirrored left to right


class Box(NamedTuple):
    """A rectangle in an image, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def draw_crop_flip(n: int, padding: int, generator: torch.Generator) -> CropFlip:
    """Draw the offsets and flips of a batch.

    Args:
        n: number of images.
        padding: pixels added on each side.
        generator: a CPU generator; it advances by three draws whatever ``padding`` is.

    Returns:
        Draws on the CPU.
    """
    return CropFlip(
        top=torch.randint(0, 2 * padding + 1, (n,), generator=generator),
        left=torch.randint(0, 2 * padding + 1, (n,), generator=generator),
        flip=torch.rand(n, generator=generator) < 0.5,
    )


def crop_flip(images: Tensor, draws: CropFlip, *, padding: int, mode: PadMode) -> Tensor:
    """Pad, crop back to the same size and mirror some images, in one gather.

    Args:
        images: any dtype, (n, C, H, W).
        draws: offsets and flips, on any device.
        padding: pixels added on each side; with ``reflect`` less than the image's sides.
        mode: ``reflect`` mirrors about the edge pixel, without repeating it; ``zero`` is black.

    Returns:
        New images, same shape, dtype and device.

    Raises:
        ValueError: ``reflect`` with a padding that the image is too small for.
    """
    n, channels, height, width = images.shape
    if mode == "reflect" and padding >= min(height, width):
        raise ValueError(
            f"reflecting needs a padding below the image's sides: got {padding} for "
            f"{height}x{width}"
        )
    device = images.device
    top, left, flip = uploaded(draws, device)
    rows = top[:, None] - padding + torch.arange(height, device=device)
    columns = left[:, None] - padding + torch.arange(width, device=device)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    sources = _reflect(rows, height)[:, :, None] * width + _reflect(columns, width)[:, None, :]
    index = sources.flatten(1)[:, None, :].expand(n, channels, height * width)
    cropped = images.flatten(2).gather(2, index).view(n, channels, height, width)
    if mode == "zero":
        row_inside = (rows >= 0) & (rows < height)
        column_inside = (columns >= 0) & (columns < width)
        cropped *= (row_inside[:, None, :, None] & column_inside[:, None, None, :]).to(images.dtype)
    return cropped


def _reflect(index: Tensor, size: int) -> Tensor:
    """Fold indices in (-size, 2 size - 1) back into [0, size), mirroring about the edges.

    Indices further out, which only ``zero`` padding makes, end somewhere inside.
    """
    folded = (size - 1) - ((size - 1) - index.abs()).abs()
    return folded.clamp_min(0)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU copies it while the processor goes on."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # Its memory is not used for anything else before the copy is done: torch sees to that.
    return tensor.pin_memory().to(device, non_blocking=True)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Subtract the mean and divide by the standard deviation, channel by channel.

    Args:
        images: uint8, (n, C, H, W).
        mean: C values in [0, 1] pixel units.
        std: C values, same unit, above 0.

    Returns:
        float32 (n, C, H, W), equal to (images / 255 - mean) / std up to rounding.
    """
    shift, scale = (_levels(tuple(values), images.device) for values in (mean, std))
    return images.float().sub_(shift).div_(scale)


@functools.lru_cache(maxsize=64)
def _levels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return values of the channels in grey levels, float32 (C, 1, 1); kept on the device."""
    with torch.inference_mode(False):  # they outlive whoever asked first
        (there,) = uploaded((torch.tensor([255 * value for value in values]),), device)
        return there[:, None, None]


def crop_box(
    height: int,
    width: int,
    uniforms: Tensor,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """Return the random box of one image, as torchvision's ``RandomResizedCrop`` chooses it.

    Args:
        height: rows of the image.
        width: columns of the image.
        uniforms: float64 (BOX_UNIFORMS,) in [0, 1). Their number is fixed, so the stream of the
            next image does not depend on the size of this one.
        scale: range of the box's share of the area.
        ratio: range of width divided by height; its logarithm is uniform.

    Returns:
        The first trial that fits, else the largest centred box whose ratio is allowed.

    Reference:
        Szegedy et al. 2015, arXiv:1409.4842, section 6.
    """
    values = uniforms.tolist()
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for trial in range(BOX_TRIALS):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * values[2 * trial])
        aspect = math.exp(low + (high - low) * values[2 * trial + 1])
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(values[-2] * (height - box_height + 1))
            left = int(values[-1] * (width - box_width + 1))
            return Box(top, left, box_height, box_width)
    if width / height < ratio[0]:
        box_width, box_height = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        box_width, box_height = round(height * ratio[1]), height
    else:
        box_width, box_height = width, height
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def resized_crop(
    images: Tensor, boxes: list[Box], size: int, *, interpolation: Interpolation
) -> Tensor:
    """Cut one box out of each image and resize it to a square, exactly as Pillow does.

    Separable resampling: each output pixel is a weighted mean of the pixels of its box, the filter
    widened when the box shrinks. Weights are multiples of 2^-22 as in Pillow, and float64 adds such
    numbers without rounding, so the bits do not depend on batch or device. Rows are resampled
    first; newer versions of Pillow begin with the columns for a box that gets lower and wider.

    Args:
        images: uint8, (n, C, H, W).
        boxes: n boxes inside the images.
        size: side of the result in pixels.
        interpolation: filter; ``bicubic`` is Pillow's, with a = -0.5.

    Returns:
        uint8 (n, C, size, size).
    """
    height, width = images.shape[-2:]
    spans = torch.tensor(boxes, dtype=torch.float64)
    down = resampling_weights(spans[:, 0], spans[:, 2], height, size, interpolation)
    across = resampling_weights(spans[:, 1], spans[:, 3], width, size, interpolation)
    down, across = uploaded((down, across), images.device)
    rows = _grey(images.double() @ across[:, None].transpose(2, 3))
    return _grey(down[:, None] @ rows).to(torch.uint8)


_UNIT = 2.0**22  # weights are whole multiples of its inverse


def _grey(sums: Tensor) -> Tensor:
    """Return sums of pixels times weights as whole grey levels, rounded half up."""
    return ((sums + _UNIT / 2) / _UNIT).floor_().clamp_(0, 255)


def resampling_weights(
    start: Tensor, length: Tensor, size_in: int, size_out: int, interpolation: Interpolation
) -> Tensor:
    """Return the matrix that resamples the span [start, start + length) to ``size_out`` pixels.

    Args:
        start: float64 (n,), first pixel of each span.
        length: float64 (n,), pixels of each span.
        size_in: pixels of the whole axis.
        size_out: pixels of the result.
        interpolation: filter.

    Returns:
        float64 (n, size_out, size_in), whole numbers; rows sum to about 2^22 and are 0 outside the
        span.
    """
    reach = 1.0 if interpolation == "bilinear" else 2.0
    step = (length / size_out)[:, None, None]
    stretch = step.clamp_min(1.0)
    outputs = torch.arange(size_out, dtype=torch.float64)[None, :, None]
    inputs = torch.arange(size_in, dtype=torch.float64)[None, None, :] - start[:, None, None]
    centre = (outputs + 0.5) * step
    # Pillow takes whole pixels between these two, which also ends the filter at the span's edges.
    first = (centre - reach * stretch + 0.5).floor().clamp_min(0)
    last = torch.minimum((centre + reach * stretch + 0.5).floor(), length[:, None, None])
    weights = _filter((inputs - centre + 0.5) / stretch, interpolation)
    weights = weights * ((inputs >= first) & (inputs < last))
    weights = weights / weights.sum(dim=2, keepdim=True)
    return (weights * _UNIT + 0.5 * weights.sign()).trunc()


def _filter(distance: Tensor, interpolation: Interpolation) -> Tensor:
    x = distance.abs()
    if interpolation == "bilinear":
        return (1 - x).clamp_min(0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
