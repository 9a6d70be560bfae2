"""Images prepared as a model was tested in its training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Split
from robustmix.data.preparation import TestTransform
from robustmix.errors import IntakeError
from robustmix.models.robust_model import RobustModel


def load_for(
    robust: RobustModel,
    name: str,
    split: Split,
    data_dir: Path | None,
    *,
    allow_partial: bool = False,
) -> ImageSet:
    """Load images for a model, with the test transform of its training.

    A checkpoint records it, and published weights come with it. Where the images cannot be prepared
    so, or nothing is known, they are prepared in the data set's own way. A note says where the two
    differ.

    Raises:
        UsageError: see ``load_dataset``.
        IntakeError: see ``load_dataset``; or what the checkpoint records is no test transform.
    """
    _, height, width = robust.input_size
    size = height if height == width else None
    recorded = recorded_transform(robust)
    try:
        images = load_dataset(
            name,
            split,
            data_dir=data_dir,
            img_size=size,
            test_transform=recorded,
            allow_partial=allow_partial,
        )
    except IntakeError as error:
        if recorded is None or error.code != "E-TRANSFORM":
            raise
        images = load_dataset(
            name, split, data_dir=data_dir, img_size=size, allow_partial=allow_partial
        )
        return _noted(
            images,
            f"images of {images.name} are prepared in their own way, '{images.transform}': they "
            f"do not allow the test transform of the training, '{recorded.text()}'",
        )
    if images.own_transform in (None, images.transform):
        return images
    return _noted(
        images,
        f"images are prepared with the test transform of the training, '{images.transform}', "
        f"which {'the checkpoint records' if robust.info.recipe else 'the weights came with'}; "
        f"those of {images.name} would by themselves be prepared with '{images.own_transform}'",
    )


def _noted(images: ImageSet, text: str) -> ImageSet:
    return replace(images, notes=(*images.notes, f"W-TRANSFORM: {text}"))


def recorded_transform(robust: RobustModel) -> TestTransform | None:
    """Return the test transform that a checkpoint's recipe records or that weights came with.

    Raises:
        IntakeError: what is recorded is none.
    """
    record = (robust.info.recipe or {}).get("test_transform")
    if record is None:
        return _published(robust)
    try:
        if not isinstance(record, Mapping):
            raise ValueError("it is no table")
        return TestTransform.of_record(record)
    except ValueError as error:
        raise IntakeError(
            f"the test transform that {robust.info.source} records cannot be used: {error}",
            "train again, or take another checkpoint",
            code="E-CHECKPOINT",
        ) from error


def _published(robust: RobustModel) -> TestTransform | None:
    """Return what published weights came with, if it gives images of the model's size."""
    text = robust.info.test_transform
    transform = None if text is None else TestTransform.parse(text)
    if transform is None or robust.input_size[1:] != 2 * (transform.crop or transform.resize,):
        return None
    return transform
