"""The classes of ImageNet's images where they lie in no class folders: devkit, CSV or list."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from robustmix.data.sets.image_set import damaged
from robustmix.data.sets.lists import read_fields, read_lines, whole_number
from robustmix.data.sets.mat_files import as_int, as_text, mat_column, read_mat
from robustmix.data.wnids import imagenet_wnids, wnid_index

DEVKITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "ILSVRC2012_devkit_t12", "devkit", "data")
META, TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
CSV = "LOC_val_solution.csv"
_WNID = re.compile(r"n\d{8}")


class Labels(NamedTuple):
    """What one source says of the images of a split."""

    source: str
    path: Path
    of_file: Mapping[str, int]
    """Relative path of each image -> class."""


def val_labels(home: Path, base: Path) -> Labels | None:
    """Return the classes of the validation images, or None if nothing says them.

    Args:
        home: of the data set.
        base: where ``val`` lies.

    Raises:
        IntakeError: a source is damaged, or two disagree.
    """
    found = [
        labels
        for labels in (_devkit(home, base), _csv(home, base), listed_labels(home, base, "val"))
        if labels is not None
    ]
    for other in found[1:]:
        _compare(found[0], other)
    return found[0] if found else None


def _compare(one: Labels, other: Labels) -> None:
    theirs = {Path(name).stem: label for name, label in other.of_file.items()}
    differ = [
        name for name, label in one.of_file.items() if theirs.get(Path(name).stem, label) != label
    ]
    if differ:
        raise damaged(
            f"{one.path} and {other.path} give {len(differ)} images different classes, e.g. "
            f"{differ[0]}"
        )


def _places(home: Path, base: Path) -> list[Path]:
    between = [place for place in base.parents if place.is_relative_to(home)]
    # Where Kaggle's inner folder is given as the data folder, its lists lie beside it.
    above = [home.parent] if home.name == "ILSVRC" else []
    return list(dict.fromkeys((home, base, *between, *above)))


def _devkit(home: Path, base: Path) -> Labels | None:
    for place in _places(home, base):
        for folder in DEVKITS:
            truth, meta = place / folder / TRUTH, place / folder / META
            if truth.is_file() and meta.is_file():
                return _from_devkit(meta, truth)
    return None


def _from_devkit(meta: Path, truth: Path) -> Labels:
    """Read the devkit: line i of the ground truth is the ILSVRC2012_ID of validation image i."""
    of_id = _wnid_of_id(meta)
    index, of_file = wnid_index(), {}
    for number, line in enumerate(read_lines(truth), 1):
        wnid = of_id.get(whole_number(line.strip(), truth))
        if wnid is None:
            raise damaged(f"{truth}:{number}: {line!r:.40} is no class of {meta}")
        of_file[f"ILSVRC2012_val_{number:08d}.JPEG"] = index[wnid]
    return Labels("the devkit", truth, of_file)


def _wnid_of_id(meta: Path) -> dict[int, str]:
    """Return the WordNet id of each ILSVRC2012_ID; only leaves of the hierarchy are classes."""
    arrays = read_mat(meta)
    ids, wnids, children = (
        mat_column(arrays, "synsets", field, meta)
        for field in ("ILSVRC2012_ID", "WNID", "num_children")
    )
    of_id = {
        as_int(number, meta): as_text(wnid, meta)
        for number, wnid, below in zip(ids, wnids, children, strict=True)
        if as_int(below, meta) == 0
    }
    if sorted(of_id.values()) != list(imagenet_wnids()):
        raise damaged(f"the {len(of_id)} leaves of {meta} are not the 1,000 classes of ImageNet-1k")
    return of_id


def _csv(home: Path, base: Path) -> Labels | None:
    path = next((one / CSV for one in _places(home, base) if (one / CSV).is_file()), None)
    if path is None:
        return None
    index, of_file = wnid_index(), {}
    for name, boxes in read_fields(path, 2, ",", most=2):
        if name == "ImageId":
            continue
        wnids = {word for word in boxes.split() if word[:1] == "n"}
        if len(wnids) != 1 or not wnids <= index.keys():
            raise damaged(f"{path}: {name} has not one of the 1,000 classes: {boxes!r:.60}")
        of_file[f"{name.removesuffix('.JPEG')}.JPEG"] = index[wnids.pop()]
    return Labels(CSV, path, of_file)


def listed_labels(home: Path, base: Path, part: str) -> Labels | None:
    """Return what a list of lines "path label" says, as OpenMixup and mmpretrain have it.

    Not Kaggle's ``ImageSets``, whose second column is a running number.

    Raises:
        IntakeError: it is damaged, or its numbers are not ranks of sorted WordNet ids.
    """
    names = (f"meta/{part}.txt", f"{part}.txt")
    paths = [place / name for place in _places(home, base) for name in names]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    index, of_file = wnid_index(), {}
    for name, text in read_fields(path, 2, None):
        label = whole_number(text, path)
        if label >= len(index):
            raise damaged(f"{path}: {name!r:.60} has class {label}, expected 0 to 999")
        wnid = _WNID.search(name)
        if wnid is not None and index.get(wnid[0]) != label:
            raise damaged(
                f"{path}: {name!r:.60} has class {label}, but {wnid[0]} is "
                f"{index.get(wnid[0], 'no class')} in sorted order"
            )
        of_file[name] = label
    return Labels(
        f"{path.parent.name}/{path.name}" if path.parent != home else path.name, path, of_file
    )
