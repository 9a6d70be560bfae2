"""What a run costs before it is begun: steps, forward passes, and hours by an assumed speed."""

import csv
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from robustmix.data.manifests import list_manifests, load_manifest
from robustmix.methods.registry import method_cost
from robustmix.models.names import split_stem
from robustmix.studies.grid import StudyRun
from robustmix.training.recipe import Recipe

SPEED = 300e12
"""FLOP a second that GPU hours are counted with. Small networks, small batches, grouped and
depthwise convolutions and float32 reach a fifth to a twentieth of it."""

FLOPS_FILE = "flops.csv"
"""FLOPs of one forward pass of an image, two a multiply-add, by architecture and side, counted by
torch's counter on the networks here."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of training; None is not known, as of a folder's images."""

    steps: float | None
    passes: float | None
    """Images times forward passes of the network, a backward pass counting two."""

    flops: float | None

    def __mul__(self, times: int) -> "Cost":
        known = (self.steps, self.passes, self.flops)
        steps, passes, flops = (None if one is None else times * one for one in known)
        return Cost(steps=steps, passes=passes, flops=flops)

    @property
    def hours(self) -> float | None:
        """On a GPU of ``SPEED``."""
        return None if self.flops is None else self.flops / SPEED / 3600


def cost_of(recipe: Recipe) -> Cost:
    """Return what training by a recipe costs; validation and the mask generator are not in it."""
    images = _train_images(recipe)
    if images is None:
        return Cost(steps=None, passes=None, flops=None)
    from robustmix.data.loader import batches_per_epoch

    drop_last = bool(recipe.augment.get("drop_last", False))
    steps = recipe.epochs * batches_per_epoch(
        images, recipe.batch_size, drop_last, recipe.repeated_augment
    )
    passes = images * recipe.epochs * method_cost(recipe.method, recipe.method_options)
    per_image = flops_of(recipe.arch, _side(recipe))
    return Cost(steps=steps, passes=passes, flops=per_image and passes * per_image)


def total_cost(runs: Iterable[StudyRun]) -> Cost:
    """Return what all runs cost, one that several cells share once."""
    costs = [cost_of(run.recipe) for run in {run.name: run for run in runs}.values()]
    return Cost(
        steps=_sum(cost.steps for cost in costs),
        passes=_sum(cost.passes for cost in costs),
        flops=_sum(cost.flops for cost in costs),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def flops_of(arch: str, side: int) -> float | None:
    """Return the FLOPs of one image's forward pass; of another side, scaled by its square.

    Example:
        >>> round(flops_of("resnet18", 32) / 1e9, 3)
        1.111
    """
    known = _flops().get(split_stem(arch)[0])
    if not known:
        return None
    nearest = min(known, key=lambda one: (abs(one - side), one))
    return known[nearest] * (side / nearest) ** 2


@functools.cache
def _flops() -> dict[str, dict[int, float]]:
    text = (resources.files("robustmix.studies") / FLOPS_FILE).read_text(encoding="utf-8")
    found: dict[str, dict[int, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(row["arch"], {})[int(row["side"])] = float(row["flops"])
    return found


def _train_images(recipe: Recipe) -> int | None:
    name = recipe.dataset
    if name not in list_manifests():
        return None
    count = load_manifest(name).split_count("train")
    if count is None:
        return None
    from robustmix.training.run_data import limited_count

    return limited_count(count - round(count * recipe.val_split), recipe.limit_train)


def _side(recipe: Recipe) -> int:
    """Return the side of the training images in pixels."""
    own = load_manifest(recipe.dataset).image_size
    asked = recipe.augment.get("size") or recipe.img_size
    return int(asked or (own[0] if own else 224))
