"""What a reader is told before the numbers: another order of classes, answers that change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.comparison.check import check
from robustmix.comparison.rules import parse_assertion
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.warnings import suspected_order
from robustmix.report.report import Report
from robustmix.report.terminal import warning_lines
from robustmix.report.trust import report_doubts
from tests.evaluation.tiny import Net, tiny_images, tiny_model


def answers(
    labels: Any, order: Any, accuracy: float = 1.0, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Predictions of a model that is right so often and whose output j means ``order[j]``."""
    rng = np.random.default_rng(seed)
    said = np.where(
        rng.random(len(labels)) < accuracy, labels, rng.integers(len(order), size=len(labels))
    )
    return np.argsort(order)[said]


def balanced(classes: int, each: int) -> Any:
    return np.arange(classes * each) % classes


def lexicographic(classes: int) -> Any:
    """Folders 0, 1, 10, 11, ..., 2, 20, ... for classes in natural order; some stay in place."""
    return np.argsort(np.argsort([str(i) for i in range(classes)]))


ORDERS = {
    "two swapped": (2, [1, 0], 20, 1.0),
    "three shifted": (3, [1, 2, 0], 6, 1.0),
    "four shifted, often wrong": (4, [3, 0, 1, 2], 40, 0.7),
    "five, two of them in place": (5, [1, 2, 0, 3, 4], 40, 0.9),
    "ten reversed": (10, list(range(10))[::-1], 10, 0.8),
    "12 folders by name": (12, lexicographic(12), 8, 0.9),
    "100 folders by name": (100, lexicographic(100), 10, 0.75),
    "100 folders, two images each": (100, lexicographic(100), 2, 0.9),
}


@pytest.mark.parametrize("name", ORDERS)
def test_another_order_is_suspected(name: str) -> None:
    classes, order, each, accuracy = ORDERS[name]
    labels = balanced(classes, each)
    pred = answers(labels, np.array(order), accuracy)
    if name.startswith("five"):  # right for two of five: that half are wrong must not be enough
        assert 2 * (pred == labels).sum() > 0.3 * len(labels)
    found = suspected_order(pred, labels, classes)
    assert found is not None
    # Of two images a class both may be wrong.
    assert (np.array(found) == order).mean() >= (0.9 if each < 4 else 1)


def one_each(classes: int) -> tuple[Any, Any, int]:
    """One image a class: some assignment is always right."""
    rng = np.random.default_rng(1)
    return rng.permutation(classes), np.arange(classes), classes


def random_guesses(classes: int, each: int) -> tuple[Any, Any, int]:
    labels = balanced(classes, each)
    return np.random.default_rng(2).integers(classes, size=len(labels)), labels, classes


def poor(classes: int, each: int, accuracy: float) -> tuple[Any, Any, int]:
    labels = balanced(classes, each)
    return answers(labels, np.arange(classes), accuracy), labels, classes


def one_class_only() -> tuple[Any, Any, int]:
    """The model says 1 of everything, and nine in ten images are of class 0."""
    labels = (np.arange(500) % 10 == 0).astype(np.int64)
    return np.ones(500, dtype=np.int64), labels, 2


NONE: dict[str, Callable[[], tuple[Any, Any, int]]] = {
    "right": lambda: poor(10, 20, 1.0),
    "two of ten swapped": lambda: (
        answers(balanced(10, 20), np.array([1, 0, *range(2, 10)])), balanced(10, 20), 10
    ),
    "nearly at chance": lambda: poor(10, 100, 0.05),
    "poor, one image a class": lambda: poor(1000, 1, 0.2),
    "poor, two images a class": lambda: poor(300, 2, 0.2),
    "one image a class": lambda: one_each(200),
    "guesses, one image a class": lambda: random_guesses(300, 1),
    "guesses, two classes": lambda: random_guesses(2, 300),
    "guesses, few images": lambda: random_guesses(3, 2),
    "two images, both wrong": lambda: (np.array([1, 0]), np.array([0, 1]), 2),
    "one class only": one_class_only,
    "no images": lambda: (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_chance_is_no_order(name: str) -> None:
    assert suspected_order(*NONE[name]()) is None


def test_guesses_seldom_look_like_an_order() -> None:
    rng = np.random.default_rng(3)
    labels = balanced(2, 8)
    found = [suspected_order(rng.integers(2, size=16), labels, 2) for _ in range(3000)]
    assert sum(one is not None for one in found) <= 9  # 3 are expected at most


def test_the_warning_says_which_outputs_mean_what() -> None:
    data, model = tiny_images(60, classes=3), tiny_model(classes=3)
    guess = model(data.pixels.take(torch.arange(60)).float() / 255).argmax(dim=1)
    object.__setattr__(data, "labels", torch.tensor([1, 0, 2])[guess])
    report = evaluate(model, data, ["clean"])
    kept = 100 * float((guess == 2).float().mean())
    (warning,) = [w for w in report.content.warnings if w.code == "W-CLASS-ORDER"]
    assert f"accuracy is {kept:.1f}%, but would be 100.0%" in warning.message
    assert "(output->label 0->1, 1->0); give it with --class-map" in warning.message


class Odd(nn.Module):
    """A network with one habit that makes its numbers its company's or its luck's."""

    def __init__(self, habit: str) -> None:
        super().__init__()
        self.net, self.habit, self.calls = Net(), habit, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.habit == "noise":
            x = x + 0.01 * torch.randn_like(x)
        if self.habit == "crop":
            x = x.roll(1 + self.calls % 8, dims=3)  # drawn, it would now and then repeat
        if self.habit == "batch statistics":
            x = x - x.mean(dim=(0, 2, 3), keepdim=True)
        if self.habit == "neighbours":
            x = x + 0.1 * x.roll(1, dims=0)
        logits: Tensor = self.net(x)
        if self.habit == "dropout":
            logits = F.dropout(logits, 0.2)
        if self.habit == "drift" and self.calls > 8:
            logits = logits.roll(1, dims=1)
        return logits


DOUBTS = {
    "noise": "W-NOT-REPEATABLE", "crop": "W-NOT-REPEATABLE", "dropout": "W-NOT-REPEATABLE",
    "drift": "W-NOT-REPEATABLE",
    "batch statistics": "W-BATCH-DEPENDENT", "neighbours": "W-BATCH-DEPENDENT",
}  # fmt: skip


def reported(habit: str) -> Report:
    return evaluate(tiny_model(Odd(habit)), tiny_images(), ["clean", "calibration"])


@pytest.mark.parametrize("habit", DOUBTS)
def test_answers_that_do_not_repeat_are_warned_of_and_pass_no_gate(habit: str) -> None:
    report, sound = reported(habit), reported("none")
    assert [w.code for w in report.content.warnings][:1] == [DOUBTS[habit]]
    assert warning_lines(report)[0].startswith(f"warning[{DOUBTS[habit]}]: ")
    rule = parse_assertion("clean.top1>=0")
    assert check(sound, assertions=[rule]).exit_code == 0
    for told in (report, stripped(report), forged(report)):
        document = check(told, assertions=[rule])
        assert (document.verdict, document.exit_code) == ("incomplete", 4)
        (row,) = [row for row in document.rules if row.outcome == "incomplete"]
        assert row.rule.endswith("repeats its answers")
    if habit != "drift":  # its rows are of another model by now
        document = check(sound, report, assertions=[rule])
        assert document.exit_code in (4, 5)
        rows = [row for row in document.rules if row.rule.endswith("repeats its answers")]
        assert [row.outcome for row in rows] == ["incomplete"]


def stripped(report: Report) -> Report:
    """Without its warnings; the checks still say it."""
    return Report(report.content.model_copy(update={"warnings": []}), report.samples)


def forged(report: Report) -> Report:
    """With checks that are all well; the warnings still say it."""
    checks = report.content.model.checks | {
        "deterministic": True, "batch_independent": True, "repeat_difference": 0.0,
    }  # fmt: skip
    model = report.content.model.model_copy(update={"checks": checks})
    return Report(report.content.model_copy(update={"model": model}), report.samples)


def test_a_sound_model_is_not_doubted() -> None:
    report = reported("none")
    assert report_doubts(report.content) == []
    checks = report.content.model.checks
    assert checks["repeat_difference"] <= 1e-6 < checks["repeat_tolerance"]


def test_files_of_older_versions_are_judged_by_what_they_have() -> None:
    content = reported("noise").content
    checks = {k: v for k, v in content.model.checks.items() if not k.startswith("repeat_")}
    model = content.model.model_copy(update={"checks": checks})
    old = content.model_copy(update={"warnings": [], "model": model})
    assert [doubt.code for doubt in report_doubts(old)] == ["W-NOT-REPEATABLE"]


def test_nan_is_not_taken_for_chance() -> None:
    class Nan(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.nan

    report = evaluate(tiny_model(Nan()), tiny_images(), ["clean"])
    assert "E-NONFINITE" in (report.content.suites["clean"].reason or "")
    assert report_doubts(report.content) == []
