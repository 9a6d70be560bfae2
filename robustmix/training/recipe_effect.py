"""Keys of a recipe that do nothing under its others, with the reason."""

from collections.abc import Mapping
from dataclasses import fields

from robustmix.data.augment import Augment
from robustmix.data.protocol import TestTransform
from robustmix.methods.registry import METHODS
from robustmix.models.names import ARCHS, split_stem
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_tables import build_table

GENERATOR_KEYS = ("generator_lr", "generator_min_lr", "generator_momentum")


def without_effect(recipe: Recipe) -> dict[str, str]:
    """Return the keys that do nothing under the recipe's others, with the reason; dotted.

    Example:
        >>> without_effect(Recipe(optimizer="adamw"))["momentum"]
        'adamw has no momentum'
    """
    found = _idle_rates(recipe)
    why = _no_generator(recipe)
    if why is not None:
        found |= dict.fromkeys(GENERATOR_KEYS, why)
    if not has_binary_loss(recipe):
        for key in ("bce_threshold", "bce_sum"):
            found[key] = "the loss is ce, not bce"
    if recipe.method == "rsb":
        found["loss"] = "method rsb chooses its loss by method.loss"
    if recipe.ema_decay is None:
        found["ema_warmup_epochs"] = "nothing is averaged without ema_decay"
    arch = split_stem(recipe.arch)[0]
    if arch not in ARCHS or ARCHS.row(arch).built_by == "others":
        found["init"] = f"{recipe.arch} draws its own initial weights"
    augment = build_table("augment", Augment, recipe.augment)
    idle = idle_augment(augment, kind_known="kind" in recipe.augment)
    found |= {f"augment.{key}": why for key, why in idle.items()}
    transform = build_table("test_transform", TestTransform, recipe.test_transform or {})
    if transform.resize is None:
        for key in ("interpolation", "crop_mode"):
            found[f"test_transform.{key}"] = "nothing is resized"
    return found


def _no_generator(recipe: Recipe) -> str | None:
    """Return why the recipe trains no generator of masks, if it does not."""
    if METHODS.row(recipe.method).generator:
        grids = recipe.method_options.get("mask_source") == "grids"
        return "method.mask_source is grids, which learn nothing" if grids else None
    known = ", ".join(sorted(n for n, row in METHODS.rows().items() if row.generator))
    return f"method {recipe.method} has no generator, as {known} have"


def has_binary_loss(recipe: Recipe) -> bool:
    """Return whether a recipe's loss is binary cross-entropy; the method rsb says so itself."""
    if recipe.method == "rsb":
        return bool(recipe.method_options.get("loss", "bce") == "bce")
    return recipe.loss == "bce"


def _idle_rates(recipe: Recipe) -> dict[str, str]:
    """Return the keys of optimiser and schedule that do nothing, with the reason."""
    found: dict[str, str] = {}
    if recipe.optimizer != "sgd":
        for key in ("momentum", "generator_momentum"):
            found[key] = f"{recipe.optimizer} has no momentum"
    if recipe.schedule == "constant":
        for key in ("min_lr", "generator_min_lr"):
            found[key] = "the schedule constant does not fall"
    if recipe.schedule != "step":
        for key in ("milestones", "gamma"):
            found[key] = f"it belongs to the schedule step, not {recipe.schedule}"
    elif min(recipe.milestones, default=0) >= recipe.epochs:
        for key in ("milestones", "gamma"):
            found[key] = f"the run ends after {recipe.epochs} epochs"
    elif not recipe.milestones:
        found["gamma"] = "there are no milestones"
    return found


_CROPS: Mapping[str, tuple[str, ...]] = {
    "crop-flip": ("padding", "mode"),
    "random-resized-crop": ("size", "scale", "ratio", "interpolation", "resize"),
}
"""Fields that one kind of augmentation alone has."""


def idle_augment(augment: Augment, *, kind_known: bool = True) -> dict[str, str]:
    """Return the fields of an augmentation that do nothing, with the reason.

    Args:
        augment: the augmentation.
        kind_known: False where its kind waits for the images, as that of a folder does.
    """
    found: dict[str, str] = {}
    if kind_known:
        found |= {
            key: f"it belongs to augment.kind {kind}, not {augment.kind}"
            for kind, keys in _CROPS.items()
            if kind != augment.kind
            for key in keys
        }
        if augment.kind == "none":
            found["flip"] = "augment.kind none never mirrors"
        if augment.kind == "crop-flip" and augment.padding == 0:
            found["mode"] = "augment.padding is 0"
    if augment.rand_ops == 0:
        for field_ in fields(Augment):
            if field_.name.startswith("rand_") and field_.name != "rand_ops":
                found[field_.name] = "augment.rand_ops is 0"
    return found
