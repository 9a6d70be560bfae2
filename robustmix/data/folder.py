"""Image files in one folder a class."""

import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from robustmix.data.decode import WHITE, Header, greatest, white_level
from robustmix.data.file_pixels import MEMORY_BYTES, FilePixels, KeptFiles, prepare_files
from robustmix.data.headers import mode_notes, read_headers
from robustmix.data.homes import told_by_name
from robustmix.data.images import FileRecord, ImageSet, TensorPixels
from robustmix.data.listing import Listing, list_folder, list_unlabelled, unreadable
from robustmix.data.manifests import Split
from robustmix.data.preparation import TestTransform
from robustmix.data.protocol import Protocol, folder_protocol
from robustmix.data.threads import in_threads
from robustmix.errors import IntakeError
from robustmix.later import torch

SMALL = 64
"""Square images up to this side are used as they are, without resizing."""


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
    try:
        listing = list_folder(path, split)
    except IntakeError as error:
        told = told_by_name(path)
        if told is None:
            raise
        hint = f"{told}; or {error.hint}" if error.hint else told
        raise IntakeError(error.message, hint, code=error.code) from None
    paths = _paths(listing)
    headers = read_headers(paths)
    white = _white_levels(path, split, dict(zip(paths, headers, strict=False)))
    images = _Images.of(paths, headers, img_size, test_transform, white)
    return ImageSet(
        name=f"folder:{path.resolve().name}",
        split=split,
        pixels=images.pixels,
        labels=torch.tensor(listing.labels, dtype=torch.int64),
        sample_ids=tuple(f"folder/{split}/{file}" for file in listing.files),
        class_names=listing.classes,
        mean=images.own.mean,
        std=images.own.std,
        transform=images.transform.text(),
        own_transform=None if test_transform is None else images.own.test_transform.text(),
        files=(_listing_record(listing, paths),),
        notes=(*listing.notes, *mode_notes(headers, len(paths), white)),
    )


def load_unlabelled(
    path: Path,
    img_size: int | None,
    like: ImageSet,
    test_transform: TestTransform | None = None,
) -> ImageSet:
    """Return the images of a folder whose labels nobody asks for; all of them are 0.

    Args:
        path: the folder, see ``list_unlabelled``.
        img_size: see ``load_folder``.
        like: images whose classes and normalisation it takes.
        test_transform: see ``load_folder``.

    Raises:
        IntakeError: see ``list_unlabelled`` and ``load_folder``.
    """
    listing = list_unlabelled(path)
    paths = _paths(listing)
    headers = read_headers(paths)
    white = _whites(dict(zip(paths, headers, strict=False)))
    images = _Images.of(paths, headers, img_size, test_transform, white)
    return replace(
        like,
        name=f"folder:{path.resolve().name}",
        split="test",
        pixels=images.pixels,
        labels=torch.zeros(len(paths), dtype=torch.int64),
        sample_ids=tuple(f"folder/{file}" for file in listing.files),
        transform=images.transform.text(),
        own_transform=None,
        files=(_listing_record(listing, paths),),
        notes=(*listing.notes, *mode_notes(headers, len(paths), white)),
        layout="",
        partial_of=None,
    )


class _Images(NamedTuple):
    """The pixels of image files, and how they are prepared."""

    pixels: FilePixels | TensorPixels
    transform: TestTransform
    own: Protocol
    """What they would be prepared by unasked, and normalised."""

    @classmethod
    def of(
        cls,
        paths: tuple[Path, ...],
        headers: list[Header],
        img_size: int | None,
        asked: TestTransform | None,
        white: Mapping[str, float],
    ) -> "_Images":
        stored = _stored_side(headers, all_read=len(headers) == len(paths))
        kept = stored is not None and img_size in (None, stored)
        own = folder_protocol(stored if stored is not None and kept else img_size or 224, kept)
        transform = own.test_transform if asked is None else asked
        pixels: FilePixels | TensorPixels = prepare_files(paths, headers, transform, white)
        small = stored is not None and 3 * stored * stored * len(paths) <= MEMORY_BYTES
        if small and transform.text() == "none":
            pixels = KeptFiles(pixels.take(torch.arange(len(paths))), paths)
        return cls(pixels, transform, own)


def _paths(listing: Listing) -> tuple[Path, ...]:
    return tuple(listing.root / file for file in listing.files)


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
    known = {**dict(zip(others, read_headers(others), strict=False)), **headers}
    return _whites(known, modes)


def _whites(
    headers: Mapping[Path, Header], modes: AbstractSet[str] = WHITE.keys()
) -> dict[str, float]:
    """Find which number is white in the files of each of some modes."""
    levels = {}
    for mode in sorted(modes & {header.mode for header in headers.values()}):
        files = [file for file, header in headers.items() if header.mode == mode]
        top, file = max(zip(in_threads(greatest, files), files, strict=True))
        levels[mode] = white_level(mode, top, file)
    return levels


def _stored_side(headers: list[Header], *, all_read: bool) -> int | None:
    sizes = {header[:2] for header in headers}
    width, height = next(iter(sizes))
    return width if all_read and len(sizes) == 1 and width == height <= SMALL else None


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
