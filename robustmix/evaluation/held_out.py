"""Samples to fit a temperature to, of which none may be scored.

They are, in this order: the set that the user names; the part of the training images that the run
kept out for validation, as its checkpoint records; nothing, and then the suite fits on one half of
the test images and scores the other.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from robustmix.data.content import pixels_sha256
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Split
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.evaluation.class_names import check_class_names
from robustmix.files import hash_json
from robustmix.later import RobustModel, torch
from robustmix.metrics.temperature import CalibrationSplit, hash_ids
from robustmix.types import Model

CalibSplit = Literal["auto", "val", "two-fold", "train", "test"]
"""``auto`` tries them in the order above; ``train`` and ``test`` are parts of the set named."""

BATCH = 128
"""Images a forward pass; a constant, so that no setting changes a temperature."""

_ON_TRAIN = (
    "W-CALIB-ON-TRAIN: the temperature was fitted to images the model may have been trained on, "
    "where it is surer of itself than elsewhere; name other images with --calib-data"
)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a report records of a calibration split."""

    split: Literal["held-out"] = "held-out"
    source: str
    """What the images are, in words."""

    n: int
    ids_sha256: str
    content_sha256: str
    """Over ids, labels and pixels: equal splits have equal content."""

    notes: tuple[str, ...] = ()
    """Warnings, each beginning with its code."""


class OpenedSplit(NamedTuple):
    """A calibration split and its record."""

    record: HeldOut
    images: ImageSet


def open_held_out(
    robust: RobustModel,
    *,
    calib_data: str | ImageSet | None = None,
    calib_split: str = "auto",
    data_dir: Path | None = None,
    allow_partial: bool = False,
) -> OpenedSplit | None:
    """Open the calibration split of a model; None if there is none but the test images.

    Args:
        robust: the model; its ``info`` says what its checkpoint records.
        calib_data: a data set by name, ``folder:PATH`` included, or images in memory.
        calib_split: see ``CalibSplit``; of a named set it is ``test`` unless ``train`` is said.
        data_dir: where data sets lie.
        allow_partial: take a data set whose images are not all here.

    Raises:
        UsageError: the options exclude each other, or ``val`` was asked for of a model whose
            training kept nothing out.
        IntakeError: the images are missing, damaged or do not fit the model.
    """
    if calib_split not in get_args(CalibSplit):
        raise unknown_name("calibration split", calib_split, get_args(CalibSplit))
    if calib_data is not None:
        in_memory = isinstance(calib_data, ImageSet)
        if calib_split in ("val", "two-fold") or (in_memory and calib_split != "auto"):
            raise UsageError(
                f"--calib-split {calib_split} excludes --calib-data", "give one of them"
            )
        if isinstance(calib_data, ImageSet):
            _check_task(robust, calib_data)
            return _described(calib_data, f"{calib_data.name}/{calib_data.split}", ())
        split: Split = "train" if calib_split == "train" else "test"
        return _named(robust, calib_data, split, data_dir, allow_partial)
    if calib_split in ("train", "test"):
        raise UsageError(f"--calib-split {calib_split} is a part of --calib-data", "name the data")
    if calib_split == "two-fold":
        return None
    record = _recorded(robust)
    if record is None:
        if calib_split == "val":
            raise UsageError(
                f"{robust.info.source} records no validation split of its training",
                "train with val_split, or name images with --calib-data",
                code="E-CALIB-SPLIT",
            )
        return None
    return _validation(robust, *record, data_dir=data_dir, allow_partial=allow_partial)


def score_split(model: Model, images: ImageSet, device: torch.device) -> CalibrationSplit:
    """Score a calibration split: logits float32 (M, K), with labels and ids.

    Args:
        model: images in [0, 1] -> logits; as ``padded`` makes it, so that batches do not matter.
        images: the split.
        device: where the model is.
    """
    from robustmix.batch_memory import halved
    from robustmix.data.reading import in_order
    from robustmix.data.transforms import on_device

    def scored(batch: int) -> torch.Tensor:
        parts = []
        chunks = torch.split(torch.arange(len(images)), batch)
        with torch.no_grad(), closing(in_order(images.pixels, chunks)) as batches:
            for _, stored in batches:
                parts.append(model(on_device(stored, device).float() / 255).float())
        return torch.cat(parts).cpu()

    labels = images.labels.numpy().astype(np.int64)
    logits = halved(scored, BATCH, device).numpy()
    return CalibrationSplit(logits=logits, labels=labels, sample_ids=images.sample_ids)


def _recorded(robust: RobustModel) -> tuple[str, float, int] | None:
    """Find data set, share and seed of the validation split that a checkpoint records."""
    info = robust.info
    recipe = info.recipe or {}
    split = (info.metrics or {}).get("val_split")
    if not isinstance(split, dict):
        split = {"fraction": recipe.get("val_split"), "seed": recipe.get("seed")}
    fraction, seed = split.get("fraction"), split.get("seed")
    dataset = info.dataset or recipe.get("dataset")
    if not isinstance(dataset, str) or not isinstance(fraction, float) or not fraction:
        return None
    return (dataset, fraction, seed) if isinstance(seed, int) else None


def _validation(
    robust: RobustModel,
    dataset: str,
    fraction: float,
    seed: int,
    *,
    data_dir: Path | None,
    allow_partial: bool,
) -> OpenedSplit:
    train = _load(robust, dataset, "train", data_dir, allow_partial)
    try:
        from robustmix.data.loader import split_holdout

        _, held = split_holdout(train.labels, fraction, seed)
    except ValueError as error:
        raise IntakeError(f"the recorded validation split: {error}", code="E-CALIB-SPLIT") from None
    source = f"validation split of the training: {fraction:g} of {train.name}/train, seed {seed}"
    return _described(train.subset(held), source, ())


def _named(
    robust: RobustModel, name: str, split: Split, data_dir: Path | None, allow_partial: bool
) -> OpenedSplit:
    images = _load(robust, name, split, data_dir, allow_partial)
    trained_on = robust.info.dataset
    own = trained_on == name and split == "train"
    return _described(images, f"{images.name}/{split}", (_ON_TRAIN,) if own else ())


def _load(
    robust: RobustModel, name: str, split: Split, data_dir: Path | None, allow_partial: bool
) -> ImageSet:
    from robustmix.evaluation.model_images import load_for

    images = load_for(robust, name, split, data_dir, allow_partial=allow_partial)
    _check_task(robust, images)
    return images


def _check_task(robust: RobustModel, images: ImageSet) -> None:
    if images.num_classes != robust.num_classes or images.input_size != robust.input_size:
        raise IntakeError(
            f"the calibration images have {images.num_classes} classes and size "
            f"{images.input_size}, the model {robust.num_classes} and {robust.input_size}",
            "name images of the model's own task with --calib-data",
            code="E-CALIB-SPLIT",
        )
    check_class_names(robust, images)


def _described(images: ImageSet, source: str, notes: tuple[str, ...]) -> OpenedSplit:
    if len(images) < 2:
        raise IntakeError(f"{source} has {len(images)} images", "give at least 2")
    ids = hash_ids(images.sample_ids)
    content = hash_json([ids, images.order_sha256, images.labels.tolist(), pixels_sha256(images)])
    n = len(images)
    notes += tuple(note for note in images.notes if note.startswith("W-"))
    record = HeldOut(source=source, n=n, ids_sha256=ids, content_sha256=content, notes=notes)
    return OpenedSplit(record, images)
