"""Pixels of image files, decoded in threads batch by batch and prepared for testing or training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustmix.data.augment import Augment
from robustmix.data.decode import Header, check_area, decode_rgb
from robustmix.data.decoded import DecodedImages
from robustmix.data.images import TensorPixels
from robustmix.data.preparation import TestInterpolation, TestTransform, shorter_side
from robustmix.data.threads import Pending, fill
from robustmix.data.transforms import crop_box
from robustmix.errors import IntakeError
from robustmix.later import Image, Tensor, torch

MEMORY_BYTES = 2 << 30
"""Small images of one size are kept in memory up to this many bytes of pixels."""


def _filter(interpolation: TestInterpolation) -> Image.Resampling:
    return Image.Resampling[interpolation.upper()]


def resize_shorter(image: Image.Image, side: int, interpolation: TestInterpolation) -> Image.Image:
    """Resize so that the shorter side is ``side``, as torchvision's ``Resize`` does."""
    size = shorter_side(*image.size, side)
    return image if size == image.size else image.resize(size, _filter(interpolation))


def prepared(image: Image.Image, transform: TestTransform) -> Image.Image:
    """Resize an RGB image and cut its central square; where it is smaller than that, fill it up.

    With black, or the colour that the transform names.
    """
    if transform.resize is not None:
        size = transform.resized(*image.size)
        if size != image.size:
            image = image.resize(size, _filter(transform.interpolation))
    if transform.crop is None:
        return image
    left, top = transform.corner(*image.size)
    if transform.fill is not None and min(image.size) < transform.crop:
        filled = Image.new("RGB", (transform.crop, transform.crop), transform.fill)
        filled.paste(image, (-left, -top))
        return filled
    return image.crop((left, top, left + transform.crop, top + transform.crop))


class Normal(NamedTuple):
    """How images are normalised as they are written."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def _write(image: Image.Image, out: Tensor, normal: Normal | None = None) -> None:
    """Write an image to (3, H, W), uint8 or, to the same bits, what ``normalise`` makes of it."""
    stored, target = np.asarray(image).transpose(2, 0, 1), out.numpy()
    if normal is None:
        np.copyto(target, stored)
        return
    shift, scale = ([np.float32(255 * v) for v in values] for values in normal)
    for channel in range(3):
        np.subtract(stored[channel], shift[channel], out=target[channel], dtype=np.float32)
        np.divide(target[channel], scale[channel], out=target[channel])


def without_border(path: Path, stored: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
    """Cut so many pixels off at each side of an image (H, W, 3).

    Raises:
        IntakeError: nothing would remain.
    """
    height, width = stored.shape[:2]
    if min(width, height) <= 2 * border:
        raise IntakeError(
            f"{path} has {width}x{height} pixels, of which {border} at each side are a border",
            "extract the released archive again",
            code="E-DATA",
        )
    return stored[border : height - border, border : width - border]


@dataclass(frozen=True, eq=False)
class FilePixels:
    """Pixels of image files, decoded whenever they are taken; always on the CPU."""

    paths: tuple[Path, ...]
    size: tuple[int, int, int]
    """Channels, height and width of one image as evaluation sees it."""

    transform: TestTransform
    white: Mapping[str, float] = field(default_factory=dict)
    """The number that is white in files that do not say it, by Pillow's mode."""

    border: int = 0
    """Pixels that are cut off at each side before testing: ObjectNet draws a frame."""

    kept: DecodedImages | None = None
    """Where those are that stay decoded; None: nowhere."""

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, height, width), prepared for testing.

        Raises:
            IntakeError: a file cannot be decoded, or does not get the others' size.
        """
        if self.kept is not None:
            return self.kept.take(indices.tolist())
        return self.begin(indices).result()

    def keeping(self, most: int) -> FilePixels:
        """Return the same pixels, of which so many images stay decoded."""
        kept = DecodedImages(lambda i, out: self._prepare(self.paths[i], out), self.size, most)
        return replace(self, kept=kept)

    def begin(
        self, indices: Tensor, *, pinned: bool = False, normal: Normal | None = None
    ) -> Pending:
        """Begin to decode images for ``take``.

        Args:
            indices: which images, int64 (n,).
            pinned: write them where a GPU can copy them from without the processor.
            normal: write them normalised, as float32.
        """
        chosen = indices.tolist()

        def load(place: int, out: Tensor) -> None:
            self._prepare(self.paths[chosen[place]], out, normal)

        return fill(_space(len(chosen), self.size[1:], pinned, normal), load)

    def _prepare(self, path: Path, out: Tensor, normal: Normal | None = None) -> None:
        stored = without_border(path, decode_rgb(path, self.white), self.border)
        size = (stored.shape[1], stored.shape[0])
        if prepared_size(path, size, self.transform) != self.size:
            raise _misfit(path, size, self.transform)
        _write(prepared(Image.fromarray(stored), self.transform), out, normal)

    def begin_boxes(
        self,
        indices: Tensor,
        uniforms: Tensor,
        flip: Tensor,
        augment: Augment,
        side: int,
        *,
        pinned: bool = False,
        normal: Normal | None = None,
    ) -> Pending:
        """Begin to cut a random box out of each image, resized to a square.

        Args:
            indices: which images, int64 (n,).
            uniforms: float64 (n, BOX_UNIFORMS), see ``crop_box``.
            flip: which to mirror, bool (n,).
            augment: range of the boxes, filter, and what to resize to beforehand.
            side: side of the result in pixels.
            pinned: see ``begin``.
            normal: likewise.

        Returns:
            What becomes uint8, or normalised float32, (n, 3, side, side).
        """
        chosen, mirrored = indices.tolist(), flip.tolist()

        def load(place: int, out: Tensor) -> None:
            path = self.paths[chosen[place]]
            cut = _cut(path, decode_rgb(path, self.white), uniforms[place], augment)
            image = cut.resize((side, side), _filter(augment.interpolation))
            if mirrored[place]:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            _write(image, out, normal)

        return fill(_space(len(chosen), (side, side), pinned, normal), load)

    def to(self, device: torch.device) -> FilePixels:
        """Return the same pixels: files are decoded on the CPU."""
        return self


def _space(n: int, size: tuple[int, int], pinned: bool, normal: Normal | None) -> Tensor:
    dtype = torch.uint8 if normal is None else torch.float32
    return torch.empty((n, 3, *size), dtype=dtype, pin_memory=pinned)


def _cut(path: Path, stored: NDArray[np.uint8], row: Tensor, augment: Augment) -> Image.Image:
    """Cut the box that ``row`` draws out of an image; before that, resize it if that is asked."""
    if augment.resize is not None:
        check_area(path, *shorter_side(stored.shape[1], stored.shape[0], augment.resize))
        whole = resize_shorter(Image.fromarray(stored), augment.resize, augment.interpolation)
        stored = np.asarray(whole)
    height, width = stored.shape[:2]
    top, left, tall, wide = crop_box(height, width, row, scale=augment.scale, ratio=augment.ratio)
    return Image.fromarray(stored[top : top + tall, left : left + wide])


@dataclass(frozen=True, eq=False)
class KeptFiles(TensorPixels):
    """Pixels of image files held in memory: uint8 (N, 3, H, W)."""

    paths: tuple[Path, ...]
    """The files they were read from."""

    def to(self, device: torch.device) -> KeptFiles:
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
    fits = transform.fills or transform.crop <= min(width, height)
    return (3, transform.crop, transform.crop) if fits else None


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
