"""What is done beside the work on the next unit changes nothing, and hides no error."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.evaluation import engine, resume_store
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.resume_store import Kept
from robustmix.evaluation.suite import Batch, Columns, Context, Part, Passes, Prepared, Suite
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.registry import SUITES
from robustmix.metrics.definition import Numbers
from robustmix.report.report import Report
from robustmix.report.rows import Rows
from tests.evaluation.test_engine import QUICK, comparable
from tests.evaluation.tiny import Net, tiny_images, tiny_model

FGSM = Attack(attack="fgsm", sweep=(), masking="off")


@dataclass(frozen=True, kw_only=True)
class PreparedOdd(Prepared):
    kind: ClassVar[str] = "odd"
    make: ClassVar[Callable[[Tensor, Context], Tensor]]

    def parts(self, context: Context) -> list[Part]:
        def compute(batch: Batch) -> Mapping[str, Columns]:
            return {"odd": {"logits": type(self).make(batch.pixels(), context)}}

        return [Part("odd", ("odd",), compute)]

    def passes(self, n: int) -> Passes:
        return Passes(1, n, 0)

    def numbers(self, rows: Rows) -> Numbers:
        return {("", "acc"): lambda: rows.share("odd")}


@dataclass(frozen=True, kw_only=True)
class Odd(Suite):
    """Do what a test says."""

    recorded: ClassVar[type[Prepared]] = PreparedOdd

    def prepare(self, scene: object) -> PreparedOdd:
        return PreparedOdd()


def evaluated(
    make: Callable[[Tensor, Context], Tensor], monkeypatch: pytest.MonkeyPatch, net: Any = None
) -> Report:
    """Evaluate with units of 40 images and a suite that does ``make`` with the images."""
    monkeypatch.setattr(resume_store, "BLOCK", 40)
    monkeypatch.setattr(engine, "BLOCK", 40)
    monkeypatch.setattr(PreparedOdd, "make", staticmethod(make), raising=False)
    with SUITES.temporary():
        SUITES.register("odd", Odd)
        return evaluate(tiny_model(net), tiny_images(), ["clean", "odd"], batch_size=20)


def reason(report: Report, key: str = "odd") -> str:
    assert report.content.suites["clean"].status == "ok"
    part = report.content.suites[key]
    assert part.status == "failed"
    return part.reason or ""


@pytest.mark.parametrize("then", ["goes on", "fails"])
def test_pixels_outside_the_range_fail_the_suite(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(images: Tensor, context: Context) -> Tensor:
        logits = context.model(images * 2)
        if then == "fails":
            raise RuntimeError("because of the pixels")
        return logits

    assert "expected images in [0, 1], got values in [" in reason(evaluated(make, monkeypatch))


def test_a_unit_that_cannot_be_scored_is_told_before_what_came_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = iter(range(100))

    def make(images: Tensor, context: Context) -> Tensor:
        call = next(calls)
        if call >= 2:  # of the second unit
            raise RuntimeError("later")
        logits = context.model(images)
        return torch.where(torch.arange(len(images))[:, None] == 3, torch.nan, logits)

    said = reason(evaluated(make, monkeypatch))
    assert "E-NONFINITE" in said
    assert "tiny/test/3, tiny/test/23" in said


def test_a_unit_is_scored_while_the_next_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    next_began, scored_alone = threading.Event(), []
    added = engine._added

    def waiting(context: Context, part: Part, kept: Kept, found: Any) -> Kept:
        if part.name == "odd" and 0 in found[0].indices.tolist():
            scored_alone.append(not next_began.wait(timeout=60))
        return added(context, part, kept, found)

    def make(images: Tensor, context: Context) -> Tensor:
        if make.calls == 2:  # type: ignore[attr-defined]
            next_began.set()
        make.calls += 1  # type: ignore[attr-defined]
        return context.model(images)

    make.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(engine, "_added", waiting)
    report = evaluated(make, monkeypatch)
    assert report.content.suites["odd"].status == "ok"
    assert scored_alone == [False]


class Remembering(nn.Module):
    """Keeps a table of the size of the batch and multiplies by it, as some networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.modes: set[bool] = set()
        self.table = torch.ones(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.modes.add(torch.is_inference_mode_enabled())
        if len(self.table) != len(x):
            self.table = torch.ones(len(x), 1, 1, 1)
        found: Tensor = self.net(x * self.table)
        return found


def test_a_network_that_keeps_tables_can_be_attacked_after_it_was_scored() -> None:
    net = Remembering()
    report = evaluate(tiny_model(net), tiny_images(), ["clean", FGSM])
    assert [part.status for part in report.content.suites.values()] == ["ok", "ok"]
    assert net.modes == {False}


def test_scoring_without_attacks_takes_inference_mode_and_gives_the_same_numbers() -> None:
    net = Remembering()
    report = evaluate(tiny_model(net), tiny_images(), ["clean", "calibration", "shuffle"])
    assert net.modes == {False, True}  # the first passes are before the suites
    beside = evaluate(tiny_model(), tiny_images(), ["clean", "calibration", "shuffle", FGSM])
    assert report.samples is not None
    assert beside.samples is not None
    for key in ("clean", "shuffle"):
        for name, column in report.samples.tables[key].columns.items():
            assert np.array_equal(column, beside.samples.tables[key].columns[name])


def test_units_of_any_size_give_the_same_report(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(tiny_model(), tiny_images(), QUICK)
    monkeypatch.setattr(resume_store, "BLOCK", 7)
    monkeypatch.setattr(engine, "BLOCK", 7)
    assert comparable(evaluate(tiny_model(), tiny_images(), QUICK)) == comparable(whole)
