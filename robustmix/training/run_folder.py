"""How a run begins: its folder, the checkpoint it continues, its recipe and its first state."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustmix.data.manifests import DATASETS
from robustmix.errors import IncompatibleError, UsageError
from robustmix.methods.method import Setup
from robustmix.methods.momentum_pair import TeacherMethod
from robustmix.methods.registry import METHODS, build_method
from robustmix.models.checkpoint import Checkpoint, read_checkpoint
from robustmix.models.names import ARCHS, split_stem
from robustmix.models.registry import build_model
from robustmix.models.start_weights import load_start_weights
from robustmix.tables import plugins
from robustmix.training.optim import build_optimizer
from robustmix.training.recipe import (
    Recipe,
    load_recipe,
    recipe_difference,
    recipe_from_dict,
    resolve_recipe,
    with_overrides,
)
from robustmix.training.run_data import RunData
from robustmix.training.state import Means, TrainState, data_digest, open_streams

TABLES = (ARCHS, METHODS, DATASETS)
"""What a run is made of that others may have registered."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Names of the files in a run folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The complete recipe."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """One JSON line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The newest checkpoint, from which a run continues."""
        return self.path / "checkpoints" / "last.pth"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation, for use only."""
        return self.path / "checkpoints" / "best.pth"

    def picture(self, epoch: int) -> Path:
        """What the generator made of a few images after an epoch."""
        return self.path / "pictures" / f"epoch-{epoch:04d}.png"


def new_state(
    recipe: Recipe,
    data: RunData,
    device: torch.device,
    *,
    continued: bool = False,
    allow_download: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> TrainState:
    """Return the state of a run before its first step; all weights come from the recipe's seed.

    Args:
        recipe: what is trained and how.
        data: on what.
        device: where.
        continued: a checkpoint is about to replace all weights, so those that the recipe starts
            from are not read.
        allow_download: fetch published weights to start from that are not in the local cache.
        say: told what weights the run starts from.

    Raises:
        UsageError: the network or the method cannot be had as the recipe says.
        IntakeError: the weights to start from cannot be read.
    """
    streams = open_streams(recipe.seed)
    torch.manual_seed(streams.default_seed)
    network = build_model(
        recipe.arch,
        num_classes=data.train.num_classes,
        input_size=data.train.input_size,
        init=recipe.init,
        stem=recipe.stem,
        drop_path=recipe.drop_path,
        generator=streams.weights,
    )
    if recipe.weights is not None and not continued:
        say(load_start_weights(network, recipe.weights, allow_download=allow_download))
    method = build_method(
        recipe.method,
        network,
        recipe.method_options,
        Setup(
            rng=streams.mix,
            label_smoothing=recipe.label_smoothing,
            input_size=data.train.input_size,
            num_classes=data.train.num_classes,
            mean=data.train.mean,
            std=data.train.std,
            weights=streams.weights,
            arch=recipe.arch,
        ),
    )
    if recipe.channels_last:
        method = method.to(memory_format=torch.channels_last)
    method = method.to(device)
    return TrainState(
        method=method,
        optimizer=build_optimizer(
            recipe.optimizer,
            method,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            generator=method.generator if isinstance(method, TeacherMethod) else None,
            generator_momentum=recipe.generator_momentum,
        ),
        streams=streams,
        means=Means(device),
        device=device,
        run_id=uuid.uuid4().hex,
        data_sha256=data_digest(data.train, data.val),
    )


def find_checkpoint(folder: RunFolder, resume: str | Path, force: bool) -> Checkpoint | None:
    """Return the checkpoint that a run continues, or None for a new one.

    Raises:
        UsageError: a finished run would be overwritten without ``force``.
        IntakeError: the checkpoint cannot be read.
    """
    if resume == "auto":
        return read_checkpoint(folder.last) if folder.last.exists() else None
    if resume != "never":
        return read_checkpoint(Path(resume))
    if not force and folder.last.exists():
        old = read_checkpoint(folder.last)
        if old.epoch >= recipe_from_dict(old.recipe).epochs:
            raise UsageError(
                f"{folder.path} holds a finished run",
                "choose another --out, or overwrite it with --force",
                code="E-EXISTS",
            )
    return None


def asked_recipe(
    recipe: Recipe | str | Path | None,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    overrides: Mapping[str, Any],
) -> Recipe:
    """Return the recipe that a caller asked for: given, or that of what is continued."""
    if isinstance(recipe, Recipe):
        base = recipe
    elif recipe is not None:
        base = load_recipe(recipe)
    elif checkpoint is not None:
        base = recipe_from_dict(checkpoint.recipe)
    elif folder.recipe.exists():  # a run that ended before its first checkpoint
        base = load_recipe(folder.recipe)
    else:
        base = resolve_recipe()
    return with_overrides(base, overrides)


def same_recipe(checkpoint: Checkpoint, asked: Recipe) -> None:
    """Raise IncompatibleError if the checkpoint's run has another recipe."""
    difference = recipe_difference(recipe_from_dict(checkpoint.recipe), asked)
    if difference is not None:
        raise IncompatibleError(
            f"the run to continue has another recipe: {difference}",
            "change it back, choose another --out, or start anew with --resume never",
            code="E-OTHER-RECIPE",
        )


def foreign_parts(recipe: Recipe) -> tuple[Mapping[str, str], ...]:
    """Return what of a run others registered, as its checkpoints record it."""
    names = (split_stem(recipe.arch)[0], recipe.method, recipe.dataset)
    return tuple(plugins(zip(TABLES, names, strict=True)))


def clear(folder: RunFolder) -> None:
    """Remove what an older run left, lest a crash before the first save continues that one."""
    for path in (folder.last, folder.best, folder.metrics):
        path.unlink(missing_ok=True)
