"""The training loop: a recipe becomes checkpoints, one loop for all methods.

A run folder holds ``recipe.toml`` (complete), ``metrics.jsonl`` (one line an epoch) and
``checkpoints/{last,best}.pth``. On a CPU with a fixed number of threads, a run that was stopped
after any step and continued ends with the same bits as one that was not.
"""

import contextlib
import json
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.data.images import ImageSet
from robustmix.data.loader import train_batches
from robustmix.environment import choose_device
from robustmix.errors import IncompatibleError, IncompleteError, IntakeError, UsageError
from robustmix.files import write_text
from robustmix.methods.registry import build_method
from robustmix.methods.step import Method
from robustmix.models.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from robustmix.models.registry import arch_options, build_model
from robustmix.progress import ProgressKind
from robustmix.signals import StopRequest, stop_on_signals
from robustmix.training.optim import build_optimizer
from robustmix.training.progress import Talk, open_progress
from robustmix.training.recipe import (
    Recipe,
    load_recipe,
    recipe_difference,
    recipe_from_dict,
    recipe_to_dict,
    resolve_recipe,
    with_overrides,
    write_recipe,
)
from robustmix.training.run_data import RunData, complete_recipe, load_run_data
from robustmix.training.schedules import learning_rate
from robustmix.training.state import Means, TrainState, data_digest, open_streams, to_cpu

Event: TypeAlias = Mapping[str, Any]
"""What ``on_event`` is told: ``event`` is start, epoch or end; the rest is JSON-like."""

VALIDATION_BATCH = 500
"""Images in a validation batch; a constant, so that no setting of the run changes a score."""

CHECK_EVERY = 50
"""Steps between two looks at the loss on an accelerator, for each look waits for the device."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a call of ``train`` leaves."""

    run_dir: Path
    last: Path
    best: Path
    metrics: dict[str, Any]
    """Record of the last finished epoch; empty if there is none."""

    epochs: int
    """Finished epochs."""

    interrupted: bool
    """Whether the run was asked to stop before it was complete."""

    signal: int | None = None
    """The signal that asked for it, if one did; the process then exits with 128 + signal."""

    run_id: str = ""


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


def train(
    recipe: Recipe | str | Path | None = None,
    *,
    out: Path | str,
    data_dir: Path | None = None,
    device: str = "auto",
    resume: str | Path = "auto",
    force: bool = False,
    progress: ProgressKind | Talk = "auto",
    on_event: Callable[[Event], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    save_interval: float = 300.0,
    **overrides: Any,
) -> TrainResult:
    """Train as a recipe says; continue where an earlier call stopped.

    SIGINT and SIGTERM stop the run after the step it is in, with a checkpoint written; a second
    SIGINT stops it at once. The global random state of the caller is left as it was.

    Args:
        recipe: a recipe, the name of a packaged one, or a TOML file. None takes the one of the
            checkpoint or of the run folder, or else the defaults.
        out: the run folder, created if need be.
        data_dir: where data sets lie; see ``robustmix.data.data_folder``.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        resume: ``auto`` continues the run in ``out`` or starts one; ``never`` starts anew; a path
            continues from that checkpoint.
        force: let ``resume="never"`` overwrite a finished run.
        progress: how to show progress on standard error, or something else that is told.
        on_event: called with a mapping at the start, after every epoch and at the end.
        should_stop: asked after every step and every epoch; true stops as a signal does.
        save_interval: seconds after which ``last.pth`` is also written inside an epoch.
        **overrides: recipe keys and values, ``method`` and dotted keys included; None is ignored.

    Returns:
        Where the checkpoints are, and how far the run came.

    Raises:
        UsageError: the recipe or an argument cannot be meant.
        IntakeError: data or a checkpoint cannot be read.
        IncompatibleError: ``out`` holds a run of another recipe or of other data.
        IncompleteError: the loss or the weights stopped being finite, or a file was not written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     result = train("digits-resnet8-mixup", out=out, epochs=1, limit_train=64)
        ...     result.epochs, result.interrupted, result.last.name
        (1, False, 'last.pth')
    """
    folder = RunFolder(path=Path(out))
    where = choose_device(device)
    checkpoint = _find_checkpoint(folder, resume, force)
    asked = _asked_recipe(recipe, folder, checkpoint, overrides)
    data = load_run_data(asked, data_dir, where)
    asked = complete_recipe(asked, data)
    if checkpoint is not None:
        _same_recipe(checkpoint, asked)
    talk = open_progress(progress) if isinstance(progress, str) else progress
    tell = on_event or (lambda event: None)
    with (
        _own_random_state(where),
        stop_on_signals(should_stop) as stop,
        talk,
    ):
        run = _Run(folder=folder, recipe=asked, data=data, device=where, checkpoint=checkpoint)
        tell({"event": "start", "epoch": run.state.epoch, "epochs": asked.epochs})
        finished = run.fit(talk, stop, tell, save_interval)
    metrics = run.state.history[-1] if run.state.history else {}
    tell({"event": "end", "epoch": run.state.epoch, "interrupted": not finished})
    return TrainResult(
        run_dir=folder.path,
        last=folder.last,
        best=folder.best,
        metrics=dict(metrics),
        epochs=run.state.epoch,
        interrupted=not finished,
        signal=stop.signal,
        run_id=run.state.run_id,
    )


class _Run:
    """One training run in this process."""

    def __init__(
        self,
        *,
        folder: RunFolder,
        recipe: Recipe,
        data: RunData,
        device: torch.device,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.data = data
        self.device = device
        self.state = _new_state(recipe, data, device)
        self.arch_options = arch_options(self.classifier)
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        if checkpoint is None:
            _clear(folder)
            write_recipe(folder.recipe, recipe)
        else:
            self._continue(checkpoint)
        self.opened = time.monotonic() - self.state.elapsed_s

    @property
    def method(self) -> Method:
        """The method, for what it does; ``state.method`` is the same one, for its tensors."""
        return cast(Method, self.state.method)

    @property
    def classifier(self) -> nn.Module:
        """The network that is validated and deployed."""
        return self.method.classifier()

    def fit(
        self,
        talk: Talk,
        stop: StopRequest,
        tell: Callable[[Event], None],
        save_interval: float,
    ) -> bool:
        """Train to the end, or until ``stop``; return whether the end was reached."""
        state, recipe, steps = self.state, self.recipe, self.data.steps
        talk.begin(epochs=recipe.epochs, steps=steps, done=state.epoch * steps + state.step)
        saved = time.monotonic()
        while state.epoch < recipe.epochs:
            state.method.train()
            state.begin_epoch()
            for batch in train_batches(
                self.data.train,
                batch_size=recipe.batch_size,
                augment=self.data.augment,
                order=state.streams.order,
                draws=state.streams.draws,
                device=self.device,
                start=state.step,
                drop_last=self.data.augment.drop_last,
            ):
                lr = self._set_learning_rate()
                with torch.autocast(
                    self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"
                ):
                    loss, logs = self.method.training_step(self._layout(batch))
                state.optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                if recipe.grad_clip:
                    nn.utils.clip_grad_norm_(state.method.parameters(), recipe.grad_clip)
                state.optimizer.step()
                state.means.add(logs, len(batch.labels))
                self._watch(loss.detach(), lr)
                state.step += 1
                talk.step(len(batch.labels), state.means.read)
                if stop():
                    self._save_last()
                    return False
                if time.monotonic() - saved > save_interval:
                    self._save_last()
                    saved = time.monotonic()
            record = self._end_epoch(self._validate())
            saved = time.monotonic()
            talk.epoch(record)
            tell({"event": "epoch", **record})
            if stop():
                break
        return state.epoch >= recipe.epochs

    def _continue(self, checkpoint: Checkpoint) -> None:
        if checkpoint.resume is None:
            raise IntakeError(
                "the checkpoint holds a model only, not the state of its training",
                "continue from last.pth",
            )
        digest = self.state.data_sha256
        if checkpoint.resume.get("data_sha256") != digest:
            raise IncompatibleError(
                f"the images of {self.recipe.dataset} are not those the run began with",
                "restore them, or start anew with --resume never",
            )
        self.state.unpack(checkpoint.resume)
        self.state.run_id = checkpoint.run_id
        write_recipe(self.folder.recipe, self.recipe)

    def _layout(self, batch: Any) -> Any:
        if not self.recipe.channels_last:
            return batch
        return batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))

    def _set_learning_rate(self) -> float:
        recipe, state = self.recipe, self.state
        lr = learning_rate(
            recipe.schedule,
            state.epoch * self.data.steps + state.step,
            base=recipe.lr,
            minimum=recipe.min_lr,
            epochs=recipe.epochs,
            iters_per_epoch=self.data.steps,
            warmup_epochs=recipe.warmup_epochs,
            milestones=recipe.milestones,
            gamma=recipe.gamma,
        )
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _watch(self, loss: Tensor, lr: float) -> None:
        """Note the first step whose loss is not finite; look at the note now and then."""
        bad = ~loss.isfinite() & (self.first_bad < 0)
        self.first_bad = torch.where(bad, self.state.step, self.first_bad)
        if self.device.type == "cpu" or self.state.step % CHECK_EVERY == 0:
            self._check_finite(lr)

    def _check_finite(self, lr: float | None = None) -> None:
        step = int(self.first_bad)
        if step >= 0:
            raise self._non_finite("the loss is not finite", step + 1, lr)

    def _non_finite(self, what: str, step: int, lr: float | None = None) -> IncompleteError:
        epoch = self.state.epoch + 1
        rate = self.state.optimizer.param_groups[0]["lr"] if lr is None else lr
        kept = "; the checkpoint before it is kept" if self.folder.last.exists() else ""
        return IncompleteError(
            f"{what} in epoch {epoch}, step {step} of {self.data.steps}, lr {rate:.4g}{kept}",
            "lower lr, set grad_clip, or use precision fp32, and train into a new folder",
            code="E-NONFINITE-LOSS",
        )

    def _validate(self) -> dict[str, float]:
        self._check_finite()
        metrics = validate(
            self.classifier, self.data.val, self.device, channels_last=self.recipe.channels_last
        )
        if not math.isfinite(metrics["loss"]):
            raise self._non_finite("the validation loss is not finite", self.state.step)
        return metrics

    def _end_epoch(self, metrics: dict[str, float]) -> dict[str, Any]:
        """Add the record of the epoch, write the checkpoints, then the log."""
        state = self.state
        seconds = time.monotonic() - self.opened
        record: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "lr": state.optimizer.param_groups[0]["lr"],
            **{f"train_{name}": value for name, value in state.means.read().items()},
            **metrics,
            "selected_on": self.data.selected_on,
            "seconds": round(seconds - state.elapsed_s, 3),
        }
        state.elapsed_s = seconds
        state.history.append(record)
        record["median_last10"] = state.median_last10()
        state.epoch, state.step = state.epoch + 1, 0
        if record["top1"] > state.best_top1:
            state.best_top1 = record["top1"]
            self._save(self.folder.best, resume=False)
        # ``best`` first: a crash in between repeats the epoch and writes the same ``best`` again.
        self._save_last()
        return record

    def _save_last(self) -> None:
        self.state.elapsed_s = time.monotonic() - self.opened
        self._save(self.folder.last, resume=True)
        lines = (json.dumps(record, allow_nan=False) + "\n" for record in self.state.history)
        write_text(self.folder.metrics, "".join(lines))

    def _save(self, path: Path, *, resume: bool) -> None:
        self._check_finite()
        state, train = self.state, self.data.train
        if not state.finite():
            raise self._non_finite("a weight is not finite", state.step)
        seen: dict[Any, Tensor] = {}
        save_checkpoint(
            path,
            Checkpoint(
                arch=self.recipe.arch,
                arch_options=self.arch_options,
                method=self.recipe.method,
                num_classes=train.num_classes,
                input_size=train.input_size,
                mean=train.mean,
                std=train.std,
                class_names=train.class_names,
                dataset=self.recipe.dataset,
                recipe=recipe_to_dict(self.recipe),
                run_id=state.run_id,
                epoch=state.epoch,
                metrics=self._metrics(),
                model=to_cpu(self.classifier.state_dict(), seen),
                resume=state.pack(seen) if resume else None,
            ),
        )

    def _metrics(self) -> dict[str, Any]:
        """Return what is known of the weights as they are now."""
        metrics: dict[str, Any] = {"selected_on": self.data.selected_on}
        if self.data.selected_on == "val":
            metrics["val_split"] = {"fraction": self.recipe.val_split, "seed": self.recipe.seed}
        if self.state.step:
            return {**metrics, "steps_into_epoch": self.state.step}
        return {**metrics, **self.state.history[-1]} if self.state.history else metrics


@torch.no_grad()
def validate(
    network: nn.Module, images: ImageSet, device: torch.device, *, channels_last: bool = False
) -> dict[str, float]:
    """Return top-1 and the mean cross-entropy of a network, in float32 and eval mode.

    The pixels go the way of ``RobustModel``: to [0, 1] first, then normalised, so that an
    evaluation of the checkpoint repeats the number. The network is left in eval mode.

    Args:
        network: normalised images (N, 3, H, W) -> logits (N, K).
        images: the images, at least one.
        device: where the network is.
        channels_last: memory layout of the images.
    """
    network.eval()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (images.mean, images.std))
    losses, hits = [], []
    for chosen in torch.split(torch.arange(len(images)), VALIDATION_BATCH):
        pixels = images.pixels.take(chosen).to(device).float() / 255
        logits = network(((pixels - mean) / std).contiguous(memory_format=layout)).float()
        labels = images.labels[chosen].to(device)
        losses.append(F.cross_entropy(logits, labels, reduction="none"))
        hits.append(logits.argmax(dim=1) == labels)
    return {
        "loss": float(torch.cat(losses).cpu().double().mean()),
        "top1": int(torch.cat(hits).sum()) / len(images),
    }


def _new_state(recipe: Recipe, data: RunData, device: torch.device) -> TrainState:
    streams = open_streams(recipe.seed)
    torch.manual_seed(streams.default_seed)
    network = build_model(
        recipe.arch,
        num_classes=data.train.num_classes,
        input_size=data.train.input_size,
        init=recipe.init,
        stem=recipe.stem,
        generator=streams.weights,
    )
    method = build_method(
        recipe.method,
        network,
        recipe.method_options,
        rng=streams.mix,
        label_smoothing=recipe.label_smoothing,
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
        ),
        streams=streams,
        means=Means(device),
        device=device,
        run_id=uuid.uuid4().hex,
        data_sha256=data_digest(data.train, data.val),
    )


def _find_checkpoint(folder: RunFolder, resume: str | Path, force: bool) -> Checkpoint | None:
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


def _asked_recipe(
    recipe: Recipe | str | Path | None,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    overrides: Mapping[str, Any],
) -> Recipe:
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


def _same_recipe(checkpoint: Checkpoint, asked: Recipe) -> None:
    difference = recipe_difference(recipe_from_dict(checkpoint.recipe), asked)
    if difference is not None:
        raise IncompatibleError(
            f"the run to continue has another recipe: {difference}",
            "change it back, choose another --out, or start anew with --resume never",
            code="E-OTHER-RECIPE",
        )


def _clear(folder: RunFolder) -> None:
    """Remove what an older run left, lest a crash before the first save continues that one."""
    for path in (folder.last, folder.best, folder.metrics):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Give back torch's global random state, which dropout draws from, as it was."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
