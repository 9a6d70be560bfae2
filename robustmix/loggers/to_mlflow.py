"""Numbers and pictures to MLflow: a tracking server, or files in the run's folder."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustmix.loggers.events import Event, Hook, Pictures, RunFinished, RunStarted, Scalars
from robustmix.loggers.events import SuiteFinished as Suite
from robustmix.loggers.memory import Memory

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "robustmix"

STATUS = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
"""MLflow's words."""

PARAMS = 100
"""Most parameters of one call."""

LONGEST = 6000
"""Characters of a parameter."""


def open_mlflow(started: RunStarted, folder: Path, memory: Memory) -> Hook:
    """Return a logger of a run at ``MLFLOW_TRACKING_URI``, by default below ``folder/mlruns``.

    A continued run goes on under its id; steps that it makes again stay as they were logged first.
    A metric of a suite is ``SUITE/METRIC`` at step 0. The experiment is ``MLFLOW_EXPERIMENT_NAME``,
    by default ``robustmix``.
    """
    with _settings():
        client = _client(folder)
        if memory.id:
            client.update_run(memory.id, status="RUNNING")
        else:
            _begin(client, started, memory)
    run = memory.id

    def log(event: Event) -> None:
        match event:
            case Scalars():
                _metrics(client, run, {"epoch": event.epoch, **event.values}, event.step)
            case Pictures():
                where = f"{event.name}-{event.step}.png" if event.step else f"{event.name}.png"
                client.log_image(run, event.pixels, artifact_file=f"pictures/{where}")
            case Suite():
                named = {f"{event.suite}/{name}": value for name, value in event.metrics.items()}
                _metrics(client, run, named, 0)
            case RunFinished():
                if event.error:
                    client.set_tag(run, "error", event.error)
                client.set_terminated(run, status=STATUS[event.status])

    return log


def _client(folder: Path) -> "MlflowClient":
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").absolute().as_uri()
    return MlflowClient(tracking_uri=uri)


def _begin(client: "MlflowClient", started: RunStarted, memory: Memory) -> None:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    known = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if known is None else known.experiment_id
    tags = {"robustmix.kind": started.kind, "robustmix.run_id": started.run_id}
    run = client.create_run(experiment, run_name=started.name, tags=tags)
    memory.id = run.info.run_id
    memory.save()
    from mlflow.entities import Param

    params = [Param(key, str(value)[:LONGEST]) for key, value in flat(started.config)]
    for start in range(0, len(params), PARAMS):
        client.log_batch(memory.id, params=params[start : start + PARAMS])


def _metrics(client: "MlflowClient", run: str, values: Mapping[str, float], step: int) -> None:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    client.log_batch(run, [Metric(_name(key), value, now, step) for key, value in values.items()])


def _name(text: str) -> str:
    """Return a name of characters that MLflow takes."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in text)


def flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables under dotted names.

    Example:
        >>> dict(flat({"lr": 0.1, "augment": {"kind": "crop"}}))
        {'lr': 0.1, 'augment.kind': 'crop'}
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{_name(key)}.")
        else:
            yield above + _name(key), value


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Let MLflow write files, which newer versions ask for a switch, and send nothing home."""
    wanted = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    set_here = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(set_here)
    try:
        yield
    finally:
        for name in set_here:
            os.environ.pop(name, None)
