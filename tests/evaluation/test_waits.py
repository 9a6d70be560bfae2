"""Scoring batch after batch waits for the device once a unit, not once a batch: counted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.pretended_gpu import GPU, Count, pretended_gpu
from robustmix.evaluation import engine
from robustmix.evaluation.engine import Engine
from robustmix.evaluation.held_out import BATCH, HeldOut
from robustmix.evaluation.resume_store import UnitStore
from robustmix.evaluation.suite import Context, Prepared
from robustmix.evaluation.suites.calibration import OpenedCalibration
from robustmix.evaluation.suites.clean import PreparedClean
from robustmix.models.robust_model import RobustModel, padded
from robustmix.models.watched import WatchedModel
from robustmix.report.samples import Samples
from tests.evaluation.tiny import MEAN, STD, Net, tiny_images

SIZE = 8
"""Images a batch."""


class Aside:
    """Stands for a thread: what it waits for keeps nobody."""

    count: Count

    def __init__(self, *_: object) -> None: ...

    def submit(self, work: Callable[[], Any]) -> Any:
        before = [counter.copy() for counter in (self.count.waits, self.count.uploads)]
        future = engine._known(work())
        self.count.waits, self.count.uploads = before
        return future

    def shutdown(self) -> None: ...


def waits(suite: Prepared, batches: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Count:
    """Run a suite over so many batches on the pretended GPU and count."""
    data = tiny_images(batches * SIZE)
    class_map = [0, 1, -1, 2, 3, 4]
    with pretended_gpu() as count:
        monkeypatch.setattr(Aside, "count", count, raising=False)
        monkeypatch.setattr(engine, "ThreadPoolExecutor", Aside)
        robust = RobustModel(
            Net(6), mean=MEAN, std=STD, num_classes=5, input_size=(3, 32, 32), class_map=class_map
        ).to(GPU)
        watched = WatchedModel(robust)
        context = Context(
            model=padded(watched),
            robust=robust,
            data=data.to(GPU),
            official=torch.arange(len(data)),
            device=GPU,
            seed=0,
            record=Samples(data.sample_ids, data.labels.numpy(), data.class_names, None),
            judge=watched.judge,
            gradients=False,
        )
        store = UnitStore(folder)
        store.open({}, resume=False)
        count.clear()
        Engine(context, store, SIZE).run(suite, "suite")
    return count


def test_more_clean_batches_make_no_more_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = PreparedClean()
    few, many = (waits(suite, n, tmp_path / str(n), monkeypatch) for n in (2, 5))
    assert sum(many.waits.values()) == sum(few.waits.values()), many.table()
    assert many.operations["conv2d"] - few.operations["conv2d"] == 3


def test_more_calibration_batches_make_no_more_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(batches: int) -> OpenedCalibration:
        images = tiny_images(batches * BATCH - 5)
        ids = tuple(f"held/{i}" for i in range(len(images)))
        record = HeldOut(source="", n=len(ids), ids_sha256="", content_sha256="")
        return OpenedCalibration(
            bins=(10, 15), temperature=record, images=replace(images, sample_ids=ids)
        )

    few, many = (waits(fit(n), 1, tmp_path / str(n), monkeypatch) for n in (1, 3))
    assert sum(many.waits.values()) == sum(few.waits.values()), many.table()
    assert many.operations["convolution"] - few.operations["convolution"] == 2
