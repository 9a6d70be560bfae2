"""Oxford-IIIT Pet: 37 breeds. Class numbers start at 1; class i is number i + 1.

The name of a class is what stands before the last underscore of its files' names. Among the images
lie files of other formats and images in no list; only the lists are read.
"""

from pathlib import Path

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.data.sets.lists import read_fields, whole_number


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``trainval`` or ``test``; ids end in the name that the list has.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    home = require_home(manifest, root)
    part = "trainval" if split == "train" else "test"
    path = home / "annotations" / f"{part}.txt"
    rows = [
        (name, whole_number(number, path) - 1)
        for name, number, *_ in read_fields(path, 4)
        if name != "#"
    ]
    return image_set(
        manifest,
        split,
        Listed(
            part=part,
            classes=_classes(rows, path),
            ids=[name for name, _ in rows],
            paths=[below(home / "images", f"{name}.jpg", path) for name, _ in rows],
            labels=[label for _, label in rows],
            layout=f"images with annotations/{path.name}",
        ),
    )


def _classes(rows: list[tuple[str, int]], path: Path) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for file, label in rows:
        name = file.rpartition("_")[0]
        if not name or names.setdefault(label, name) != name:
            known = names.get(label, "a breed before an underscore")
            raise damaged(f"{path}: {file!r:.60} is said to be of class {label + 1}, {known!r:.60}")
    return tuple(names[label] for label in sorted(names))
