"""Running a study on Slurm: one job array, a job a run, through submitit.

What a job does is what ``study run`` does with that run on one machine; a job that is preempted or
reaches its time limit lets training stop after its step and is queued again. How far a run is, its
folder says; only the number of its job is noted beside that.
"""

import contextlib
import getpass
import json
import math
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustmix.errors import IncompleteError, UsageError
from robustmix.files import write_text
from robustmix.signals import StopRequest
from robustmix.studies.commands import Launch, last_lines
from robustmix.studies.run_state import LOGS, Failure, read_failure, read_state
from robustmix.studies.running import Outcome, Slot, Task, Watch, run_tasks, settle_before
from robustmix.studies.study import Evaluation

POLL_S = 5.0
"""Seconds between two looks at the queue, which a scheduler that many share answers."""

GONE_S = 20.0
"""Seconds that a run's files may take to be seen here after its job has left the queue."""

MINUTES = 24 * 60
"""Time limit of a job, where none is given."""

MOST_TIMEOUTS = 1000
"""How often a run that reaches its time limit is queued again."""

UNKNOWN = "?"
"""Number of a job that was never told."""

JOB_FILE = "slurm.json"
"""In a run's ``LOGS``: the number of its job."""

LOG_LINES = 10
"""Of a failed job's log that are shown."""


class RunJob:
    """One run as a job: called on the node, pickled and called again after an interruption."""

    def __init__(self, task: Task, evaluation: Evaluation | None, launch: Launch) -> None:
        self.task = task
        self.evaluation = evaluation
        self.launch = launch

    def __call__(self) -> int:
        """Make the run; return the exit code that ``study run`` would end with."""
        self._stop = StopRequest()
        self._code = IncompleteError.exit_code
        # Not in the main thread: that one hears the signals, and then waits for the run to stop.
        self._work = threading.Thread(target=self._run)
        self._work.start()
        self._work.join()
        return self._code

    def _run(self) -> None:
        outcome = run_tasks(
            [self.task],
            [Slot(name="job")],
            evaluation=self.evaluation,
            launch=self.launch,
            watch=_Printer(),
            stop=self._stop,
            lacking={},
        )
        self._code = outcome.exit_code

    def checkpoint(self) -> Any:
        """Let the run stop after its step, and say what is to be queued again."""
        from submitit.helpers import DelayedSubmission

        self._stop.signal = 1
        self._work.join()
        return DelayedSubmission(RunJob(self.task, self.evaluation, self.launch))


class _Printer:
    """Writes into the job's log what happens."""

    def begun(self, task: Task, command: str, slot: Slot) -> None:
        print(f"{command} {task.run.told}", flush=True)  # noqa: T201 - it is the job's log

    def done(self, task: Task) -> None:
        print(f"done {task.run.told}", flush=True)  # noqa: T201

    def failed(self, task: Task, failure: Failure) -> None:
        print(failure.error, flush=True)  # noqa: T201

    def waits(self, task: Task) -> None:
        print(f"another process works at {task.run.told}", flush=True)  # noqa: T201

    def tick(self, working: Sequence[Task], waiting: int) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What ``--slurm`` asks for."""

    parameters: Mapping[str, Any]
    """As submitit's executor takes them."""

    gpus: int
    """Of one job; a run of several is started by torchrun."""


def parse_slurm(text: str) -> SlurmOptions:
    """Return what ``partition=gpu,time=4:00:00,gpus=1`` asks for.

    ``time``, ``gpus``, ``cpus``, ``mem`` and whatever else sbatch takes, by its long names.

    Raises:
        UsageError: it cannot be read.

    Example:
        >>> parse_slurm("partition=gpu,time=4:00:00,gpus=2").parameters["time"]
        240
    """
    parameters: dict[str, Any] = {"time": MINUTES}
    more: dict[str, str] = {}
    for key, value in _pairs(text).items():
        if key in _OWN:
            raise UsageError(f"--slurm {key} is what robustmix sets itself", "leave it out")
        if key in _READ:
            name, read = _READ[key]
            parameters[name] = read(key, value)
        elif key in _KNOWN:
            parameters[key.replace("-", "_")] = value
        else:
            more[key] = value
    if more:
        parameters["additional_parameters"] = more
    return SlurmOptions(parameters=parameters, gpus=parameters.get("gpus_per_node", 0))


def _pairs(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = part.partition("=")
        key = key.strip().removeprefix("--").replace("_", "-")
        if not sign or not re.fullmatch(r"[a-z][a-z-]*", key) or not value.strip():
            raise UsageError(
                f"--slurm: cannot read {part!r}", "write partition=gpu,time=4:00:00,gpus=1"
            )
        if key in given:
            raise UsageError(f"--slurm gives {key} twice", "give it once")
        given[key] = value.strip()
    return given


_KNOWN = (
    *("partition", "qos", "mem", "mem-per-cpu", "constraint", "exclude", "account", "gres"),
    *("mail-type", "mail-user", "nodelist", "comment"),
)


def _count(key: str, value: str) -> int:
    if not value.isdecimal() or not 1 <= len(value) <= 4 or int(value) == 0:
        raise UsageError(f"--slurm {key}={value}: expected a number from 1", f"write {key}=1")
    return int(value)


def _minutes(key: str, text: str) -> int:
    """Return a time limit of Slurm's in minutes, rounded up.

    Example:
        >>> [_minutes("time", text) for text in ("90", "1:30", "4:00:00", "1-0", "2-12:30")]
        [90, 2, 240, 1440, 3630]
    """
    days, dash, clock = text.rpartition("-")
    try:
        parts = [int(part) for part in clock.split(":")]
        if not 1 <= len(parts) <= 3 or min(parts) < 0:
            raise ValueError
        if dash:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        elif len(parts) == 3:
            hours, minutes, seconds = parts
        else:
            hours, (minutes, seconds) = 0, (*parts, 0)[:2]
        total = (int(days) if dash else 0) * 1440 + hours * 60 + minutes + math.ceil(seconds / 60)
    except ValueError:
        raise UsageError(
            f"--slurm {key}={text}: no time limit", "write minutes, H:MM:SS or D-HH:MM"
        ) from None
    if total < 1:
        raise UsageError(f"--slurm {key}={text}: no time", "write time=4:00:00")
    return total


_READ: Mapping[str, tuple[str, Callable[[str, str], int]]] = {
    "time": ("time", _minutes),
    "gpus": ("gpus_per_node", _count),
    "cpus": ("cpus_per_task", _count),
    "cpus-per-task": ("cpus_per_task", _count),
}
"""Keys that mean a number: submitit's name, and how they are read."""

_OWN = ("array", "signal", "output", "error", "requeue", "no-requeue", "nodes")


def require_slurm() -> None:
    """Raise UsageError unless jobs can be submitted from here."""
    try:
        import submitit  # noqa: F401 - asked whether it is here
    except ImportError:
        raise UsageError(
            "--launcher slurm needs submitit",
            "pip install 'robustmix[slurm]'",
            code="E-EXTRA",
        ) from None
    if shutil.which("sbatch") is None or shutil.which("squeue") is None:
        raise UsageError(
            "--launcher slurm: there is no sbatch and squeue here",
            "run it where jobs are submitted, or use --jobs or --gpus",
            code="E-SLURM",
        )


def run_on_slurm(
    tasks: Sequence[Task],
    options: SlurmOptions,
    *,
    folder: Path,
    at_once: int | None,
    evaluation: Evaluation | None,
    launch: Launch,
    watch: Watch,
    stop: StopRequest,
    lacking: Mapping[str, str],
) -> Outcome:
    """Submit the runs that are not done as one job array, and wait for them.

    Args:
        tasks: in the order they are submitted.
        options: of the jobs.
        folder: where submitit keeps its files; the nodes must see it.
        at_once: most jobs that run at a time; None leaves it to Slurm.
        evaluation: what is measured of each run; None: nothing.
        launch: what the runs' processes are given.
        watch: is told.
        stop: asked all the time; true leaves the jobs to themselves.
        lacking: data sets that are not here, with the error line of a run that needs one.

    Raises:
        IncompleteError: the jobs cannot be submitted.
    """
    outcome = Outcome()
    waiting = settle_before(tasks, outcome, evaluation, watch, lacking)
    in_queue = queued_jobs()
    if in_queue is None:
        raise IncompleteError("squeue does not answer", "see that Slurm is up", code="E-SLURM")
    new = [task for task in waiting if job_of(task.folder) not in in_queue]
    if new:
        processes = replace(launch, processes=options.gpus) if options.gpus > 1 else launch
        _submit([RunJob(task, evaluation, processes) for task in new], options, folder, at_once)
    for task in waiting:
        watch.begun(task, f"job {job_of(task.folder) or UNKNOWN}:", Slot(name="slurm"))
    left: dict[str, float] = {}
    while waiting and not stop():
        time.sleep(POLL_S)
        asked = queued_jobs()
        in_queue = in_queue if asked is None else asked
        for task in [*waiting]:
            if _ended(task, in_queue, left, evaluation):
                waiting.remove(task)
                _note(task, outcome, evaluation, watch, folder)
        running = [one for one in waiting if in_queue.get(job_of(one.folder)) == "RUNNING"]
        watch.tick(running, len(waiting) - len(running))
    outcome.unfinished += waiting
    outcome.signal = stop.signal
    return outcome


def _submit(
    jobs: Sequence[RunJob], options: SlurmOptions, folder: Path, at_once: int | None
) -> None:
    import submitit

    parameters = {"job_name": "robustmix", **options.parameters}
    if at_once is not None:
        parameters["array_parallelism"] = at_once
    try:
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(**parameters)
        with executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except Exception as error:  # of submitit's many kinds, and what sbatch said
        said = " ".join(str(error).split())[-300:]
        raise IncompleteError(
            f"the jobs cannot be submitted: {said}", "see --slurm", code="E-SLURM"
        ) from error
    for job, made in zip(jobs, submitted, strict=True):
        write_text(job.task.folder / LOGS / JOB_FILE, json.dumps({"job": str(made.job_id)}) + "\n")


def job_of(run: Path) -> str | None:
    """Return the number of the last job of a run, None where it never had one."""
    try:
        found = json.loads((run / LOGS / JOB_FILE).read_text(encoding="utf-8"))
        return str(found["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def queued_jobs() -> dict[str | None, str] | None:
    """Return the user's jobs that Slurm still has to run or runs, by number, with their states.

    None where the queue cannot be asked, as while its controller is busy.
    """
    words = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i %T"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    pairs = (line.split() for line in told.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _ended(
    task: Task,
    in_queue: Mapping[str | None, str],
    left: dict[str, float],
    evaluation: Evaluation | None,
) -> bool:
    """Return whether a job is over; its files may be seen here a little later than its end."""
    if read_state(task.folder, task.run.recipe, evaluation).finished:
        return True
    if job_of(task.folder) in in_queue:
        left.pop(task.folder.name, None)
        return False
    since = left.setdefault(task.folder.name, time.monotonic())
    return read_failure(task.folder) is not None or time.monotonic() - since > GONE_S


def _note(
    task: Task, outcome: Outcome, evaluation: Evaluation | None, watch: Watch, folder: Path
) -> None:
    if read_state(task.folder, task.run.recipe, evaluation).finished:
        outcome.done.append(task)
        watch.done(task)
        return
    failure = read_failure(task.folder)
    job = job_of(task.folder)
    if failure is None:
        failure = Failure(
            command=f"job {job or UNKNOWN}",
            exit_code=IncompleteError.exit_code,
            error="it ended early",
        )
    log = task.folder / LOGS / f"{failure.command}.log"
    lines = last_lines(log if log.exists() else _job_log(folder, job), LOG_LINES)
    told = replace(failure, error="\n    ".join([f"{failure.error} (job {job})", *lines]))
    outcome.failed[task.folder.name] = (task, failure)
    watch.failed(task, told)


def _job_log(folder: Path, job: str | None) -> Path:
    """Return what a job said on stderr, as submitit names it."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob(f"{job}_*_log.err")):
            return path
    return folder / "absent"


def slurm_states(runs: Sequence[Path]) -> dict[str, str]:
    """Return Slurm's word for the job of each run that has one in the queue, by folder's name."""
    numbers = {run.name: job_of(run) for run in runs}
    if not any(numbers.values()) or shutil.which("squeue") is None:
        return {}
    states = queued_jobs() or {}
    return {name: states[job] for name, job in numbers.items() if job in states}
