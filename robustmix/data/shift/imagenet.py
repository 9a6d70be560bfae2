"""ImageNet-A, -R, -V2 and -Sketch: one folder a class.

Hendrycks et al. 2021, arXiv:1907.07174 (A) and arXiv:2006.16241 (R); Recht et al. 2019,
arXiv:1902.10811 (V2); Wang et al. 2019, arXiv:1905.13549 (Sketch).

Folders are WordNet ids, whose class is their place among the 1,000 and not among those that are
there; V2's are class numbers, which sort otherwise as text than as numbers.
"""

from pathlib import Path

from robustmix.data.images import ImageSet
from robustmix.data.manifests import load_manifest
from robustmix.data.shift.sets import ShiftSet, image_files, list_images, subfolders
from robustmix.data.wnids import classes_of_wnids, imagenet_wnids
from robustmix.errors import IntakeError


def open_part(name: str, place: Path, like: ImageSet) -> ShiftSet:
    """Open a set of some of the classes, whose outputs alone count.

    Raises:
        IntakeError: a folder is no class of ImageNet, or holds no images.
    """
    opened = open_whole(name, place, like)
    classes = tuple(sorted(set(opened.images.labels.tolist())))
    published = load_manifest(name).num_classes
    notes = opened.notes
    if len(classes) != published:
        notes = (*notes, f"it has {len(classes)} classes, {published} were published")
    return ShiftSet(images=opened.images, classes=classes, expected=opened.expected, notes=notes)


def open_whole(name: str, place: Path, like: ImageSet) -> ShiftSet:
    """Open a set of all classes.

    Raises:
        IntakeError: see ``open_part``.
    """
    folders = subfolders(place)
    if not folders:
        raise IntakeError(
            f"{place} holds no folder a class", "extract the archive again", code="E-DATA"
        )
    return _opened(name, place, folders, classes_of_wnids(folders), like)


def open_numbered(name: str, place: Path, like: ImageSet) -> ShiftSet:
    """Open a set whose folders are class numbers, 0 to 999.

    Raises:
        IntakeError: a folder is no such number, or holds no images.
    """
    folders = subfolders(place)
    most = len(imagenet_wnids())
    wrong = [f for f in folders if not (f.isascii() and f.isdecimal() and int(f[:9]) < most)]
    if wrong or len({int(folder) for folder in folders}) != len(folders) or not folders:
        raise IntakeError(
            f"{place} has no folder a class number of 0 to {most - 1}"
            + (f": {wrong[0]!r:.40}" if wrong else ""),
            "extract the archive again",
            code="E-DATA",
        )
    return _opened(name, place, folders, tuple(map(int, folders)), like)


def _opened(
    name: str, place: Path, folders: list[str], classes: tuple[int, ...], like: ImageSet
) -> ShiftSet:
    listed = list_images(place, folders)
    labels = [classes[folder] for folder in listed.folders]
    return ShiftSet(
        images=image_files(name, place, listed.files, labels, like),
        expected=load_manifest(name).counts.test,
    )
