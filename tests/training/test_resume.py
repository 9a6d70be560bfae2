"""A run that was stopped and continued is, bit for bit, the run that was not."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import robustmix.training.loop as loop
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Split
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.loggers import Event, RunFinished, Scalars
from robustmix.models.checkpoint import read_checkpoint
from robustmix.models.registry import build_model
from robustmix.training import load_recipe
from tests.training.runs import EPOCHS, STEPS, assert_same_run, log, small_train, stop_after


# One network, and two and a generator; tests/methods/test_every_method.py stops all others once.
@pytest.mark.parametrize(
    "method",
    [
        "mixup",
        "adautomix",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cutmix", "automix", "samix")),
    ],
)
def test_stopped_after_every_single_step(method: str, tmp_path: Path) -> None:
    whole = small_train(tmp_path / "whole", method)
    assert not whole.interrupted
    for step in range(EPOCHS * STEPS):
        part = small_train(tmp_path / "parts", method, should_stop=lambda: True)
        assert part.interrupted
        # A stop at an epoch's last step leaves its validation to the next call.
        assert part.epochs == step // STEPS
    part = small_train(tmp_path / "parts", method)
    assert not part.interrupted
    assert_same_run(whole, part)


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_everything_that_could_differ(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, AdamW, warm-up, clipping, bf16 and a held-out part survive a stop."""

    def with_dropout(*args: Any, **kwargs: Any) -> nn.Module:
        net: Any = build_model(*args, **kwargs)
        net.fc = nn.Sequential(nn.Dropout(0.5), net.fc)
        return net  # type: ignore[no-any-return]

    monkeypatch.setattr("robustmix.training.run_folder.build_model", with_dropout)
    monkeypatch.setattr("robustmix.models.checkpoint._check_head", lambda *_: None)
    changes: dict[str, Any] = {
        "optimizer": "adamw",
        "lr": 0.01,
        "schedule": "cosine-iter",
        "warmup_epochs": 1,
        "grad_clip": 0.5,
        "label_smoothing": 0.1,
        "precision": "bf16",
        "channels_last": True,
        "val_split": 0.25,
    }
    whole = small_train(tmp_path / "whole", **changes)
    small_train(tmp_path / "parts", should_stop=stop_after(steps), **changes)
    torch.manual_seed(steps)  # another process: its global stream stands elsewhere
    assert_same_run(whole, small_train(tmp_path / "parts", **changes))


def test_an_unannounced_end_costs_the_steps_since_the_last_save(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die() -> bool:
        raise Killed

    whole = small_train(tmp_path / "whole")
    small_train(tmp_path / "parts", should_stop=stop_after(2))
    with pytest.raises(Killed):
        small_train(tmp_path / "parts", should_stop=die)
    assert_same_run(whole, small_train(tmp_path / "parts"))


def test_time_based_saves_inside_an_epoch(tmp_path: Path) -> None:
    steps: list[int] = []

    def look() -> bool:
        last = tmp_path / "checkpoints" / "last.pth"
        if last.exists():
            resume = read_checkpoint(last).resume
            assert resume is not None
            steps.append(STEPS * resume["epoch"] + resume["step"])
        return False

    small_train(tmp_path, should_stop=look, save_interval=0.0)
    # Asked after each step, before its save, it sees that of the step before; and after epochs.
    assert steps == [1, 2, 3, 3, 4, 5, 6]


def test_the_seconds_of_an_epoch_are_all_of_its_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saves and stops inside an epoch do not shorten it; a second passes whenever one looks."""
    ticks = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    small_train(tmp_path, should_stop=stop_after(2), save_interval=0.0)
    small_train(tmp_path, save_interval=0.0)
    times = json.loads((tmp_path / "times.json").read_text())
    seconds = [line["seconds"] for line in log(tmp_path)]
    assert min(seconds) > 0
    assert seconds == times["epochs_s"]
    # The last save looks once more, after the last epoch.
    assert sum(seconds) == times["elapsed_s"] - 1


def test_a_finished_run_returns_at_once(tmp_path: Path) -> None:
    first = small_train(tmp_path)
    before = first.last.stat().st_mtime_ns
    events: list[Event] = []
    again = small_train(tmp_path, on_event=events.append)
    assert again == replace(first, already=True)
    assert events[-1] == RunFinished(status="done")
    assert first.last.stat().st_mtime_ns == before


def test_without_a_recipe_the_one_of_the_run_is_continued(tmp_path: Path) -> None:
    whole = small_train(tmp_path / "whole", "cutmix")
    small_train(tmp_path / "parts", "cutmix", should_stop=stop_after(4))
    part = loop.train(out=tmp_path / "parts", progress="none", device="cpu")
    assert_same_run(whole, part)


def test_a_run_that_ended_before_its_first_save_is_begun_again(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die() -> bool:
        raise Killed

    with pytest.raises(Killed):
        small_train(tmp_path / "parts", should_stop=die)
    part = loop.train(out=tmp_path / "parts", progress="none", device="cpu")
    assert_same_run(small_train(tmp_path / "whole"), part)


def test_continue_from_a_path_into_another_folder(tmp_path: Path) -> None:
    whole = small_train(tmp_path / "whole")
    stopped = small_train(tmp_path / "parts", should_stop=stop_after(4))
    bits = stopped.last.read_bytes()
    moved = small_train(tmp_path / "moved", resume=stopped.last)
    # ``best`` of an epoch before the stop lies in the other folder.
    assert torch.equal(
        read_checkpoint(whole.last).model["fc.weight"],
        read_checkpoint(moved.last).model["fc.weight"],
    )
    assert stopped.last.read_bytes() == bits


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.3}, "lr is 0.2 there, 0.3 here"),
        ({"method.alpha": 0.5}, "method.alpha is 1.0 there, 0.5 here"),
        ({"augment.padding": 2}, "augment.padding is 4 there, 2 here"),
        ({"limit_val": 30}, "limit_val is 31 there, 30 here"),
    ],
)
def test_another_recipe_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    small_train(tmp_path, should_stop=stop_after(1), lr=0.2)
    with pytest.raises(IncompatibleError, match=said):
        small_train(tmp_path, **{"lr": 0.2, **changes})


def test_other_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_train(tmp_path, should_stop=stop_after(1))

    def others(name: str, split: Split, **options: Any) -> ImageSet:
        return load_dataset(name, split, **options).subset(range(100, 300))

    monkeypatch.setattr("robustmix.training.run_data.load_dataset", others)
    with pytest.raises(IncompatibleError, match="not those the run began with"):
        small_train(tmp_path)


def test_best_cannot_be_continued(tmp_path: Path) -> None:
    done = small_train(tmp_path / "done")
    with pytest.raises(IntakeError, match=r"last\.pth"):
        small_train(tmp_path / "new", resume=done.best)
    assert not (tmp_path / "new").exists()


def test_never_starts_anew_and_spares_finished_runs(tmp_path: Path) -> None:
    small_train(tmp_path, should_stop=stop_after(4))
    fresh = small_train(tmp_path, resume="never", should_stop=stop_after(1))
    assert fresh.epochs == 0
    assert not fresh.best.exists()
    done = small_train(tmp_path)
    with pytest.raises(UsageError, match="finished run"):
        small_train(tmp_path, resume="never")
    again = small_train(tmp_path, resume="never", force=True)
    assert not again.already
    assert again.run_id == done.run_id  # named by its recipe and its images


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(number: signal.Signals, tmp_path: Path) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    whole = small_train(tmp_path / "whole")
    steps = iter(range(1, 100))

    def in_step_two() -> bool:
        if next(steps) == 2:
            signal.raise_signal(number)
        return False

    stopped = small_train(tmp_path / "parts", should_stop=in_step_two)
    assert (stopped.interrupted, stopped.signal) == (True, number)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    resume = read_checkpoint(stopped.last).resume
    assert resume is not None
    assert resume["step"] in (2, 3)  # this handler runs between the question and its answer
    assert_same_run(whole, small_train(tmp_path / "parts"))


def test_a_signal_after_the_last_step_is_told_though_the_run_is_complete(tmp_path: Path) -> None:
    def at_the_end(event: Event) -> None:
        if isinstance(event, Scalars) and event.epoch == EPOCHS:
            signal.raise_signal(signal.SIGTERM)

    done = small_train(tmp_path, on_event=at_the_end)
    assert (done.interrupted, done.signal, done.epochs) == (False, signal.SIGTERM, EPOCHS)


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def twice(event: Event) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        small_train(tmp_path, on_event=twice)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_trains_without_handlers(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(small_train(tmp_path, epochs=1)))
    thread.start()
    thread.join()
    assert [result.epochs for result in results] == [1]


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.training.runs import small_train
out, epochs, method = sys.argv[1:]
result = small_train(Path(out), method, epochs=int(epochs), save_interval=0.0)
sys.exit(128 + result.signal if result.interrupted else 0)
"""


def start_and_signal(out: Path, epochs: int, number: signal.Signals, method: str = "mixup") -> int:
    """Train in another process and send it a signal once it has written a new checkpoint."""
    last = out / "checkpoints" / "last.pth"
    before = last.stat().st_mtime_ns if last.exists() else None
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(out), str(epochs), method],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        cwd=Path(__file__).parents[2],
    )
    try:
        deadline = time.monotonic() + 120
        while not last.exists() or last.stat().st_mtime_ns == before:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        return process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_real_signal_to_another_process(number: signal.Signals, tmp_path: Path) -> None:
    many = 10_000
    assert start_and_signal(tmp_path, many, number) == 128 + number
    last = tmp_path / "checkpoints" / "last.pth"
    resume = read_checkpoint(last).resume
    assert resume is not None
    made = STEPS * resume["epoch"] + resume["step"]
    assert made >= 1
    on = small_train(tmp_path, epochs=many, should_stop=stop_after(1))
    resume = read_checkpoint(on.last).resume
    assert resume is not None
    assert STEPS * resume["epoch"] + resume["step"] == made + 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mixup", "adautomix", "samix"])
def test_killed_at_any_time_the_run_ends_the_same(method: str, tmp_path: Path) -> None:
    epochs = 40
    whole = small_train(tmp_path / "whole", method, epochs=epochs)
    for _ in range(3):
        ended = start_and_signal(tmp_path / "parts", epochs, signal.SIGKILL, method)
        assert ended == -signal.SIGKILL
    metrics = tmp_path / "parts" / "metrics.jsonl"
    if metrics.exists():  # else no epoch was over on a slow machine
        assert all(json.loads(line)["epoch"] for line in metrics.read_text().splitlines())
    assert_same_run(whole, small_train(tmp_path / "parts", method, epochs=epochs))


def test_the_saved_recipe_reruns_the_training(tmp_path: Path) -> None:
    first = small_train(tmp_path / "first", "cutmix", seed=3, **{"method.alpha": 0.7})
    saved = tmp_path / "first" / "recipe.toml"
    again = loop.train(saved, out=tmp_path / "again", progress="none", device="cpu")
    assert_same_run(first, again)
    assert (tmp_path / "again" / "recipe.toml").read_text() == saved.read_text()
    assert load_recipe(saved).method_options == {"alpha": 0.7, "pipeline": "none"}
