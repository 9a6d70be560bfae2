"""What a run would be: its steps, and the time and memory of a step, measured here."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.loader import Batch, batches_per_epoch
from robustmix.data.manifests import Manifest, list_manifests, load_manifest
from robustmix.data.protocol import USUAL, TestTransform, dataset_protocol
from robustmix.environment import choose_device, describe_environment
from robustmix.errors import IntakeError, RobustmixError
from robustmix.methods.registry import METHODS
from robustmix.models.own_code import register_own
from robustmix.progress import show_duration
from robustmix.training.recipe import Recipe
from robustmix.training.run import Run, own_random_state
from robustmix.training.run_data import RunData, complete_recipe, limited_count, load_run_data
from robustmix.training.run_folder import RunFolder

TRIAL_IMAGES = 8
"""Batch of the first trial: where a whole batch would take long, it is all that is measured."""

PATIENCE_S = 20.0
"""Seconds that measuring whole batches may take."""

STEPS = 3
"""Whole steps that are measured, after one that warms up."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What was found; nothing was trained and no file written."""

    device: str
    epochs: int
    steps: int
    """Batches in an epoch."""

    train_images: int
    val_images: int
    batch_size: int
    passes: float
    """Forward passes of the backbone a step; a backward pass counts two."""

    step_s: float
    """Seconds a step."""

    measured_batch: int
    """Images in the steps that were timed; less than a batch where that would have taken long."""

    memory: int
    """Most bytes in use while whole steps were made."""

    images: str
    """Whose images the steps were made of."""

    @property
    def total_s(self) -> float:
        """Seconds of the whole run; a validation image counts as one forward pass."""
        one_pass = self.step_s / (self.passes * self.batch_size)
        return self.epochs * (self.steps * self.step_s + self.val_images * one_pass)

    def lines(self, runs: int = 1) -> list[str]:
        """Return what there is to say, a line each; ``runs`` of them follow one another."""
        whole = self.measured_batch == self.batch_size
        how = "measured" if whole else f"from steps of {self.measured_batch} images"
        total = runs * self.total_s
        end = datetime.now().astimezone() + timedelta(seconds=total)
        several = "" if runs == 1 else f"{runs} runs, one after another: "
        return [
            f"images: {self.train_images:,} to train on, {self.val_images:,} to validate on",
            f"steps: {self.steps:,} an epoch, {self.steps * self.epochs:,} in all, of "
            f"{self.batch_size} images",
            f"forward passes: {self.passes:g} a step (a backward pass counts two), "
            f"{self.passes * self.steps * self.epochs:,.0f} in all",
            f"step: {self.step_s:.3g} s on {self.device} ({how} on {self.images})",
            f"memory: {self.memory / 2**20:,.0f} MiB at most"
            + ("" if whole else f" with {self.measured_batch} images"),
            f"estimated: {several}{show_duration(total)}, "
            f"until {end.strftime('%Y-%m-%d %H:%M')} if begun now",
        ]


def dry_run(
    recipe: Recipe,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    allow_download: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> DryRun:
    """Make a few steps of a run in a folder that is thrown away, and tell what the run would take.

    Where the data set is known but its images are not here, noise of its size takes their place.

    Args:
        recipe: what would be trained.
        data_dir: where data sets lie.
        device: where; see ``train``.
        allow_download: fetch a teacher's published weights that are not in the local cache.
        say: told what is being done.

    Raises:
        UsageError: the recipe cannot be trained here.
        IntakeError: neither the images nor what is known of them is here.
    """
    where = choose_device(device)
    register_own(recipe.arch)
    found = _found(recipe, data_dir, where)
    whole = complete_recipe(recipe, found.data)
    say(f"measuring steps on {where} ...")
    batch = min(TRIAL_IMAGES, whole.batch_size)
    measure = partial(_measure, whole, found.data, where, allow_download)
    steps = measure(batch, 1)
    seconds = steps.seconds * whole.batch_size / batch
    if batch < whole.batch_size and seconds * (STEPS + 1) <= PATIENCE_S:
        batch = whole.batch_size
        steps = measure(batch, STEPS)
        seconds = steps.seconds
    return DryRun(
        device=str(describe_environment(where)["device"]),
        epochs=whole.epochs,
        steps=found.data.steps,
        train_images=found.train_images,
        val_images=found.val_images,
        batch_size=whole.batch_size,
        passes=steps.passes,
        step_s=seconds,
        measured_batch=batch,
        memory=steps.memory,
        images=found.whose,
    )


class _Found(NamedTuple):
    data: RunData
    train_images: int
    val_images: int
    whose: str


def _found(recipe: Recipe, data_dir: Path | None, device: torch.device) -> _Found:
    """Return the images of a recipe, or noise in their place."""
    try:
        data = load_run_data(recipe, data_dir, device)
    except RobustmixError as error:
        # What is wrong with the recipe is told; only missing images have a stand-in, and only where
        # their number is known, as it is not of a folder.
        missing = isinstance(error, IntakeError) or error.code == "E-UNKNOWN-DATASET"
        if not missing or recipe.dataset not in list_manifests():
            raise
        return _noise(recipe, load_manifest(recipe.dataset), device)
    return _Found(data, len(data.train), len(data.val), "its own images")


def _noise(recipe: Recipe, manifest: Manifest, device: torch.device) -> _Found:
    n_train, n_val = manifest.split_count("train") or 0, manifest.split_count("test") or 0
    if recipe.val_split:
        n_val = round(n_train * recipe.val_split)
        n_train -= n_val
    n_train = limited_count(n_train, recipe.limit_train)
    n_val = limited_count(n_val, recipe.limit_val)
    protocol = dataset_protocol(manifest, recipe.img_size)
    transform = TestTransform(**(recipe.test_transform or {}))
    side = transform.crop or transform.resize or (manifest.image_size or (USUAL, USUAL))[0]
    one = torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(0))
    n = 2 * recipe.batch_size
    images = ImageSet(
        name=manifest.name,
        split="train",
        pixels=TensorPixels(one.to(torch.uint8).expand(n, 3, side, side)),
        labels=torch.arange(n) % manifest.num_classes,
        sample_ids=tuple(map(str, range(n))),
        class_names=tuple(map(str, range(manifest.num_classes))),
        mean=protocol.mean,
        std=protocol.std,
        transform=transform.text(),
    )
    augment = replace(protocol.augment, **recipe.augment)
    data = RunData(
        train=images.to(device),
        val=images.to(device),
        selected_on="test",
        augment=augment,
        steps=batches_per_epoch(
            n_train, recipe.batch_size, augment.drop_last, recipe.repeated_augment
        ),
    )
    return _Found(data, n_train, n_val, "noise: the images are not here")


class _Steps(NamedTuple):
    seconds: float
    """The median of those after the first."""

    memory: int
    passes: float


def _measure(
    recipe: Recipe,
    data: RunData,
    device: torch.device,
    allow_download: bool,
    batch: int,
    steps: int,
) -> _Steps:
    if batch != recipe.batch_size:
        recipe = replace(recipe, batch_size=batch, accumulate=1, norm_batch=None)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with (
        tempfile.TemporaryDirectory(prefix="robustmix-dry-run-") as folder,
        own_random_state(device),
    ):
        run = Run(
            folder=RunFolder(path=Path(folder)),
            recipe=replace(recipe, weights=None),  # no step takes longer by them
            data=data,
            device=device,
            checkpoint=None,
            allow_download=allow_download,
            say=lambda text: None,
        )
        times = [_timed(run, chosen, device) for chosen in islice(run.batches(), steps + 1)]
        # The table has a method's usual cost; that of some depends on options and network.
        cost = METHODS.row(recipe.method).cost
        passes = cost if run.state.teacher is None else run.state.teacher.step_cost()
    return _Steps(statistics.median(times[1:] or times), _peak_memory(device), passes)


def _timed(run: Run, batch: Batch, device: torch.device) -> float:
    began = time.perf_counter()
    run.step(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _peak_memory(device: torch.device) -> int:
    """Return the most bytes that were in use: on the GPU, else by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
