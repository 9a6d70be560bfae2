"""Places205: scenes at 256x256 pixels. A class is the integer in the official lists.

Folders below the letter are the class, of some classes two: ``a/apartment_building/outdoor``. The
letter is no class. Published accuracy is of ``val``.
"""

from pathlib import Path

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.data.sets.lists import read_fields, whole_number

FOLDERS = (
    "data/vision/torralba/deeplearning/images256",
    "images256",
    "imagesPlaces205_resize",
    ".",
)
"""Where the images may lie: as unpacked, or what people make of the long path."""


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``train``, or ``val`` as the test split; ids end in the path that the list has.

    Layouts: the images as unpacked or in ``images256``; the lists in ``trainvalsplit_places205`` or
    beside.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    home = require_home(manifest, root)
    part = "train" if split == "train" else "val"
    places = [home / "trainvalsplit_places205", home]
    lists = {
        one: next(
            (path for place in places if (path := place / f"{one}_places205.csv").is_file()),
            places[0] / f"{one}_places205.csv",
        )
        for one in ("train", "val")
    }
    rows = [
        (name, whole_number(label, lists[part]))
        for name, label in read_fields(lists[part], 2, None, most=2)
    ]
    folder = next((one for one in FOLDERS if (home / one).is_dir()), FOLDERS[0])
    return image_set(
        manifest,
        split,
        Listed(
            part=part,
            classes=_classes(rows, lists[part], manifest.num_classes),
            ids=[name for name, _ in rows],
            paths=[below(home / folder, name, lists[part]) for name, _ in rows],
            labels=[label for _, label in rows],
            layout=f"{folder} with {lists[part].relative_to(home).as_posix()}",
        ),
    )


def _classes(rows: list[tuple[str, int]], path: Path, number: int) -> tuple[str, ...]:
    """Return the name of each class: all folders below the letter, the same in every line."""
    names: dict[int, str] = {}
    for file, label in rows:
        name = "/".join(file.split("/")[1:-1])
        if not name or names.setdefault(label, name) != name:
            known = names.get(label, "a folder below a letter")
            raise damaged(f"{path}: {file!r:.80} is said to be of class {label}, {known!r:.80}")
    missing = sorted(set(range(number)) - names.keys())
    if missing:
        raise damaged(f"{path} has no image of class {missing[0]}; {number} are expected")
    return tuple(names[label] for label in sorted(names))
