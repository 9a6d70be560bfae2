"""Pixels of image files, decoded in threads batch by batch and prepared for testing or training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustmix.data.augment import Augment, Interpolation
from robustmix.data.decode import Header, check_area, open_rgb
from robustmix.data.images import TensorPixels
from robustmix.data.preparation import TestTransform, shorter_side
from robustmix.data.threads import in_threads
from robustmix.data.transforms import crop_box
from robustmix.errors import IntakeError

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def resize_shorter(image: Image.Image, side: int, interpolation: Interpolation) -> Image.Image:
    """Resize so that the shorter side is ``side``, as torchvision's ``Resize`` does."""
    size = shorter_side(*image.size, side)
    return image if size == image.size else image.resize(size, _FILTERS[interpolation])


def prepared(image: Image.Image, transform: TestTransform) -> Image.Image:
    """Resize an image and cut its central square; where it is smaller than that, add black."""
    if transform.resize is not None:
        image = resize_shorter(image, transform.resize, transform.interpolation)
    if transform.crop is None:
        return image
    left, top = transform.corner(*image.size)
    return image.crop((left, top, left + transform.crop, top + transform.crop))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class FilePixels:
    """Pixels of image files, decoded whenever they are taken; always on the CPU."""

    paths: tuple[Path, ...]
    size: tuple[int, int, int]
    """Channels, height and width of one image as evaluation sees it."""

    transform: TestTransform
    white: Mapping[str, float] = field(default_factory=dict)
    """The number that is white in files that do not say it, by Pillow's mode."""

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, height, width), prepared for testing.

        Raises:
            IntakeError: a file cannot be decoded, or does not get the others' size.
        """

        def load(index: int) -> Tensor:
            path = self.paths[index]
            stored = open_rgb(path, self.white)
            if prepared_size(path, stored.size, self.transform) != self.size:
                raise _misfit(path, stored.size, self.transform)
            return _tensor(prepared(stored, self.transform))

        return torch.stack(in_threads(load, indices.tolist()))

    def take_boxes(self, indices: Tensor, uniforms: Tensor, augment: Augment, side: int) -> Tensor:
        """Return a random box of each image, resized to a square.

        Args:
            indices: which images, int64 (n,).
            uniforms: float64 (n, BOX_UNIFORMS), see ``crop_box``.
            augment: range of the boxes, filter, and what to resize to beforehand.
            side: side of the result in pixels.

        Returns:
            uint8 (n, 3, side, side).
        """

        def load(item: tuple[int, Tensor]) -> Tensor:
            index, row = item
            image = open_rgb(self.paths[index], self.white)
            if augment.resize is not None:
                check_area(self.paths[index], *shorter_side(*image.size, augment.resize))
                image = resize_shorter(image, augment.resize, augment.interpolation)
            box = crop_box(image.height, image.width, row, scale=augment.scale, ratio=augment.ratio)
            cut = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
            return _tensor(cut.resize((side, side), _FILTERS[augment.interpolation]))

        return torch.stack(in_threads(load, zip(indices.tolist(), uniforms, strict=True)))

    def to(self, device: torch.device) -> "FilePixels":
        """Return the same pixels: files are decoded on the CPU."""
        return self


@dataclass(frozen=True, eq=False)
class KeptFiles(TensorPixels):
    """Pixels of image files held in memory: uint8 (N, 3, H, W)."""

    paths: tuple[Path, ...]
    """The files they were read from."""

    def to(self, device: torch.device) -> "KeptFiles":
        """Return the pixels on ``device``."""
        return KeptFiles(self.images.to(device), self.paths)


def prepared_size(
    path: Path, size: tuple[int, int], transform: TestTransform
) -> tuple[int, int, int] | None:
    """Return channels, height and width of an image file that is prepared for testing.

    Args:
        path: the file.
        size: its width and height.
        transform: what is done to it.

    Returns:
        None if a crop does not fit into it.

    Raises:
        IntakeError: it is so narrow that it would be resized to too many pixels.
    """
    width, height = transform.resized(*size)
    check_area(path, width, height)
    if transform.crop is None:
        return 3, height, width
    return (3, transform.crop, transform.crop) if transform.crop <= min(width, height) else None


def _misfit(path: Path, size: tuple[int, int], transform: TestTransform) -> IntakeError:
    width, height = size
    why = "does not get the size of the others" if transform.crop is None else "is too small"
    return IntakeError(
        f"{path} has {width}x{height} pixels and {why} under the test transform "
        f"'{transform.text()}'",
        "give one that resizes and crops, e.g. 'resize256-bicubic+centercrop224'",
        code="E-TRANSFORM",
    )


def prepare_files(
    paths: tuple[Path, ...],
    headers: Sequence[Header],
    transform: TestTransform,
    white: Mapping[str, float],
) -> FilePixels:
    """Return pixels of image files, prepared as said.

    Args:
        paths: the files.
        headers: of the first of them, at least of one.
        transform: what is done to each.
        white: see ``FilePixels``.

    Raises:
        IntakeError: an image is smaller than the crop, or they do not get one size.
    """
    size = prepared_size(paths[0], headers[0][:2], transform)
    for path, header in zip(paths, headers, strict=False):
        if size is None or prepared_size(path, header[:2], transform) != size:
            raise _misfit(path, header[:2], transform)
    assert size is not None
    return FilePixels(paths, size, transform, white)
