"""The images that a recipe trains and validates on."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from robustmix.data.augment import Augment
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.loader import batches_per_epoch, default_augment, split_holdout
from robustmix.errors import UsageError
from robustmix.training.recipe import Recipe, with_method_options


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The images of a run."""

    train: ImageSet
    val: ImageSet
    selected_on: Literal["test", "val"]
    augment: Augment
    steps: int
    """Batches in an epoch."""


def load_run_data(
    recipe: Recipe, data_dir: Path | None, device: torch.device | None = None
) -> RunData:
    """Load the images that a recipe trains and validates on.

    The held-out part is chosen from the whole training split, before ``limit_train``, so that
    (fraction, seed) alone name its images.

    Args:
        recipe: names the data, the share held out and the limits.
        data_dir: where data sets lie.
        device: where the pixels are kept; the CPU if none is given.

    Raises:
        UsageError: the recipe leaves no image to train on, or a batch is larger than the data
            while incomplete batches are dropped.
        IntakeError: the data cannot be read.
    """
    device = device or torch.device("cpu")
    train = load_dataset(recipe.dataset, "train", data_dir=data_dir, img_size=recipe.img_size)
    if recipe.val_split:
        try:
            stay, held = split_holdout(train.labels, recipe.val_split, recipe.seed)
        except ValueError as error:
            raise UsageError(f"val_split: {error}", code="E-RECIPE") from error
        train, val = train.subset(stay), train.subset(held)
    else:
        val = load_dataset(recipe.dataset, "test", data_dir=data_dir, img_size=recipe.img_size)
    augment = _augment(recipe, train)
    train, val = _limited(train, recipe.limit_train), _limited(val, recipe.limit_val)
    steps = batches_per_epoch(len(train), recipe.batch_size, augment.drop_last)
    if not steps:
        raise UsageError(
            f"a batch of {recipe.batch_size} is larger than the {len(train)} training images",
            "lower batch_size or set augment.drop_last=false",
            code="E-RECIPE",
        )
    return RunData(
        train=train.to(device),
        val=val.to(device),
        selected_on="val" if recipe.val_split else "test",
        augment=augment,
        steps=steps,
    )


def complete_recipe(recipe: Recipe, data: RunData) -> Recipe:
    """Return the recipe with every option of the method and the augmentation written out."""
    augment = {key: value for key, value in asdict(data.augment).items() if value is not None}
    return with_method_options(replace(recipe, augment=augment))


def _augment(recipe: Recipe, train: ImageSet) -> Augment:
    try:
        return replace(default_augment(train), **recipe.augment)
    except ValueError as error:
        raise UsageError(f"augment: {error}", code="E-RECIPE") from error


def _limited(images: ImageSet, limit: int | float | None) -> ImageSet:
    """Return evenly spaced images, so that a set sorted by class keeps all its classes."""
    if limit is None:
        return images
    n = len(images)
    count = min(n, limit) if isinstance(limit, int) else max(1, round(limit * n))
    return images.subset([i * n // count for i in range(count)])
