"""Image files in one folder a class, decoded in threads batch by batch.

Every image is converted to RGB. EXIF orientation is ignored, as the reference loaders
(torchvision, timm) do: what the file stores is what the network sees.
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robustmix.data.augment import Augment, Interpolation
from robustmix.data.images import FileRecord, ImageSet, TensorPixels
from robustmix.data.manifests import Split, load_manifest
from robustmix.data.transforms import crop_box
from robustmix.errors import IntakeError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}
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


class Header(NamedTuple):
    """What an image file says of itself."""

    width: int
    height: int
    mode: str


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Return ``work`` of each item, in order; decoding releases the interpreter's lock."""
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        what = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise IntakeError(
            f"cannot decode {path}: {what}", "replace or remove the file", code="E-DATA"
        ) from error


def open_rgb(path: Path) -> Image.Image:
    """Return the decoded image, converted to RGB, EXIF orientation ignored.

    Raises:
        IntakeError: the file is no image, or is cut off.
    """
    with _opened(path) as image:
        if isinstance(image.info.get("transparency"), bytes):
            # The same colours as in one step, without Pillow's warning about the lost alpha.
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def read_header(path: Path) -> Header:
    """Return size and colour mode without decoding the pixels.

    Raises:
        IntakeError: the file is no image.
    """
    with _opened(path) as image:
        return Header(image.width, image.height, image.mode)


def resize_shorter(image: Image.Image, side: int, interpolation: Interpolation) -> Image.Image:
    """Resize so that the shorter side is ``side``, as torchvision's ``Resize`` does."""
    width, height = image.size
    if width <= height:
        size = (side, int(side * height / width))
    else:
        size = (int(side * width / height), side)
    return image if size == image.size else image.resize(size, _FILTERS[interpolation])


def resize_and_centre(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side to 256/224 of ``side`` (bicubic) and cut the central square."""
    image = resize_shorter(image, int(side * 256 / 224), "bicubic")
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class FilePixels:
    """Pixels of image files, decoded whenever they are taken; always on the CPU."""

    paths: tuple[Path, ...]
    side: int
    """Side of the square that evaluation sees."""

    as_stored: bool = False
    """Whether the files have that size already, so that nothing is resized."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return 3, self.side, self.side

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, side, side), with the evaluation transform."""

        def load(index: int) -> Tensor:
            image = open_rgb(self.paths[index])
            return _tensor(image if self.as_stored else resize_and_centre(image, self.side))

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
            image = open_rgb(self.paths[index])
            if augment.resize is not None:
                image = resize_shorter(image, augment.resize, augment.interpolation)
            box = crop_box(image.height, image.width, row, scale=augment.scale, ratio=augment.ratio)
            cut = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
            return _tensor(cut.resize((side, side), _FILTERS[augment.interpolation]))

        return torch.stack(in_threads(load, zip(indices.tolist(), uniforms, strict=True)))

    def to(self, device: torch.device) -> "FilePixels":
        """Return the same pixels: files are decoded on the CPU."""
        return self


class Listing(NamedTuple):
    """The images of one split: sorted classes, and files sorted within each class."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]  # relative to root, forward slashes
    labels: tuple[int, ...]


def list_folder(path: Path, split: Split) -> Listing:
    """Find the images of one split of a folder data set.

    ``path`` holds ``train`` and ``test`` (or ``val``) with one folder a class each; or the class
    folders themselves, which are then the test split.

    Raises:
        IntakeError: nothing is there, a class has no images, or the test split has a class that
            the training split lacks.
    """
    if not path.is_dir():
        raise IntakeError(f"no folder at {path}", "check the path", code="E-DATA")
    roots = {
        kind: next((path / name for name in names if (path / name).is_dir()), None)
        for kind, names in SPLIT_FOLDERS.items()
    }
    root = roots[split]
    if root is None and not any(roots.values()) and split == "test":
        root = path
    if root is None:
        raise IntakeError(
            f"{path} has no {split} split",
            f"put one folder a class below {path / SPLIT_FOLDERS[split][0]}",
            code="E-DATA",
        )
    found = {name: _images_below(root, name) for name in _subfolders(root)}
    train_root = roots["train"]
    classes = _subfolders(root if train_root is None else train_root)
    extra = sorted(set(found) - set(classes))
    if extra:
        raise IntakeError(
            f"{root / extra[0]} is a class that {train_root} does not have",
            "give both splits the same class folders",
            code="E-DATA",
        )
    empty = [name for name in found if not found[name]]
    if empty or len(classes) < 2:
        what = (
            f"{root / empty[0]} holds no images" if empty else f"{root} has not two class folders"
        )
        raise IntakeError(what, f"known extensions: {' '.join(EXTENSIONS)}", code="E-DATA")
    places = {name: label for label, name in enumerate(classes)}
    return Listing(
        root=root,
        classes=tuple(classes),
        files=tuple(file for name in found for file in found[name]),
        labels=tuple(places[name] for name in found for _ in found[name]),
    )


def _subfolders(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )


def _images_below(root: Path, name: str) -> list[str]:
    files = [
        (Path(folder) / file).relative_to(root).as_posix()
        for folder, _, names in os.walk(root / name)
        for file in names
        if file.lower().endswith(EXTENSIONS) and not file.startswith(".")
    ]
    for file in files:
        if not file.isprintable():
            raise IntakeError(
                f"the name of {root / file!s} is not printable UTF-8", "rename it", code="E-DATA"
            )
    return sorted(files)


def load_folder(path: Path, split: Split, img_size: int | None) -> ImageSet:
    """Return one split of a folder of images.

    Square images of one size up to 64 pixels are used as they are (unless ``img_size`` is another
    size); all others are resized (shorter side, bicubic, 256/224 of ``img_size``) and cropped
    centrally to ``img_size``.

    Args:
        path: the folder, see ``list_folder``.
        split: ``train`` or ``test``.
        img_size: side of the images in pixels; None keeps small images and makes others 224.

    Returns:
        Images sorted by path; ids are ``folder/<split>/<class>/<file>``, wherever the folder is.

    Raises:
        IntakeError: see ``list_folder``; or a file cannot be decoded.
    """
    listing = list_folder(path, split)
    paths = tuple(listing.root / file for file in listing.files)
    headers = in_threads(read_header, paths if len(paths) <= SCANNED_FILES else paths[:1])
    stored = _stored_side(headers, all_read=len(headers) == len(paths))
    as_stored = stored is not None and img_size in (None, stored)
    side = stored if stored is not None and as_stored else img_size or 224
    pixels: FilePixels | TensorPixels = FilePixels(paths, side, as_stored)
    if as_stored and 3 * side * side * len(paths) <= MEMORY_BYTES:
        pixels = TensorPixels(pixels.take(torch.arange(len(paths))))
    normalisation = load_manifest("imagenet-1k").normalisation
    return ImageSet(
        name=f"folder:{path.resolve().name}",
        split=split,
        pixels=pixels,
        labels=torch.tensor(listing.labels, dtype=torch.int64),
        sample_ids=tuple(f"folder/{split}/{file}" for file in listing.files),
        class_names=listing.classes,
        mean=normalisation.mean,
        std=normalisation.std,
        transform="none"
        if as_stored
        else f"resize{int(side * 256 / 224)}-bicubic+centercrop{side}",
        files=(_listing_record(listing, paths),),
        notes=tuple(_mode_notes(headers, len(paths))),
    )


def _stored_side(headers: list[Header], *, all_read: bool) -> int | None:
    sizes = {header[:2] for header in headers}
    width, height = next(iter(sizes))
    return width if all_read and len(sizes) == 1 and width == height <= SMALL else None


def _mode_notes(headers: list[Header], files: int) -> Iterable[str]:
    if len(headers) < files:
        yield f"colour modes were not counted: more than {SCANNED_FILES:,} files"
        return
    modes = Counter(header.mode for header in headers if header.mode != "RGB")
    if modes:
        kinds = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items()))
        yield f"{modes.total()} of {files} images converted to RGB ({kinds})"


def _listing_record(listing: Listing, paths: tuple[Path, ...]) -> FileRecord:
    """Return a digest that changes when a file is added, removed, renamed or changes its size."""
    digest = hashlib.sha256()
    for file, path in zip(listing.files, paths, strict=True):
        digest.update(f"{file}\0{path.stat().st_size}\n".encode())
    return FileRecord(
        name="listing (relative paths and sizes)", sha256=digest.hexdigest(), verified=False
    )
