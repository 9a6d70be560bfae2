"""A hash of what is stored of images, so that other images under the same names are noticed."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustmix.data.file_pixels import FilePixels, KeptFiles
from robustmix.data.images import ImageSet, Pixels, SubsetPixels
from robustmix.data.listing import unreadable
from robustmix.data.resized import ResizedPixels
from robustmix.data.threads import in_threads
from robustmix.files import file_digest, regular_file
from robustmix.later import Tensor, torch
from robustmix.rng import sample_keys, seeded_subset

if TYPE_CHECKING:
    from robustmix.data.torch_sets import ItemPixels

WHOLE_BYTES = 2**28
"""Up to this many bytes everything is hashed, of larger sets a probe."""

PROBE_BYTES = 4096
"""Bytes of each file of a larger set, at a place that its id selects."""

PROBED_FILES = 100_000
"""Files of a larger set that are looked into, selected by their ids."""

PROBED_ITEMS = 2_000
"""Images that are hashed of a data set of others which is too large for memory."""

_CHUNK = 512


def pixels_sha256(images: ImageSet) -> str:
    """Hash what is stored of the images, in their order; no resizing or cropping changes it.

    Of image files that is their bytes, of others their pixels. Of sets above ``WHOLE_BYTES`` it is
    a probe, keyed by the ids: the size and a part of every file; of others, some images.

    Args:
        images: the images, at least one.

    Raises:
        IntakeError: a file cannot be read.
    """
    from robustmix.data.torch_sets import ItemPixels

    pixels, places = _stored(images.pixels, torch.arange(len(images)))
    digest = hashlib.sha256()
    if isinstance(pixels, FilePixels | KeptFiles):
        paths = [pixels.paths[place] for place in places.tolist()]
        parts = _file_parts(paths, images.sample_ids)
    elif isinstance(pixels, ItemPixels):
        parts = _item_parts(pixels, places, images.sample_ids)
    else:
        parts = _array_parts(pixels, places, images.sample_ids)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _stored(pixels: Pixels, places: Tensor) -> tuple[Pixels, Tensor]:
    """Find the pixels that others are made of, and where the images are among them."""
    while isinstance(pixels, SubsetPixels | ResizedPixels):
        if isinstance(pixels, SubsetPixels):
            places = pixels.chosen[places]
        pixels = pixels.pixels
    return pixels, places


def _array_parts(pixels: Pixels, places: Tensor, ids: Sequence[str]) -> Iterator[bytes]:
    channels, height, width = pixels.size
    yield f"{len(places)}x{channels}x{height}x{width}".encode()
    most = max(1, WHOLE_BYTES // max(1, channels * height * width))
    chosen = seeded_subset(0, ids, most)
    for some in torch.split(places if chosen is None else places[chosen], _CHUNK):
        yield pixels.take(some).cpu().contiguous().numpy().tobytes()


def _item_parts(pixels: "ItemPixels", places: Tensor, ids: Sequence[str]) -> Iterator[bytes]:
    yield f"{len(places)} items".encode()
    chosen = seeded_subset(0, ids, PROBED_ITEMS)
    for place in (places if chosen is None else places[chosen]).tolist():
        stored = pixels.stored(place)
        yield f"{stored.shape}".encode()
        yield np.ascontiguousarray(stored).tobytes()


def _file_parts(paths: Sequence[Path], ids: Sequence[str]) -> Iterator[bytes]:
    sizes = in_threads(_size, paths)
    yield repr(sizes).encode()
    if sum(sizes) <= WHOLE_BYTES:
        yield from in_threads(_whole, paths)
        return
    chosen = seeded_subset(0, ids, PROBED_FILES)
    some = range(len(paths)) if chosen is None else chosen.tolist()
    keys = sample_keys(0, "content", "", 0, [ids[i] for i in some]).tolist()
    yield from in_threads(
        _probe, [(paths[i], sizes[i], key) for i, key in zip(some, keys, strict=True)]
    )


def _size(path: Path) -> int:
    return regular_file(path, what="image", code="E-DATA").stat().st_size


def _whole(path: Path) -> bytes:
    try:
        return bytes.fromhex(file_digest(path))
    except OSError as error:
        raise unreadable(path, error) from error


def _probe(item: tuple[Path, int, int]) -> bytes:
    path, size, key = item
    try:
        with open(path, "rb") as file:
            file.seek(key % max(1, size - PROBE_BYTES + 1))
            return hashlib.sha256(file.read(PROBE_BYTES)).digest()
    except OSError as error:
        raise unreadable(path, error) from error
