"""The training loop: a recipe becomes checkpoints, one loop for all methods.

A run folder holds ``recipe.toml`` (complete), ``metrics.jsonl`` (one line an epoch) and
``checkpoints/{last,best}.pth``. On a CPU with a fixed number of threads, a run that was stopped
after any step and continued ends with the same bits as one that was not.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustmix.environment import choose_device
from robustmix.errors import UsageError
from robustmix.files import expanded, remove_leftovers
from robustmix.locks import run_lock
from robustmix.loggers.events import Hook
from robustmix.methods.momentum_pair import as_teacher_method
from robustmix.progress import ProgressKind
from robustmix.signals import StopRequest, stop_on_signals
from robustmix.training.progress import Talk, open_progress
from robustmix.training.ranks import Ranks, open_ranks
from robustmix.training.recipe import Recipe
from robustmix.training.run import Run, own_random_state
from robustmix.training.run_data import RunData
from robustmix.training.run_folder import RunFolder, prepare_run
from robustmix.training.telling import Telling

_NO_SIGNAL = 1000
"""In the place of a signal's number: the caller asked to stop."""


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
        finished = work(run, talk, stop, on_event, save_interval, picture_every)
        ranks.wait()  # until the first one has written all
        return _result(run, already=already, finished=finished, signal=stop.signal)


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


def work(
    run: Run,
    talk: Talk,
    stop: StopRequest,
    on_event: Hook | None,
    save_interval: float,
    picture_every: int,
) -> bool:
    """Train a run as ``_fit`` does, and tell how it begins, goes and ends."""
    state = run.state
    if state.history and run.ranks.first:  # a kill may have come between the checkpoint and these
        run.write_log()
        if not state.step:
            run.draw(picture_every, again=False)
    if state.teacher is not None and state.epoch < run.recipe.epochs:
        talk.say(f"{run.recipe.method}: {state.teacher.passes()}")
    told = Telling(
        hook=on_event if run.ranks.first else None,
        folder=run.folder,
        steps=run.data.steps,
        pictures=bool(picture_every) and as_teacher_method(state.method) is not None,
    )
    with told.run(told.started(run.recipe, state), run.records()) as ended:
        ended.whole = _fit(run, talk, stop, told, save_interval, picture_every)
    return ended.whole


def _fit(
    run: Run,
    talk: Talk,
    stop: StopRequest,
    told: Telling,
    save_interval: float,
    picture_every: int,
) -> bool:
    """Train to the end, or until ``stop``; return whether the end was reached."""
    state, recipe, steps = run.state, run.recipe, run.data.steps
    talk.begin(epochs=recipe.epochs, steps=steps, done=state.epoch * steps + state.step)
    saved = time.monotonic()
    while state.epoch < recipe.epochs:
        state.method.train()
        state.begin_epoch()
        with contextlib.closing(run.batches()) as batches:  # a stop gives up those ahead
            for batch in batches:
                count = run.stepper.images_in_step(batch)
                run.step(batch)
                talk.step(count, state.means.read)
                if run.watch.looked and state.step < steps:
                    lr = state.optimizer.param_groups[0]["lr"]
                    told.means(state.epoch, state.step, lr, run.watch.looked)
                due = time.monotonic() - saved > save_interval
                stopped, due = _agreed(run.ranks, stop, due)
                if stopped:
                    run.save_last()
                    return False
                if due:
                    run.save_last()
                    saved = time.monotonic()
        record = run.end_epoch(run.validate())
        saved = time.monotonic()
        talk.epoch(record)
        run.draw(picture_every)
        told.epoch(record)
        if _agreed(run.ranks, stop, False)[0]:
            break
    return state.epoch >= recipe.epochs


def _agreed(ranks: Ranks, stop: StopRequest, due: bool) -> tuple[bool, bool]:
    """Return whether any process was asked to stop, and whether the first wants to save."""
    asked = stop()
    if ranks.world == 1:
        return asked, due
    told = (stop.signal or _NO_SIGNAL) if asked else 0
    told, saving = ranks.agreed([told, int(due and ranks.first)])
    if told and stop.signal is None and told != _NO_SIGNAL:
        stop.signal = told
    return told > 0, saving > 0


def _result(run: Run, *, already: bool, finished: bool, signal: int | None) -> TrainResult:
    """Return where the run stands and where its files are."""
    state = run.state
    return TrainResult(
        run_dir=run.folder.path,
        last=run.folder.last,
        best=run.folder.best,
        metrics=run.records()[-1] if state.history else {},
        epochs=state.epoch,
        interrupted=not finished,
        signal=signal,
        run_id=state.run_id,
        already=already,
    )
