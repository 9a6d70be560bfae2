"""Thresholded classwise error, other bin counts, the papers' figure, experimental recalibrators."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression

from robustmix.errors import UsageError
from robustmix.metrics import classwise
from robustmix.metrics.binned import (
    RunningErrors,
    accuracy_at,
    bin_sums,
    ece_paper_tool,
    expected_calibration_error,
    paper_tool_error,
    reliability_table,
    sorted_errors,
)
from robustmix.metrics.calibration import bin_counts, calibration_metrics
from robustmix.metrics.classwise import (
    average_calibration_error,
    thresholded_calibration_error,
)
from robustmix.metrics.intervals import AT_ONCE, bootstrap_rng, resample
from robustmix.metrics.metric import FIRST_RULES
from robustmix.metrics.recalibration import (
    FLOOR,
    RECALIBRATORS,
    isotonic,
    two_fold_recalibration,
    vector_scaling,
)
from robustmix.metrics.scores import FloatArray, IntArray, score_logits
from robustmix.metrics.temperature import fit_temperature, stratified_halves
from tests.metrics.calibration_fixture import fixture, softmax

IDS = [f"toy/test/{i:04d}" for i in range(1000)]


def slow_tace(p: FloatArray, labels: IntArray, bins: int, threshold: float) -> float:
    total = 0.0
    for k in range(p.shape[1]):
        kept = [i for i in range(len(p)) if p[i, k] > threshold]
        kept.sort(key=lambda i: p[i, k])
        for group in np.array_split(np.array(kept, dtype=int), bins):
            if len(group):
                gap = (labels[group] == k).mean() - p[group, k].mean()
                total += len(group) / len(kept) * abs(float(gap))
    return total / len(p.T)


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.3, 0.999])
@pytest.mark.parametrize("bins", [2, 15])
def test_tace_against_a_loop(bins: int, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(211, 7)), rng.integers(7, size=211)
    expected = slow_tace(softmax(logits), labels, bins, threshold)
    for block in (2**20, 3 * 211):  # all classes at once, then three at a time
        monkeypatch.setattr(classwise, "BLOCK", block)
        ours = thresholded_calibration_error(logits, labels, bins, threshold=threshold)[0]
        assert ours == pytest.approx(expected, abs=1e-12)


def test_tace_without_a_threshold_is_ace() -> None:
    logits, labels = fixture()
    ours = thresholded_calibration_error(logits, labels, 15, threshold=0.0)[0]
    assert ours == pytest.approx(average_calibration_error(logits, labels, 15)[0], abs=1e-12)


def test_tace_weights_are_repetitions() -> None:
    logits, labels = fixture()
    logits, labels = logits[:97], labels[:97]
    weights = resample(97, 5, bootstrap_rng(0))
    weighted = thresholded_calibration_error(logits, labels, 10, weights)
    for replicate, w in enumerate(weights):
        again = thresholded_calibration_error(
            np.repeat(logits, w, axis=0), np.repeat(labels, w), 10
        )
        assert weighted[replicate] == pytest.approx(again[0], abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 97, 211])
@pytest.mark.parametrize("right", [0.0, 0.3, 1.0])
def test_accuracies_counted_without_repetitions_are_those_of_the_repeated_samples(
    n: int, right: float
) -> None:
    rng = np.random.default_rng(n)
    confidence, correct = np.round(rng.random(n), 2), rng.random(n) < right  # with ties
    weights = resample(n, 13, bootstrap_rng(1)).astype(float)
    running = RunningErrors.of(confidence, correct, weights)
    repeated = sorted_errors(confidence, correct, weights)
    for percent in (1, 50, 90, 100):
        assert np.array_equal(running.accuracy(percent), accuracy_at(repeated, percent))


def test_tace_by_hand() -> None:
    # Class 0 has 0.9 and 0.6 above the threshold, one right and one wrong; class 1 has 0.4.
    logits = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.05, 0.95]]))
    labels = [0, 1, 1]
    got = thresholded_calibration_error(logits, np.array(labels), 1, threshold=0.3)[0]
    class_0 = abs((1 + 0) / 2 - (0.9 + 0.6) / 2)
    class_1 = abs((1 + 1) / 2 - (0.4 + 0.95) / 2)
    assert got == pytest.approx((class_0 + class_1) / 2)


def test_scikit_learn_draws_the_same_reliability_curve() -> None:
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    for bins in (10, 15):
        accuracy, confidence = calibration_curve(scores.correct, scores.confidence, n_bins=bins)
        rows = [r for r in reliability_table(scores.confidence, scores.correct, bins) if r["n"]]
        assert [r["accuracy"] for r in rows] == pytest.approx(accuracy.tolist(), abs=1e-12)
        assert [r["confidence"] for r in rows] == pytest.approx(confidence.tolist(), abs=1e-12)


def test_other_bin_counts_come_beside_10_and_15() -> None:
    logits, labels = fixture()
    result = calibration_metrics(logits, labels, seed=0, bins=(20, 10), replicates=5)
    assert set(result.bins) == {10, 15, 20}
    assert [len(table) for table in result.bins.values()] == [10, 15, 20]
    scores = score_logits(logits, labels)
    expected = expected_calibration_error(scores.confidence, scores.correct, 20)
    assert result.metrics["ece_20"].value == pytest.approx(expected, abs=1e-15)
    for name in ("ece", "mce", "rmsce", "adaptive_ece", "classwise_ece"):
        for bins in (10, 15, 20):
            assert (result.metrics[f"{name}_{bins}"].ci is None) == (name == "mce")
    assert bin_counts([]) == (10, 15)
    few = calibration_metrics(logits[:190], labels[:190], seed=0, bins=(20,), replicates=0)
    assert "less than 10 a bin" in str(few.metrics["ece_20"].note)
    assert "less than 10 a bin" not in str(few.metrics["ece_15"].note)


@pytest.mark.parametrize("bins", [0, -1, 1001])
def test_bin_counts_that_cannot_be_meant(bins: int) -> None:
    with pytest.raises(UsageError, match="bins, got"):
        calibration_metrics(np.eye(2), [0, 1], seed=0, bins=(bins,))


def test_trap_09_the_papers_figure_is_never_called_ece() -> None:
    logits, labels = fixture()
    plain = calibration_metrics(logits, labels, seed=0, replicates=0)
    assert "ece_paper_tool" not in plain.metrics
    asked = calibration_metrics(logits, labels, seed=0, paper_tool=True, replicates=20)
    metric = asked.metrics["ece_paper_tool"]
    assert metric.value == pytest.approx(0.15243070, abs=1e-8)
    assert "not an ECE" in str(metric.note)
    assert (metric.ci, metric.reason) == (None, "sorting the bins changes with every sample")
    assert asked.metrics["ece_10"].value == pytest.approx(0.18465322, abs=1e-8)
    rest = {name: m.value for name, m in asked.metrics.items() if name != "ece_paper_tool"}
    assert rest == {name: m.value for name, m in plain.metrics.items()}


def test_trap_09_the_script_line_by_line() -> None:
    """The published loop, written again: lists of the bins are sorted one apart from the other."""
    rng = np.random.default_rng(3)
    confidence = rng.beta(2, 1, size=307)
    correct = rng.random(307) < confidence**2
    edges = np.linspace(0, 1, 11)
    counts, accuracies, confidences = [], [], []
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        counts.append(int(inside.sum()))
        accuracies.append(float(correct[inside].mean()) if inside.any() else 0.0)
        confidences.append(float(confidence[inside].mean()) if inside.any() else 0.0)
    pairs = zip(counts, sorted(accuracies), sorted(confidences), strict=True)
    expected = sum(n / 307 * abs(a - c) for n, a, c in pairs)
    assert ece_paper_tool(confidence, correct) == pytest.approx(expected, abs=1e-12)
    weights = resample(307, 3, bootstrap_rng(0))
    drawn = paper_tool_error(bin_sums(confidence, correct, 10, weights))
    for replicate, w in enumerate(weights):
        again = ece_paper_tool(np.repeat(confidence, w), np.repeat(correct, w))
        assert drawn[replicate] == pytest.approx(again, abs=1e-12)


# experimental recalibrators


def skewed(n: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Labels drawn from softmax(a z + b) with another factor and offset for every class."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, 4))
    true = z * np.array([0.4, 0.8, 1.2, 0.6]) + np.array([0.5, 0.0, -0.7, 0.2])
    return z, (true + rng.gumbel(size=z.shape)).argmax(axis=1)


def test_vector_scaling_against_torch() -> None:
    logits, labels = skewed(503, 0)
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    w, b = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    w.requires_grad_(), b.requires_grad_()
    optimiser = torch.optim.LBFGS([w, b], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(z * w + b, y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    expected = torch.log_softmax((z * w + b).detach(), dim=1).numpy()
    np.testing.assert_allclose(vector_scaling(logits, labels, logits), expected, atol=1e-3)


def test_vector_scaling_finds_what_a_temperature_cannot() -> None:
    logits, labels = skewed(4000, 1)
    others, truth = skewed(4000, 2)
    vector = score_logits(vector_scaling(logits, labels, others), truth).nll.mean()
    t = fit_temperature(logits, labels).T
    assert vector < score_logits(others, truth, temperature=t).nll.mean() - 0.02


def test_isotonic_by_hand() -> None:
    # Class 1 rises 0, 1, 0, 1 over these: the middle two are pooled to 1/2.
    p = np.array([0.1, 0.2, 0.3, 0.4])
    logits = np.log(np.stack([1 - p, p], axis=1))
    fitted = np.exp(isotonic(logits, np.array([0, 1, 0, 1]), logits))
    np.testing.assert_allclose(fitted[:, 1], [0, 0.5, 0.5, 1], atol=1e-9)
    np.testing.assert_allclose(fitted.sum(axis=1), 1)


def test_isotonic_is_one_regression_a_class_then_normalised() -> None:
    logits, labels = skewed(211, 3)
    others, _ = skewed(101, 4)
    columns = [
        IsotonicRegression(out_of_bounds="clip")
        .fit(softmax(logits)[:, k], labels == k)
        .predict(softmax(others)[:, k])
        for k in range(4)
    ]
    p = np.clip(np.stack(columns, axis=1), FLOOR, None)
    expected = p / p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(isotonic(logits, labels, others)), expected, atol=1e-12)


def test_isotonic_takes_equal_probabilities_together() -> None:
    # Of class 1 .2 hits once of three times, .4 once of two; .3 lies half way, the rest outside.
    p = np.array([0.2, 0.2, 0.2, 0.4, 0.4])
    asked = np.array([0.1, 0.3, 0.9])
    logits, others = (np.log(np.stack([1 - q, q], axis=1)) for q in (p, asked))
    fitted = np.exp(isotonic(logits, np.array([1, 0, 0, 1, 0]), others))
    np.testing.assert_allclose(fitted[:, 1], [1 / 3, 5 / 12, 1 / 2], atol=1e-9)
    # Two of three, then one of two, falls: both become three of five, each image counting once.
    pooled = np.exp(isotonic(logits, np.array([1, 1, 0, 1, 0]), others))
    np.testing.assert_allclose(pooled[:, 1], 3 / 5, atol=1e-9)


@pytest.mark.parametrize("name", RECALIBRATORS)
def test_two_folds_of_a_recalibrator_step_by_step(name: str) -> None:
    logits, labels = skewed(203, 5)
    ids = [str(i) for i in range(203)]
    block = two_fold_recalibration(name, logits, labels, ids, seed=0)
    half, nll, hits = stratified_halves(labels, ids, 0), 0.0, 0
    for side in (0, 1):
        scored = half == side
        after = RECALIBRATORS[name](logits[~scored], labels[~scored], logits[scored])
        scores = score_logits(after, labels[scored])
        nll += float(scores.nll.sum()) / 203
        hits += int(scores.correct.sum())
    assert block["nll_after"] == pytest.approx(nll, abs=1e-12)
    assert block["top1_after"] == pytest.approx(hits / 203)
    before = score_logits(logits, labels)
    assert block["nll_before"] == pytest.approx(float(before.nll.mean()), abs=1e-12)
    assert block["top1_before"] == pytest.approx(float(before.correct.mean()))
    assert block["experimental"] is True


@pytest.mark.parametrize("name", RECALIBRATORS)
def test_fits_that_the_samples_do_not_determine_have_no_scores(name: str) -> None:
    logits, labels = skewed(403, 6)
    ids = [str(i) for i in range(403)]
    right = np.eye(4)[labels] * 3 + 0.1 * logits  # all classified rightly, and then three not
    almost = right.copy()
    almost[:3] = -almost[:3]
    rare = np.where(labels == 3, 2, labels)
    rare[:1] = 3
    for z, y, reason in (
        (right, labels, "none of the 20"),
        (almost, labels, "of the 20"),
        (logits, rare, "1 of 4 classes have none of the 20"),
    ):
        block = two_fold_recalibration(name, z, y, ids, seed=0)
        assert reason in block["reason"]
        assert not [key for key in block if key.endswith("_after")]
        assert block["nll_before"] == pytest.approx(float(score_logits(z, y).nll.mean()))
        old = two_fold_recalibration(name, z, y, ids, seed=0, rules=FIRST_RULES)
        assert "reason" not in old
        assert old["nll_after"] > 0


def test_a_fit_that_explains_every_sample_is_none() -> None:
    # Six of each of two classes in a half, wrong by an offset that the fit takes off: separable.
    labels = np.tile([0, 1], 24)
    logits = np.stack([np.zeros(48), np.where(labels == 1, 0.5, -0.5) + 1], axis=1)
    block = two_fold_recalibration("vector", logits, labels, [str(i) for i in range(48)], seed=0)
    assert block["reason"] == "the fit explains each of the 24 samples fitted to"
    assert block["top1_before"] == 0.5


def test_recalibrators_are_off_unless_asked_for() -> None:
    logits, labels = fixture()
    assert calibration_metrics(logits, labels, seed=0, replicates=0).recalibrated == {}
    result = calibration_metrics(
        logits, labels, seed=0, sample_ids=IDS, recalibrators=("vector",), replicates=0
    )
    assert result.recalibrated == {
        "vector": two_fold_recalibration("vector", logits, labels, IDS, seed=0)
    }
    json.dumps(result.recalibrated, allow_nan=False)
    assert math.isfinite(result.recalibrated["vector"]["nll_after"])
    with pytest.raises(UsageError, match="did you mean 'vector'"):
        two_fold_recalibration("vectr", logits, labels, IDS, seed=0)
    with pytest.raises(UsageError, match="at least 2"):
        two_fold_recalibration("vector", logits[:1], labels[:1], IDS[:1], seed=0)


def test_classes_that_are_sorted_some_at_a_time_are_those_of_a_loop() -> None:
    n, num_classes, bins = 700, 130, 15
    assert n * num_classes > AT_ONCE  # or all would be sorted at once
    rng = np.random.default_rng(5)
    logits = 3 * rng.standard_normal((n, num_classes))
    labels = rng.integers(num_classes, size=n)
    counts = resample(n, 2, rng)
    p = softmax(logits)
    for weights in (np.ones(n, dtype=np.int64), *counts):
        rows, total = np.repeat(np.arange(n), weights), 0.0
        for k in range(num_classes):
            gaps = (labels[rows] == k) - p[rows, k]
            gaps = gaps[np.argsort(p[rows, k], kind="stable")]
            total += sum(abs(part.sum()) for part in np.array_split(gaps, bins)) / n
        (found,) = average_calibration_error(logits, labels, bins, weights[None])
        assert found == pytest.approx(total / num_classes, abs=1e-12)
