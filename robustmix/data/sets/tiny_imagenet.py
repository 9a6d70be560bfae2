"""Tiny-ImageNet-200: 200 classes of ImageNet at 64x64 pixels.

Class i is the i-th WordNet id in sorted order, as torchvision's ImageFolder and published weights
have it; ``wnids.txt`` itself is not sorted. Published accuracy is of ``val``, for ``test`` has no
labels.
"""

from pathlib import Path

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.data.sets.lists import folder_names, image_names, read_fields, read_lines


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return ``train``, or ``val`` as the test split; ids end in the official file's stem.

    Layouts of ``val``: the official one, flat with ``val_annotations.txt``; or one folder a class,
    as preparation scripts arrange it. Class folders hold images or have a folder ``images``.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    home = require_home(manifest, root)
    classes = tuple(sorted(line.strip() for line in read_lines(home / "wnids.txt")))
    if split == "train":
        return image_set(manifest, split, _by_folder(home / "train", "train", classes))
    annotations = home / "val" / "val_annotations.txt"
    if (home / "val" / "images").is_dir() and annotations.is_file():
        return image_set(manifest, split, _annotated(annotations, classes))
    return image_set(manifest, split, _by_folder(home / "val", "val", classes))


def _annotated(annotations: Path, classes: tuple[str, ...]) -> Listed:
    index = {wnid: place for place, wnid in enumerate(classes)}
    names, labels = [], []
    for name, wnid, *_ in read_fields(annotations, 2, "\t"):
        if wnid not in index:
            raise damaged(f"{annotations}: {wnid!r:.40} is not in wnids.txt")
        names.append(name)
        labels.append(index[wnid])
    folder = annotations.parent / "images"
    return Listed(
        part="val",
        classes=classes,
        ids=[Path(name).stem for name in names],
        paths=[below(folder, name, annotations) for name in names],
        labels=labels,
        layout="val/images with val_annotations.txt",
    )


def _by_folder(folder: Path, part: str, classes: tuple[str, ...]) -> Listed:
    index = {wnid: place for place, wnid in enumerate(classes)}
    foreign = [name for name in folder_names(folder) if name not in index]
    if foreign:
        raise damaged(f"{folder / foreign[0]} is no class of wnids.txt")
    names, paths, labels, inside = [], [], [], False
    for wnid in classes:
        place = folder / wnid / "images"
        inside |= place.is_dir()
        place = place if place.is_dir() else folder / wnid
        for name in image_names(place) if place.is_dir() else ():
            names.append(Path(name).stem)
            paths.append(place / name)
            labels.append(index[wnid])
    return Listed(
        part=part,
        classes=classes,
        ids=names,
        paths=paths,
        labels=labels,
        layout=f"{part}/<wnid>/images" if inside else f"{part}/<wnid>",
    )
