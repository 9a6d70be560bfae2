"""``Log``: what is missing is said before any work, what fails stops alone, nobody waits."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustmix import register
from robustmix.cli.app import run
from robustmix.errors import UsageError
from robustmix.loggers import (
    LOGGERS,
    Event,
    Hook,
    Log,
    Memory,
    Pictures,
    RunFinished,
    RunStarted,
    Scalars,
    SuiteFinished,
    log_to,
)
from robustmix.loggers import log as log_module
from robustmix.studies.commands import Launch, eval_command, train_command
from robustmix.studies.grid import study_runs
from robustmix.studies.study import read_study
from tests.loggers.runs import without
from tests.training.runs import assert_same_run, small_train


@pytest.fixture(autouse=True)
def own_table() -> Iterator[None]:
    with LOGGERS.temporary():
        yield


def broken_at(step: int, told: list[Event]) -> None:
    """Register a logger ``broken`` that fails at a step, as with a full disk."""

    @register.logger("broken")
    def opened(started: RunStarted, folder: Path, memory: Memory) -> Hook:
        """Breaks."""

        def hook(event: Event) -> None:
            if isinstance(event, Scalars) and event.step >= step:
                raise OSError(28, "No space left on device")
            told.append(event)

        return hook


def test_a_logger_that_fails_loses_nothing_but_itself(tmp_path: Path) -> None:
    told: list[Event] = []
    broken_at(6, told)
    said: list[str] = []
    whole = small_train(tmp_path / "whole")
    other = small_train(tmp_path / "other", on_event=log_to("broken", "csv", say=said.append))
    assert_same_run(whole, other)
    assert said == [
        "W-LOG: broken stopped logging (OSError: [Errno 28] No space left on device); the run "
        "goes on",
        "W-LOG: broken has not all of this run; the same command adds the epochs or suites that "
        "it lacks",
    ]
    assert [type(event) for event in told] == [Scalars]
    lines = (tmp_path / "other" / "log" / "scalars.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["step", "3", "6"]
    broken_off: list[Event] = []
    with LOGGERS.temporary():
        del LOGGERS._rows["broken"]
        broken_at(7, broken_off)
        small_train(tmp_path / "other", on_event=log_to("broken", say=said.append))
    assert len(said) == 2
    assert [event.step for event in broken_off if isinstance(event, Scalars)] == [6]


def test_a_failure_is_said_once_while_the_run_goes_on(tmp_path: Path) -> None:
    told: list[Event] = []
    broken_at(0, told)
    said: list[str] = []
    log = Log("broken", folder=tmp_path, say=said.append)
    log(started(tmp_path))
    for step in range(1, 200):
        log(Scalars(step=step, epoch=1.0, values={}))
        if said:
            break
        threading.Event().wait(0.02)  # the logger's thread has not come to it yet
    assert len(said) == 1
    log(Scalars(step=500, epoch=1.0, values={}))
    assert len(said) == 1
    log(RunFinished(status="done"))
    assert [line.split(" (")[0] for line in said] == [
        "W-LOG: broken stopped logging",
        "W-LOG: broken has not all of this run; the same command adds the epochs or suites that "
        "it lacks",
    ]


def started(folder: Path | None, **changes: object) -> RunStarted:
    settings: dict[str, object] = {"kind": "train", "name": "n", "run_id": "r", "config": {}}
    return RunStarted(folder=folder, **{**settings, **changes})  # type: ignore[arg-type]


def test_a_logger_that_cannot_begin_keeps_no_run_from_beginning(tmp_path: Path) -> None:
    @register.logger("unreachable")
    def opened(started: RunStarted, folder: Path, memory: Memory) -> Hook:
        """Is not there."""
        raise ConnectionError("no route to host")

    said: list[str] = []
    done = small_train(tmp_path, on_event=log_to("unreachable", "csv", say=said.append), epochs=1)
    assert done.epochs == 1
    assert said == [
        "W-LOG: unreachable cannot begin to log (ConnectionError: no route to host); the run "
        "goes on"
    ]
    assert (tmp_path / "log" / "scalars.csv").is_file()


def test_a_run_does_not_wait_for_a_slow_logger(tmp_path: Path) -> None:
    made, in_time = threading.Event(), []

    @register.logger("slow")
    def opened(started: RunStarted, folder: Path, memory: Memory) -> Hook:
        """Waits for the run's last event, which never came if the run waited for this."""

        def hook(event: Event) -> None:
            in_time.append(made.wait(20))

        return hook

    log = log_to("slow")

    def hook(event: Event) -> None:
        if isinstance(event, RunFinished):
            made.set()
        log(event)

    small_train(tmp_path, on_event=hook)
    assert in_time == [True, True, True]


def test_a_logger_that_never_ends_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()

    @register.logger("stuck")
    def opened(started: RunStarted, folder: Path, memory: Memory) -> Hook:
        """Hangs."""

        def hook(event: Event) -> None:
            never.wait()

        return hook

    monkeypatch.setattr(log_module, "CLOSE_S", 0.05)
    said: list[str] = []
    log = Log("stuck", folder=tmp_path, say=said.append)
    log(started(tmp_path))
    log(RunFinished(status="done"))
    never.set()
    assert said == ["W-LOG: stuck: not all was logged within 0 s"]


def test_without_a_folder_there_is_no_log() -> None:
    with pytest.raises(UsageError, match="a run without a folder has no place for its log"):
        log_to("csv")(started(None))


def test_events_are_logged_once(tmp_path: Path) -> None:
    image = None
    path = tmp_path / "one.json"
    memory = Memory.of(path, started(tmp_path), rewinds=True)
    events: list[Event] = [
        Pictures(step=5, name="a", pixels=image),  # type: ignore[arg-type]
        Scalars(step=5, epoch=1.0, values={}),
        SuiteFinished(suite="clean", status="ok", metrics={}),
    ]
    for event in events:
        assert not memory.has(event)
        memory.add(event)
        assert memory.has(event)
    failed = SuiteFinished(suite="fgsm", status="failed", metrics={})
    memory.add(failed)
    assert not memory.has(failed)
    later = Memory.of(path, started(tmp_path, continued=True, step=9), rewinds=True)
    assert all(later.has(event) for event in events)
    assert not later.has(Scalars(step=6, epoch=1.2, values={}))
    back = Memory.of(path, started(tmp_path, continued=True, step=4), rewinds=True)
    assert [back.has(event) for event in events] == [False, False, True]
    stays = Memory.of(path, started(tmp_path, continued=True, step=4), rewinds=False)
    assert all(stays.has(event) for event in events)
    anew = Memory.of(path, started(tmp_path), rewinds=False)
    assert not any(anew.has(event) for event in events)
    path.write_text('{"id": 1')
    assert Memory.of(path, started(tmp_path, continued=True), rewinds=False).scalars == -1


@pytest.mark.parametrize(
    "command", ["train digits-resnet8-vanilla", "eval net.pth", "study run quick"]
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_is_not_installed_is_said_before_any_work(
    command: str,
    dry: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    out = tmp_path / "out"
    words = [*command.split(), "--log", "csv,wandb", "--out", str(out), *dry]
    assert run(words) == 2
    assert capsys.readouterr().err == (
        "error[E-EXTRA]: --log wandb needs the package wandb, which is not installed; pip install "
        "'robustmix[wandb]'\n"
    )
    assert not out.exists()


def test_names_of_loggers_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "digits-resnet8-vanilla", "--log", "tensorbord"]) == 2
    assert "unknown logger 'tensorbord'; did you mean 'tensorboard'?" in capsys.readouterr().err
    assert run(["train", "digits-resnet8-vanilla", "--log", ","]) == 2
    assert "--log names no logger" in capsys.readouterr().err


@without("wandb")
def test_wandb_without_an_account_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    class Nobody:
        api_key = None

    monkeypatch.setattr(wandb, "api", Nobody())
    monkeypatch.delenv("WANDB_MODE", raising=False)
    words = ["train", "digits-resnet8-vanilla", "--log", "wandb", "--out", str(tmp_path / "out")]
    assert run(words) == 2
    assert "--log wandb: nobody is logged in; log in with `wandb login`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert Log("wandb").names == ("wandb",)


def test_a_study_has_all_its_processes_log(tmp_path: Path) -> None:
    study = read_study("quick")
    assert study.evaluate is not None
    launch = Launch(loggers=("csv", "wandb"))
    trains = train_command(study_runs(study)[0], tmp_path, launch)
    evals = eval_command(tmp_path, study.evaluate, launch)
    for words in (trains, evals):
        assert words[words.index("--logger") + 1] == "csv,wandb"
    assert "--logger" not in train_command(study_runs(study)[0], tmp_path, Launch())


def test_nothing_is_imported_before_it_is_used() -> None:
    code = """
import importlib.util, sys
from robustmix.cli.app import run
assert run(["list", "loggers", "--json"]) == 0
from robustmix.loggers import Scalars, log_to
log_to("csv", *["tensorboard"] * bool(importlib.util.find_spec("tensorboard")))
heavy = {"torch", "tensorboard", "wandb", "mlflow", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)] == sorted(LOGGERS)
