"""Which pixels of pictures are the object's, and which count nowhere: masks from a folder."""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustmix.data.decode import open_rgb
from robustmix.errors import IntakeError
from robustmix.files import expanded, file_digest, regular_file
from robustmix.saliency.missing_samples import told_missing
from robustmix.saliency.object_regions import MOST_TEXT
from robustmix.saliency.true_boxes import by_ending, without_ending
from robustmix.text import plain

LISTS = ("masks.csv", "localization.txt")
"""Lists of path, mask, ignored; the second name is that of the benchmark's own."""

IGNORED = "_ignore"
"""Ends the name of the mask of ignored pixels, beside the object's."""

MOST_MASKS = 1000
"""Of one picture."""

HINT = (
    "give --masks with a folder of <class>/<picture>.png, or one with masks.csv: lines "
    "path,mask,ignored"
)


class MaskFiles(NamedTuple):
    """The files of one picture."""

    objects: tuple[Path, ...]
    """One a part of the object, at least one."""

    ignored: tuple[Path, ...]


class TrueMask(NamedTuple):
    """Where the object is, bool (H, W) each; no pixel is both."""

    inside: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TrueMasks:
    """The masks of some samples."""

    name: str
    sha256: str
    """Over all their files."""

    of: Mapping[str, MaskFiles]
    """By sample id."""

    def check(self, sample_ids: Sequence[str]) -> None:
        """Refuse samples without a mask.

        Raises:
            IntakeError: there are some; the first is named.
        """
        missing = told_missing("mask", sample_ids, self.of)
        if missing:
            raise bad_masks(f"{self.name} {missing}")

    def take(self, sample_id: str, side: int) -> TrueMask:
        """Read the masks of a sample, each resized to a square by its nearest pixels.

        Raises:
            IntakeError: a file is no image.
        """
        files = self.of[sample_id]
        inside = _union(files.objects, side)
        return TrueMask(inside, _union(files.ignored, side) & ~inside)


def _union(paths: Sequence[Path], side: int) -> NDArray[np.bool_]:
    found = np.zeros((side, side), dtype=bool)
    for path in paths:
        grey = np.asarray(open_rgb(path).convert("L"))
        rows, columns = (np.arange(side) * extent // side for extent in grey.shape)
        found |= grey[np.ix_(rows, columns)] > 0.5
    return found


def load_true_masks(folder: Path, sample_ids: Sequence[str]) -> TrueMasks:
    """Find the masks of samples; those that have none are left out.

    Args:
        folder: it has ``masks.csv`` (or ``localization.txt``) with lines of the picture's path, a
            mask's and that of the ignored pixels, which may be empty, several lines a picture
            where it has several masks; or ``<class>/<picture>.png``, the ignored pixels beside it
            in ``<picture>_ignore.png``.
        sample_ids: of the samples.

    Raises:
        IntakeError: there is no such folder, or its list is none.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise bad_masks(f"there is no folder {folder}")
    listed = next((folder / name for name in LISTS if (folder / name).exists()), None)
    try:
        if listed is None:
            found = _mirrored(folder, sample_ids)
        else:
            found = by_ending(_listed(folder, listed), sample_ids, listed)
        digest = hashlib.sha256()
        for sample_id, files in found.items():
            digest.update(f"{sample_id}\n".encode())
            for path in (*files.objects, *files.ignored):
                regular_file(path, what="mask", hint=HINT, code="E-MASKS")
                digest.update(file_digest(path).encode())
    except OSError as error:
        raise bad_masks(f"cannot read {folder}: {error.strerror or error}") from error
    return TrueMasks(folder.name, digest.hexdigest(), found)


def _mirrored(folder: Path, sample_ids: Sequence[str]) -> dict[str, MaskFiles]:
    found = {}
    for sample_id in sample_ids:
        above, _, name = without_ending(sample_id).rpartition("/")
        place = folder / above.rpartition("/")[2]
        mask = place / f"{name}.png"
        if mask.is_file():
            ignored = place / f"{name}{IGNORED}.png"
            found[sample_id] = MaskFiles((mask,), (ignored,) if ignored.is_file() else ())
    return found


def _listed(folder: Path, path: Path) -> dict[str, MaskFiles]:
    regular_file(path, what="list of masks", limit=MOST_TEXT, hint=HINT, code="E-MASKS")
    found: dict[str, MaskFiles] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), 1):
                cells = [cell.strip() for cell in row]
                if not any(cells) or (number == 1 and cells[:2] == ["path", "mask"]):
                    continue
                if len(cells) not in (2, 3) or not all(cells[:2]):
                    raise bad_masks(f"{path.name}:{number}: expected path,mask,ignored")
                before = found.get(cells[0], MaskFiles((), ()))
                ignored = [_below(folder, one) for one in cells[2:] if one]
                found[cells[0]] = MaskFiles(
                    (*before.objects, _below(folder, cells[1])),
                    tuple(dict.fromkeys((*before.ignored, *ignored))),
                )
                if len(found[cells[0]].objects) > MOST_MASKS:
                    raise bad_masks(f"{path.name}:{number}: more than {MOST_MASKS} of one picture")
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad_masks(f"{path.name} is no list of masks ({error})") from None
    return found


def _below(folder: Path, name: str) -> Path:
    """Give a path that a list names, which must not lead out of the folder."""
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or {"", ".."} & {*parts}:
        raise bad_masks(f"a list names {plain(name, 80)}, which is no path below {folder}")
    return folder.joinpath(*parts)


def bad_masks(what: str) -> IntakeError:
    """Make the error for masks that cannot be used."""
    return IntakeError(what, HINT, code="E-MASKS")
