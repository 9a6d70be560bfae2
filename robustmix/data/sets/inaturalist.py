"""iNaturalist 2017 and 2018: pictures of both splits in one folder, told apart by JSON lists.

A class is the list's ``category_id``. In 2018 the folders are these numbers, whose order as text is
another; in 2017 they are names, whose order agrees with the numbers only where the list is sorted.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.listing import unreadable
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.files import regular_file

MOST_BYTES = 2**30
"""Of a list; the official ones have less than 200 million."""

_Json = Mapping[str, Any]


def load_2017(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``train``, or ``val`` as the test split; ids end in the list's image id.

    Layouts: ``train_val_images``, or ``2017`` as torchvision renames it, with the JSON lists beside
    it or in ``train_val2017``.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    return _load(manifest, split, root, 2017, "train_val_images")


def load_2018(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``train``, or ``val`` as the test split; ids end in the list's image id.

    Layouts: ``train_val2018``, or ``2018`` as torchvision renames it, with the JSON lists beside.
    The names of the species, withheld at first, are taken from ``categories.json`` where it is.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    return _load(manifest, split, root, 2018, "train_val2018")


def _load(manifest: Manifest, split: Split, root: Path, year: int, folder: str) -> ImageSet:
    home = require_home(manifest, root)
    part = "train" if split == "train" else "val"
    name = f"{part}{year}.json"
    places = [home / name, home / f"train_val{year}" / name, home / "annotations" / name]
    path = next((place for place in places if place.is_file()), places[0])
    listing = _read_json(path)
    images, class_of, categories = _tables(listing, path)
    classes, notes = _class_names(categories, path, home / "categories.json")
    base = folder if (home / folder).is_dir() or not (home / str(year)).is_dir() else str(year)
    ids, paths, labels = [], [], []
    for number, file in images.items():
        head, _, rest = file.partition("/")
        if head != folder or number not in class_of:
            raise damaged(f"{path}: image {number!r:.40} has no class, or lies not in {folder}")
        label = class_of[number]
        if year == 2018 and rest.split("/")[-2:-1] != [str(label)]:
            raise damaged(f"{path}: {file!r:.80} is said to be of category {label}")
        ids.append(str(number))
        paths.append(below(home / base, rest, path))
        labels.append(label)
    listed = Listed(
        part=part,
        classes=classes,
        ids=ids,
        paths=paths,
        labels=labels,
        layout=f"{base} with {path.relative_to(home).as_posix()}",
        notes=(*notes, *_order_note(categories, year)),
    )
    return image_set(manifest, split, listed)


def _tables(
    listing: _Json, path: Path
) -> tuple[dict[int, str], dict[int, int], list[dict[str, Any]]]:
    """Return file and category by image id, and the categories, whose ids are their positions."""
    try:
        images = {int(one["id"]): str(one["file_name"]) for one in listing["images"]}
        class_of = {int(one["image_id"]): int(one["category_id"]) for one in listing["annotations"]}
        categories = [{**one, "id": int(one["id"])} for one in listing["categories"]]
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(f"{path} is no list of images, annotations and categories: {error}") from None
    if len(images) != len(listing["images"]) or len(class_of) != len(listing["annotations"]):
        raise damaged(f"{path} has an image id twice")
    if [one["id"] for one in categories] != list(range(len(categories))):
        raise damaged(f"{path}: the ids of its categories are not their positions from 0 on")
    return images, class_of, categories


def _class_names(
    categories: list[dict[str, Any]], path: Path, named: Path
) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the classes, of a later file where there is one."""
    if named.is_file():
        found = _read_json(named)
        later = found if isinstance(found, list) else found.get("categories", [])
        if [one.get("id") for one in later] != list(range(len(categories))):
            raise damaged(f"{named} is not of the {len(categories)} categories of {path}")
        categories = later
    names = tuple(str(one.get("name", one["id"])) for one in categories)
    if all(name.isdecimal() for name in names):
        return names, ["classes are named by number: the list does not name the species"]
    return names, []


def _order_note(categories: list[dict[str, Any]], year: int) -> list[str]:
    """Say in how many classes the order of folders would give another index (2017)."""
    if year != 2017:
        return []
    keys = [(str(one.get("supercategory")), str(one.get("name"))) for one in categories]
    differ = sum(one != other for one, other in zip(keys, sorted(keys), strict=True))
    if not differ:
        return []
    return [f"the order of folders would number {differ} classes otherwise; category_id is used"]


def _read_json(path: Path) -> Any:
    hint = "unpack the official lists again"
    regular_file(path, what="list", limit=MOST_BYTES, hint=hint, code="E-DATA")
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} is no readable JSON: {error}") from None
