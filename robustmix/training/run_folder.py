"""How a run begins: its folder, the checkpoint it continues, its recipe and its first state."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from robustmix.data.augment import Augment
from robustmix.data.manifests import DATASETS
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.files import expanded, hash_json
from robustmix.methods.losses import BinaryLoss
from robustmix.methods.method import Method, Setup
from robustmix.methods.momentum_pair import as_teacher_method
from robustmix.methods.registry import METHODS, build_method, method_options
from robustmix.models.checkpoint import Checkpoint, read_checkpoint
from robustmix.models.names import ARCHS, OWN, split_stem
from robustmix.models.outputs import logits_on_probe
from robustmix.models.own_code import register_own
from robustmix.models.registry import build_model, classifier_of
from robustmix.models.start_weights import load_start_weights
from robustmix.models.taps import in_eval_mode
from robustmix.tables import plugins, require_plugins
from robustmix.training.ghost_norm import set_norm_groups
from robustmix.training.optim import build_optimizer
from robustmix.training.ranks import Ranks
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_dict import recipe_difference, recipe_from_record, recipe_to_dict
from robustmix.training.recipe_effect import has_binary_loss
from robustmix.training.resolve import load_recipe, resolve_recipe, resolve_source, with_overrides
from robustmix.training.run_data import RunData, complete_recipe, load_run_data
from robustmix.training.state import Means, TrainState, data_digest, open_streams
from robustmix.training.weight_ema import WeightEma

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

    @property
    def times(self) -> Path:
        """How long the run took, beside what equal runs have in common."""
        return self.path / "times.json"

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
    ranks: Ranks | None = None,
) -> TrainState:
    """Return the state of a run before its first step; all weights come from the recipe's seed.

    Args:
        recipe: what is trained and how.
        data: on what.
        device: where.
        continued: a checkpoint is about to replace all weights, so those that the recipe starts
            from are not read.
        allow_download: fetch published weights, to start from or of a teacher, that are not in the
            local cache.
        say: told what weights the run starts from.
        ranks: this process among those of the run; None for one alone.

    Raises:
        UsageError: the network or the method cannot be had as the recipe says, or the batch cannot
            be shared by the processes.
        IntakeError: the weights to start from cannot be read.
    """
    ranks = ranks or Ranks()
    recipe.together(ranks.world)
    streams = open_streams(recipe.seed)
    digest = data_digest(data.train, data.val)
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
    if recipe.arch.startswith(OWN):
        _check_outputs(network, data, recipe.arch)
    if data.train_size != data.train.input_size:
        _check_takes(network, data, recipe.arch)
    if recipe.weights is not None and not continued:
        # Asked of the architecture: a hidden layer of one that others registered may be called fc.
        classifier = classifier_of(recipe.arch, data.train.input_size, recipe.stem)
        say(
            load_start_weights(
                network, recipe.weights, classifier=classifier, allow_download=allow_download
            )
        )
    if recipe.sync_norm and ranks.world > 1:
        network = synchronised(network, device)
    method = build_method(
        recipe.method,
        network,
        recipe.method_options,
        Setup(
            rng=streams.mix,
            label_smoothing=recipe.label_smoothing,
            bce=BinaryLoss(threshold=recipe.bce_threshold, sum_classes=recipe.bce_sum)
            if has_binary_loss(recipe)
            else None,
            input_size=data.train_size,
            num_classes=data.train.num_classes,
            mean=data.train.mean,
            std=data.train.std,
            weights=streams.weights,
            arch=recipe.arch,
            allow_download=allow_download,
        ),
    )
    if recipe.channels_last:
        method = method.to(memory_format=torch.channels_last)
    method = method.to(device)
    ema: WeightEma | None = None
    if recipe.ema_decay is not None:
        ema = WeightEma(
            cast(Method, method).classifier(),
            decay=recipe.ema_decay,
            warmup=recipe.ema_warmup_epochs * data.steps,
        )
    if recipe.norm_batch is not None:
        set_norm_groups(method, recipe.norm_groups(ranks.world), recipe.arch)
    if not ranks.first:  # what dropout drops differs between the processes
        torch.manual_seed((streams.default_seed + ranks.rank) & _SEEDS)
    generating = as_teacher_method(method)
    return TrainState(
        method=method,
        ema=ema,
        optimizer=build_optimizer(
            recipe.optimizer,
            method,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            generator=None if generating is None else generating.generator,
            generator_momentum=recipe.generator_momentum,
            grad_clip=recipe.grad_clip,
        ),
        streams=streams,
        means=Means(device),
        device=device,
        run_id=hash_json([recipe_to_dict(recipe), digest])[:32],
        data_sha256=digest,
    )


_SEEDS = (1 << 63) - 1


def synchronised(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose batch statistics are of the images of all processes.

    Raises:
        UsageError: they are summed on CUDA alone.
    """
    if device.type != "cuda":
        raise UsageError(
            f"sync_norm: batch statistics of several processes are summed on CUDA, not on "
            f"{device.type}",
            "leave it out, or start one process",
            code="E-LAUNCH",
        )
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    return convert(network)


def _check_outputs(network: nn.Module, data: RunData, arch: str) -> None:
    """Raise IntakeError unless a user's network takes the images and has an output a class."""
    with in_eval_mode(network):
        outputs = logits_on_probe(network, data.train.input_size, arch).shape[1]
    if outputs != data.train.num_classes:
        raise IntakeError(
            f"{split_stem(arch)[0]} gives {outputs} outputs for {data.train.num_classes} classes",
            "give its factory an argument num_classes",
            code="E-CLASSES",
        )


def _check_takes(network: nn.Module, data: RunData, arch: str) -> None:
    """Raise UsageError unless a network built for test images takes the training images too."""
    try:
        with in_eval_mode(network):
            logits_on_probe(network, data.train_size, arch)
    except IntakeError as error:
        test, train = data.train.input_size[1], data.train_size[1]
        raise UsageError(
            f"augment.size: {arch} takes test images of {test} pixels, not training images of "
            f"{train}",
            "choose a network without a fixed grid, or one size (img_size)",
            code="E-RECIPE",
        ) from error


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a run begins with; nothing of it is written yet."""

    checkpoint: Checkpoint | None
    """What it continues."""

    recipe: Recipe
    """Complete."""

    data: RunData
    changed: list[str]
    """Warnings of plugins that are not those the checkpoint was made with."""


def prepare_run(
    recipe: Recipe | str | Path | None,
    folder: RunFolder,
    resume: str | Path,
    force: bool,
    overrides: Mapping[str, Any],
    data_dir: Path | None,
    device: torch.device,
) -> Prepared:
    """Read what a run begins with: a checkpoint if there is one, its recipe and its images.

    Raises:
        UsageError: the recipe or an argument cannot be meant.
        IntakeError: data or a checkpoint cannot be read.
        IncompatibleError: the folder holds a run of another recipe.
    """
    checkpoint = find_checkpoint(folder, resume, force)
    # Code of a user's runs where the user says so; what a checkpoint's own recipe names does not.
    asked = None if recipe is None else asked_recipe(recipe, folder, checkpoint, overrides)
    typed = overrides.get("arch") if asked is None else asked.arch
    if isinstance(typed, str):
        register_own(typed)
    changed = [] if checkpoint is None else require_plugins(checkpoint.plugins, TABLES)
    asked = asked or asked_recipe(recipe, folder, checkpoint, overrides)
    data = load_run_data(asked, data_dir, device)
    asked = complete_recipe(asked, data)
    if checkpoint is not None:
        same_recipe(checkpoint, asked)
    return Prepared(checkpoint=checkpoint, recipe=asked, data=data, changed=changed)


def find_checkpoint(folder: RunFolder, resume: str | Path, force: bool) -> Checkpoint | None:
    """Return the checkpoint that a run continues, or None for a new one.

    Raises:
        UsageError: a finished run would be overwritten without ``force``, or that does nothing.
        IntakeError: the checkpoint cannot be read.
    """
    if force and resume != "never":
        raise UsageError(
            "--force replaces a finished run only with --resume never",
            "add --resume never, or leave it out",
            code="E-UNUSED-OPTION",
        )
    if resume == "auto":
        return _last(folder) if folder.last.exists() else None
    if resume != "never":
        return read_checkpoint(expanded(resume))
    if not force and folder.last.exists():
        try:
            old = read_checkpoint(folder.last)
        except IntakeError:  # damaged: there is no run to lose
            return None
        if old.epoch >= recipe_from_record(old.recipe).epochs:
            raise UsageError(
                f"{folder.path} holds a finished run",
                "choose another --out, or overwrite it with --force",
                code="E-EXISTS",
            )
    return None


def _last(folder: RunFolder) -> Checkpoint:
    try:
        return read_checkpoint(folder.last)
    except IntakeError as error:
        raise IntakeError(
            f"the run in {folder.path} cannot be continued: {error.message}",
            "start it anew with --resume never, or continue from another file with --resume CKPT",
            code=error.code,
        ) from error


def asked_recipe(
    recipe: Recipe | str | Path | None,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    overrides: Mapping[str, Any],
) -> Recipe:
    """Return the recipe that a caller asked for: given, or that of what is continued."""
    if isinstance(recipe, Recipe):
        return with_overrides(recipe, overrides)
    if recipe is not None:
        return resolve_source(recipe, overrides=overrides).recipe
    if checkpoint is not None:
        return with_overrides(recipe_from_record(checkpoint.recipe), overrides)
    if folder.recipe.exists():  # a run that ended before its first checkpoint
        return with_overrides(load_recipe(folder.recipe), overrides)
    return resolve_recipe(overrides=overrides)


def same_recipe(checkpoint: Checkpoint, asked: Recipe) -> None:
    """Raise IncompatibleError if the checkpoint's run has another recipe."""
    old = recipe_from_record(checkpoint.recipe)
    # What an older version did not record, it did not do.
    old = replace(old, method_options=method_options(old.method, old.method_options))
    if old.augment:
        old = replace(old, augment={**asdict(Augment()), **old.augment})
    if asked.arch.startswith(OWN) and split_stem(old.arch) == split_stem(asked.arch):
        old = replace(old, arch=asked.arch)  # wherever the file lies now; its hash is compared
    difference = recipe_difference(old, asked)
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
    for path in (folder.last, folder.best, folder.metrics, folder.times):
        path.unlink(missing_ok=True)
