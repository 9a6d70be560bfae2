"""Small images enlarged on demand, for networks that want 224 pixels from CIFAR."""

from dataclasses import dataclass

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
    side: int
    interpolation: Interpolation = "bicubic"

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return 3, self.side, self.side

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, side, side)."""
        images = self.pixels.take(indices)
        height, width = images.shape[-2:]
        boxes = [Box(0, 0, height, width)] * len(images)
        return resized_crop(images, boxes, self.side, interpolation=self.interpolation)

    def to(self, device: torch.device) -> "ResizedPixels":
        """Return the pixels on ``device``."""
        return ResizedPixels(self.pixels.to(device), self.side, self.interpolation)
