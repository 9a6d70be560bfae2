"""Runs over image files, which are read ahead: stopped and continued as any other."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import robustmix.training.loop as loop
from robustmix.data import threads
from robustmix.models.checkpoint import read_checkpoint
from robustmix.training import TrainResult
from tests.training.runs import EPOCHS, STEPS, assert_same_run, stop_after


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "photographs"
    for split, count in (("train", 20), ("val", 6)):
        for i in range(count):
            path = root / split / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (80 + i, 90 - i, 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return root


def run(photographs: Path, out: Path, **changes: Any) -> TrainResult:
    settings: dict[str, Any] = {
        "dataset": f"folder:{photographs}",
        "arch": "resnet8",
        "method": "mixup",
        "img_size": 32,
        "epochs": EPOCHS,
        "batch_size": 8,
        "progress": "none",
        "device": "cpu",
        "augment.rand_ops": 1,
        "augment.erase_prob": 0.3,
        **changes,
    }
    return loop.train(out=out, **settings)


def test_stopped_after_every_step_it_ends_with_the_same_bits(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:  # the oracle reads nothing ahead
        patched.setattr("robustmix.data.loader.AHEAD", 0)
        whole = run(photographs, tmp_path / "whole")
    for _ in range(EPOCHS * STEPS):
        part = run(photographs, tmp_path / "parts", should_stop=lambda: True)
        assert part.interrupted
    assert_same_run(whole, run(photographs, tmp_path / "parts"))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_signal_between_batches_gives_up_what_was_begun(
    steps: int, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[int] = []
    cancel = threads.Pending.cancel

    def noted(pending: threads.Pending) -> None:
        given_up.append(len(pending.jobs))
        cancel(pending)

    monkeypatch.setattr(threads.Pending, "cancel", noted)
    asked = stop_after(steps)

    def signalled() -> bool:
        if asked():
            signal.raise_signal(signal.SIGTERM)
        return False

    whole = run(photographs, tmp_path / "whole")
    assert given_up == []
    stopped = run(photographs, tmp_path / "parts", should_stop=signalled)
    assert (stopped.interrupted, stopped.signal) == (True, signal.SIGTERM)
    resume = read_checkpoint(stopped.last).resume
    assert resume is not None
    assert given_up == [8, 4][resume["step"] - 1 :]  # the batches of the epoch that were left
    assert_same_run(whole, run(photographs, tmp_path / "parts"))
