"""Image files in one folder a class, decoded in threads batch by batch."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustmix.data.augment import Augment, Interpolation
from robustmix.data.decode import (
    WHITE,
    Header,
    check_area,
    greatest,
    open_rgb,
    read_header,
    white_level,
)
from robustmix.data.images import FileRecord, ImageSet, TensorPixels
from robustmix.data.listing import Listing, list_folder, unreadable
from robustmix.data.manifests import Split
from robustmix.data.preparation import TestTransform, shorter_side
from robustmix.data.protocol import folder_protocol
from robustmix.data.transforms import crop_box
from robustmix.errors import IntakeError

SMALL = 64
"""Square images up to this side are used as they are, without resizing."""

SCANNED_FILES = 100_000
"""Up to this many files every header is read, to count colour modes and sizes."""

MEMORY_BYTES = 2 << 30
"""Small images are kept in memory up to this many bytes of pixels."""

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Return ``work`` of each item, in order; decoding releases the interpreter's lock."""
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


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


def load_folder(
    path: Path, split: Split, img_size: int | None, test_transform: TestTransform | None = None
) -> ImageSet:
    """Return one split of a folder of images.

    Without a transform, square images of one size up to 64 pixels are used as they are (unless
    ``img_size`` is another size); all others are resized (shorter side, bicubic, 256/224 of
    ``img_size``) and cropped centrally to ``img_size``.

    Args:
        path: the folder, see ``list_folder``.
        split: ``train`` or ``test``.
        img_size: side of the images in pixels; None keeps small images and makes others 224.
        test_transform: how they are prepared instead.

    Returns:
        Images sorted by path; ids are ``folder/<split>/<class>/<file>``, wherever the folder is.

    Raises:
        IntakeError: see ``list_folder``; a file cannot be decoded; or the images do not get one
            size (``E-TRANSFORM``).
    """
    listing = list_folder(path, split)
    paths = _paths(listing)
    headers = _headers(paths)
    white = _white_levels(path, split, dict(zip(paths, headers, strict=False)))
    stored = _stored_side(headers, all_read=len(headers) == len(paths))
    kept = stored is not None and img_size in (None, stored)
    own = folder_protocol(stored if stored is not None and kept else img_size or 224, kept)
    transform = own.test_transform if test_transform is None else test_transform
    pixels: FilePixels | TensorPixels = prepare_files(paths, headers, transform, white)
    small = stored is not None and 3 * stored * stored * len(paths) <= MEMORY_BYTES
    if small and transform.text() == "none":
        pixels = KeptFiles(pixels.take(torch.arange(len(paths))), paths)
    return ImageSet(
        name=f"folder:{path.resolve().name}",
        split=split,
        pixels=pixels,
        labels=torch.tensor(listing.labels, dtype=torch.int64),
        sample_ids=tuple(f"folder/{split}/{file}" for file in listing.files),
        class_names=listing.classes,
        mean=own.mean,
        std=own.std,
        transform=transform.text(),
        own_transform=None if test_transform is None else own.test_transform.text(),
        files=(_listing_record(listing, paths),),
        notes=(*listing.notes, *_mode_notes(headers, len(paths), white)),
    )


def _paths(listing: Listing) -> tuple[Path, ...]:
    return tuple(listing.root / file for file in listing.files)


def _headers(paths: tuple[Path, ...]) -> list[Header]:
    return in_threads(read_header, paths if len(paths) <= SCANNED_FILES else paths[:1])


def _white_levels(path: Path, split: Split, headers: Mapping[Path, Header]) -> dict[str, float]:
    """Find which number is white, one for all files of a mode in both splits.

    A dark image alone would be taken for one of fewer bits.
    """
    modes = WHITE.keys() & {header.mode for header in headers.values()}
    if not modes:
        return {}
    try:
        others = _paths(list_folder(path, "train" if split == "test" else "test"))
    except IntakeError:  # there is no other split
        others = ()
    known = {**dict(zip(others, _headers(others), strict=False)), **headers}
    levels = {}
    for mode in sorted(modes):
        files = [file for file, header in known.items() if header.mode == mode]
        top, file = max(zip(in_threads(greatest, files), files, strict=True))
        levels[mode] = white_level(mode, top, file)
    return levels


def _stored_side(headers: list[Header], *, all_read: bool) -> int | None:
    sizes = {header[:2] for header in headers}
    width, height = next(iter(sizes))
    return width if all_read and len(sizes) == 1 and width == height <= SMALL else None


def _mode_notes(headers: list[Header], files: int, white: Mapping[str, float]) -> Iterable[str]:
    if len(headers) < files:
        yield f"colour modes were not counted: more than {SCANNED_FILES:,} files"
        return
    modes = Counter(header.mode for header in headers if header.mode != "RGB")
    if modes:
        said = {mode: f"{mode} of 0 to {level:g}" for mode, level in white.items()}
        kinds = ", ".join(f"{n} {said.get(mode, mode)}" for mode, n in sorted(modes.items()))
        yield f"{modes.total()} of {files} images converted to RGB ({kinds})"


def _listing_record(listing: Listing, paths: tuple[Path, ...]) -> FileRecord:
    """Return a digest that changes when a file is added, removed, renamed or changes its size."""
    digest = hashlib.sha256()
    for file, path in zip(listing.files, paths, strict=True):
        try:
            size = path.stat().st_size
        except OSError as error:
            raise unreadable(path, error) from error
        digest.update(f"{file}\0{size}\n".encode())
    return FileRecord(
        name="listing (relative paths and sizes)", sha256=digest.hexdigest(), verified=False
    )
