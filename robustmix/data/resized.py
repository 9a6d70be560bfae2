"""Images in memory prepared on demand, e.g. enlarged for networks that want 224 pixels of CIFAR."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustmix.data.augment import Interpolation
from robustmix.data.images import Pixels
from robustmix.data.transforms import Box, resized_crop


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

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        side = self.crop or self.side
        return self.pixels.size if side is None else (3, side, side)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, height, width)."""
        images = self.pixels.take(indices)
        if self.side is not None:
            boxes = [Box(0, 0, *images.shape[-2:])] * len(images)
            images = resized_crop(images, boxes, self.side, interpolation=self.interpolation)
        if self.crop is not None:
            top, left = (round((extent - self.crop) / 2) for extent in images.shape[-2:])
            images = images[:, :, top : top + self.crop, left : left + self.crop]
        return images

    def to(self, device: torch.device) -> "ResizedPixels":
        """Return the pixels on ``device``."""
        return replace(self, pixels=self.pixels.to(device))
