"""How runs are begun, waited for, stopped and taken up again; their processes are stand-ins."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import UsageError
from robustmix.locks import run_lock
from robustmix.signals import StopRequest
from robustmix.studies import running
from robustmix.studies.commands import Launch
from robustmix.studies.grid import StudyRun, study_runs
from robustmix.studies.run_state import LOGS, Failure, evaluation_folder, read_state
from robustmix.studies.running import Outcome, Slot, Task, cpu_slots, gpu_slots, run_tasks, tasks_of
from robustmix.studies.study import Evaluation, study_of

SCRIPT = """
import json, os, pathlib, signal, sys, time
command, folder, out = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
plan = json.loads((folder.parent / "plan.json").read_text()).get(folder.name, {})
with open(folder.parent / "events.jsonl", "a") as events:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    events.write(json.dumps([command, folder.name, "begin", time.monotonic(), seen]) + "\\n")
time.sleep(plan.get("seconds", 0))
if (folder.parent / "busy").exists():
    print("error[E-BUSY]: another run is working in", folder)
    sys.exit(4)
if plan.get("fails") == command:
    print("something")
    print("error[E-DATA]: nothing there; get it")
    sys.exit(3)
if command == "train":
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.pth").write_text("x")
    (folder / "metrics.jsonl").write_text('{"epoch": 3, "top1": 0.5}\\n')
else:
    out.mkdir(parents=True)
    (out / "report.json").write_text('{"run": {"status": "success"}}')
with open(folder.parent / "events.jsonl", "a") as events:
    events.write(json.dumps([command, folder.name, "end", time.monotonic(), seen]) + "\\n")
"""

EVALUATION = Evaluation(suite=("clean",))


@dataclass
class Told:
    """What a watcher was told."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    most: int = 0
    on_tick: Any = None

    def begun(self, task: Task, command: str, slot: Slot) -> None:
        self.lines.append((command, task.folder.name))

    def done(self, task: Task) -> None:
        self.lines.append(("done", task.folder.name))

    def failed(self, task: Task, failure: Failure) -> None:
        self.lines.append(("failed", task.folder.name))
        self.failures.append(failure)

    def waits(self, task: Task) -> None:
        self.lines.append(("waits", task.folder.name))

    def tick(self, working: Sequence[Task], waiting: int) -> None:
        self.most = max(self.most, len(working))
        if self.on_tick is not None:
            self.on_tick(working)


class Stage:
    """Three runs in a folder, whose processes do as they are told."""

    def __init__(self, folder: Path) -> None:
        grid = {
            "dataset": "digits",
            "arch": "resnet8",
            "method": ["vanilla", "mixup", "adautomix"],
            "epochs": 3,
        }
        self.runs: list[StudyRun] = study_runs(study_of({"grid": grid}, "mine", "mine.toml"))
        self.folder = folder
        self.told = Told()
        self.plan({})

    def plan(self, plan: dict[str, Any]) -> None:
        import json

        named = {run.labels["method"]: run.name for run in self.runs}
        (self.folder / "plan.json").write_text(
            json.dumps({named[method]: what for method, what in plan.items()})
        )

    @property
    def tasks(self) -> list[Task]:
        return tasks_of(self.runs, self.folder)

    def task(self, method: str) -> Task:
        return next(task for task in self.tasks if task.run.labels["method"] == method)

    def run(
        self,
        slots: Sequence[Slot] | None = None,
        *,
        evaluation: Evaluation | None = EVALUATION,
        stop: StopRequest | None = None,
        lacking: dict[str, str] | None = None,
    ) -> Outcome:
        self.told.lines.clear()
        return run_tasks(
            self.tasks,
            cpu_slots(1) if slots is None else slots,
            evaluation=evaluation,
            launch=Launch(),
            watch=self.told,
            stop=stop or StopRequest(),
            lacking=lacking or {},
        )

    def events(self) -> list[list[Any]]:
        import json

        path = self.folder / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def state(self, method: str) -> str:
        task = self.task(method)
        return read_state(task.folder, task.run.recipe, EVALUATION).stage

    def names(self, *methods: str) -> list[str]:
        return [self.task(method).folder.name for method in methods]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    def train(run: StudyRun, folder: Path, launch: Launch) -> list[str]:
        return [sys.executable, "-c", SCRIPT, "train", str(folder), "-"]

    def evaluate(folder: Path, evaluation: Evaluation, launch: Launch) -> list[str]:
        out = evaluation_folder(folder, evaluation)
        return [sys.executable, "-c", SCRIPT, "eval", str(folder), str(out)]

    monkeypatch.setattr(running, "train_command", train)
    monkeypatch.setattr(running, "eval_command", evaluate)
    monkeypatch.setattr(running, "BUSY_S", 0.05)
    monkeypatch.setattr(running, "POLL_S", 0.02)
    return Stage(tmp_path)


def test_runs_are_trained_then_evaluated_the_longest_first(stage: Stage) -> None:
    outcome = stage.run()
    assert outcome.exit_code == 0
    adautomix, *others = stage.names("adautomix", "vanilla", "mixup")
    expected = [(what, name) for name in (adautomix, *others) for what in ("train", "eval", "done")]
    assert stage.told.lines == expected
    assert stage.told.most == 1
    assert {stage.state(method) for method in ("vanilla", "mixup", "adautomix")} == {"done"}


def test_what_is_done_is_not_done_again(stage: Stage) -> None:
    stage.run()
    assert len(stage.events()) == 12
    assert stage.run().exit_code == 0
    assert len(stage.events()) == 12
    other = Evaluation(suite=("clean",), limit=5)
    assert stage.run(evaluation=other).exit_code == 0  # the runs are there, the evaluation is not
    assert [event[0] for event in stage.events()[12:]] == ["eval"] * 6


def test_a_study_that_evaluates_nothing_ends_with_training(stage: Stage) -> None:
    assert stage.run(evaluation=None).exit_code == 0
    assert {event[0] for event in stage.events()} == {"train"}


def test_a_failed_run_does_not_stop_the_others(stage: Stage) -> None:
    stage.plan({"adautomix": {"fails": "train"}, "mixup": {"fails": "eval"}})
    outcome = stage.run()
    assert outcome.exit_code == 4
    failures = {task.run.labels["method"]: f for task, f in outcome.failed.values()}
    line = "error[E-DATA]: nothing there; get it"
    assert failures == {
        "adautomix": Failure(command="train", exit_code=3, error=line),
        "mixup": Failure(command="eval", exit_code=3, error=line),
    }
    assert [stage.state(m) for m in ("vanilla", "mixup", "adautomix")] == ["done"] + ["failed"] * 2
    task = stage.task("mixup")
    assert read_state(task.folder, task.run.recipe, EVALUATION).failure == failures["mixup"]
    stage.plan({})
    assert stage.run().exit_code == 0  # tried again, and what was trained is not trained again
    assert stage.state("mixup") == "done"
    assert ["train", *stage.names("mixup")] not in [event[:2] for event in stage.events()[8:]]


def test_runs_share_the_slots(stage: Stage) -> None:
    stage.plan({method: {"seconds": 0.5} for method in ("vanilla", "mixup", "adautomix")})
    slots = gpu_slots("all", ["4", "7"])
    assert stage.run(slots).exit_code == 0
    assert stage.told.most == 2
    assert {event[4] for event in stage.events()} == {"4", "7"}
    working: dict[str, str] = {}
    for _command, name, what, _time, gpu in stage.events():  # in the order they happened
        if what == "begin":
            assert gpu not in working.values()
            working[name] = gpu
        else:
            del working[name]


def test_what_another_process_works_at_is_waited_for(stage: Stage) -> None:
    task = stage.task("adautomix")
    release = threading.Event()

    def hold() -> None:
        with run_lock(task.folder / LOGS):
            release.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    while not (task.folder / LOGS / ".lock").exists():
        time.sleep(0.01)
    assert stage.state("adautomix") == "training"
    stage.told.on_tick = lambda working: (
        release.set() if len(stage.told.lines) > 6 and not working else None
    )
    outcome = stage.run()
    other.join()
    assert outcome.exit_code == 0
    assert stage.told.lines[0] == ("waits", task.folder.name)
    assert stage.told.lines[-1] == ("done", task.folder.name)
    assert stage.state("adautomix") == "done"


def test_a_process_that_finds_its_folder_busy_is_tried_again(stage: Stage) -> None:
    (stage.folder / "busy").touch()

    def leave(working: Sequence[Task]) -> None:
        if sum(1 for what, _ in stage.told.lines if what == "waits") >= 4:
            (stage.folder / "busy").unlink(missing_ok=True)

    stage.told.on_tick = leave
    outcome = stage.run()
    assert outcome.exit_code == 0
    assert not outcome.failed


def test_a_stop_lets_runs_end_their_step(stage: Stage) -> None:
    stage.plan({method: {"seconds": 30} for method in ("vanilla", "mixup", "adautomix")})
    stop = StopRequest()

    def ask(working: Sequence[Task]) -> None:
        if len([event for event in _events(stage) if event[2] == "begin"]) == 2:
            stop.signal = int(signal.SIGINT)

    stage.told.on_tick = ask
    outcome = stage.run(cpu_slots(2), stop=stop)
    assert outcome.exit_code == 130
    assert sorted(task.run.labels["method"] for task in outcome.unfinished) == [
        "adautomix",
        "mixup",
        "vanilla",
    ]
    assert not outcome.failed
    assert [event[2] for event in stage.events()] == ["begin"] * 2  # neither came to its end
    assert len(stage.told.lines) == 2  # the third one was not begun
    assert not list(stage.folder.glob("*/logs/failed.json"))


def _events(stage: Stage) -> list[list[Any]]:
    return stage.events() if (stage.folder / "events.jsonl").exists() else []


def test_an_exception_leaves_no_process_behind(stage: Stage) -> None:
    stage.plan({"adautomix": {"seconds": 60}})

    def fail(working: Sequence[Task]) -> None:
        if _events(stage):
            raise KeyboardInterrupt

    stage.told.on_tick = fail
    with pytest.raises(KeyboardInterrupt):
        stage.run()
    stage.told.on_tick = None
    assert stage.state("adautomix") == "waiting"  # its lock is free: nobody works there
    assert len(_events(stage)) == 1


def test_data_that_are_not_here_fail_at_once(stage: Stage) -> None:
    outcome = stage.run(lacking={"digits": "error[E-DATA]: digits is not in /data"})
    assert outcome.exit_code == 4
    assert len(outcome.failed) == 3
    assert not _events(stage)
    assert stage.state("mixup") == "failed"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_fails_its_run(stage: Stage) -> None:
    stage.folder.chmod(0o500)
    try:
        outcome = stage.run()
    finally:
        stage.folder.chmod(0o700)
    assert {failure.error[:14] for _, failure in outcome.failed.values()} == {"error[E-WRITE]"}


def test_a_file_in_the_place_of_a_folder_fails_that_run_alone(stage: Stage) -> None:
    stage.task("mixup").folder.write_text("in the way")
    outcome = stage.run()
    assert outcome.exit_code == 4
    assert [task.run.labels["method"] for task, _ in outcome.failed.values()] == ["mixup"]
    assert stage.state("vanilla") == "done"


def test_gpus_are_chosen_among_those_that_are_seen() -> None:
    assert [slot.environ for slot in gpu_slots("1", ["3", "5"])] == [{"CUDA_VISIBLE_DEVICES": "5"}]
    for asked, there, said in (
        ("all", [], "no CUDA device"),
        ("2", ["0", "1"], "no GPU 2"),
        ("0,0", ["0"], "named twice"),
        ("x", ["0"], "expected all, or numbers"),
    ):
        with pytest.raises(UsageError, match=said):
            gpu_slots(asked, there)


def test_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert [slot.environ for slot in cpu_slots(3)] == [{"OMP_NUM_THREADS": "2"}] * 3
    assert cpu_slots(1)[0].environ == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cpu_slots(3)[0].environ == {}
    with pytest.raises(UsageError, match="from 1"):
        cpu_slots(0)
