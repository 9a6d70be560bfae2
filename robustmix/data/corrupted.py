"""Corrupted sets on disk beside the clean images that they were made from."""

from pathlib import Path, PurePosixPath

import torch

from robustmix.corruptions.cifar_c import CLASSES, OFFICIAL_IMAGES, CifarC
from robustmix.corruptions.writer import read_record
from robustmix.data.datasets import load_dataset
from robustmix.data.manifests import list_manifests, load_manifest
from robustmix.errors import IntakeError

RELEASED = "cifar100"
"""What a folder without a record is taken for, unless it is named."""

COMPARED_VALUES = 2**28
"""Clean images are compared up to so many values; all of CIFAR, evenly spaced ones of ImageNet."""


def open_set(
    folder: Path, *, dataset: str | None, data_dir: Path | None, compare: bool = True
) -> tuple[CifarC, bool]:
    """Open a released or generated set, and compare it with the clean images if they are there.

    Args:
        folder: holds the arrays.
        dataset: whose test images were corrupted; as recorded in the folder if None.
        data_dir: where the clean images lie; see ``data_folder``.
        compare: whether to look for them.

    Returns:
        The set, and whether it was compared.

    Raises:
        IntakeError: the set is damaged, or not made from these images.
        UsageError: no such data set.
    """
    record = read_record(folder)
    params = {} if record is None else record["params"]
    name = dataset or str(params.get("dataset", RELEASED))
    n = int(params.get("n", OFFICIAL_IMAGES))
    size = (int(params.get("height", 32)), int(params.get("width", 32)))
    try:
        data = load_dataset(name, "test", data_dir=data_dir) if compare else None
    except IntakeError:
        data = None
    if data is None:
        many = None if name in CLASSES or record is None else 2**31
        return CifarC.open(folder, dataset=name, n=n, classes=many, size=size), False
    known = min(n, len(data))
    count = min(known, max(1, COMPARED_VALUES // (3 * size[0] * size[1])))
    places = torch.arange(count) * known // count
    opened = CifarC.open(
        folder,
        dataset=name,
        clean_images=data.pixels.take(places),
        clean_labels=data.labels[places],
        clean_indices=places,
        n=n,
        classes=data.num_classes,
        size=size,
    )
    return opened, True


def released_md5(dataset: str) -> dict[str, str] | None:
    """Return the md5 of every released file of a data set's corrupted images; None if unknown."""
    if f"{dataset}-c" not in list_manifests():
        return None
    files = load_manifest(f"{dataset}-c").files
    return {PurePosixPath(file.path).stem: file.md5 for file in files if file.md5}
