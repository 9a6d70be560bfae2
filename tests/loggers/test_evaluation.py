"""What an evaluation tells and logs: the numbers of its report, each suite once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import robustmix
from robustmix.cli.app import run
from robustmix.loggers import Event, RunFinished, RunStarted, SuiteFinished, log_to
from robustmix.loggers.figures import figures_of
from robustmix.report.report import Report
from tests.evaluation.tiny import tiny_images, tiny_model
from tests.loggers.runs import wandb_records, without
from tests.training.runs import stop_after

SUITES = ["clean", "calibration", "fgsm"]


def evaluated(**options: Any) -> Report:
    settings: dict[str, Any] = {"masking": "off", "progress": "none", "seed": 3, **options}
    return robustmix.evaluate(tiny_model(), tiny_images(40), SUITES, **settings)


@pytest.fixture(scope="module")
def alone() -> Report:
    return evaluated()


def numbers(report: Report) -> dict[tuple[str, str], float]:
    return {
        (key, name): metric.value
        for key, part in report.content.suites.items()
        for name, metric in part.metrics.items()
        if metric.value is not None
    }


def csv_rows(out: Path) -> dict[tuple[str, str], float]:
    table = pd.read_csv(out / "log" / "suites.csv", engine="python")
    found = {(s, m): float(v) for s, m, v in table.itertuples(index=False)}
    assert len(found) == len(table), "a metric is there twice"
    return found


def test_suites_are_told_with_the_numbers_of_the_report(alone: Report) -> None:
    events: list[Event] = []
    report = evaluated(on_event=events.append)
    first, *suites, last = events
    assert isinstance(first, RunStarted)
    assert (first.kind, first.folder, first.continued) == ("eval", None, False)
    assert first.run_id == report.content.run.fingerprint
    assert first.config["suites"]["fgsm"]["norm"] == "linf"
    assert [one.suite for one in suites if isinstance(one, SuiteFinished)] == SUITES
    told = {
        (one.suite, name): value
        for one in suites
        if isinstance(one, SuiteFinished)
        for name, value in one.metrics.items()
    }
    assert told == numbers(report) == numbers(alone)
    assert isinstance(last, RunFinished)
    assert (last.status, last.report) == ("done", report)


def test_who_listens_changes_no_number(alone: Report, tmp_path: Path) -> None:
    listened = evaluated(out=tmp_path, on_event=log_to("csv"))
    parts = [
        {key: part.model_dump(exclude={"timing"}) for key, part in report.content.suites.items()}
        for report in (alone, listened)
    ]
    assert parts[0] == parts[1]
    assert alone.content.run.fingerprint == listened.content.run.fingerprint
    assert csv_rows(tmp_path) == numbers(alone)


def test_a_continued_evaluation_logs_each_suite_once(alone: Report, tmp_path: Path) -> None:
    stopped = evaluated(out=tmp_path, on_event=log_to("csv"), should_stop=stop_after(3))
    assert stopped.content.run.status == "interrupted"
    part = csv_rows(tmp_path)
    assert 0 < len(part) < len(numbers(alone))
    evaluated(out=tmp_path, on_event=log_to("csv"), resume=True)
    assert csv_rows(tmp_path) == numbers(alone)
    events: list[Event] = []
    evaluated(out=tmp_path, on_event=events.append, resume=True)  # nothing is left
    assert [type(one) for one in events] == [RunStarted, *[SuiteFinished] * 3, RunFinished]
    (tmp_path / "log" / "suites.csv").unlink()
    (tmp_path / "log" / "csv.json").unlink()
    evaluated(out=tmp_path, on_event=log_to("csv"), resume=True)
    assert csv_rows(tmp_path) == numbers(alone)
    evaluated(out=tmp_path, on_event=log_to("csv"), force=True)
    assert csv_rows(tmp_path) == numbers(alone)


def test_a_suite_that_fails_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from robustmix.evaluation.suites.calibration import OpenedCalibration

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no bins")

    monkeypatch.setattr(OpenedCalibration, "parts", broken)
    events: list[Event] = []
    evaluated(on_event=events.append)
    statuses = {one.suite: one.status for one in events if isinstance(one, SuiteFinished)}
    assert statuses == {"clean": "ok", "calibration": "failed", "fgsm": "ok"}
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.status, "no bins" in end.error) == ("failed", True)


def test_figures_are_those_of_the_page(alone: Report) -> None:
    figures = list(figures_of(alone))
    assert [one.name for one in figures] == ["reliability-calibration", "attack-curves"]
    for one in figures:
        assert one.pixels.dtype == np.uint8
        assert one.pixels.shape[2:] == (3,)
        assert one.pixels.min() < 100
        assert one.pixels[0, 0].tolist() == [255, 255, 255]


@without("tensorboard")
def test_tensorboard_has_the_numbers_and_the_figures(alone: Report, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evaluated(out=tmp_path, on_event=log_to("tensorboard"))
    evaluated(out=tmp_path, on_event=log_to("tensorboard"), resume=True)
    found = EventAccumulator(str(tmp_path / "log" / "tensorboard"))
    found.Reload()
    wanted = {f"{s}/{m}": [float(np.float32(v))] for (s, m), v in numbers(alone).items()}
    tags = found.Tags()
    assert {t: [p.value for p in found.Scalars(t)] for t in tags["scalars"]} == wanted
    assert tags["images"] == ["reliability-calibration", "attack-curves"]


@without("mlflow")
def test_mlflow_has_the_numbers_and_the_figures(
    alone: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tiny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    evaluated(out=tmp_path / "out", on_event=log_to("mlflow"), name="net@1")
    assert [path.name for path in (tmp_path / "out" / "log").iterdir()] == ["mlflow.json"]
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert (run.info.run_name, run.info.status) == ("net@1", "FINISHED")
    assert run.data.metrics == {f"{s}/{m}": v for (s, m), v in numbers(alone).items()}
    assert [one.path for one in client.list_artifacts(run.info.run_id, "pictures")] == [
        "pictures/attack-curves.png",
        "pictures/reliability-calibration.png",
    ]


@pytest.mark.slow
@without("wandb")
def test_wandb_has_the_numbers_and_the_figures(
    alone: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "tiny")
    evaluated(out=tmp_path, on_event=log_to("wandb"))
    summary: dict[str, Any] = {}
    for record in wandb_records(tmp_path / "log"):
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        if record.WhichOneof("record_type") == "run":
            assert (record.run.project, record.run.job_type) == ("tiny", "eval")
    wanted = {f"{s}/{m}": v for (s, m), v in numbers(alone).items()}
    assert {key: value for key, value in summary.items() if key in wanted} == wanted
    pictures = [path.name.split("_")[0] for path in tmp_path.rglob("media/images/*.png")]
    assert sorted(pictures) == ["attack-curves", "reliability-calibration"]


def test_a_shard_alone_has_nothing_to_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "net.pth", "--shard", "1/2", "--log", "csv", "--out", str(tmp_path / "out")]
    assert run(words) == 2
    assert "--log has nothing to log with --shard" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
