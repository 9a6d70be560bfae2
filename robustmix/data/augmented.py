"""Augmented images of any source: drawn first, then begun, then finished on the device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from robustmix.data.augment import Augment
from robustmix.data.file_pixels import FilePixels, Normal
from robustmix.data.images import Pixels, SubsetPixels
from robustmix.data.rand_augment import RandOps, draw_rand_ops, rand_augment
from robustmix.data.rand_increasing import POLICIES
from robustmix.data.resized import ResizedPixels
from robustmix.data.threads import Pending
from robustmix.data.transforms import (
    BOX_UNIFORMS,
    CropFlip,
    crop_box,
    crop_flip,
    draw_crop_flip,
    resized_crop,
)
from robustmix.upload import uploaded


class Boxes(NamedTuple):
    """What random boxes draw for one batch: everything random, nothing else."""

    uniforms: Tensor  # (n, BOX_UNIFORMS) float64 in [0, 1)
    flip: Tensor  # (n,) bool, whether the box is mirrored left to right


class AugmentDraws(NamedTuple):
    """What augmentation draws for one batch; None for what is not done."""

    crop: CropFlip | Boxes | None
    rand: RandOps | None


@dataclass(frozen=True)
class Later:
    """Images that nothing is gained by beginning: made when they are asked for."""

    result: Callable[[], Tensor]

    def cancel(self) -> None:
        """Nothing has begun."""


Begun: TypeAlias = Pending | Later


def draw_augment(n: int, augment: Augment, generator: torch.Generator) -> AugmentDraws:
    """Draw the augmentation of a batch; what is drawn depends on nothing about its images.

    Args:
        n: number of images.
        augment: what is done to them.
        generator: a CPU generator.

    Returns:
        Draws on the CPU.
    """
    return AugmentDraws(
        crop=_draw_crop(n, augment, generator), rand=_draw_rand(n, augment, generator)
    )


def _draw_crop(n: int, augment: Augment, generator: torch.Generator) -> CropFlip | Boxes | None:
    if augment.kind == "none":
        return None
    drawn: CropFlip | Boxes
    if augment.kind == "crop-flip":
        drawn = draw_crop_flip(n, augment.padding, generator)
    else:
        drawn = Boxes(
            uniforms=torch.rand(n, BOX_UNIFORMS, generator=generator, dtype=torch.float64),
            flip=torch.rand(n, generator=generator) < 0.5,
        )
    return drawn if augment.flip else drawn._replace(flip=torch.zeros(n, dtype=torch.bool))


def _draw_rand(n: int, augment: Augment, generator: torch.Generator) -> RandOps | None:
    if augment.rand_ops == 0:
        return None
    return draw_rand_ops(
        n,
        augment.rand_ops,
        magnitude=augment.rand_magnitude,
        std=augment.rand_std,
        generator=generator,
        choices=len(POLICIES[augment.rand_policy].operations),
    )


def begin_augmented(
    pixels: Pixels,
    indices: Tensor,
    augment: Augment,
    draws: AugmentDraws,
    device: torch.device,
    *,
    normal: Normal | None = None,
) -> Begun:
    """Begin what is done to images before they come to the device.

    Args:
        pixels: where the images come from; files are read and cut in the background.
        indices: which ones, int64 (n,) on the CPU.
        augment: what is done to them.
        draws: what is random.
        device: where the batch will be wanted.
        normal: how they are normalised in the end. Where nothing else is left to be done, files
            become float32 images that are, in the background; all else stays uint8.
    """
    pinned = device.type == "cuda"
    # A GPU does it sooner, and a quarter of the bytes is copied to it.
    if device.type != "cpu" or draws.rand is not None or isinstance(draws.crop, CropFlip):
        normal = None
    if not isinstance(draws.crop, Boxes):
        return begin_taking(pixels, indices, pinned=pinned, normal=normal)
    boxes, side = draws.crop, augment.size or pixels.size[1]
    # The box is cut from the pixels as they are stored, not from an enlarged or cropped copy.
    while isinstance(pixels, SubsetPixels | ResizedPixels):
        if isinstance(pixels, SubsetPixels):
            indices = pixels.chosen[indices]
        pixels = pixels.pixels
    if isinstance(pixels, FilePixels):
        return pixels.begin_boxes(
            indices, boxes.uniforms, boxes.flip, augment, side, pinned=pinned, normal=normal
        )
    stored = pixels
    return Later(lambda: _boxes(stored.take(indices), boxes, augment, side))


def begin_taking(
    pixels: Pixels, indices: Tensor, *, pinned: bool = False, normal: Normal | None = None
) -> Begun:
    """Begin to take images as they are; those of files are read in the background.

    Args:
        pixels: where the images come from.
        indices: which ones, int64 (n,) on the CPU.
        pinned: of files: write them where a GPU can copy them from without the processor.
        normal: of files: write them normalised, as float32.
    """
    while isinstance(pixels, SubsetPixels):
        indices, pixels = pixels.chosen[indices], pixels.pixels
    if isinstance(pixels, FilePixels):
        return pixels.begin(indices, pinned=pinned, normal=normal)
    stored = pixels
    return Later(lambda: stored.take(indices))


def _boxes(images: Tensor, draws: Boxes, augment: Augment, side: int) -> Tensor:
    height, width = images.shape[-2:]
    boxes = [
        crop_box(height, width, row, scale=augment.scale, ratio=augment.ratio)
        for row in draws.uniforms
    ]
    cut = resized_crop(images, boxes, side, interpolation=augment.interpolation)
    if not augment.flip:
        return cut
    (flip,) = uploaded((draws.flip,), cut.device)
    return torch.where(flip[:, None, None, None], cut.flip(3), cut)


def finish_augmented(images: Tensor, augment: Augment, draws: AugmentDraws) -> Tensor:
    """Do the rest to images that were begun with the same draws, on their device.

    Args:
        images: uint8 (n, 3, H, W).
        augment: what is done to them.
        draws: what is random.

    Returns:
        uint8, the same shape.
    """
    if isinstance(draws.crop, CropFlip):
        images = crop_flip(images, draws.crop, padding=augment.padding, mode=augment.mode)
    if draws.rand is None:
        return images
    policy = POLICIES[augment.rand_policy]
    return rand_augment(images, draws.rand, policy=policy, fill=augment.rand_fill)


def augmented(
    pixels: Pixels, indices: Tensor, augment: Augment, generator: torch.Generator
) -> Tensor:
    """Return augmented images, uint8 (n, 3, H, W); what is erased is so after normalisation.

    The numbers drawn depend on the count of images and on nothing about them.

    Args:
        pixels: where the images come from.
        indices: which ones, int64 (n,) on the CPU.
        augment: what is done to them.
        generator: a CPU generator.
    """
    draws = draw_augment(len(indices), augment, generator)
    begun = begin_augmented(pixels, indices, augment, draws, torch.device("cpu"))
    return finish_augmented(begun.result(), augment, draws)
