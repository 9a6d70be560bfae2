import math
from collections.abc import Iterable

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
)

from robustmix.errors import IncompleteError, UsageError
from robustmix.metrics.clean import CleanResult, clean_metrics
from robustmix.metrics.intervals import wilson
from robustmix.metrics.metric import Metric
from tests.metrics.calibration_fixture import fixture, softmax

NAMES = [f"class {k}" for k in range(10)]


def value(metric: Metric) -> float:
    assert metric.value is not None
    return metric.value


def interval(metric: Metric) -> tuple[float, float]:
    assert metric.ci is not None
    return metric.ci


@pytest.fixture(scope="module")
def result() -> CleanResult:
    logits, labels = fixture()
    return clean_metrics(logits, labels, class_names=NAMES, seed=0)


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("top1", 0.653, 1e-12),
        ("top5", 0.787, 1e-12),
        ("error", 0.347, 1e-12),
        ("macro_acc", 0.779886, 5e-7),
        ("worst_class", 0.345070, 5e-7),
        ("nll", 2.07958915, 1e-8),
        ("brier_sum", 0.67998930, 1e-8),
        ("brier_mean", 0.067998930, 1e-9),
    ],
)
def test_fixture(result: CleanResult, name: str, expected: float, tolerance: float) -> None:
    assert value(result.metrics[name]) == pytest.approx(expected, abs=tolerance)
    assert result.metrics[name].n == 1000


def test_second_implementation(result: CleanResult) -> None:
    logits, labels = fixture()
    p, pred = softmax(logits), logits.argmax(axis=1)
    metrics = result.metrics
    assert value(metrics["top1"]) == accuracy_score(labels, pred)
    assert value(metrics["macro_acc"]) == pytest.approx(balanced_accuracy_score(labels, pred))
    assert value(metrics["nll"]) == pytest.approx(log_loss(labels, p))
    brier = brier_score_loss(labels, p, labels=range(10), scale_by_half=False)
    assert value(metrics["brier_sum"]) == pytest.approx(brier)
    assert value(metrics["nll_max"]) == pytest.approx(-np.log(p[np.arange(1000), labels].min()))


def test_intervals(result: CleanResult) -> None:
    metrics = result.metrics
    assert metrics["top1"].ci == wilson(653, 1000)
    assert metrics["error"].ci == wilson(347, 1000)
    assert metrics["nll"].ci_method == "skewed95/images"
    logits, labels = fixture()
    nll = -np.log(softmax(logits)[np.arange(1000), labels])
    half = 1.96 * nll.std() / math.sqrt(1000)
    low, high = interval(metrics["nll"])
    assert low == pytest.approx(nll.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(nll.mean() + half, abs=0.2 * half)
    # The mean of class accuracies has the variance sum_k a_k (1 - a_k) / n_k / K^2.
    rows = [(row["acc"], row["n"]) for row in result.per_class]
    variance = sum(a * (1 - a) / n for a, n in rows if isinstance(a, float) and isinstance(n, int))
    low, high = interval(metrics["macro_acc"])
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(variance) / 10, rel=0.1)


def test_the_interval_of_the_minimum_over_classes_allows_for_all_of_them() -> None:
    # Ten classes of equal accuracy: the worst of a sample lies below every one of them.
    labels = np.repeat(np.arange(10), 50)
    logits = np.eye(10)[np.where(np.arange(500) % 5 == 0, (labels + 1) % 10, labels)]
    metric = clean_metrics(logits, labels, class_names=NAMES, seed=0).metrics["worst_class"]
    assert metric.value == 0.8
    assert metric.ci_method == "exact95"
    low = scipy.stats.binomtest(40, 50).proportion_ci(0.95).low
    high = scipy.stats.binomtest(40, 50).proportion_ci(1 - 0.05 / 10).high
    assert metric.ci == pytest.approx((low, high), abs=1e-9)
    # A class without any image may be worse than all that have some.
    unseen = clean_metrics(logits[labels > 0], labels[labels > 0], class_names=NAMES, seed=0)
    metric = unseen.metrics["worst_class"]
    high = scipy.stats.binomtest(40, 50).proportion_ci(1 - 0.05 / 9).high
    assert metric.ci == pytest.approx((0.0, high), abs=1e-9)


def test_per_class_rows_add_up(result: CleanResult) -> None:
    logits, labels = fixture()
    right = logits.argmax(axis=1) == labels
    for k, row in enumerate(result.per_class):
        inside = labels == k
        assert row["class"] == k
        assert row["name"] == NAMES[k]
        assert row["n"] == inside.sum()
        assert row["correct"] == (inside & right).sum()
        assert row["acc"] == pytest.approx(right[inside].mean())
        assert row["ci"] == list(wilson(int((inside & right).sum()), int(inside.sum())))


def test_a_class_without_samples_is_null_and_not_0() -> None:
    logits = np.array([[3.0, 0.0, 1.0], [3.0, 0.0, 1.0], [3.0, 0.0, 1.0], [0.0, 1.0, 5.0]])
    result = clean_metrics(logits, [0, 0, 2, 2], class_names=["a", "b", "c"], seed=0)
    empty = result.per_class[1]
    assert (empty["n"], empty["correct"], empty["acc"], empty["ci"]) == (0, 0, None, None)
    assert value(result.metrics["macro_acc"]) == 0.75
    assert value(result.metrics["worst_class"]) == 0.5
    assert "2 of 3 classes" in str(result.metrics["macro_acc"].note)
    assert "class 2 (c), n=2" in str(result.metrics["worst_class"].note)


def test_top5_of_few_classes() -> None:
    logits, labels = np.eye(7)[:, :4], [0, 1, 2, 3, 1, 2, 3]
    top5 = clean_metrics(logits, labels, class_names=list("abcd"), seed=0).metrics["top5"]
    assert (top5.value, top5.ci, top5.n) == (None, None, 7)
    assert "4 classes" in str(top5.reason)
    five = clean_metrics(np.eye(5), [4, 3, 2, 1, 0], class_names=list("abcde"), seed=0)
    assert five.metrics["top5"].value == 1.0
    assert five.metrics["top5"].note == "k=5 of 5 classes"


def test_superclass_counts_the_coarse_label() -> None:
    logits = np.eye(4)[[0, 1, 2, 3, 0]]
    result = clean_metrics(
        logits,
        [1, 1, 3, 0, 2],
        class_names=list("abcd"),
        superclass=[0, 0, 1, 1],
        seed=0,
    )
    assert result.metrics["superclass_acc"].value == 3 / 5
    assert result.metrics["top1"].value == 1 / 5


def test_improbable_labels_are_counted() -> None:
    logits = np.array([[0.0, 27.0], [0.0, 28.0], [0.0, 99.0]])
    metric = clean_metrics(logits, [0, 0, 0], class_names=["a", "b"], seed=0).metrics["nll_max"]
    assert metric.value == 99.0
    assert metric.ci is None
    assert str(metric.note).startswith("2 samples give their label less than 1e-12")


def test_trap_22_the_last_partial_batch_counts_by_its_size() -> None:
    n, batch = 103, 10
    labels = np.zeros(n, dtype=np.int64)
    logits = np.zeros((n, 5), dtype=np.float32)
    logits[:100, 0] = 1.0
    logits[100:, 1] = 1.0  # only the last three are wrong
    right = logits.argmax(axis=1) == 0
    by_batch = [right[i : i + batch].mean() for i in range(0, n, batch)]
    top1 = clean_metrics(logits, labels, class_names=list("abcde"), seed=0).metrics["top1"]
    assert top1.value == 100 / 103
    assert top1.n == 103
    assert top1.value != pytest.approx(np.mean(by_batch), abs=0.05)
    assert top1.value != pytest.approx(np.mean(by_batch[:-1]), abs=0.02)


def test_trap_23_no_metric_from_nan() -> None:
    logits, labels = fixture()
    logits[17, 3] = np.nan
    with pytest.raises(IncompleteError, match="1 of 1000 samples"):
        clean_metrics(logits, labels, class_names=NAMES, seed=0)


def test_the_order_of_the_samples_does_not_matter() -> None:
    logits, labels = fixture()
    ids = [f"toy/test/{i}" for i in range(1000)]
    order = np.random.default_rng(0).permutation(1000)
    a = clean_metrics(logits, labels, class_names=NAMES, seed=3, sample_ids=ids)
    b = clean_metrics(
        logits[order],
        labels[order],
        class_names=NAMES,
        seed=3,
        sample_ids=[ids[i] for i in order],
    )
    assert a == b


def test_tensors_and_arrays_give_the_same() -> None:
    logits, labels = fixture()
    a = clean_metrics(logits, labels, class_names=NAMES, seed=0, replicates=0)
    b = clean_metrics(
        torch.from_numpy(logits).requires_grad_(),
        torch.from_numpy(labels),
        class_names=NAMES,
        seed=0,
        replicates=0,
    )
    assert a == b
    assert a.metrics["macro_acc"].ci is None
    assert a.metrics["nll"].ci is not None
    assert a.metrics["top1"].ci is not None


@pytest.mark.parametrize(
    ("names", "coarse", "message"),
    [
        (NAMES[:9], None, "expected 10 class names"),
        (NAMES, range(9), "expected 10 coarse classes"),
    ],
)
def test_lists_that_do_not_fit(
    names: list[str], coarse: Iterable[int] | None, message: str
) -> None:
    logits, labels = fixture()
    with pytest.raises(UsageError, match=message):
        clean_metrics(
            logits,
            labels,
            class_names=names,
            superclass=None if coarse is None else list(coarse),
            seed=0,
        )


def test_confusion_matrix_is_scikit_learns() -> None:
    logits, labels = fixture()
    result = clean_metrics(logits, labels, class_names=NAMES, seed=0, confusion=True, replicates=0)
    assert result.confusion is not None
    matrix = np.zeros((10, 10), dtype=int)
    for label, predicted, count in result.confusion:
        matrix[label, predicted] = count
    assert np.array_equal(matrix, confusion_matrix(labels, logits.argmax(axis=1)))
    assert all(count > 0 for _, _, count in result.confusion)
    assert result.confusion == sorted(result.confusion)
    assert clean_metrics(logits, labels, class_names=NAMES, seed=0, replicates=0).confusion is None


def test_a_confusion_matrix_of_many_classes_is_refused() -> None:
    logits = np.zeros((2, 1001), dtype=np.float32)
    names = [str(k) for k in range(1001)]
    with pytest.raises(UsageError, match="too large"):
        clean_metrics(logits, [0, 1], class_names=names, seed=0, confusion=True)


def test_classes_by_training_images() -> None:
    logits, labels = fixture()
    counts = [19, 20, 100, 101, 500, 5, 60, 0, 300, 20]
    result = clean_metrics(
        logits, labels, class_names=NAMES, seed=0, train_counts=counts, replicates=0
    )
    groups = {"many": [3, 4, 8], "medium": [1, 2, 6, 9], "few": [0, 5, 7]}
    right, seen = 0, 0
    for name, classes in groups.items():
        inside = np.isin(labels, classes)
        metric = result.metrics[f"{name}_shot_acc"]
        hits = int((logits.argmax(axis=1) == labels)[inside].sum())
        assert value(metric) == pytest.approx(hits / inside.sum())
        assert interval(metric) == wilson(hits, int(inside.sum()))
        assert f"{len(classes)} classes" in str(metric.note)
        right, seen = right + hits, seen + metric.n
    assert (right, seen) == (653, 1000)
    assert [row["train_n"] for row in result.per_class] == counts
    none = clean_metrics(
        logits, labels, class_names=NAMES, seed=0, train_counts=[500] * 10, replicates=0
    ).metrics["few_shot_acc"]
    assert (none.value, none.n, none.reason) == (None, 0, "no samples")
    with pytest.raises(UsageError, match="counts of training images"):
        clean_metrics(logits, labels, class_names=NAMES, seed=0, train_counts=[1])
