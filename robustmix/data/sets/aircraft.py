"""FGVC-Aircraft 2013b, labelled by variant (100), family (70) or manufacturer (30).

Class i is line i of the official list of the level. Names hold spaces, and two of the variants a
slash, so that no folder can be named after them. Published numbers are of training on train and val
together.
"""

from pathlib import Path
from typing import Literal

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.data.sets.lists import read_fields, read_lines

Level = Literal["variant", "family", "manufacturer"]
CLASSES: dict[Level, str] = {
    "variant": "variants.txt",
    "family": "families.txt",
    "manufacturer": "manufacturers.txt",
}


def load_variants(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``trainval`` or ``test`` by variant, as benchmarks do.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    return _load("variant", manifest, split, root)


def load_families(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``trainval`` or ``test`` by family; raises as ``load_variants``."""
    return _load("family", manifest, split, root)


def load_manufacturers(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``trainval`` or ``test`` by manufacturer; raises as ``load_variants``."""
    return _load("manufacturer", manifest, split, root)


def _load(level: Level, manifest: Manifest, split: Split, root: Path) -> ImageSet:
    home = require_home(manifest, root)
    classes = tuple(line.strip() for line in read_lines(home / CLASSES[level]))
    index = {name: place for place, name in enumerate(classes)}
    part = "trainval" if split == "train" else "test"
    listing = home / f"images_{level}_{part}.txt"
    numbers, labels = [], []
    for number, name in read_fields(listing, 2, " ", most=2):  # names have spaces of their own
        if name.strip() not in index:
            raise damaged(f"{listing}: {name!r:.60} is not in {CLASSES[level]}")
        numbers.append(number)
        labels.append(index[name.strip()])
    return image_set(
        manifest,
        split,
        Listed(
            part=part,
            classes=classes,
            ids=numbers,
            paths=[below(home / "images", f"{number}.jpg", listing) for number in numbers],
            labels=labels,
            layout=f"images with {listing.name}",
        ),
    )
