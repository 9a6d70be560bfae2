"""Image files and small data sets in official layouts, drawn by the tests themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from robustmix.data.images import ImageSet
from robustmix.data.manifests import DATASETS, Counts, Split, load_manifest

Labels = dict[str, int]


def picture(
    path: Path,
    colour: int = 90,
    *,
    size: tuple[int, int] = (23, 19),
    mode: str = "RGB",
    form: str = "JPEG",
) -> Path:
    """Write an image of one brightness; ``form`` is the format, whatever the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), colour, dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, format=form)
    return path


def write(path: Path, *lines: str) -> Path:
    """Write the lines of an official list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def labels_of(data: ImageSet) -> Labels:
    """Return the class index of each image by the end of its id."""
    start = len(data.name) + 1
    return {
        name[start:].partition("/")[2]: label
        for name, label in zip(data.sample_ids, data.labels.tolist(), strict=True)
    }


def read(name: str, split: Split, root: Path) -> ImageSet:
    """Read a set by its reader, without the check that all of it is there."""
    return DATASETS[name](load_manifest(name), split, root)


def read_as_whole(name: str, split: Split, root: Path, **counts: int) -> ImageSet:
    """Read a set as if these were its official counts."""
    manifest = load_manifest(name)
    manifest = replace(manifest, counts=Counts(**counts), split_sha256={}, archives=())
    return DATASETS[name](manifest, split, root)
