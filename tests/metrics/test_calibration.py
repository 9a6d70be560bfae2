import json
import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from robustmix.errors import IncompleteError, UsageError
from robustmix.metrics import calibration, classwise
from robustmix.metrics.binned import (
    accuracy_at,
    adaptive_gaps,
    aurc,
    bin_index,
    bin_sums,
    debiased,
    ece,
    ece_paper_tool,
    equal_mass_edges,
    equal_mass_error,
    expected_calibration_error,
    mce,
    over_confidence,
    reliability_table,
    rmsce,
    sorted_errors,
    under_confidence,
)
from robustmix.metrics.calibration import CalibrationResult, calibration_metrics
from robustmix.metrics.classwise import average_calibration_error, classwise_ece
from robustmix.metrics.conditions import bin_gaps, ece_of_gaps
from robustmix.metrics.curves import point_numbers
from robustmix.metrics.definition import summarise_metrics
from robustmix.metrics.from_logits import rows_of_logits
from robustmix.metrics.intervals import bootstrap, bootstrap_rng, resample, wilson
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import BoolArray, FloatArray, IntArray, score_logits
from robustmix.metrics.temperature import CalibrationSplit, two_fold_temperature
from robustmix.report.rows import Rows
from robustmix.report.samples import Table
from tests.metrics.calibration_fixture import fixture, softmax

IDS = [f"toy/test/{i:04d}" for i in range(1000)]


@pytest.fixture(scope="module")
def result() -> CalibrationResult:
    logits, labels = fixture()
    return calibration_metrics(logits, labels, seed=0, sample_ids=IDS)


def value(result: CalibrationResult, name: str) -> float:
    number = result.metrics[name].value
    assert number is not None
    return number


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ece_10", 0.18465322),
        ("ece_15", 0.18224404),
        ("mce_10", 0.30185552),
        ("mce_15", 0.30092048),
        ("rmsce_10", 0.20536807),
        ("rmsce_15", 0.20351967),
        ("adaptive_ece_10", 0.18268105),
        ("adaptive_ece_15", 0.18705345),
        ("classwise_ece_10", 0.06957308),
        ("classwise_ece_15", 0.07024506),
        ("over", 0.00295567),
        ("under", 0.17928837),
        ("debiased_15", 0.03934937),
        ("aurc", 0.34150203),
        ("acc_at_90", 0.66),
        ("acc_at_80", 0.66125),
        ("acc_at_50", 0.676),
        ("mean_confidence", 0.47666730),
        ("gap", -0.17633270),
        ("nll", 2.07958915),
        ("brier_sum", 0.67998930),
    ],
)
def test_fixture(result: CalibrationResult, name: str, expected: float) -> None:
    assert value(result, name) == pytest.approx(expected, abs=1e-8)
    assert result.metrics[name].n == 1000


def test_fixture_bin_counts(result: CalibrationResult) -> None:
    assert [row["n"] for row in result.bins_10] == [0, 0, 39, 246, 321, 237, 136, 21, 0, 0]


def slow_bins(
    confidence: FloatArray, correct: BoolArray, bins: int
) -> list[tuple[int, float, float]]:
    """Count, accuracy and mean confidence of each filled bin, one sample at a time."""
    found: dict[int, list[tuple[float, bool]]] = {}
    for c, h in zip(confidence.tolist(), correct.tolist(), strict=True):
        j = 1
        while j < bins and bins * c > j:
            j += 1
        found.setdefault(j, []).append((c, h))
    return [
        (len(rows), sum(h for _, h in rows) / len(rows), sum(c for c, _ in rows) / len(rows))
        for _, rows in sorted(found.items())
    ]


def random_samples(n: int, seed: int) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(2, 1, size=n)
    return confidence, rng.random(n) < confidence**2


@pytest.mark.parametrize(("n", "bins"), [(1, 15), (7, 10), (211, 10), (997, 15)])
def test_every_equal_width_measure_against_a_loop(n: int, bins: int) -> None:
    confidence, correct = random_samples(n, n)
    rows = slow_bins(confidence, correct, bins)
    sums = bin_sums(confidence, correct, bins)
    gaps = [(m, acc - conf) for m, acc, conf in rows]
    assert ece(sums)[0] == pytest.approx(sum(m * abs(g) for m, g in gaps) / n)
    assert mce(sums)[0] == pytest.approx(max(abs(g) for _, g in gaps))
    assert rmsce(sums)[0] == pytest.approx(math.sqrt(sum(m * g * g for m, g in gaps) / n))
    over = sum(-m * g for m, g in gaps if g < 0) / n
    assert over_confidence(sums)[0] == pytest.approx(over)
    assert under_confidence(sums)[0] == pytest.approx(ece(sums)[0] - over)
    assert debiased(sums)[0] == pytest.approx(
        sum(m * ((a - c) ** 2 - a * (1 - a) / (m - 1)) for m, a, c in rows if m > 1) / n
    )
    large = [abs(g) for m, g in gaps if m >= 10]
    assert mce(sums, 10)[0] == pytest.approx(max(large, default=math.nan), nan_ok=True)


@pytest.mark.parametrize(("norm", "measure"), [("l1", ece), ("max", mce), ("l2", rmsce)])
@pytest.mark.parametrize("bins", [10, 15])
def test_torchmetrics_agrees(norm: Literal["l1", "l2", "max"], measure: object, bins: int) -> None:
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(503, 7)), rng.integers(7, size=503)
    p = softmax(logits)
    assert p.max() < 1
    theirs = multiclass_calibration_error(
        torch.from_numpy(p), torch.from_numpy(labels), num_classes=7, n_bins=bins, norm=norm
    )
    assert callable(measure)
    scores = score_logits(logits, labels)
    ours = measure(bin_sums(scores.confidence, scores.correct, bins))[0]
    assert ours == pytest.approx(float(theirs), abs=1e-6)  # torchmetrics sums in float32


def test_weights_are_repetitions() -> None:
    confidence, correct = random_samples(101, 0)
    weights = resample(101, 3, bootstrap_rng(0))
    for replicate, w in enumerate(weights):
        c, h = np.repeat(confidence, w), np.repeat(correct, w)
        for measure in (ece, mce, rmsce, debiased, over_confidence, under_confidence):
            weighted = measure(bin_sums(confidence, correct, 15, weights))
            assert weighted[replicate] == pytest.approx(measure(bin_sums(c, h, 15))[0])
        gaps = adaptive_gaps(confidence, correct, weights)
        assert np.array_equal(gaps[replicate], adaptive_gaps(c, h)[0])
        errors = sorted_errors(confidence, correct, weights)
        assert np.array_equal(errors[replicate], sorted_errors(c, h)[0])
        assert aurc(errors)[replicate] == pytest.approx(aurc(sorted_errors(c, h))[0])


def test_weights_are_repetitions_for_classwise_measures() -> None:
    logits, labels = fixture()
    logits, labels = logits[:97], labels[:97]
    weights = resample(97, 3, bootstrap_rng(0))
    for measure in (classwise_ece, average_calibration_error):
        weighted = measure(logits, labels, 10, weights)
        for replicate, w in enumerate(weights):
            again = measure(np.repeat(logits, w, axis=0), np.repeat(labels, w), 10)
            assert weighted[replicate] == pytest.approx(again[0], abs=1e-12)


def slow_classwise(p: FloatArray, labels: IntArray, bins: int) -> float:
    total = 0.0
    for k in range(p.shape[1]):
        hits = labels == k
        for j in range(bins):
            inside = (p[:, k] * bins > j) & (p[:, k] * bins <= j + 1)
            if j == 0:
                inside |= p[:, k] == 0
            if inside.any():
                gap = hits[inside].mean() - p[inside, k].mean()
                total += float(inside.mean()) * abs(float(gap))
    return total / len(p.T)


def slow_ace(p: FloatArray, labels: IntArray, bins: int) -> float:
    total = 0.0
    for k in range(p.shape[1]):
        order = sorted(range(len(p)), key=lambda i: p[i, k])
        for group in np.array_split(order, bins):
            gap = (labels[group] == k).mean() - p[group, k].mean()
            total += len(group) / len(p) * abs(float(gap))
    return total / len(p.T)


@pytest.mark.parametrize("bins", [2, 10, 15])
def test_classwise_measures_against_a_loop(bins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(211, 7)), rng.integers(7, size=211)
    p = softmax(logits)
    for block in (2**20, 3 * 211):  # all classes at once, then three at a time
        monkeypatch.setattr(classwise, "BLOCK", block)
        ours = classwise_ece(logits, labels, bins)[0]
        assert ours == pytest.approx(slow_classwise(p, labels, bins), abs=1e-12)
        ours = average_calibration_error(logits, labels, bins)[0]
        assert ours == pytest.approx(slow_ace(p, labels, bins), abs=1e-12)


def test_adaptive_against_a_loop() -> None:
    confidence, correct = random_samples(103, 0)
    order = sorted(range(103), key=lambda i: confidence[i])
    expected = sum(
        len(g) / 103 * abs(float(correct[g].mean() - confidence[g].mean()))
        for g in np.array_split(order, 10)
    )
    gaps = adaptive_gaps(confidence, correct)
    assert equal_mass_error(gaps, 10)[0] == pytest.approx(expected)


@pytest.mark.parametrize(("n", "bins"), [(103, 10), (10, 10), (1000, 15), (7, 15), (1, 10)])
def test_groups_of_equal_count_put_the_larger_first(n: int, bins: int) -> None:
    sizes = np.diff([*equal_mass_edges(n, bins).tolist(), n]).tolist()
    assert sizes == [len(g) for g in np.array_split(np.arange(n), bins) if len(g)]


def test_ties_keep_the_order_of_the_samples() -> None:
    confidence, correct = np.full(4, 0.5), np.array([True, False, True, True])
    assert adaptive_gaps(confidence, correct)[0].tolist() == [0.5, -0.5, 0.5, 0.5]
    assert sorted_errors(confidence, correct)[0].tolist() == [0, 1, 0, 0]


def test_aurc_by_hand() -> None:
    # By falling confidence: right, wrong, right, wrong; risks 0, 1/2, 1/3, 1/2.
    errors = sorted_errors(np.array([0.4, 0.9, 0.6, 0.8]), [False, True, True, False])
    assert errors[0].tolist() == [0, 1, 0, 1]
    assert aurc(errors)[0] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert accuracy_at(errors, 50)[0] == 0.5
    assert accuracy_at(errors, 51)[0] == pytest.approx(2 / 3)  # 2.04 samples are 3
    assert accuracy_at(errors, 100)[0] == 0.5


@pytest.mark.parametrize("accuracy", [0.0, 0.4, 1.0])
def test_constant_confidence_in_closed_form(accuracy: float) -> None:
    correct = np.arange(50) < 50 * accuracy
    for c in (0.05, 0.4, 0.93):
        expected = abs(accuracy - c)
        assert expected_calibration_error(np.full(50, c), correct) == pytest.approx(expected)
        sums = bin_sums(np.full(50, c), correct, 10)
        assert (mce(sums)[0], rmsce(sums)[0]) == pytest.approx((expected, expected))


def test_bootstrap_bias_of_a_perfectly_calibrated_predictor() -> None:
    # Confidence 3/4, 30 of 40 right: the ECE is 0, that of a resample |Bin(40, 3/4) / 40 - 3/4|,
    # whose mean is de Moivre's 2 v C(n, v) p^v q^(n-v+1) / n with v = floor(np) + 1.
    confidence, correct = np.full(40, 0.75), np.arange(40) < 30
    replicates = bootstrap(
        lambda w: {"ece": ece(bin_sums(confidence, correct, 15, w))},
        40,
        rng=bootstrap_rng(0),
        replicates=20_000,
    )["ece"]
    assert expected_calibration_error(confidence, correct) == 0
    bias = 2 * 31 * math.comb(40, 31) * 0.75**31 * 0.25**10 / 40
    error = float(scipy.stats.sem(replicates))
    assert replicates.mean() == pytest.approx(bias, abs=4 * error)
    assert error < 0.01 * bias


def test_trap_09_sorting_bins_hides_miscalibration() -> None:
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    paper = ece_paper_tool(scores.confidence, scores.correct)
    assert paper == pytest.approx(0.15243070, abs=1e-8)
    # Two bins with each other's accuracy: off by 0.6 each, and perfect once sorted.
    confidence = np.repeat([0.25, 0.85], 20)
    right = np.r_[np.arange(20) < 17, np.arange(20) < 5]
    assert expected_calibration_error(confidence, right, 10) == pytest.approx(0.6)
    assert ece_paper_tool(confidence, right) == pytest.approx(0, abs=1e-12)
    # Where accuracy rises with confidence over all bins, the two agree.
    confidence = np.repeat((np.arange(10) + 0.5) / 10, 20)
    rising = np.tile(np.arange(20), 10) < np.repeat(2 * np.arange(10), 20)
    assert ece_paper_tool(confidence, rising) == pytest.approx(
        expected_calibration_error(confidence, rising, 10)
    )


@pytest.mark.parametrize("hit", [False, True])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_trap_10_confidence_1_lies_in_the_last_bin(hit: bool, bins: int) -> None:
    scores = score_logits(np.array([[0.0, 2000.0]], dtype=np.float32), [int(hit)])
    assert scores.confidence[0] == 1.0
    error = expected_calibration_error(scores.confidence, scores.correct, bins)
    assert error == abs(1 - hit)
    table = reliability_table(scores.confidence, scores.correct, bins)
    assert [row["n"] for row in table] == [0] * (bins - 1) + [1]


def test_edges_belong_to_the_bin_below() -> None:
    edges = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    assert bin_index(edges, 4).tolist() == [0, 0, 1, 2, 3]
    assert bin_index(np.nextafter(edges[:4], 1), 4).tolist() == [0, 1, 2, 3]


def test_order_of_samples_does_not_matter(result: CalibrationResult) -> None:
    logits, labels = fixture()
    order = np.random.default_rng(0).permutation(1000)
    again = calibration_metrics(
        logits[order], labels[order], seed=0, sample_ids=[IDS[i] for i in order]
    )
    assert again.metrics == result.metrics
    assert again.temperature == result.temperature
    assert (again.bins_10, again.bins_15) == (result.bins_10, result.bins_15)
    assert again.sample_temperature is not None
    assert result.sample_temperature is not None
    assert np.array_equal(again.sample_temperature, result.sample_temperature[order])


def test_the_parts_add_up(result: CalibrationResult) -> None:
    assert value(result, "over") + value(result, "under") == pytest.approx(
        value(result, "ece_15"), abs=1e-15
    )
    assert value(result, "mean_confidence") - 0.653 == pytest.approx(value(result, "gap"))
    assert value(result, "brier_mean") == pytest.approx(value(result, "brier_sum") / 10)


METHODS = {
    "skewed95/images": ("nll", "brier_sum", "brier_mean", "gap", "mean_confidence", "aurc"),
    "bootstrap95+wilson95/1000/seed0": ("acc_at_90", "acc_at_80", "acc_at_50"),
    None: ("mce_10", "mce_15", "mce_min_n"),
}


def test_every_metric_has_an_interval_or_a_reason(result: CalibrationResult) -> None:
    methods = {name: method for method, names in METHODS.items() for name in names}
    for name, metric in result.metrics.items():
        assert metric.ci_method == methods.get(name, "chance95"), name
        assert (metric.ci is None) == (metric.reason is not None) == name.startswith("mce")
        if metric.ci is not None:
            assert metric.value is not None
            assert metric.ci[0] <= metric.value <= metric.ci[1]
    gap = result.metrics["gap"]
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    half = 1.96 * (scores.confidence - scores.correct).std() / math.sqrt(1000)
    assert gap.ci == pytest.approx(
        (value(result, "gap") - half, value(result, "gap") + half), abs=0.2 * half
    )


def test_an_error_says_what_chance_adds_to_it(result: CalibrationResult) -> None:
    # Mean of the absolute value of a normal number, for each bin with the spread of its gaps.
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    c, gaps = scores.confidence, scores.correct - scores.confidence
    spread = [
        math.sqrt(max(np.square(gaps[inside]).sum(), (c[inside] * (1 - c[inside])).sum()))
        for inside in (bin_index(c, 15) == j for j in range(15))
    ]
    raised = math.sqrt(2 / math.pi) * sum(spread) / 1000
    assert result.metrics["ece_15"].note == f"chance alone adds up to {raised:.6f}"
    assert result.metrics["debiased_15"].note is None


def test_the_seed_is_the_only_randomness() -> None:
    logits, labels = fixture()
    logits, labels = logits[:61], labels[:61]
    a, b, c = (calibration_metrics(logits, labels, seed=s, replicates=20) for s in (0, 0, 1))
    assert a.metrics == b.metrics
    assert a.metrics["acc_at_90"].ci_method == "bootstrap95+wilson95/20/seed0"
    assert a.metrics["acc_at_90"].ci != c.metrics["acc_at_90"].ci
    assert a.metrics["ece_15"] == c.metrics["ece_15"]


def test_reliability_table(result: CalibrationResult) -> None:
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    rows = [row for row in result.bins_15 if row["n"]]
    expected = slow_bins(scores.confidence, scores.correct, 15)
    for row, (n, acc, confidence) in zip(rows, expected, strict=True):
        assert row["n"] == n
        assert row["accuracy"] == pytest.approx(acc)
        assert row["confidence"] == pytest.approx(confidence)
        assert row["ci"] == list(wilson(round(acc * n), n))
        assert isinstance(row["lo"], float)
        assert isinstance(row["hi"], float)
        assert row["lo"] < confidence <= row["hi"]
    assert result.bins_15[0] == {
        "lo": 0.0,
        "hi": 1 / 15,
        "n": 0,
        "confidence": None,
        "accuracy": None,
        "ci": None,
    }
    assert len(result.bins_15) == 15
    json.dumps([result.bins_10, result.bins_15, result.temperature], allow_nan=False)


def test_few_samples_are_said_to_be_few() -> None:
    logits, labels = fixture()
    metrics = calibration_metrics(logits[:120], labels[:120], seed=0, replicates=10).metrics
    assert "less than 10 a bin" in str(metrics["ece_15"].note)
    assert "less than 10 a bin" not in str(metrics["ece_10"].note)
    tiny = calibration_metrics(logits[:7], labels[:7], seed=0, replicates=10).metrics
    assert tiny["mce_min_n"].value is None
    assert tiny["mce_min_n"].reason == "no bin holds 10 samples"
    assert tiny["mce_15"].value is not None


def test_without_bootstrap() -> None:
    logits, labels = fixture()
    result = calibration_metrics(logits, labels, seed=0, replicates=0)
    assert value(result, "ece_15") == pytest.approx(0.18224404, abs=1e-8)
    without = {name for name, metric in result.metrics.items() if metric.ci is None}
    assert without == {*METHODS[None], *METHODS["bootstrap95+wilson95/1000/seed0"]}
    assert result.metrics["acc_at_90"].reason == "no bootstrap was made"


def test_the_smallest_sets() -> None:
    one = calibration_metrics(np.array([[1.0, 0.0]]), [0], seed=0, replicates=5)
    assert one.temperature["T"] is None
    assert one.temperature["reason"]
    assert one.sample_temperature is None
    two = calibration_metrics(np.eye(2), [0, 1], seed=0, replicates=5)
    assert two.temperature["bound_hit"]
    assert two.temperature["T"] is None
    # Two classes: no confidence below 1/2.
    assert all(row["n"] == 0 for row in two.bins_10[:5])


def test_temperature_block(result: CalibrationResult) -> None:
    logits, labels = fixture()
    expected = two_fold_temperature(logits, labels, IDS, seed=0)
    assert result.temperature == expected.as_dict()
    held_out = CalibrationSplit(
        logits=logits, labels=labels, sample_ids=[f"toy/val/{i}" for i in range(1000)]
    )
    other = calibration_metrics(
        logits, labels, seed=0, sample_ids=IDS, held_out=held_out, replicates=0
    )
    assert other.temperature["T"] == pytest.approx(1.993229, abs=5e-7)
    assert other.temperature["split"] == "held-out"
    assert other.sample_temperature is not None
    assert (other.sample_temperature == other.temperature["T"]).all()


def test_trap_12_calibration_metrics_refuse_shared_samples() -> None:
    logits, labels = fixture()
    held_out = CalibrationSplit(logits=logits[:5], labels=labels[:5], sample_ids=IDS[:5])
    with pytest.raises(UsageError, match="5 samples are in the calibration split"):
        calibration_metrics(logits, labels, seed=0, sample_ids=IDS, held_out=held_out)


def test_trap_11_half_precision_is_refused() -> None:
    logits, labels = fixture()
    with pytest.raises(UsageError, match="float16"):
        calibration_metrics(logits.astype(np.float16), labels, seed=0)


def test_trap_23_no_calibration_from_nan() -> None:
    logits, labels = fixture()
    logits[3, 0] = np.inf
    with pytest.raises(IncompleteError, match=r"toy/test/0003"):
        calibration_metrics(logits, labels, seed=0, sample_ids=IDS)


def test_duplicate_ids_are_refused() -> None:
    with pytest.raises(UsageError, match="occurs twice"):
        calibration_metrics(np.eye(2), [0, 1], seed=0, sample_ids=["a", "a"])


def test_large_sets_get_fewer_classwise_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = fixture()
    few = rows_of_logits(logits[:61], labels[:61], seed=0)
    monkeypatch.setattr(calibration, "_CLASSWISE_COST", 61 * 610)
    assert (calibration.ace_15(few).replicates, calibration.ace_15(few).costly) == (61, True)
    monkeypatch.setattr(calibration, "_CLASSWISE_COST", 0)
    assert calibration.tace_15(few).replicates == 50


def test_ece_of_a_point_is_the_mean_over_trials_with_an_interval_over_images(
    result: CalibrationResult,
) -> None:
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    squared = scores.confidence**2
    columns = {
        "confidence": np.stack([scores.confidence, squared])[None],
        "correct": np.stack([scores.correct] * 2)[None],
    }
    view = replace(
        rows_of_logits(logits, labels, seed=0).view, tables={"x": Table(("1",), columns)}
    )
    rows = Rows.of(view, "x", num_classes=10, input_size=(3, 8, 8), seed=0)

    def defined(trials: int | None) -> Metric:
        key = ("1", "ece_15")
        define = point_numbers(rows, {"1": "1"}, trials=trials)[key]
        return summarise_metrics({key: define}, seed=0)[key]

    one, two = defined(1), defined(None)
    assert one.value == pytest.approx(value(result, "ece_15"), abs=1e-15)
    assert one.n == 1000
    other = expected_calibration_error(squared, scores.correct, 15)
    assert two.value == pytest.approx((value(result, "ece_15") + other) / 2, abs=1e-12)
    # What chance adds to both, on average; an image moves the mean by half of what it moves each.
    raised, moved = 0.0, np.zeros(1000)
    for c in (scores.confidence, squared):
        gaps, groups = scores.correct - c, bin_index(c, 15)
        seen, due = (np.bincount(groups, v, minlength=15) for v in (gaps**2, c * (1 - c)))
        raised += math.sqrt(2 / math.pi) * np.sqrt(np.maximum(seen, due)).sum() / 2000
        moved += np.abs(gaps) * math.sqrt(max(1, (c * (1 - c)).sum() / np.square(gaps).sum())) / 2
    assert two.ci is not None
    assert two.value is not None
    error = math.sqrt(np.square(moved).mean() / 1000 * (1 - 2 / math.pi))
    assert two.ci[0] == pytest.approx(two.value - raised - 1.959964 * error, abs=1e-12)


def test_gaps_of_bins_make_the_same_ece() -> None:
    confidence, correct = random_samples(211, 4)
    weights = resample(211, 5, bootstrap_rng(0)).astype(float)
    gaps = bin_gaps(confidence, correct.astype(float), weights)
    expected = ece(bin_sums(confidence, correct, 15, weights))
    np.testing.assert_allclose(ece_of_gaps(gaps, 211), expected, atol=1e-14)
