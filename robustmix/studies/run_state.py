"""How far a run of a study is, as its folder says it; nothing else keeps account of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robustmix.files import hash_json, write_text
from robustmix.locks import is_held
from robustmix.studies.study import Evaluation
from robustmix.training.recipe import Recipe

Stage = Literal["waiting", "training", "trained", "evaluating", "done", "failed", "stopped"]
"""``stopped`` is begun, unfinished, and nobody is at it."""

LOGS = "logs"
"""Folder below a run's with what its processes said, and the lock of who works at it."""

FAILED = "failed.json"
"""In ``LOGS``: how the last attempt failed."""

MOST_BYTES = 64 * 2**20
"""Of a file that is looked into."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a process of a run failed."""

    command: str
    """``train`` or ``eval``."""

    exit_code: int
    error: str
    """Its error line."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where a run stands."""

    stage: Stage
    epoch: int
    """Finished epochs."""

    epochs: int
    left_s: float | None = None
    """Seconds that training will take yet, by the epochs so far."""

    failure: Failure | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.stage == "done"


def evaluation_folder(run: Path, evaluation: Evaluation) -> Path:
    """Return where a run is evaluated so; another evaluation of the same run lies beside it."""
    asked = evaluation.model_dump(mode="json")
    return run / "eval" / f"{evaluation.checkpoint}-{hash_json(asked)[:8]}"


def read_state(run: Path, recipe: Recipe, evaluation: Evaluation | None) -> RunState:
    """Return where a run stands.

    Args:
        run: its folder, which need not be there.
        recipe: what it trains.
        evaluation: how it is to be evaluated; None: not at all.
    """
    epoch = finished_epochs(run / "metrics.jsonl")
    trained = epoch >= recipe.epochs and (run / "checkpoints" / "last.pth").is_file()
    report = None if evaluation is None else evaluation_folder(run, evaluation)
    stage: Stage
    if trained and (report is None or report_status(report / "report.json") == "success"):
        stage = "done"
    elif is_held(run):
        stage = "training"
    elif report is not None and is_held(report):
        stage = "evaluating"
    elif is_held(run / LOGS):  # between two of its processes, or while one begins
        stage = "trained" if trained else "training"
    elif read_failure(run) is not None:
        stage = "failed"
    elif trained:
        stage = "trained"
    else:
        stage = "stopped" if (run / "checkpoints" / "last.pth").exists() else "waiting"
    return RunState(
        stage=stage,
        epoch=epoch,
        epochs=recipe.epochs,
        left_s=_left(run / "times.json", epoch, recipe.epochs) if stage == "training" else None,
        failure=read_failure(run) if stage == "failed" else None,
    )


def finished_epochs(metrics: Path) -> int:
    """Return the number of epochs that a log has, 0 without one."""
    try:
        if metrics.stat().st_size > MOST_BYTES:
            return 0
        lines = metrics.read_text(encoding="utf-8").splitlines()
        return int(json.loads(lines[-1])["epoch"]) if lines else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def report_status(path: Path) -> str | None:
    """Return the status of an evaluation, None where there is no report that says one."""
    found = _json(path)
    run = found.get("run")
    status = run.get("status") if isinstance(run, Mapping) else None
    return status if isinstance(status, str) else None


def read_failure(run: Path) -> Failure | None:
    """Return how the last attempt at a run failed, if it did."""
    found = _json(run / LOGS / FAILED)
    try:
        return Failure(
            command=str(found["command"]),
            exit_code=int(found["exit_code"]),
            error=str(found["error"]),
        )
    except (KeyError, ValueError, TypeError):
        return None


def write_failure(run: Path, failure: Failure | None) -> None:
    """Note how an attempt failed, or that a new one is made."""
    path = run / LOGS / FAILED
    if failure is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, json.dumps(vars(failure), indent=2) + "\n")


def _left(times: Path, epoch: int, epochs: int) -> float | None:
    try:
        seconds = [float(value) for value in _json(times)["epochs_s"]][:epoch]
    except (KeyError, ValueError, TypeError):
        return None
    return (epochs - epoch) * sum(seconds) / len(seconds) if seconds else None


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
