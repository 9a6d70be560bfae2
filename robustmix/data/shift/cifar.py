"""CIFAR-10.1 and CIFAR-10.2: new images gathered as those of CIFAR-10 were.

Recht et al. 2018, arXiv:1806.00451; Lu et al. 2020, "Harder or Different?". Arrays uint8
(N, 32, 32, 3), labels in CIFAR-10's order.
"""

from pathlib import Path

import numpy as np

from robustmix.arrays import UNREADABLE, Array, load_arrays
from robustmix.corruptions.cifar_c import load_array
from robustmix.data.images import ImageSet
from robustmix.data.manifests import load_manifest
from robustmix.data.shift.sets import ShiftSet, stored_images
from robustmix.errors import IntakeError
from robustmix.files import file_digest, regular_file
from robustmix.later import Tensor, torch

CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""In the order of the labels."""

CLASSES = len(CIFAR10_NAMES)
_AGAIN = "download the set again"


def open_cifar10_1(name: str, place: Path, like: ImageSet) -> ShiftSet:
    """Open one version of CIFAR-10.1, whose labels lie beside its images.

    Raises:
        IntakeError: a file is missing, damaged or of another form.
    """
    labels_file = place.with_name(place.name.replace("_data", "_labels"))
    images, labels = load_array(place), load_array(labels_file)
    published = load_manifest(name)
    (known,) = (file.md5 for file in published.files if file.path == labels_file.name)
    notes: tuple[str, ...] = ()
    if file_digest(labels_file, "md5") != known:
        notes = (f"{labels_file.name} is not the published file (md5 {known})",)
    return _shift_set(name, place, images, labels, like, notes)


def open_cifar10_2(name: str, place: Path, like: ImageSet) -> ShiftSet:
    """Open the test part of CIFAR-10.2.

    Raises:
        IntakeError: the file is damaged or of another form.
    """
    regular_file(place, code="E-DATA")
    try:
        arrays = load_arrays(place, only=("images", "labels"))
        images, labels = arrays["images"], arrays["labels"]
    except UNREADABLE as error:
        raise IntakeError(
            f"{place} holds no images and labels ({type(error).__name__})", _AGAIN, code="E-DATA"
        ) from error
    return _shift_set(name, place, images, labels, like, ())


def _shift_set(
    name: str, place: Path, images: Array, labels: Array, like: ImageSet, notes: tuple[str, ...]
) -> ShiftSet:
    return ShiftSet(
        images=stored_images(name, _pixels(place, images), _labels(place, labels, images), like),
        expected=load_manifest(name).counts.test,
        notes=notes,
    )


def _pixels(place: Path, images: Array) -> Tensor:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3):
        raise IntakeError(
            f"{place}: expected uint8 (N, 32, 32, 3), got {images.dtype} {images.shape}",
            _AGAIN,
            code="E-DATA",
        )
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous()


def _labels(place: Path, labels: Array, images: Array) -> list[int]:
    fits = np.issubdtype(labels.dtype, np.integer) and labels.shape == images.shape[:1]
    numbers = labels.astype(np.int64) if fits else np.array([-1])
    if not len(numbers) or numbers.min() < 0 or numbers.max() >= CLASSES:
        raise IntakeError(
            f"the labels of {place} are not one of 0 to 9 for each of its images",
            _AGAIN,
            code="E-DATA",
        )
    return [int(label) for label in numbers]
