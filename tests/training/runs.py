"""Training runs of six steps, and what is left of them."""

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustmix.models.checkpoint import read_checkpoint
from robustmix.training import TrainResult, train

EPOCHS, STEPS = 2, 3

TRANSFORMER: dict[str, Any] = {"arch": "timm:test_vit"}
"""What ``transmix`` trains in place of resnet8, which has no attention to read."""

WITH_TEACHER = ("attentivemix", "supermix")
"""Methods that ask a trained network."""


@cache
def trained_network() -> Path:
    """Train resnet8 on some digits, once in a process; return its checkpoint."""
    folder = tempfile.mkdtemp(prefix="robustmix-teacher-")
    settings: dict[str, Any] = {"epochs": 1, "limit_train": 64, "limit_val": 8}
    out = Path(folder) / "run"
    done = train("digits-resnet8-vanilla", out=out, progress="none", device="cpu", **settings)
    return done.best


def demo(method: str) -> tuple[str, dict[str, Any]]:
    """Return the recipe that shows a method on the digits, and what it needs besides."""
    if method == "transmix":
        return "digits-resnet8-vanilla", {"method": method, **TRANSFORMER}
    teacher = {"method.teacher": str(trained_network())} if method in WITH_TEACHER else {}
    return f"digits-resnet8-{method}", teacher


def small_train(out: Path, method: str = "mixup", **changes: Any) -> TrainResult:
    """Two epochs of three steps on 40 digits; the last batch of an epoch is smaller."""
    settings: dict[str, Any] = {
        "epochs": EPOCHS,
        "optimizer": "sgd",
        "lr": 0.2,
        "weight_decay": 1e-3,
        "batch_size": 16,
        "limit_train": 40,
        "limit_val": 31,
        "progress": "none",
        "device": "cpu",
        **changes,
    }
    recipe, needs = demo(method)
    return train(recipe, out=out, **{**needs, **settings})


def stop_after(steps: int) -> Callable[[], bool]:
    made = iter(range(1, 10**6))
    return lambda: next(made) >= steps


def tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor in a nested value, by its path."""
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, Tensor] = {}
    for key, item in items:
        if isinstance(item, dict | list | tuple | Tensor):
            found |= tensors(item, f"{name}/{key}")
    return found


def without_time(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "seconds"}


def log(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(one: TrainResult, other: TrainResult) -> None:
    """Bit for bit: weights, momentum, random states, every logged number."""
    for name in ("last", "best"):
        a, b = (read_checkpoint(getattr(result, name)) for result in (one, other))
        assert (a.epoch, without_time(a.metrics)) == (b.epoch, without_time(b.metrics))
        left, right = (
            tensors({"model": c.model, "raw": c.raw or {}, "resume": c.resume or {}})
            for c in (a, b)
        )
        assert left.keys() == right.keys()
        for key, tensor in left.items():
            assert torch.equal(tensor, right[key]), key
        if a.resume is not None:
            assert b.resume is not None
            for key in ("mix", "means", "epoch", "step", "best_top1"):
                assert a.resume[key] == b.resume[key], key
    lines = [[without_time(record) for record in log(run.run_dir)] for run in (one, other)]
    assert lines[0] == lines[1]
    assert [line["epoch"] for line in lines[0]] == list(range(1, one.epochs + 1))
