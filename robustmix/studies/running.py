"""Running a study on one machine: every run a process of its own, as many at once as asked.

There is no record beside the run folders: a run that is there goes on where it was, one that
another process works at is waited for, one that failed does not stop the others.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from robustmix.errors import IncompleteError, RobustmixError, UsageError
from robustmix.locks import run_lock
from robustmix.signals import StopRequest
from robustmix.studies.commands import Launch, error_of, eval_command, is_busy, train_command
from robustmix.studies.cost import cost_of
from robustmix.studies.grid import StudyRun
from robustmix.studies.run_state import LOGS, Failure, RunState, read_state, write_failure
from robustmix.studies.study import Evaluation

POLL_S = 0.1
"""Seconds between two looks at the processes."""

BUSY_S = 2.0
"""Seconds until a run that another process works at is tried again."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place where one run at a time is made."""

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    """Over this process's own."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run and its folder."""

    run: StudyRun
    folder: Path


class Watch(Protocol):
    """Who is told how far a study is."""

    def begun(self, task: Task, command: str, slot: Slot) -> None:
        """A process has started."""

    def done(self, task: Task) -> None:
        """A run is complete."""

    def failed(self, task: Task, failure: Failure) -> None:
        """A run failed; the others go on."""

    def waits(self, task: Task) -> None:
        """Another process works at a run."""

    def tick(self, working: Sequence[Task], waiting: int) -> None:
        """Some time has passed."""


@dataclass
class Outcome:
    """What became of the runs."""

    done: list[Task] = field(default_factory=list)
    failed: dict[str, tuple[Task, Failure]] = field(default_factory=dict)
    """By name of the folder."""

    unfinished: list[Task] = field(default_factory=list)
    """Stopped, or not begun when the study was stopped."""

    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0, 4 if a run failed, 128 + signal where one stopped the study."""
        if self.signal is not None:
            return 128 + self.signal
        return IncompleteError.exit_code if self.failed or self.unfinished else 0


def cpu_slots(jobs: int) -> list[Slot]:
    """Return places for so many runs at once on the processor, which share its cores.

    The number of threads of each is set, for sums round by it; a user's own setting stands.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: expected a number from 1", "give --jobs 2")
    own = {} if "OMP_NUM_THREADS" in os.environ or jobs == 1 else {"OMP_NUM_THREADS": _share(jobs)}
    return [Slot(name=f"job {i + 1}", environ=own) for i in range(jobs)]


def _share(jobs: int) -> str:
    return str(max(1, len(os.sched_getaffinity(0)) // jobs))


def gpu_slots(asked: str, there: Sequence[str]) -> list[Slot]:
    """Return a place for each GPU; a run in it sees no other one.

    Args:
        asked: ``all``, or numbers with commas between them.
        there: the GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them.

    Raises:
        UsageError: there is none, or not the one that is asked for.
    """
    if not there:
        raise UsageError(
            f"--gpus {asked}: no CUDA device is here",
            "leave it out, or give --jobs",
            code="E-DEVICE",
        )
    if asked == "all":
        chosen = list(range(len(there)))
    else:
        try:
            chosen = [int(part) for part in asked.split(",")]
        except ValueError:
            raise UsageError(
                f"--gpus {asked}: expected all, or numbers", "write --gpus 0,1"
            ) from None
    beyond = [number for number in chosen if not 0 <= number < len(there)]
    if beyond or len(set(chosen)) < len(chosen):
        wrong = f"there is no GPU {beyond[0]}" if beyond else "one is named twice"
        raise UsageError(
            f"--gpus {asked}: {wrong}", f"choose from 0 to {len(there) - 1}", code="E-DEVICE"
        )
    return [
        Slot(name=f"GPU {number}", environ={"CUDA_VISIBLE_DEVICES": there[number]})
        for number in chosen
    ]


def tasks_of(runs: Sequence[StudyRun], folder: Path) -> list[Task]:
    """Return the runs with their folders, one that several cells share once, longest first."""
    named = {run.name: run for run in runs}
    by_cost = sorted(named.values(), key=lambda run: -(cost_of(run.recipe).flops or 0.0))
    return [Task(run=run, folder=folder / run.name) for run in by_cost]


def run_tasks(
    tasks: Sequence[Task],
    slots: Sequence[Slot],
    *,
    evaluation: Evaluation | None,
    launch: Launch,
    watch: Watch,
    stop: StopRequest,
    lacking: Mapping[str, str],
) -> Outcome:
    """Make runs, as many at once as there are slots, until all are done, failed or stopped.

    Args:
        tasks: in the order they are begun.
        slots: places for them.
        evaluation: what is measured of each; None: nothing.
        launch: what their processes are given.
        watch: is told.
        stop: asked all the time; true lets every process stop after its step.
        lacking: data sets that are not here, with the error line of a run that needs one.
    """
    outcome = Outcome()
    queue = [(task, 0.0) for task in tasks]
    workers: list[_Worker] = []
    told = False
    try:
        while queue or workers:
            if stop() and not told:
                told = True
                for worker in workers:
                    worker.stop()
            workers = [one for one in workers if not _settled(one, outcome, queue, watch, told)]
            if told:
                outcome.unfinished += [task for task, _ in queue]
                queue.clear()
            _begin(queue, workers, slots, outcome, evaluation, launch, watch, lacking)
            watch.tick([worker.task for worker in workers], len(queue))
            time.sleep(POLL_S)
    finally:
        for worker in workers:  # only where something is raised: nobody is left behind
            worker.kill()
    outcome.signal = stop.signal
    return outcome


def _begin(
    queue: "list[tuple[Task, float]]",
    workers: "list[_Worker]",
    slots: Sequence[Slot],
    outcome: Outcome,
    evaluation: Evaluation | None,
    launch: Launch,
    watch: Watch,
    lacking: Mapping[str, str],
) -> None:
    """Begin what can be begun in the slots that are free."""
    taken = {worker.slot.name for worker in workers}
    for slot in slots:
        if slot.name in taken:
            continue
        while (task := _next(queue)) is not None:
            if not settle_before([task], outcome, evaluation, watch, lacking):
                continue
            try:
                workers.append(_Worker(task, slot, evaluation, launch, watch))
            except RobustmixError as error:
                if error.code == "E-BUSY":
                    watch.waits(task)
                    queue.append((task, time.monotonic() + BUSY_S))
                else:
                    failure = Failure(
                        command="train", exit_code=error.exit_code, error=error.line()
                    )
                    _fail(task, failure, outcome, watch)
                continue
            break


def settle_before(
    tasks: Sequence[Task],
    outcome: Outcome,
    evaluation: Evaluation | None,
    watch: Watch,
    lacking: Mapping[str, str],
) -> list[Task]:
    """Note which runs are done, or cannot be begun for want of data; return the others."""
    left = []
    for task in tasks:
        missing = lacking.get(task.run.recipe.dataset)
        if read_state(task.folder, task.run.recipe, evaluation).finished:
            outcome.done.append(task)
            watch.done(task)
        elif missing is not None:
            _fail(task, Failure(command="train", exit_code=3, error=missing), outcome, watch)
        else:
            left.append(task)
    return left


def _next(queue: "list[tuple[Task, float]]") -> Task | None:
    now = time.monotonic()
    for place, (task, not_before) in enumerate(queue):
        if not_before <= now:
            del queue[place]
            return task
    return None


def _settled(
    worker: "_Worker",
    outcome: Outcome,
    queue: "list[tuple[Task, float]]",
    watch: Watch,
    stopping: bool,
) -> bool:
    """Look at a worker; return whether its run is over, and note what became of it."""
    result = worker.poll(stopping)
    if result is None:
        return False
    if result == "done":
        outcome.done.append(worker.task)
        watch.done(worker.task)
    elif result == "stopped":
        outcome.unfinished.append(worker.task)
    elif result == "busy":
        watch.waits(worker.task)
        queue.append((worker.task, time.monotonic() + BUSY_S))
    else:
        _fail(worker.task, result, outcome, watch)
    return True


def _fail(task: Task, failure: Failure, outcome: Outcome, watch: Watch) -> None:
    outcome.failed[task.folder.name] = (task, failure)
    with contextlib.suppress(RobustmixError, OSError):  # the disk may be what failed
        write_failure(task.folder, failure)
    watch.failed(task, failure)


class _Worker:
    """A run in a slot: first the process that trains it, then the one that evaluates it."""

    def __init__(
        self,
        task: Task,
        slot: Slot,
        evaluation: Evaluation | None,
        launch: Launch,
        watch: Watch,
    ) -> None:
        self.task = task
        self.slot = slot
        self._evaluation = evaluation
        self._launch = launch
        self._watch = watch
        with contextlib.ExitStack() as held:
            held.enter_context(run_lock(task.folder / LOGS))
            write_failure(task.folder, None)
            self._process, self._command = self._start()
            self._held = held.pop_all()

    def _start(self) -> "tuple[subprocess.Popen[bytes], str]":
        state = self._state()
        folder, evaluation = self.task.folder, self._evaluation
        if state.epoch >= state.epochs and evaluation is not None:
            command, words = "eval", eval_command(folder, evaluation, self._launch)
        else:
            command, words = "train", train_command(self.task.run, folder, self._launch)
        self._watch.begun(self.task, command, self.slot)
        self._log = folder / LOGS / f"{command}.log"
        with open(self._log, "wb") as log:
            # In this process's group: whoever kills that leaves no run behind.
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.slot.environ},
            )
        return process, command

    def _state(self) -> RunState:
        return read_state(self.task.folder, self.task.run.recipe, self._evaluation)

    def poll(self, stopping: bool) -> "Literal['done', 'stopped', 'busy'] | Failure | None":
        """Return what became of the run, or None while it is worked at."""
        code = self._process.poll()
        if code is None:
            return None
        if code == 0 and not stopping and self._command == "train" and self._evaluation is not None:
            try:
                self._process, self._command = self._start()
            except (RobustmixError, OSError) as error:
                self._held.close()
                line = error.line() if isinstance(error, RobustmixError) else str(error)
                return Failure(command="eval", exit_code=4, error=line)
            return None
        self._held.close()
        if code == 0:
            return "done" if self._state().finished else "stopped"
        if code in _STOPPED:
            return "stopped"
        error_line = error_of(self._log, code)
        if is_busy(error_line):
            return "busy"
        return Failure(command=self._command, exit_code=code, error=error_line)

    def stop(self) -> None:
        """Let the process stop after its step.

        SIGTERM, whatever came here: Ctrl-C reaches the processes of a terminal by itself, and a
        second SIGINT would end them at once.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once; its last checkpoint is kept."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._held.close()


_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_STOPPED = (*(128 + number for number in _ASKED), *(-number for number in _ASKED))
"""Exit codes of a process that was asked to stop, by whomever; negative of one that had hardly
begun."""
