"""From lists of image files, labels and ids to an image set with its data set's own protocol."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from robustmix.data.decode import Header
from robustmix.data.file_pixels import MEMORY_BYTES, FilePixels, KeptFiles, prepare_files
from robustmix.data.headers import mode_notes, read_headers
from robustmix.data.images import FileRecord, ImageSet
from robustmix.data.listing import unreadable
from robustmix.data.manifests import Manifest, Split
from robustmix.data.preparation import TestTransform
from robustmix.errors import IntakeError
from robustmix.files import file_digest


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One official split as its lists have it, whether or not every file is here."""

    part: str
    """What the split is called officially, e.g. ``val``; it stands in the ids."""

    classes: tuple[str, ...]
    """In the order that the defining file gives."""

    ids: Sequence[str]
    """Official number or relative path of each image, unique in the split."""

    paths: Sequence[Path]
    labels: Sequence[int]
    layout: str
    """In which arrangement it was found."""

    notes: tuple[str, ...] = ()

    lists: tuple[Path, ...] = ()
    """Files that were read for it, of which the manifest may know checksums."""


def image_set(manifest: Manifest, split: Split, listed: Listed) -> ImageSet:
    """Return the images of a list that are here.

    Images that the list names and that are not here are left out, and ``partial_of`` is set.

    Args:
        manifest: what the data set officially is.
        split: ``train`` or ``test``.
        listed: what its lists say.

    Returns:
        Images in the order of the list, ids ``<set>/<part>/<id>``, prepared by the set's protocol;
        small ones of one size are in memory.

    Raises:
        IntakeError: nothing is here; the list has other classes than the set, more images, or one
            twice; its ids and labels are not the official ones; a file is no image (``E-DATA``);
            or all is here, but by a list with another checksum than the official one
            (``E-CHECKSUM``).
    """
    _check(manifest, split, listed)
    official = manifest.split_count(split)
    here = present(listed.paths)
    if not any(here):
        first = f"; expected e.g. {listed.paths[0]}" if listed.paths else ""
        raise damaged(f"no image of {manifest.name}/{listed.part} is here ({listed.layout}){first}")
    chosen = [place for place, there in enumerate(here) if there]
    count = len(chosen)
    paths = tuple(listed.paths[place] for place in chosen)
    ids = tuple(f"{manifest.name}/{listed.part}/{listed.ids[place]}" for place in chosen)
    labels = [listed.labels[place] for place in chosen]
    partial_of = official if official is not None and count < official else None
    digest = split_digest(ids, labels)
    known = manifest.split_sha256.get(split)
    if known not in (None, digest) and partial_of is None:
        raise damaged(
            f"ids and labels of {manifest.name}/{listed.part} ({listed.layout}) are not the "
            f"official ones: SHA-256 {digest}, expected {known}"
        )
    others = _other_lists(manifest, listed.lists)
    if others and partial_of is None:
        raise IntakeError(others[0], "unpack the official archives again", code="E-CHECKSUM")
    headers = read_headers(paths)
    return ImageSet(
        name=manifest.name,
        split=split,
        pixels=_pixels(manifest, paths, headers),
        labels=torch.tensor(labels, dtype=torch.int64),
        sample_ids=ids,
        class_names=listed.classes,
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
        transform=manifest.eval_transform,
        # Not of the lists' bytes: the same images found in another layout are the same data.
        files=(
            FileRecord(
                name=f"split {listed.part} (ids and labels)",
                sha256=digest,
                verified=known == digest,
            ),
        ),
        notes=(*listed.notes, *others, *mode_notes(headers, count)),
        layout=listed.layout,
        partial_of=partial_of,
    )


def _check(manifest: Manifest, split: Split, listed: Listed) -> None:
    where = f"{manifest.name}/{listed.part} ({listed.layout})"
    if len(listed.classes) != manifest.num_classes:
        raise damaged(f"{where} has {len(listed.classes)} classes, not {manifest.num_classes}")
    if len(set(listed.classes)) != len(listed.classes):
        raise damaged(f"{where} has a class name twice: {_twice(listed.classes)}")
    if len(set(listed.ids)) != len(listed.ids):
        raise damaged(f"{where} names an image twice: {_twice(listed.ids)}")
    for name, label in zip(listed.ids, listed.labels, strict=True):
        if not 0 <= label < manifest.num_classes:
            raise damaged(
                f"{where}: the class of {name!r:.80} has index {label}, expected 0 to "
                f"{manifest.num_classes - 1}"
            )
    official = manifest.split_count(split)
    if official is not None and len(listed.ids) > official:
        raise damaged(
            f"{where} has {len(listed.ids):,} images, more than the official {official:,}"
        )


def _other_lists(manifest: Manifest, lists: Sequence[Path]) -> list[str]:
    """Say which lists have another checksum than the manifest knows of a file of that name."""
    known = {Path(file.path).name: file.md5 for file in (*manifest.archives, *manifest.files)}
    return [
        f"{path.name} is not the official list: md5 {found}, expected {known[path.name]}"
        for path in lists
        if known.get(path.name) not in (None, found := file_digest(path, "md5"))
    ]


def _twice(names: Sequence[str]) -> str:
    return f"{Counter(names).most_common(1)[0][0]!r:.80}"


def present(paths: Sequence[Path]) -> list[bool]:
    """Say of each path whether a file of that name is there; each folder is listed once."""
    by_folder: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for place, path in enumerate(paths):
        folder, name = os.path.split(path)
        by_folder[folder].append((place, name))
    found = [False] * len(paths)
    for folder, wanted in by_folder.items():
        try:
            with os.scandir(folder) as entries:
                names = {entry.name for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise unreadable(Path(folder), error) from error
        for place, name in wanted:
            found[place] = name in names
    return found


def split_digest(ids: Sequence[str], labels: Sequence[int]) -> str:
    r"""Return the SHA-256 of a split's lines ``id\0label\n``, sorted: layouts differ in order."""
    digest = hashlib.sha256()
    for name, label in sorted(zip(ids, labels, strict=True)):
        digest.update(f"{name}\0{label}\n".encode())
    return digest.hexdigest()


def _pixels(
    manifest: Manifest, paths: tuple[Path, ...], headers: Sequence[Header]
) -> FilePixels | KeptFiles:
    """Return the pixels as the protocol has them; of sets with one size, in memory if they fit."""
    if manifest.image_size is not None:
        height, width = manifest.image_size
        for path, header in zip(paths, headers, strict=False):
            if header[:2] != (width, height):
                raise damaged(
                    f"{path} has {header.width}x{header.height} pixels, images of "
                    f"{manifest.name} have {width}x{height}"
                )
    pixels = prepare_files(paths, headers, manifest.test_transform, {})
    _, height, width = pixels.size
    fits = 3 * height * width * len(paths) <= MEMORY_BYTES
    if manifest.image_size is None or pixels.transform != TestTransform() or not fits:
        return pixels
    return KeptFiles(pixels.take(torch.arange(len(paths))), paths)


def below(folder: Path, relative: str, listing: Path) -> Path:
    """Return a path that a list names below a folder.

    Raises:
        IntakeError: it would lie elsewhere, or is not printable.
    """
    parts = relative.split("/")
    if not relative.isprintable() or ".." in parts or "" in parts or "\\" in relative:
        raise damaged(f"{listing} names {relative!r:.80}, which is no path below {folder}")
    return folder.joinpath(*parts)


def damaged(what: str) -> IntakeError:
    """Make the error for lists that are not what they should be."""
    return IntakeError(what, "unpack the official archives again", code="E-DATA")
