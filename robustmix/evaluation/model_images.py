"""Images prepared as a model was tested in its training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustmix.data.class_order import in_recorded_order
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.location import FOLDER
from robustmix.data.manifests import Split
from robustmix.data.preparation import TestTransform, TransformOptions
from robustmix.data.torch_sets import Wanted, image_set_of, named_by_model, refuse_others
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.class_names import among_imagenet
from robustmix.models.robust_model import RobustModel


def load_for(
    robust: RobustModel,
    name: str,
    split: Split,
    data_dir: Path | None,
    *,
    allow_partial: bool = False,
    asked: TransformOptions | None = None,
    override: bool = False,
) -> ImageSet:
    """Load images for a model, with the test transform of its training.

    A checkpoint records it, and published weights come with it. Where the images cannot be prepared
    so, or nothing is known, they are prepared in the data set's own way. A note says where the two
    differ.

    Args:
        robust: the model.
        name: of the data set.
        split: of it.
        data_dir: where data sets lie.
        allow_partial: see ``load_dataset``.
        asked: what the user says of the preparation, over all this.
        override: let that contradict what the checkpoint records.

    Raises:
        UsageError: see ``load_dataset``; or the options are impossible.
        IntakeError: see ``load_dataset``; what the checkpoint records is no test transform; or the
            options contradict it.
    """
    if asked is not None and asked.said:
        images = _as_asked(robust, name, split, data_dir, asked, override, allow_partial)
        return _in_order(robust, name, images)
    images = _loaded(robust, name, split, data_dir, allow_partial)
    return _in_order(robust, name, images)


def _in_order(robust: RobustModel, name: str, images: ImageSet) -> ImageSet:
    """Give classes of a folder that are numbers, or ImageNet's, the labels that the model has."""
    if not name.startswith(FOLDER):
        return images
    known = robust.info.class_names if robust.info.class_map_sha256 is None else None
    return among_imagenet(robust, in_recorded_order(images, known))


def _loaded(
    robust: RobustModel, name: str, split: Split, data_dir: Path | None, allow_partial: bool
) -> ImageSet:
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


Images: TypeAlias = ImageSet | str | Dataset[Any] | DataLoader[Any] | Sequence[Tensor]
"""What is evaluated on."""


def load_given(
    robust: RobustModel, data: object, asked: TransformOptions, override: bool
) -> ImageSet:
    """Take images from a torch data set, a loader or a pair of tensors.

    Those of the model's size are taken as they are; others get the test transform of the training.

    Raises:
        UsageError: it is none of these, or the options are impossible.
        IntakeError: see ``image_set_of``; or the options contradict the checkpoint.
    """
    refuse_others(data)
    _, height, width = robust.input_size
    recorded = recorded_transform(robust)
    transform = recorded
    if asked.said:
        transform = _asked_transform(robust, recorded or TestTransform(), recorded, asked, override)
    images = image_set_of(data, Wanted((height, width), transform, always=bool(asked.said)))
    return named_by_model(images, robust.info.class_names, robust.num_classes)


def _as_asked(
    robust: RobustModel,
    name: str,
    split: Split,
    data_dir: Path | None,
    asked: TransformOptions,
    override: bool,
    allow_partial: bool,
) -> ImageSet:
    _, height, width = robust.input_size
    if height != width:
        raise UsageError(
            f"{asked.said[0]} is for square images, the model takes {width}x{height}",
            "leave it out",
            code="E-TRANSFORM",
        )
    recorded = recorded_transform(robust)
    base = recorded
    if base is None:
        own = load_dataset(
            name, split, data_dir=data_dir, img_size=height, allow_partial=allow_partial
        )
        try:
            base = TestTransform.parse(own.transform)
        except ValueError:  # words of a loader of others, which does it whatever is asked
            base = TestTransform()
    wanted = _asked_transform(robust, base, recorded, asked, override)
    images = load_dataset(
        name,
        split,
        data_dir=data_dir,
        img_size=height,
        test_transform=wanted,
        allow_partial=allow_partial,
    )
    if recorded is None or wanted == recorded:
        return images
    return _noted(
        images,
        f"images are prepared as asked for, '{wanted.text()}', not with the test transform of the "
        f"training, '{recorded.text()}'",
    )


def _asked_transform(
    robust: RobustModel,
    base: TestTransform,
    recorded: TestTransform | None,
    asked: TransformOptions,
    override: bool,
) -> TestTransform:
    red, green, blue = robust.mean.flatten().tolist()
    try:
        wanted = asked.over(base, robust.input_size[1], (red, green, blue))
    except ValueError as error:
        raise UsageError(str(error), code="E-TRANSFORM") from None
    known = robust.info.recipe is not None or robust.info.sha256 is not None
    if recorded is not None and wanted != recorded and known and not override:
        options = " and ".join("--" + option.replace("_", "-") for option in asked.said)
        raise IntakeError(
            f"{options} contradicts {robust.info.source}: it records '{recorded.text()}', "
            f"asked for is '{wanted.text()}'",
            f"leave {options} out, or pass --override-checkpoint",
            code="E-MODEL",
        )
    return wanted


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
