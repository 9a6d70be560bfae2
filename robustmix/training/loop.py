"""The training loop: a recipe becomes checkpoints, one loop for all methods.

A run folder holds ``recipe.toml`` (complete), ``metrics.jsonl`` (one line an epoch) and
``checkpoints/{last,best}.pth``. On a CPU with a fixed number of threads, a run that was stopped
after any step and continued ends with the same bits as one that was not.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch, images_per_epoch, train_batches
from robustmix.environment import choose_device
from robustmix.errors import IncompatibleError, IncompleteError, IntakeError, UsageError
from robustmix.files import expanded, remove_leftovers, write_text
from robustmix.locks import run_lock
from robustmix.loggers.events import Hook, RunStarted
from robustmix.methods.method import Method, StepResult
from robustmix.methods.momentum_pair import (
    DEPLOYED_HEAD,
    MomentumMethod,
    as_momentum_method,
    as_teacher_method,
)
from robustmix.models.checkpoint import Checkpoint, save_checkpoint
from robustmix.models.names import OWN, own_name
from robustmix.models.registry import arch_options
from robustmix.progress import ProgressKind
from robustmix.signals import StopRequest, stop_on_signals
from robustmix.training.compiled import Step, compile_mode, compiled_step, why_eager
from robustmix.training.optim import GENERATOR, trainable, update
from robustmix.training.parts import NormAverage, batch_parts
from robustmix.training.pictures import draw_mixing, picture_samples
from robustmix.training.progress import Talk, open_progress
from robustmix.training.ranks import Ranks, open_ranks, shared_batch
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_dict import recipe_to_dict, write_recipe
from robustmix.training.run_data import RunData
from robustmix.training.run_folder import (
    RunFolder,
    clear,
    foreign_parts,
    new_state,
    prepare_run,
)
from robustmix.training.schedules import learning_rate
from robustmix.training.state import Times, data_digest_without_pixels, to_cpu
from robustmix.training.telling import Telling
from robustmix.training.validate import validate_shared

PICTURE_SAMPLES = 6
"""Validation images in a picture of the mixtures."""

EMA_HEAD = "ema"
"""Name of the averaged network among the heads that are validated."""

_NO_SIGNAL = 1000
"""In the place of a signal's number: the caller asked to stop."""

CHECK_EVERY = 50
"""Steps between two looks at the loss on an accelerator, for each look waits for the device; the
running means that are logged come with it."""


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

    already: bool = False
    """Whether the run was complete before the call, which then trained nothing."""


def train(
    recipe: Recipe | str | Path | None = None,
    *,
    out: Path | str,
    data_dir: Path | None = None,
    device: str = "auto",
    resume: str | Path = "auto",
    force: bool = False,
    progress: ProgressKind | Talk = "auto",
    on_event: Hook | None = None,
    should_stop: Callable[[], bool] | None = None,
    save_interval: float = 300.0,
    picture_every: int = 10,
    allow_download: bool = False,
    published_buffers: bool = False,
    allow_other_world: bool = False,
    **overrides: Any,
) -> TrainResult:
    """Train as a recipe says; continue where an earlier call stopped.

    SIGINT, SIGTERM, SIGHUP and SIGUSR2 stop the run after its step, with a checkpoint written; a
    second SIGINT stops it at once. The global random state of the caller is left as it was.

    Processes that torchrun started together share each batch: all are stopped after the same step
    by a signal to any of them, and the first one writes the files.

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
        on_event: told when the run begins and ends, every 50 steps, after every epoch and of every
            picture; see ``robustmix.loggers``. Of several processes the first one's is.
        should_stop: asked after every step and every epoch; true stops as a signal does.
        save_interval: seconds after which ``last.pth`` is also written inside an epoch.
        picture_every: epochs between two pictures of what the generator makes of a few images, in
            ``pictures/``; also after the first and the last epoch. 0 draws none. Only methods
            with a generator have them.
        allow_download: fetch published weights that the recipe starts from and that are not in the
            local cache.
        published_buffers: of several processes: validate and save the first one's batch statistics,
            as OpenMixup does, not the mean over the processes.
        allow_other_world: continue a run with another number of processes than it was stopped with,
            which is no exact repetition.
        **overrides: recipe keys and values, ``method`` and dotted keys included; None is ignored.

    Returns:
        Where the checkpoints are, and how far the run came.

    Raises:
        UsageError: the recipe or an argument cannot be meant.
        IntakeError: data or a checkpoint cannot be read.
        IncompatibleError: ``out`` holds a run of another recipe or of other data.
        IncompleteError: the loss or the weights stopped being finite, a file was not written, or
            another run is working in ``out``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     result = train("digits-resnet8-mixup", out=out, epochs=1, limit_train=64)
        ...     result.epochs, result.interrupted, result.last.name
        (1, False, 'last.pth')
    """
    folder = RunFolder(path=expanded(out))
    where = choose_device(device)
    with contextlib.ExitStack() as held:
        held.enter_context(own_random_state(where))
        stop = held.enter_context(stop_on_signals(should_stop))
        ranks = held.enter_context(open_ranks(where))
        _check_launch(ranks, published_buffers)
        quiet = isinstance(progress, str) and not ranks.first
        talk = (
            open_progress("none" if quiet else progress) if isinstance(progress, str) else progress
        )
        with ranks.first_alone():
            if ranks.first:
                held.callback(_remove_if_empty, _made_for(folder.path))  # of one that cannot begin
                held.enter_context(run_lock(folder.path))
                remove_leftovers(folder.path)
            begun = prepare_run(recipe, folder, resume, force, overrides, data_dir, where)
            held.enter_context(talk)
            for warning in (*begun.changed, *_partial_warnings(begun.data)):
                talk.say(warning)
            run = Run(
                folder=folder,
                recipe=begun.recipe,
                data=begun.data,
                device=where,
                checkpoint=begun.checkpoint,
                allow_download=allow_download,
                say=talk.say,
                ranks=ranks,
                published_buffers=published_buffers,
                allow_other_world=allow_other_world,
            )
        ranks.require_equal(run.identity())
        already = run.state.epoch >= begun.recipe.epochs
        finished = run.work(talk, stop, on_event, save_interval, picture_every)
        ranks.wait()  # until the first one has written all
        return run.report(already=already, finished=finished, signal=stop.signal)


def _check_launch(ranks: Ranks, published_buffers: bool) -> None:
    if ranks.world == 1 and published_buffers:
        raise UsageError(
            "--published-buffers has no effect: one process has one set of batch statistics",
            "leave it out, or start several with torchrun",
            code="E-UNUSED-OPTION",
        )


def _partial_warnings(data: RunData) -> list[str]:
    return [
        f"W-PARTIAL: {here:,} of the {of:,} {split} images of {data.train.name} are here: this is "
        "another data set than the whole"
        for split, (here, of) in data.partial.items()
    ]


def _made_for(folder: Path) -> list[Path]:
    """Return the folders that will be made for a run, the inner one first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_if_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


class Run:
    """One training run in this process."""

    def __init__(
        self,
        *,
        folder: RunFolder,
        recipe: Recipe,
        data: RunData,
        device: torch.device,
        checkpoint: Checkpoint | None,
        allow_download: bool,
        say: Callable[[str], None],
        ranks: Ranks | None = None,
        published_buffers: bool = False,
        allow_other_world: bool = False,
    ) -> None:
        self.ranks = ranks = ranks or Ranks()
        self.published_buffers = published_buffers
        self.folder = folder
        self.recipe = recipe
        self.data = data
        self.device = device
        self.state = new_state(
            recipe,
            data,
            device,
            continued=checkpoint is not None,
            allow_download=allow_download,
            say=say,
            ranks=ranks,
        )
        self.arch_options = arch_options(self.classifier)
        name = self.recipe.arch
        self.arch = own_name(name) if name.startswith(OWN) else name
        self.compiled = compile_mode(recipe.compile, device)
        """How steps are compiled; None where they are not."""
        self._step = self._make_step(say)
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self.looked: dict[str, float] = {}
        """The running means, after a step that was looked at."""
        if checkpoint is not None:
            self._continue(checkpoint, allow_other_world)
            self.state.times = Times.read(folder.times, self.state.epoch)
        elif ranks.first:
            clear(folder)
            write_recipe(folder.recipe, recipe)
        self.opened = time.monotonic() - self.state.times.elapsed_s

    def identity(self) -> dict[str, str]:
        """Return hashes of what every process of the run must have alike."""
        weights = sum(
            float(p.detach().double().abs().sum()) for p in self.state.method.parameters()
        )
        return {
            "the recipe": self.state.run_id,
            "the data": self.state.data_sha256,
            "the first step": f"{self.state.epoch}/{self.state.step}/{weights!r}",
        }

    @property
    def method(self) -> Method:
        """The method, for what it does; ``state.method`` is the same one, for its tensors."""
        return cast(Method, self.state.method)

    @property
    def teacher(self) -> MomentumMethod | None:
        """The method, if it has a pair of networks."""
        return as_momentum_method(self.state.method)

    @property
    def classifier(self) -> nn.Module:
        """The network that is trained to be deployed, or whose average is."""
        return self.method.classifier()

    @property
    def deployed(self) -> nn.Module:
        """The network that a checkpoint holds: the average of the weights, if there is one."""
        return self.classifier if self.state.ema is None else self.state.ema.network

    def work(
        self,
        talk: Talk,
        stop: StopRequest,
        on_event: Hook | None,
        save_interval: float,
        picture_every: int,
    ) -> bool:
        """Train to the end, or until ``stop``; return whether the end was reached."""
        state = self.state
        if (
            state.history and self.ranks.first
        ):  # a kill may have come between the checkpoint and these
            self._write_log()
            if not state.step:
                self._draw(picture_every, again=False)
        if self.teacher is not None and state.epoch < self.recipe.epochs:
            talk.say(f"{self.recipe.method}: {self.teacher.passes()}")
        told = Telling(
            hook=on_event if self.ranks.first else None,
            folder=self.folder,
            steps=self.data.steps,
            pictures=bool(picture_every) and as_teacher_method(state.method) is not None,
        )
        with told.run(self._started(), self._records()) as ended:
            ended.whole = self.fit(talk, stop, told, save_interval, picture_every)
        return ended.whole

    def _started(self) -> RunStarted:
        state, path = self.state, self.folder.path.absolute()
        step = state.epoch * self.data.steps + state.step
        # Folders of several seeds have names that say no more than the seed.
        seeds = path.name == f"seed-{self.recipe.seed}"
        return RunStarted(
            kind="train",
            name=f"{path.parent.name}-{path.name}" if seeds else path.name,
            run_id=state.run_id,
            folder=self.folder.path,
            config=recipe_to_dict(self.recipe),
            continued=step > 0,
            step=step,
        )

    def report(self, *, already: bool, finished: bool, signal: int | None) -> TrainResult:
        """Return where the run stands and where its files are."""
        state = self.state
        return TrainResult(
            run_dir=self.folder.path,
            last=self.folder.last,
            best=self.folder.best,
            metrics=self._records()[-1] if state.history else {},
            epochs=state.epoch,
            interrupted=not finished,
            signal=signal,
            run_id=state.run_id,
            already=already,
        )

    def fit(
        self,
        talk: Talk,
        stop: StopRequest,
        told: Telling,
        save_interval: float,
        picture_every: int,
    ) -> bool:
        """Train to the end, or until ``stop``; return whether the end was reached."""
        state, recipe, steps = self.state, self.recipe, self.data.steps
        talk.begin(epochs=recipe.epochs, steps=steps, done=state.epoch * steps + state.step)
        saved = time.monotonic()
        while state.epoch < recipe.epochs:
            state.method.train()
            state.begin_epoch()
            with contextlib.closing(self.batches()) as batches:  # a stop gives up those ahead
                for batch in batches:
                    count = self._images_in_step(batch)
                    self.step(batch)
                    talk.step(count, state.means.read)
                    if self.looked and state.step < steps:
                        lr = state.optimizer.param_groups[0]["lr"]
                        told.means(state.epoch, state.step, lr, self.looked)
                    due = time.monotonic() - saved > save_interval
                    stopped, due = self._agreed(stop, due)
                    if stopped:
                        self._save_last()
                        return False
                    if due:
                        self._save_last()
                        saved = time.monotonic()
            record = self._end_epoch(self._validate())
            saved = time.monotonic()
            talk.epoch(record)
            self._draw(picture_every)
            told.epoch(record)
            if self._agreed(stop, False)[0]:
                break
        return state.epoch >= recipe.epochs

    def _agreed(self, stop: StopRequest, due: bool) -> tuple[bool, bool]:
        """Return whether any process was asked to stop, and whether the first wants to save."""
        asked = stop()
        if self.ranks.world == 1:
            return asked, due
        told = (stop.signal or _NO_SIGNAL) if asked else 0
        told, saving = self.ranks.agreed([told, int(due and self.ranks.first)])
        if told and stop.signal is None and told != _NO_SIGNAL:
            stop.signal = told
        return told > 0, saving > 0

    def _images_in_step(self, batch: Batch) -> int:
        """Return how many images the batch of the coming step has in all processes."""
        if self.ranks.world == 1:
            return len(batch.labels)
        shown = images_per_epoch(len(self.data.train), self.recipe.repeated_augment)
        size = self.recipe.batch_size
        return min(size, shown - self.state.step * size)

    def batches(self) -> Generator[Batch]:
        """Yield what is left of the running epoch's batches."""
        state = self.state
        return train_batches(
            self.data.train,
            batch_size=self.recipe.batch_size,
            augment=self.data.augment,
            order=state.streams.order,
            draws=state.streams.draws,
            device=self.device,
            start=state.step,
            drop_last=self.data.augment.drop_last,
            repeats=self.recipe.repeated_augment,
            share=lambda n: shared_batch(n, self.ranks),
        )

    def step(self, batch: Batch) -> None:
        """Make one training step."""
        state, recipe, steps = self.state, self.recipe, self.data.steps
        iteration, total = state.epoch * steps + state.step, recipe.epochs * steps
        lr = self._set_learning_rate(iteration)
        if self.teacher is not None:
            self.teacher.before_step(iteration, total)
        if recipe.accumulate * recipe.norm_groups(self.ranks.world) * self.ranks.world == 1:
            loss, logs = self._forward(batch)
            state.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            state.means.add(logs, len(batch.labels))
            left_out = logs.get("skipped")
        else:
            loss, left_out = self._gradient_of_parts(batch)
        if recipe.grad_clip and recipe.optimizer != "lamb":  # which does it itself
            nn.utils.clip_grad_norm_(state.method.parameters(), recipe.grad_clip)
        # Eagerly on the CPU a term that is left out is no part of the gradient either.
        known = self.device.type == "cpu" and self.compiled is None
        update(state.optimizer, None if known else left_out)
        if self.teacher is not None:
            self.teacher.after_step(iteration, total)
        if state.ema is not None:
            state.ema.update(self.classifier, iteration)
        self._watch(loss.detach(), lr)
        state.step += 1

    def _make_step(self, say: Callable[[str], None]) -> Step:
        """Return what makes a batch a loss, compiled if it is to be; say so."""
        if self.compiled is None:
            return self.method.training_step
        size = -(-self.recipe.batch_size // (self.recipe.accumulate * self.ranks.world))

        def otherwise(why: str) -> None:
            self.compiled = None
            say(f"W-NOT-COMPILED: steps are computed eagerly, for they cannot be compiled: {why}")

        asked = self.recipe.compile == "on"
        step = compiled_step(
            self.method, size, self.compiled, otherwise=None if asked else otherwise
        )
        if step is None:
            say(
                f"W-NOT-COMPILED: steps of {self.recipe.method} are computed eagerly: "
                f"{why_eager(self.method)}"
            )
            self.compiled = None
            return self.method.training_step
        say(f"steps are compiled ({self.compiled}); the first of each kind takes its time")
        return step

    def _forward(self, batch: Batch) -> StepResult:
        bf16 = self.recipe.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return self._step(self._layout(batch))

    def _gradient_of_parts(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Leave the gradient of a batch that has parts, here or elsewhere.

        Return its loss, and how many terms were left out.
        """
        state, ranks, ways = self.state, self.ranks, self.recipe.accumulate
        groups = self.recipe.norm_groups(ranks.world)
        count, own = self._images_in_step(batch), len(batch.labels)
        # Of a small batch every process has all, with the draws of one alone.
        rank, world = (ranks.rank, ranks.world) if own < count else (0, 1)
        weight = 1.0 if own < count else 1 / ranks.world
        mix = state.streams.mix
        key = int(mix.integers(2**63))
        state.optimizer.zero_grad(set_to_none=True)
        average, sums = NormAverage(state.method), dict[str, Tensor]()
        left_out: list[Tensor] = []
        for i, part in enumerate(batch_parts(batch, ways)):
            average.begin_part()
            with mix.of_parts(key, [rank + world * (i + ways * j) for j in range(groups)]):
                loss, logs = self._forward(part)
            share = weight * len(part.labels) / count
            torch.autograd.backward(share * loss)
            average.end_part()
            for name, value in {"": loss.detach(), **logs}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + share * value
            if "skipped" in logs:
                left_out.append(logs["skipped"].clone())  # a CUDA graph overwrites it
        average.end()
        skipped = torch.stack(left_out).sum() if left_out else None
        others = [sums[name] for name in sorted(sums)] + ([] if skipped is None else [skipped])
        ranks.sum_gradients(trainable(state.method), others)
        total = sums.pop("")
        state.means.add(sums, count)
        return total, skipped

    def _continue(self, checkpoint: Checkpoint, allow_other_world: bool) -> None:
        if checkpoint.resume is None:
            raise IntakeError(
                "the checkpoint holds a model only, not the state of its training",
                "continue from last.pth",
            )
        recorded, data = checkpoint.resume.get("data_sha256"), self.data
        if recorded != self.state.data_sha256 and recorded != data_digest_without_pixels(
            data.train, data.val
        ):
            raise IncompatibleError(
                f"the images of {self.recipe.dataset} are not those the run began with",
                "restore them, or start anew with --resume never",
            )
        own = checkpoint.resume.get("ranks", [None])
        if len(own) != self.ranks.world and not allow_other_world:
            raise IncompatibleError(
                f"the run was stopped with {len(own)} process{'es' if len(own) > 1 else ''}, here "
                f"{'are' if self.ranks.world > 1 else 'is'} {self.ranks.world}: batch statistics "
                "and partners are of a process's own images",
                "start as many, or go on inexactly with --allow-other-world",
                code="E-OTHER-WORLD",
            )
        self.state.unpack(checkpoint.resume)
        if len(own) == self.ranks.world > 1:
            self.state.unpack_own(own[self.ranks.rank])
        self.state.run_id = checkpoint.run_id
        if self.ranks.first:
            write_recipe(self.folder.recipe, self.recipe)

    def _layout(self, batch: Any) -> Any:
        if not self.recipe.channels_last:
            return batch
        return batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))

    def _set_learning_rate(self, iteration: int) -> float:
        """Set the learning rates of a step; return the network's."""
        recipe = self.recipe
        lr = learning_rate(recipe.schedule, iteration, **self._curve(recipe.lr, recipe.min_lr))
        own = lr
        if recipe.generator_lr is not None or recipe.generator_min_lr is not None:
            base = recipe.lr if recipe.generator_lr is None else recipe.generator_lr
            minimum = recipe.min_lr if recipe.generator_min_lr is None else recipe.generator_min_lr
            curve = {**self._curve(base, minimum), "warmup_epochs": 0}  # as published: no warm-up
            own = learning_rate(recipe.schedule, iteration, **curve)
        for group in self.state.optimizer.param_groups:
            group["lr"] = own if group.get("part") == GENERATOR else lr
        return lr

    def _curve(self, base: float, minimum: float) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "base": base,
            "minimum": minimum,
            "epochs": recipe.epochs,
            "iters_per_epoch": self.data.steps,
            "warmup_epochs": recipe.warmup_epochs,
            "milestones": recipe.milestones,
            "gamma": recipe.gamma,
        }

    def _watch(self, loss: Tensor, lr: float) -> None:
        """Note the first step whose loss is not finite; look at the note now and then."""
        bad = ~loss.isfinite() & (self.first_bad < 0)
        self.first_bad = torch.where(bad, self.state.step, self.first_bad)
        self.looked = {}
        iteration = self.state.epoch * self.data.steps + self.state.step
        if (iteration + 1) % CHECK_EVERY == 0:
            self.looked, (step,) = self.state.means.read_with(self.first_bad)
            self._check_step(int(step), lr)
        elif self.device.type == "cpu":
            self._check_finite(lr)

    def _check_finite(self, lr: float | None = None) -> None:
        self._check_step(int(self.first_bad), lr)

    def _check_step(self, first_bad: int, lr: float | None) -> None:
        if first_bad >= 0:
            raise self._non_finite("the loss is not finite", first_bad + 1, lr)

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
        """Return loss and top-1 of what is deployed, and top-1 of every head by its name.

        Where weights are averaged, ``raw_loss`` and ``raw_top1`` are of those that are trained.
        """
        self._check_finite()
        self.state.method.eval()
        with self._shared_statistics():
            found = validate_shared(
                self._logits,
                self.data.val,
                self.device,
                self.ranks,
                channels_last=self.recipe.channels_last,
            )
        average = found.pop(EMA_HEAD, None)
        metrics = dict(found["" if self.teacher is None else DEPLOYED_HEAD])
        if average is not None:
            metrics = {**average, **{f"raw_{name}": value for name, value in metrics.items()}}
        if not all(math.isfinite(value) for value in metrics.values()):
            raise self._non_finite("the validation loss is not finite", self.state.step)
        if self.teacher is not None:
            metrics |= {f"acc_{name}": head["top1"] for name, head in found.items()}
        return metrics

    def _shared_statistics(self) -> contextlib.AbstractContextManager[None]:
        """Let every process have the batch statistics that are validated and saved."""
        return self.ranks.shared_statistics(self.state.networks, published=self.published_buffers)

    def _logits(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the logits of everything that is validated, by name; one classifier has none."""
        found: Mapping[str, Tensor] = (
            {"": self.classifier(images)}
            if self.teacher is None
            else self.teacher.pair.heads_logits(images)
        )
        ema = self.state.ema
        return found if ema is None else {**found, EMA_HEAD: ema.network(images)}

    def _draw(self, every: int, *, again: bool = True) -> None:
        """Draw what the generator makes of a few validation images, if it is time to.

        Args:
            every: epochs between two pictures; 0 draws none.
            again: draw over a picture that is there.
        """
        epoch = self.state.epoch
        if not self.ranks.first:
            return
        if not again and self.folder.picture(epoch).exists():
            return
        generating = as_teacher_method(self.state.method)
        if generating is None or not every:
            return
        if epoch % every and epoch not in (1, self.recipe.epochs):
            return
        data = self.data.val
        preview = generating.preview(picture_samples(data, PICTURE_SAMPLES, self.device))
        draw_mixing(
            preview,
            self.folder.picture(epoch),
            mean=data.mean,
            std=data.std,
            title=f"{self.recipe.method}, {self.recipe.dataset}, epoch {epoch}",
        )

    def _end_epoch(self, metrics: dict[str, float]) -> dict[str, Any]:
        """Add the record of the epoch, write the checkpoints, then the log."""
        state = self.state
        record: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "lr": state.optimizer.param_groups[0]["lr"],
            **{f"train_{name}": value for name, value in state.means.read().items()},
            **metrics,
            "selected_on": self.data.selected_on,
        }
        seconds = time.monotonic() - self.opened - sum(state.times.epochs_s)
        state.times.epochs_s.append(round(seconds, 3))
        state.history.append(record)
        record["summary"] = state.summary()
        state.epoch, state.step = state.epoch + 1, 0
        if record["top1"] > state.best_top1:
            state.best_top1 = record["top1"]
            self._save(self.folder.best, resume=False)
        # ``best`` first: a crash in between repeats the epoch and writes the same ``best`` again.
        self._save_last()
        return self._records()[-1]

    def _save_last(self) -> None:
        self.state.times.elapsed_s = time.monotonic() - self.opened
        self._save(self.folder.last, resume=True)
        if self.ranks.first:
            write_text(self.folder.times, self.state.times.text())
            self._write_log()

    def _records(self) -> list[dict[str, Any]]:
        """Return the records of the finished epochs, with their times."""
        state = self.state
        return [
            {**record, "seconds": seconds}
            for record, seconds in zip(state.history, state.times.epochs_s, strict=True)
        ]

    def _write_log(self) -> None:
        text = "".join(json.dumps(one, allow_nan=False) + "\n" for one in self._records())
        file = self.folder.metrics
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)

    def _save(self, path: Path, *, resume: bool) -> None:
        self._check_finite()
        own = self.ranks.gathered(self.state.pack_own()) if self.ranks.world > 1 else None
        with self._shared_statistics():
            if not self.state.finite():
                raise self._non_finite("a weight is not finite", self.state.step)
            if self.ranks.first:
                self._write_checkpoint(path, own, resume=resume)

    def _write_checkpoint(self, path: Path, own: list[Any] | None, *, resume: bool) -> None:
        state, train = self.state, self.data.train
        shared = {} if own is None else {"ranks": own}
        seen: dict[Any, Tensor] = {}
        save_checkpoint(
            path,
            Checkpoint(
                arch=self.arch,
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
                weights="ema" if self._averaged() else "raw",
                head=None if self.teacher is None else DEPLOYED_HEAD,
                model=to_cpu(self.deployed.state_dict(), seen),
                raw=None if state.ema is None else to_cpu(self.classifier.state_dict(), seen),
                resume={**state.pack(seen), **shared} if resume else None,
                plugins=foreign_parts(self.recipe),
            ),
        )

    def _averaged(self) -> bool:
        teacher = self.teacher
        return self.state.ema is not None or (teacher is not None and teacher.pair.averaged)

    def _metrics(self) -> dict[str, Any]:
        """Return what is known of the weights as they are now."""
        metrics: dict[str, Any] = {"selected_on": self.data.selected_on}
        if self.compiled is not None:
            metrics["compiled"] = self.compiled
        if self.data.selected_on == "val":
            metrics["val_split"] = {"fraction": self.recipe.val_split, "seed": self.recipe.seed}
        if self.data.partial:
            metrics["partial"] = {name: list(counts) for name, counts in self.data.partial.items()}
        if self.ranks.world > 1:
            metrics["processes"] = self.ranks.world
            metrics["buffers"] = "first process" if self.published_buffers else "mean"
        if self.state.step:
            return {**metrics, "steps_into_epoch": self.state.step}
        return {**metrics, **self.state.history[-1]} if self.state.history else metrics


@contextlib.contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Give back torch's global random state, which dropout draws from, as it was."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
