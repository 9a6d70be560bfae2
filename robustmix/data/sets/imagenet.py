"""ImageNet-1k (ILSVRC 2012), in the layouts that people have.

Class i is the i-th of the 1,000 WordNet ids in sorted order. The devkit numbers classes otherwise,
so its numbers are only read through its own table of WordNet ids. Published accuracy is of ``val``.
"""

import re
from pathlib import Path

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.data.sets.imagenet_labels import Labels, listed_labels, val_labels
from robustmix.data.sets.lists import folder_names, image_names
from robustmix.data.wnids import imagenet_wnids, wnid_index

KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
"""Where Kaggle's archive has ``train``, ``val`` and ``test``."""

_VAL_FILE = re.compile(r"ILSVRC2012_val_\d{8}\.[A-Za-z]+")


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``train``, or ``val`` as the test split; ids end in the official file's stem.

    Layouts: ``train/<wnid>`` and ``val/<wnid>`` (torchvision's too); ``val`` flat with the devkit,
    ``LOC_val_solution.csv`` or a list of lines "path label"; Kaggle's tree with the same. Where
    several sources of labels are there, they must agree.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    home = require_home(manifest, root)
    if (home / "val" / "val_annotations.txt").is_file():
        raise damaged(f"{home} holds Tiny-ImageNet, not {manifest.title}")
    base = next((home / place for place in KAGGLE if (home / place).is_dir()), home)
    part = "train" if split == "train" else "val"
    said = f"{base.relative_to(home).as_posix()}/" if base != home else ""
    folder = base / part
    if folder_names(folder):
        return image_set(manifest, split, _by_folder(folder, part, f"{said}{part}/<wnid>"))
    labels = listed_labels(home, base, part) if part == "train" else val_labels(home, base)
    if labels is None:
        raise damaged(_unlabelled(folder, part))
    return image_set(manifest, split, _by_list(folder, part, said, labels))


def _unlabelled(folder: Path, part: str) -> str:
    if part == "train" or not folder.is_dir():
        return f"{folder} has no class folders, one a WordNet id"
    return (
        f"{folder} is flat and nothing says the classes of its images: expected the devkit "
        "(ILSVRC2012_devkit_t12), LOC_val_solution.csv or meta/val.txt beside it"
    )


def _by_folder(folder: Path, part: str, layout: str) -> Listed:
    index = wnid_index()
    foreign = [name for name in folder_names(folder) if name not in index]
    if foreign:
        raise damaged(
            f"{folder / foreign[0]} is none of the 1,000 classes ({len(foreign)} folders are none)"
        )
    found = []
    for wnid in folder_names(folder):
        for name in image_names(folder / wnid):
            if part == "val" and not _VAL_FILE.fullmatch(name):
                raise damaged(f"{folder / wnid / name} is no image of the official val split")
            if part == "train" and not name.startswith(f"{wnid}_"):
                raise damaged(f"{folder / wnid / name} is not named as an image of {wnid}")
            found.append((Path(name).stem, folder / wnid / name, index[wnid]))
    return _listed(found, part, layout)


def _by_list(folder: Path, part: str, said: str, labels: Labels) -> Listed:
    found = []
    for relative, label in labels.of_file.items():
        # A list may name a file with its folder or without, and is not made for one layout alone.
        name = relative.removeprefix(f"{part}/")
        found.append((Path(name).stem, below(folder, name, labels.path), label))
    here = "" if part == "train" else " flat"
    return _listed(found, part, f"{said}{part}{here} with {labels.source}")


def _listed(found: list[tuple[str, Path, int]], part: str, layout: str) -> Listed:
    found.sort(key=lambda one: one[0])  # the same order whatever the layout
    return Listed(
        part=part,
        classes=imagenet_wnids(),
        ids=[name for name, _, _ in found],
        paths=[path for _, path, _ in found],
        labels=[label for _, _, label in found],
        layout=layout,
    )
