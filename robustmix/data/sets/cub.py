"""Caltech-UCSD Birds-200-2011. Class numbers start at 1; class i is number i + 1.

The object's boxes are in ``bounding_boxes.txt`` beside the lists; ids end in the official path, by
which ``robustmix.saliency.object_regions.load_regions`` finds them, given the set's folder.
"""

from pathlib import Path

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.data.sets.lists import read_fields, whole_number


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return a split of ``train_test_split.txt``; ids end in the path below ``images``.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    home = require_home(manifest, root)
    files = _by_number(home / "images.txt")
    class_of = _by_number(home / "image_class_labels.txt")
    is_train = _by_number(home / "train_test_split.txt")
    names = _by_number(home / "classes.txt")
    for other in ("image_class_labels.txt", "train_test_split.txt"):
        if _by_number(home / other).keys() != files.keys():
            raise damaged(f"{home / other} is not of the images of images.txt")
    if [*names] != [str(number) for number in range(1, len(names) + 1)]:
        raise damaged(f"{home / 'classes.txt'} does not number its classes from 1 on")
    wanted = {"train": "1", "test": "0"}[split]
    chosen = [number for number, said in is_train.items() if said == wanted]
    for number in chosen:
        # Both lists say the class; where they differ one belongs to another set.
        if names.get(class_of[number]) != files[number].partition("/")[0]:
            raise damaged(
                f"{home}: image {number}, {files[number]!r:.80}, is said to be of class "
                f"{class_of[number]}, {names.get(class_of[number])!r:.60}"
            )
    return image_set(
        manifest,
        split,
        Listed(
            part=split,
            classes=tuple(names.values()),
            ids=[files[number] for number in chosen],
            paths=[below(home / "images", files[number], home / "images.txt") for number in chosen],
            labels=[whole_number(class_of[number], home) - 1 for number in chosen],
            layout="images with images.txt, image_class_labels.txt and train_test_split.txt",
        ),
    )


def _by_number(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, value in read_fields(path, 2, None, most=2):
        if number in found:
            raise damaged(f"{path} has the number {number!r:.20} twice")
        found[number] = value.strip()
    return found
