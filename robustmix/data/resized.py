"""Images in memory prepared on demand, e.g. enlarged for networks that want 224 pixels of CIFAR."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robustmix.data.augment import Interpolation
from robustmix.data.file_pixels import prepared
from robustmix.data.images import Pixels
from robustmix.data.preparation import TestTransform
from robustmix.data.transforms import Box, resized_crop
from robustmix.later import Image, Tensor, torch


@dataclass(frozen=True, eq=False)
class ResizedPixels:
    """Pixels resized as a whole to a square when they are taken, so only the small ones are kept.

    The result is what Pillow's resize of the uint8 image gives, bit for bit.
    """

    pixels: Pixels
    side: int | None
    """Of that square; None leaves the images as they are."""

    interpolation: Interpolation = "bicubic"
    crop: int | None = None
    """Side of the central square that is cut out afterwards; it fits."""

    transform: TestTransform | None = None
    """What is done instead of these three, image by image with Pillow, as to image files."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        if self.transform is not None:
            _, height, width = self.pixels.size
            wide, high = self.transform.resized(width, height)
            crop = self.transform.crop
            return (3, high, wide) if crop is None else (3, crop, crop)
        side = self.crop or self.side
        return self.pixels.size if side is None else (3, side, side)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, height, width)."""
        images = self.pixels.take(indices)
        if self.transform is not None:
            return self._by_pillow(images, self.transform)
        if self.side is not None:
            boxes = [Box(0, 0, *images.shape[-2:])] * len(images)
            images = resized_crop(images, boxes, self.side, interpolation=self.interpolation)
        if self.crop is not None:
            top, left = (round((extent - self.crop) / 2) for extent in images.shape[-2:])
            images = images[:, :, top : top + self.crop, left : left + self.crop]
        return images

    def _by_pillow(self, images: Tensor, transform: TestTransform) -> Tensor:
        out = np.empty((len(images), *self.size), np.uint8)
        for place, image in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
            made = prepared(Image.fromarray(np.ascontiguousarray(image)), transform)
            out[place] = np.asarray(made).transpose(2, 0, 1)
        return torch.from_numpy(out).to(images.device)

    def to(self, device: torch.device) -> ResizedPixels:
        """Return the pixels on ``device``."""
        return replace(self, pixels=self.pixels.to(device))


def resized_pixels(pixels: Pixels, transform: TestTransform) -> ResizedPixels:
    """Return images of one size prepared by a transform: in batches where that gives its bits."""
    if transform.interpolation in ("bilinear", "bicubic") and transform.crop_mode == "center":
        return ResizedPixels(pixels, transform.resize, transform.interpolation, crop=transform.crop)
    return ResizedPixels(pixels, None, transform=transform)
