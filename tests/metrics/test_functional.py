"""Metrics by one call: other libraries' numbers, the report's, and what is refused."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    log_loss,
    roc_auc_score,
    roc_curve,
    top_k_accuracy_score,
)
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

import robustmix
from robustmix import metrics
from robustmix.corruptions.names import MAIN
from robustmix.errors import IncompleteError, UsageError
from robustmix.metrics import functional
from robustmix.metrics.intervals import wilson
from robustmix.metrics.mce import ALEXNET, mce
from robustmix.metrics.scores import order_by_id
from robustmix.report.report import Report
from tests.metrics.calibration_fixture import fixture, softmax

Array = NDArray[Any]
OF_OUTPUTS = ("nll", "brier_score", "ece", "rmsce", "maximum_calibration_error", "adaptive_ece",
              "aurc", "classwise_ece", "ace", "tace")  # fmt: skip
"""Numbers that logits and probabilities give differently."""


def made(n: int = 211, classes: int = 7) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    labels = rng.integers(classes, size=n)
    logits = 2 * rng.normal(size=(n, classes)) + 2 * np.eye(classes)[labels]
    return logits.astype(np.float32), labels


def of_torchmetrics(p: Array, y: Array, norm: str) -> float:
    tensors = torch.from_numpy(p), torch.from_numpy(y)
    return float(multiclass_calibration_error(*tensors, p.shape[1], n_bins=15, norm=norm))  # type: ignore[arg-type]


class Case(NamedTuple):
    """A metric of probabilities beside another library's."""

    name: str
    theirs: Callable[[Array, Array], float]
    ours: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


CASES = [
    Case("nll", lambda p, y: log_loss(y, p)),
    Case("brier_score", lambda p, y: float(np.square(p - np.eye(p.shape[1])[y]).sum(1).mean())),
    Case("ece", partial(of_torchmetrics, norm="l1")),
    Case("rmsce", partial(of_torchmetrics, norm="l2")),
    Case("maximum_calibration_error", partial(of_torchmetrics, norm="max")),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_probabilities_give_the_numbers_of_other_libraries(case: Case) -> None:
    logits, y = made()
    p = softmax(logits)
    ours = getattr(metrics, case.name)(p, y, from_logits=False, **case.ours)
    assert ours == pytest.approx(case.theirs(p, y), abs=1e-6)
    assert ours > 0.01


@pytest.mark.parametrize("name", OF_OUTPUTS)
@pytest.mark.parametrize("bins", [15, 4])
def test_logits_and_their_softmax_give_one_number(name: str, bins: int) -> None:
    logits, y = made()
    more = {} if name in ("nll", "brier_score", "aurc") else {"bins": bins}
    metric = getattr(metrics, name)
    found = metric(logits, y, from_logits=True, **more)
    p = softmax(logits.astype(np.float64))
    assert metric(p, y, from_logits=False, **more) == pytest.approx(found, abs=1e-12)
    if more:
        assert found != metric(logits, y, from_logits=True, bins=9)
    as_logits = metric(2 * logits, y, from_logits=True, **more)
    assert abs(as_logits - found) > 1e-4  # it hangs on them, and not on their order alone


def test_accuracies_are_those_of_scikit_learn() -> None:
    logits, y = made()
    pred = logits.argmax(axis=1)
    assert metrics.accuracy(logits, y) == accuracy_score(y, pred)
    assert metrics.macro_accuracy(logits, y) == pytest.approx(balanced_accuracy_score(y, pred))
    without = y.copy()
    without[y == 3] = 2  # a class without samples
    each = [(pred[without == k] == k).mean() for k in (0, 1, 2, 4, 5, 6)]
    assert metrics.macro_accuracy(logits, without) == pytest.approx(np.mean(each))
    assert metrics.top_k_accuracy(logits, y, 7) == 1
    for k in (1, 3, 6):
        theirs = top_k_accuracy_score(y, logits, k=k, labels=range(7))
        assert metrics.top_k_accuracy(logits, y, k) == pytest.approx(theirs)


def test_detection_and_agreement_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    inside, outside = np.round(rng.normal(1, 1, 83), 1), np.round(rng.normal(0, 1, 57), 1)  # ties
    scores = np.concatenate([inside, outside])
    which = np.repeat([1, 0], [83, 57])
    assert metrics.auroc(inside, outside) == pytest.approx(roc_auc_score(which, scores))
    assert metrics.aupr(inside, outside) == pytest.approx(average_precision_score(which, scores))
    theirs = average_precision_score(1 - which, -scores)
    assert metrics.aupr(inside, outside, positive="out") == pytest.approx(theirs)
    tensors = (torch.from_numpy(one).requires_grad_() for one in (inside, outside))
    assert metrics.auroc(*tensors) == metrics.auroc(inside.tolist(), outside.tolist())
    false, true, _ = roc_curve(which, scores, drop_intermediate=False)
    assert metrics.fpr95(inside, outside) == pytest.approx(false[np.argmax(true >= 0.95)])
    first, second, y = rng.integers(3, size=(3, 90))
    assert metrics.cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    theirs = cohen_kappa_score(first == y, second == y)
    assert metrics.error_consistency(first, torch.from_numpy(second), y.tolist()) == pytest.approx(
        theirs
    )
    assert abs(theirs) > 1e-3


@pytest.mark.parametrize("name", ["accuracy", "top_k_accuracy", "macro_accuracy", *OF_OUTPUTS])
def test_arrays_tensors_and_lists_are_alike(name: str) -> None:
    logits, y = made()
    how = {"from_logits": True} if name in OF_OUTPUTS else {}
    metric = partial(getattr(metrics, name), **how)
    tensor = torch.from_numpy(logits).requires_grad_()
    assert metric(tensor, torch.from_numpy(y)) == metric(logits, y)
    assert metric(logits.tolist(), y.tolist()) == metric(logits, y)


def test_reliability_s_rows_make_the_ece() -> None:
    logits, y = fixture()
    rows = metrics.reliability(logits, y, from_logits=True, bins=12)
    filled = [row for row in rows if row["n"]]
    found = sum(r["n"] / len(y) * abs(r["accuracy"] - r["confidence"]) for r in filled)  # type: ignore
    assert found == pytest.approx(metrics.ece(logits, y, from_logits=True, bins=12), abs=1e-12)
    assert len(rows) == 12


def test_scores_for_detection_are_those_of_torch() -> None:
    logits, _ = made()
    z = torch.from_numpy(logits).double()
    found = metrics.detection_scores(torch.from_numpy(logits))
    np.testing.assert_allclose(found["msp"], z.softmax(1).amax(1), rtol=1e-12)
    np.testing.assert_allclose(found["energy"], z.logsumexp(1), rtol=1e-12)
    np.testing.assert_array_equal(found["max_logit"], logits.max(axis=1))
    with pytest.raises(IncompleteError):
        metrics.detection_scores([[0.0, np.inf]])


# The report's numbers


@pytest.fixture(scope="module")
def report() -> Report:
    torch.manual_seed(1)
    last = nn.Linear(3 * 32 * 32, 10)
    net = nn.Sequential(nn.Flatten(), last)
    with torch.no_grad():
        last.weight *= 9  # surer, or no probability would be below tace's threshold
    return robustmix.evaluate(
        net, "digits", "clean,calibration,fgsm", limit=150, masking="off", mean=(0.2,) * 3,
        std=(0.3,) * 3, progress="none",
    )  # fmt: skip


IN_A_REPORT: dict[str, Callable[[Array, Array], float]] = {
    "clean.top1": metrics.accuracy,
    "clean.top5": metrics.top_k_accuracy,
    "clean.macro_acc": metrics.macro_accuracy,
    "clean.nll": partial(metrics.nll, from_logits=True),
    "clean.brier_sum": partial(metrics.brier_score, from_logits=True),
    "calibration.ece_15": partial(metrics.ece, from_logits=True),
    "calibration.ece_10": partial(metrics.ece, from_logits=True, bins=10),
    "calibration.mce_15": partial(metrics.maximum_calibration_error, from_logits=True),
    "calibration.rmsce_15": partial(metrics.rmsce, from_logits=True),
    "calibration.adaptive_ece_15": partial(metrics.adaptive_ece, from_logits=True),
    "calibration.classwise_ece_15": partial(metrics.classwise_ece, from_logits=True),
    "calibration.ace_15": partial(metrics.ace, from_logits=True),
    "calibration.tace_15": partial(metrics.tace, from_logits=True),
    "calibration.aurc": partial(metrics.aurc, from_logits=True),
}


@pytest.mark.parametrize("path", IN_A_REPORT)
def test_the_record_s_logits_give_the_report_s_numbers(path: str, report: Report) -> None:
    samples = report.samples
    assert samples is not None
    order = order_by_id(samples.sample_ids)
    logits = samples.tables["clean"].at("clean")["logits"][order]
    value = report[path].value
    assert value is not None
    assert IN_A_REPORT[path](logits, samples.labels[order]) == pytest.approx(value, abs=1e-14)
    p = softmax(logits.astype(np.float64))
    assert value != pytest.approx(float(p.max(axis=1).mean()), abs=1e-6)


def test_mce_is_that_of_the_suite() -> None:
    rng = np.random.default_rng(0)
    wrong = {name: rng.integers(6, size=40) / 5 for name in MAIN}
    errors = [wrong[name].mean() for name in MAIN]
    found = metrics.mean_corruption_error(errors, ALEXNET.errors)
    assert found == pytest.approx(mce(wrong, ALEXNET).estimate(), abs=1e-12)


# Intervals


def test_bootstrap_of_a_share_is_near_wilson_s() -> None:
    right = np.repeat([1.0, 0.0], [150, 50])
    low, high = metrics.bootstrap_interval(np.mean, right, seed=2, replicates=4000)
    assert (low, high) == pytest.approx(wilson(150, 200), abs=0.01)
    assert (low, high) == metrics.bootstrap_interval(np.mean, right, seed=2, replicates=4000)
    assert (low, high) != metrics.bootstrap_interval(np.mean, right, seed=3, replicates=4000)


def test_samples_are_drawn_with_all_that_is_of_them() -> None:
    logits, y = made(60)
    seen = []

    def metric(outputs: torch.Tensor, labels: list[int], places: Array) -> float:
        assert (outputs == torch.from_numpy(logits)[places]).all()
        assert np.array_equal(labels, y[places])
        seen.append(len(set(places.tolist())))
        return metrics.accuracy(outputs, labels)

    low, high = metrics.bootstrap_interval(
        metric, torch.from_numpy(logits), y.tolist(), np.arange(60), replicates=50
    )
    assert low < metrics.accuracy(logits, y) < high
    assert np.mean(seen) == pytest.approx(60 * (1 - (59 / 60) ** 60), abs=1.5)


# What is refused


@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_nothing_is_guessed(name: str) -> None:
    logits, y = made()
    metric = getattr(metrics, name)
    with pytest.raises(TypeError, match="from_logits"):
        metric(logits, y)
    with pytest.raises(UsageError, match="sample 0 are no distribution"):
        metric(logits, y, from_logits=False)
    with pytest.warns(UserWarning, match="want from_logits=False") as caught:
        metric(softmax(logits), y, from_logits=True)
    assert [one.filename for one in caught] == [__file__]  # the line to be changed


@pytest.mark.parametrize(
    "row", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1.0], [np.inf, 0.0], [0.499, 0.499]]
)
def test_what_is_no_distribution_is_refused(row: list[float]) -> None:
    with pytest.raises(UsageError, match="sample 1 are no distribution") as caught:
        metrics.nll([[0.5, 0.5], row], [0, 0], from_logits=False)
    assert caught.value.code == "E-PROBABILITIES"


def test_exact_zeros_are_probabilities() -> None:
    sure = np.eye(3)[[0, 1, 2, 0]]
    assert metrics.nll(sure, [0, 1, 2, 0], from_logits=False) == 0
    assert metrics.nll(sure, [0, 1, 2, 1], from_logits=False) == np.inf
    assert metrics.brier_score(sure, [0, 1, 2, 1], from_logits=False) == 0.5
    assert metrics.ece(sure, [0, 1, 2, 1], from_logits=False) == 0.25
    assert metrics.classwise_ece(sure, [0, 1, 2, 1], from_logits=False) == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.top_k_accuracy([[0.0, 1.0]], [0], k=3),
        lambda: metrics.nll([[0.0, 1.0]], [0], from_logits="probabilities"),  # type: ignore[arg-type]
        lambda: metrics.ace([[0.0, 1.0]], [0], from_logits=None),  # type: ignore[arg-type]
        lambda: metrics.ece([[0.0, 2.0]], [0], from_logits=True, bins=0),
        lambda: metrics.ace([[0.0, 2.0]], [0], from_logits=True, bins=0),
        lambda: metrics.accuracy([[0.0, 1.0]], [2]),
        lambda: metrics.accuracy(np.zeros((2, 3), np.float16), [0, 1]),
        lambda: metrics.accuracy([0.0, 1.0], [0, 1]),  # type: ignore[list-item]
        lambda: metrics.auroc([], [1.0]),
        lambda: metrics.auroc([np.nan], [1.0]),
        lambda: metrics.aupr([0.0], [1.0], positive="both"),  # type: ignore[arg-type]
        lambda: metrics.cohen_kappa([1, 1], [1, 1]),
        lambda: metrics.cohen_kappa([], []),
        lambda: metrics.error_consistency([0, 1], [0, 1], [0, 1]),
        lambda: metrics.error_consistency([0, 1], [0], [0, 1]),
        lambda: metrics.mean_corruption_error([0.5], [0.0]),
        lambda: metrics.mean_corruption_error([0.5, 0.5], [0.5]),
        lambda: metrics.bootstrap_interval(np.mean),
        lambda: metrics.bootstrap_interval(np.mean, [1.0], [1.0, 2.0]),
        lambda: metrics.bootstrap_interval(np.mean, [1.0], replicates=0),
    ],
)
def test_what_cannot_be_meant_is_an_error(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        call()


@pytest.mark.parametrize("name", ["accuracy", "nll", "classwise_ece"])
def test_a_logit_that_is_not_finite_is_no_wrong_prediction(name: str) -> None:
    how = {} if name == "accuracy" else {"from_logits": True}
    with pytest.raises(IncompleteError):
        getattr(metrics, name)([[0.0, np.nan]], [0], **how)


def test_every_metric_completes_and_says_what_it_takes() -> None:
    names = {one.name for one in iter_modules(functional.__path__)} - {"inputs"}  # helps the others
    modules = [import_module(f"{functional.__name__}.{name}") for name in sorted(names)]
    own = {
        name for module in modules for name, thing in vars(module).items()
        if callable(thing) and getattr(thing, "__module__", "") == module.__name__
        and not name.startswith("_")
    }  # fmt: skip
    assert own <= set(dir(metrics))
    assert own <= set(metrics.__all__)
    assert len(own) > 20
    for name in own:
        text = getattr(metrics, name).__doc__
        assert {"Args:", "Returns:", "Raises:", "Example:"} <= set(text.split()), name
