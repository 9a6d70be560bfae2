"""What the readers of shift sets give, and what they share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from robustmix.data.decode import read_header
from robustmix.data.file_pixels import FilePixels, prepared_size
from robustmix.data.images import ImageSet, Pixels, TensorPixels
from robustmix.data.listing import EXTENSIONS, unreadable
from robustmix.data.preparation import TestTransform
from robustmix.data.resized import resized_pixels
from robustmix.errors import IntakeError
from robustmix.later import Tensor, torch


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftSet:
    """Images of their own, and how a model's outputs are held against their labels."""

    images: ImageSet
    """Labels are the clean data set's classes; where there is a mapping, the classes it gives."""

    classes: tuple[int, ...] | None = None
    """The outputs that count, rising: the others are cut away before anything is computed. None:
    all."""

    mapping: tuple[int, ...] | None = None
    """Class that each output stands for, -1 for none; None: its own."""

    expected: int | None = None
    """How many images were published."""

    notes: tuple[str, ...] = ()
    """What a report should warn of."""


class ConditionFiles(Protocol):
    """Changed forms of the clean test images."""

    def take(self, name: str, severity: int, indices: Tensor | Sequence[int]) -> Tensor:
        """Read images uint8 (n, 3, H, W) for positions in the clean test set."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """A set of corruptions at five severities of the clean test images."""

    files: ConditionFiles
    names: tuple[str, ...]
    """The set's corruptions, in the order they were published in."""

    sha256: str
    """Digest of the labels, or of the names of files."""

    notes: tuple[str, ...] = ()


class Listed(NamedTuple):
    """The image files of folders, class by class."""

    files: tuple[str, ...]
    """Relative paths with forward slashes, folders in the order given, files sorted by name."""

    folders: tuple[int, ...]
    """Index of the folder of each."""


def subfolders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted.

    Raises:
        IntakeError: it is none, or may not be read.
    """
    try:
        with os.scandir(root) as entries:
            names = (entry.name for entry in entries if entry.is_dir())
            return sorted(name for name in names if not name.startswith((".", "__")))
    except OSError as error:
        raise unreadable(root, error) from error


def list_images(root: Path, folders: Sequence[str]) -> Listed:
    """List the images of some folders.

    Raises:
        IntakeError: a folder holds no image or may not be read.
    """
    files: list[str] = []
    places: list[int] = []
    for place, folder in enumerate(folders):
        try:
            names = sorted(os.listdir(root / folder))
        except OSError as error:
            raise unreadable(root / folder, error) from error
        # Archivers of one system add a hidden file beside each.
        found = [n for n in names if n.lower().endswith(EXTENSIONS) and not n.startswith(".")]
        if not found:
            raise IntakeError(
                f"{root / folder} holds no images", "extract the archive again", code="E-DATA"
            )
        files += [f"{folder}/{name}" for name in found]
        places += [place] * len(found)
    return Listed(tuple(files), tuple(places))


def image_files(
    name: str,
    root: Path,
    files: Sequence[str],
    labels: Sequence[int],
    like: ImageSet,
    *,
    border: int = 0,
) -> ImageSet:
    """Make a set of image files that are prepared as other images are.

    Args:
        name: of the shift set.
        root: where the files are.
        files: relative to it.
        labels: of each.
        like: the images whose preparation, classes and normalisation it takes.
        border: pixels that are cut off at each side first.

    Raises:
        IntakeError: an image cannot be decoded, or does not get the others' size.
    """
    transform = TestTransform.parse(like.transform)
    paths = tuple(root / file for file in files)
    width, height = read_header(paths[0])[:2]
    size = prepared_size(paths[0], (width - 2 * border, height - 2 * border), transform)
    if size != like.input_size:
        raise IntakeError(
            f"{paths[0]} has {width}x{height} pixels and does not become one of the evaluated "
            f"images' size under their transform '{transform.text()}'",
            "evaluate with a transform that resizes and crops",
            code="E-TRANSFORM",
        )
    pixels = FilePixels(paths, size, transform, border=border)
    return _like(name, pixels, labels, files, like)


def stored_images(name: str, images: Tensor, labels: Sequence[int], like: ImageSet) -> ImageSet:
    """Make a set of images in memory, enlarged as other images are.

    Args:
        name: of the shift set.
        images: uint8 (N, 3, H, W).
        labels: of each.
        like: see ``image_files``.

    Raises:
        IntakeError: they do not get the others' size.
    """
    pixels: Pixels = TensorPixels(images)
    transform = TestTransform.parse(like.transform)
    if transform.text() != "none":
        pixels = resized_pixels(pixels, transform)
    if pixels.size != like.input_size:
        raise IntakeError(
            f"{name} has images of {pixels.size[1]}x{pixels.size[2]} pixels, the evaluated ones "
            f"have {like.input_size[1]}x{like.input_size[2]}",
            "evaluate a model for its size",
            code="E-INPUT-SIZE",
        )
    return _like(name, pixels, labels, [str(i) for i in range(len(images))], like)


def _like(
    name: str, pixels: Pixels, labels: Sequence[int], ids: Sequence[str], like: ImageSet
) -> ImageSet:
    return ImageSet(
        name=name,
        split="test",
        pixels=pixels,
        labels=torch.tensor(labels, dtype=torch.int64),
        sample_ids=tuple(f"{name}/shift/{one}" for one in ids),
        class_names=like.class_names,
        mean=like.mean,
        std=like.std,
        transform=like.transform,
    )
