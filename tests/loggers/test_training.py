"""What a training tells, and what each logger then holds: every step once, the run's numbers."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustmix.loggers import Event, Pictures, RunFinished, RunStarted, Scalars, log_to
from robustmix.loggers.memory import Memory
from robustmix.training import TrainResult
from tests.loggers.runs import (
    ENDS,
    LOOKS,
    STEPS,
    TOLD,
    Rows,
    from_metrics,
    logged_train,
    scalars_of,
    train_with_the_log_ahead,
    untimed,
    wandb_records,
    wandb_rows,
    without,
)
from tests.training.runs import assert_same_run, small_train, stop_after


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list[Event]]:
    """A run that was not interrupted, logged to CSV and told to a list."""
    out = tmp_path_factory.mktemp("whole") / "run"
    events: list[Event] = []
    to_csv = log_to("csv")

    def both(event: Event) -> None:
        events.append(event)
        to_csv(event)

    return logged_train(out, both), events


def csv_rows(run_dir: Path) -> Rows:
    table = pd.read_csv(run_dir / "log" / "scalars.csv", engine="python")  # reads floats exactly
    rows = table.set_index("step").to_dict("index")
    assert len(rows) == len(table), "a step is there twice"
    return {
        int(str(step)): {str(k): v for k, v in row.items() if not math.isnan(v)}
        for step, row in rows.items()
    }


def test_a_run_tells_its_beginning_its_numbers_and_its_end(
    whole: tuple[TrainResult, list[Event]],
) -> None:
    result, events = whole
    started = events[0]
    assert isinstance(started, RunStarted)
    assert (started.kind, started.name, started.continued, started.step) == (
        "train", "run", False, 0,
    )  # fmt: skip
    assert started.run_id == result.run_id
    assert started.folder == result.run_dir
    assert started.config["method"]["name"] == "mixup"
    assert events[-1] == RunFinished(status="done")
    rows = scalars_of(events)
    assert list(rows) == TOLD
    assert {step: rows[step] for step in ENDS} == from_metrics(result.run_dir)
    for look in LOOKS:
        assert set(rows[look]) == {"lr", "train_loss", "train_top1"}
    epochs = [one.epoch for one in events if isinstance(one, Scalars)]
    assert epochs == [step / STEPS for step in TOLD]


def test_who_listens_changes_no_bit(whole: tuple[TrainResult, list[Event]], tmp_path: Path) -> None:
    assert_same_run(whole[0], logged_train(tmp_path / "alone", None))


def test_csv_has_the_numbers_of_the_run(whole: tuple[TrainResult, list[Event]]) -> None:
    result, events = whole
    found = csv_rows(result.run_dir)
    assert {s: {k: v for k, v in r.items() if k != "epoch"} for s, r in found.items()} == (
        scalars_of(events)
    )


Ahead = tuple[Path, list[str]]


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory) -> Ahead:
    """A run stopped at 4, then at 8, continued from 4 again, with every logger there is."""
    import importlib.util

    here = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
    names = ["csv", *(name for name, of in here.items() if importlib.util.find_spec(of))]
    out = tmp_path_factory.mktemp("ahead") / "run"
    with pytest.MonkeyPatch.context() as patch:
        offline(patch)
        train_with_the_log_ahead(out, *(log_to(*names) for _ in range(3)))
    return out, names


def offline(patch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "WANDB_DIR", "WANDB_NAME", "MLFLOW_TRACKING_URI"):
        patch.delenv(name, raising=False)
    patch.setenv("WANDB_MODE", "offline")


def test_csv_has_each_step_of_a_continued_run_once(
    whole: tuple[TrainResult, list[Event]], ahead: Ahead
) -> None:
    assert untimed(csv_rows(ahead[0])) == untimed(scalars_of(whole[1]))


@without("tensorboard")
def test_tensorboard_has_each_step_of_a_continued_run_once(
    whole: tuple[TrainResult, list[Event]], ahead: Ahead
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = list((ahead[0] / "log" / "tensorboard").iterdir())
    assert len(files) == 3
    found = EventAccumulator(str(ahead[0] / "log" / "tensorboard"))
    found.Reload()
    rows: dict[int, dict[str, float]] = {}
    for name in found.Tags()["scalars"]:
        for point in found.Scalars(name):
            row = rows.setdefault(point.step, {})
            assert name not in row, "a step is there twice"
            row[name] = point.value
    single = {
        step: {k: float(np.float32(v)) for k, v in row.items()}
        for step, row in scalars_of(whole[1]).items()
    }
    assert untimed(rows) == untimed(single)
    assert rows[5]["epoch"] == float(np.float32(5 / 3))
    assert "config/text_summary" in found.Tags()["tensors"]


@without("mlflow")
def test_mlflow_has_each_step_of_a_continued_run_once(
    whole: tuple[TrainResult, list[Event]], ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    out, _ = ahead
    client = MlflowClient((out / "log" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("robustmix")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["method.name"] == "mixup"
    assert run.data.params["batch_size"] == "16"
    rows: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            row = rows.setdefault(point.step, {})
            assert name not in row, "a step is there twice"
            row[name] = point.value
    assert untimed(rows) == untimed(scalars_of(whole[1]))


@without("wandb")
def test_wandb_has_each_step_of_a_continued_run_once(
    whole: tuple[TrainResult, list[Event]], ahead: Ahead
) -> None:
    folder = ahead[0] / "log"
    assert len(list(folder.glob("wandb/offline-run-*"))) == 3
    rows = wandb_rows(folder)
    steps = [step for step, _ in rows]
    assert len(steps) == len(set(steps)), "a step is there twice"
    shown = {step: {k: v for k, v in row.items() if not k.startswith("_")} for step, row in rows}
    assert untimed(shown) == untimed(scalars_of(whole[1]))
    runs = [r.run for r in wandb_records(folder) if r.WhichOneof("record_type") == "run"]
    assert {(run.run_id, run.project, run.display_name) for run in runs} == {
        (remembered(folder / "wandb.json").id, "robustmix", "run")
    }


def remembered(path: Path) -> Memory:
    started = RunStarted(
        kind="train", name="", run_id="", folder=None, config={}, continued=True, step=10**6
    )
    return Memory.of(path, started, rewinds=False)


def test_a_logger_that_is_added_later_gets_the_epochs_before(tmp_path: Path) -> None:
    events: list[Event] = []
    small_train(tmp_path, on_event=events.append)
    again = small_train(tmp_path, on_event=log_to("csv"))
    assert again.already
    found = untimed(csv_rows(tmp_path))
    assert found == untimed(scalars_of(events))
    small_train(tmp_path, on_event=log_to("csv"))
    assert untimed(csv_rows(tmp_path)) == found


def test_a_run_that_begins_anew_has_a_new_log(tmp_path: Path) -> None:
    small_train(tmp_path, on_event=log_to("csv"))
    assert list(csv_rows(tmp_path)) == [3, 6]
    small_train(tmp_path, on_event=log_to("csv"), epochs=1, resume="never", force=True)
    assert list(csv_rows(tmp_path)) == [3]


def test_a_line_that_a_kill_cut_off_is_made_again(tmp_path: Path) -> None:
    small_train(tmp_path, on_event=log_to("csv"), should_stop=stop_after(4))
    file = tmp_path / "log" / "scalars.csv"
    file.write_text(file.read_text() + "6,2.0,0.1")
    small_train(tmp_path, on_event=log_to("csv"))
    assert list(csv_rows(tmp_path)) == [3, 6]


def test_masks_are_told_before_the_numbers_of_their_epoch(tmp_path: Path) -> None:
    from PIL import Image

    events: list[Event] = []
    done = small_train(tmp_path, "automix", on_event=events.append, epochs=1)
    (picture,) = (one for one in events if isinstance(one, Pictures))
    assert (picture.name, picture.step) == ("mixing", 3)
    drawn = np.array(Image.open(done.run_dir / "pictures" / "epoch-0001.png").convert("RGB"))
    assert np.array_equal(picture.pixels, drawn)
    assert [type(one) for one in events[1:3]] == [Pictures, Scalars]
    again: list[Event] = []
    small_train(tmp_path, "automix", on_event=again.append, epochs=1)
    assert [type(one) for one in again] == [RunStarted, Pictures, Scalars, RunFinished]
    none: list[Event] = []
    small_train(tmp_path, "automix", on_event=none.append, epochs=1, picture_every=0)
    assert not [one for one in none if isinstance(one, Pictures)]


def test_a_failure_is_told_and_raised(tmp_path: Path) -> None:
    events: list[Event] = []

    def hook(event: Event) -> None:
        events.append(event)
        if isinstance(event, Scalars):
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        small_train(tmp_path, on_event=hook)
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.status, "RuntimeError: no more" in end.error) == ("failed", True)


def test_a_stop_is_told(tmp_path: Path) -> None:
    events: list[Event] = []
    small_train(tmp_path, on_event=events.append, should_stop=lambda: True)
    assert events[-1] == RunFinished(status="stopped")
