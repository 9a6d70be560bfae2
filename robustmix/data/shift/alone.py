"""A shift set as the evaluated data itself, for those who do not have the clean images."""

from dataclasses import replace
from pathlib import Path

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.manifests import Manifest, Split, load_manifest
from robustmix.data.shift.cifar import CIFAR10_NAMES
from robustmix.data.shift.registry import SHIFTS, place_of
from robustmix.data.shift.sets import ShiftSet
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError, UsageError
from robustmix.later import torch


def load_alone(name: str, split: Split, data_dir: Path) -> ImageSet:
    """Load a shift set by its name, prepared in its own way, with all classes of its data set.

    Raises:
        UsageError: it is asked for the training split, or is no set of images with those classes.
        IntakeError: it is not there or damaged.
    """
    if split != "test":
        raise UsageError(f"{name} is for evaluation alone", "train on another data set")
    place = place_of(name, data_dir)
    if place is None:
        raise IntakeError(
            f"{name} is not in the data folder: no {' or '.join(SHIFTS.row(name).places)} in "
            f"{data_dir}",
            "download it from its authors and extract it there",
            code="E-DATA",
        )
    opened = SHIFTS[name](name, place, _like(load_manifest(name)))
    assert isinstance(opened, ShiftSet), "asked of these alone"
    notes = opened.notes
    if opened.expected is not None and len(opened.images) != opened.expected:
        notes = (*notes, f"{name} has {len(opened.images):,} images, not {opened.expected:,}")
    images = opened.images
    ids = tuple(one.replace("/shift/", "/test/", 1) for one in images.sample_ids)
    return replace(images, sample_ids=ids, notes=tuple(f"W-SHIFT: {note}" for note in notes))


def stands_alone(name: str) -> bool:
    """Tell whether a set can be evaluated by itself: its labels are classes of its data set."""
    return name in SHIFTS and SHIFTS.row(name).kind == "images" and name != "objectnet"


def _like(manifest: Manifest) -> ImageSet:
    """Give no images of the data set's classes, prepared as the manifest says."""
    side = manifest.test_transform.crop or (manifest.image_size or (32, 32))[0]
    cifar = manifest.clean_of == "cifar10"
    return ImageSet(
        name=manifest.name,
        split="test",
        pixels=TensorPixels(torch.empty(0, 3, side, side, dtype=torch.uint8)),
        labels=torch.empty(0, dtype=torch.int64),
        sample_ids=(),
        class_names=CIFAR10_NAMES if cifar else imagenet_wnids(),
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
        transform=manifest.eval_transform,
    )
