"""The images that a recipe trains and validates on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from robustmix.data.augment import Augment
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.loader import batches_per_epoch, default_augment, split_holdout
from robustmix.data.manifests import Split
from robustmix.data.protocol import TestTransform
from robustmix.errors import UsageError
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_effect import idle_augment
from robustmix.training.resolve import with_method_options


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The images of a run."""

    train: ImageSet
    val: ImageSet
    selected_on: Literal["test", "val"]
    augment: Augment
    steps: int
    """Batches in an epoch."""

    partial: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of splits whose images are not all here, how many are and how many there are officially."""

    @property
    def train_size(self) -> tuple[int, int, int]:
        """(3, H, W) of what is trained on, which may be smaller or larger than test images."""
        side = self.augment.size if self.augment.kind == "random-resized-crop" else None
        return self.train.input_size if side is None else (3, side, side)


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
    train = _load(recipe, "train", data_dir)
    partial = _partial(train)
    if recipe.val_split:
        try:
            stay, held = split_holdout(train.labels, recipe.val_split, recipe.seed)
        except ValueError as error:
            raise UsageError(f"val_split: {error}", code="E-RECIPE") from error
        train, val = train.subset(stay), train.subset(held)
    else:
        val = _load(recipe, "test", data_dir)
        partial |= _partial(val)
    if val.input_size != train.input_size:
        raise UsageError(
            f"test images are {val.input_size[1]} pixels, training images {train.input_size[1]}",
            "make test_transform and img_size agree",
            code="E-RECIPE",
        )
    augment = _augment(recipe, train)
    train, val = _limited(train, recipe.limit_train), _limited(val, recipe.limit_val)
    steps = batches_per_epoch(
        len(train), recipe.batch_size, augment.drop_last, recipe.repeated_augment
    )
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
        partial=partial,
    )


def _partial(images: ImageSet) -> dict[str, tuple[int, int]]:
    return {} if images.partial_of is None else {images.split: (len(images), images.partial_of)}


def complete_recipe(recipe: Recipe, data: RunData) -> Recipe:
    """Return the recipe with all that the images go through and every method option said."""
    return with_method_options(
        replace(
            recipe,
            augment=_acting(data.augment),
            normalisation={"mean": data.train.mean, "std": data.train.std},
            test_transform=_transform(recipe, data.val),
            allow_partial=True if data.partial else None,
        )
    )


def _transform(recipe: Recipe, val: ImageSet) -> Mapping[str, object] | None:
    if recipe.test_transform is not None:
        return recipe.test_transform
    try:
        return TestTransform.parse(val.transform).record()
    except ValueError:  # words of a loader of others, which does it whatever is asked
        return None


def _acting(augment: Augment) -> dict[str, object]:
    idle = idle_augment(augment)
    return {key: value for key, value in _said(augment).items() if key not in idle}


def _said(options: Augment) -> dict[str, object]:
    return {key: value for key, value in asdict(options).items() if value is not None}


def _load(recipe: Recipe, split: Split, data_dir: Path | None) -> ImageSet:
    """Return one split as the recipe prepares and normalises it."""
    given = recipe.test_transform
    images = load_dataset(
        recipe.dataset,
        split,
        data_dir=data_dir,
        img_size=recipe.img_size,
        test_transform=None if given is None else TestTransform(**given),
        allow_partial=bool(recipe.allow_partial),
    )
    return replace(images, **recipe.normalisation)


def _augment(recipe: Recipe, train: ImageSet) -> Augment:
    try:
        augment = replace(default_augment(train), **recipe.augment)
    except ValueError as error:
        raise UsageError(f"augment: {error}", code="E-RECIPE") from error
    idle = idle_augment(augment)
    for key in recipe.augment:
        if key in idle:  # that of a folder shows only now, when the size of its images is known
            raise UsageError(
                f"augment.{key} has no effect: {idle[key]}", "leave it out", code="E-UNUSED-OPTION"
            )
    return augment


def limited_count(n: int, limit: int | float | None) -> int:
    """Return how many of ``n`` images a limit leaves."""
    if limit is None:
        return n
    return min(n, limit) if isinstance(limit, int) else max(1, round(limit * n))


def _limited(images: ImageSet, limit: int | float | None) -> ImageSet:
    """Return evenly spaced images, so that a set sorted by class keeps all its classes."""
    if limit is None:
        return images
    n = len(images)
    count = limited_count(n, limit)
    return images.subset([i * n // count for i in range(count)])
