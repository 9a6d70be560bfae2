"""Official corrupted test sets: which one belongs to a data set, and whether it really does."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from robustmix.corruptions.cifar_c import CLASSES, CifarC, correlation
from robustmix.corruptions.folder_c import SIDES, FolderC
from robustmix.data.images import ImageSet, Pixels, SubsetPixels, TensorPixels
from robustmix.data.resized import ResizedPixels
from robustmix.errors import IntakeError
from robustmix.later import Tensor, torch

FOLDERS = {
    "cifar10": "CIFAR-10-C",
    "cifar100": "CIFAR-100-C",
    "tiny-imagenet": "Tiny-ImageNet-C",
    "imagenet-1k": "ImageNet-C",
}
"""Data set -> folder of its corrupted test images in the data folder."""

IMAGENET_CLASSES = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
"""SHA-256 of the 1000 WordNet ids of ImageNet-1k, sorted and joined by newlines."""

COMPARED = 256
"""Image files compared with their clean ones."""


class CorruptedFiles(Protocol):
    """What the readers of official files share."""

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        ...

    @property
    def available(self) -> tuple[str, ...]:
        """The corruptions that are there."""
        ...

    @property
    def paired(self) -> bool:
        """Whether a corrupted image was made from the clean one of the same index."""
        ...

    def take(self, name: str, severity: int, indices: Tensor | Sequence[int]) -> Tensor:
        """Read corrupted images uint8 (n, 3, H, W) for positions in the clean test set."""
        ...


def benchmark_name(data: ImageSet) -> str:
    """Give the name that corrupted sets and reference errors go by.

    ImageNet and Tiny-ImageNet are read as folders of images; their class names tell them apart.
    """
    if not data.name.startswith("folder:"):
        return data.name
    if data.class_names_sha256 == IMAGENET_CLASSES:
        return "imagenet-1k"
    wordnet = all(re.fullmatch(r"n\d{8}", name) for name in data.class_names)
    tiny = data.num_classes == 200 and data.input_size[1] == SIDES["tiny-imagenet"]
    return "tiny-imagenet" if wordnet and tiny else data.name


def official_folder(data: ImageSet, data_dir: Path) -> Path | None:
    """Find the folder of a data set's official corrupted images, None if it is not there."""
    name = FOLDERS.get(benchmark_name(data))
    return data_dir / name if name is not None and (data_dir / name).is_dir() else None


def open_official(
    folder: Path, data: ImageSet, names: Sequence[str], severities: Sequence[int]
) -> CorruptedFiles:
    """Open the official files of a whole test set and check that they belong to it.

    Args:
        folder: see ``official_folder``.
        data: the clean test set, complete and in its order.
        names: corruptions that will be read.
        severities: likewise.

    Raises:
        IntakeError: files are missing or damaged, or do not belong to the clean images.
    """
    dataset, small = benchmark_name(data), as_stored(data.pixels).pixels
    opened: CorruptedFiles
    if dataset in CLASSES:
        opened = CifarC.open(
            folder,
            dataset=dataset,
            clean_images=small.take(torch.arange(len(small))),
            clean_labels=data.labels,
            clean_indices=torch.arange(len(small)),
        )
    else:
        opened = files = FolderC.open(
            folder,
            dataset=dataset,
            class_names=data.class_names,
            clean_labels=data.labels,
            clean_files=[sample_id.rpartition("/")[2] for sample_id in data.sample_ids],
            names=names,
            severities=severities,
        )
        _check_size(files, small)
        if files.paired and "brightness" in files.available and 1 in severities:
            _check_resemblance(files, small)
    missing = [name for name in names if name not in opened.available]
    if missing:
        raise IntakeError(
            f"{folder} holds no {missing[0]}",
            "extract the released archives again, or leave the corruption out (--corruptions)",
        )
    return opened


def _check_size(files: FolderC, clean: Pixels) -> None:
    side = SIDES[files.dataset]
    if clean.size != (3, side, side):
        raise IntakeError(
            f"{files.folder} holds images of {side}x{side} pixels, the clean ones have "
            f"{clean.size[1]}x{clean.size[2]}",
            f"evaluate a model for {side} pixels, or use --corruption-source generate",
        )


def _check_resemblance(files: FolderC, clean: Pixels) -> None:
    count = min(COMPARED, len(files))
    places = torch.arange(count) * len(files) // count
    similar = correlation(files.take("brightness", 1, places), clean.take(places).cpu())
    if (mean := float(similar.nanmean())) <= 0.9:
        raise IntakeError(
            f"{files.roots['brightness']} does not show the clean images: mean correlation "
            f"{mean:.3f}, expected above 0.9",
            "one of the two was made from other images",
        )


@dataclass(frozen=True)
class Stored:
    """Pixels as they are stored, and how an evaluation sees them."""

    pixels: Pixels
    enlarge: Callable[[Tensor], Tensor]
    """uint8 images of the stored size -> of the size that evaluation sees."""


def as_stored(pixels: Pixels) -> Stored:
    """Find the small pixels behind enlarged ones: corruption comes before any resizing."""
    if isinstance(pixels, SubsetPixels):
        inner = as_stored(pixels.pixels)
        return Stored(SubsetPixels(inner.pixels, pixels.chosen), inner.enlarge)
    if not isinstance(pixels, ResizedPixels):
        return Stored(pixels, lambda images: images)

    def enlarge(images: Tensor) -> Tensor:
        return replace(pixels, pixels=TensorPixels(images)).take(torch.arange(len(images)))

    return Stored(pixels.pixels, enlarge)
