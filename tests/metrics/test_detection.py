"""Detection of out-of-distribution images: by hand, by pairs, by scikit-learn and pytorch-ood."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from robustmix.metrics.definition import once, summarise_metrics
from robustmix.metrics.detection import (
    MEASURES,
    Detection,
    detection_scores,
    logit_interval,
    mean_over_sets,
    passing_threshold,
    score_histogram,
    score_interval,
)
from robustmix.metrics.intervals import Z95, resample_weights, wilson
from robustmix.metrics.scores import FloatArray


def groups(m: int, n: int, seed: int = 0, *, ties: bool = True) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    inside, outside = rng.normal(1, 1, m), rng.normal(0, 1, n)
    return (inside.round(1), outside.round(1)) if ties else (inside, outside)


def test_four_measures_by_hand_with_ties() -> None:
    """Of the 8 pairs 5 are in order and 2 are ties; all four must pass, with one of the two."""
    found = Detection(np.array([2.0, 3.0, 1.0, 2.0]), np.array([0.0, 2.0]))
    assert found.estimate("auroc") == (5 + 2 / 2) / 8
    assert found.estimate("fpr95") == 1 / 2
    assert found.estimate("aupr_in") == pytest.approx(1 / 4 * 1 + 2 / 4 * 3 / 4 + 1 / 4 * 4 / 5)
    assert found.estimate("aupr_out") == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 5)


def test_nineteen_of_twenty_are_kept_exactly() -> None:
    inside = np.arange(20.0)
    assert passing_threshold(inside) == 1
    assert Detection(inside, np.array([0.9, 1.0, 1.1])).estimate("fpr95") == pytest.approx(2 / 3)
    # Of 21 there must be 20: 19.95 are not enough.
    assert passing_threshold(np.arange(21.0)) == 1
    assert passing_threshold(np.arange(19.0)) == 0


def by_sklearn(inside: FloatArray, outside: FloatArray) -> dict[str, float]:
    scores = np.concatenate([inside, outside])
    is_in = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    passed, kept, _ = roc_curve(is_in, scores, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(is_in, scores)),
        "fpr95": float(passed[np.argmax(kept >= 0.95)]),
        "aupr_in": float(average_precision_score(is_in, scores)),
        "aupr_out": float(average_precision_score(1 - is_in, -scores)),
    }


@pytest.mark.parametrize(("m", "n"), [(5, 3), (41, 67), (101, 31)])
def test_scikit_learn_gives_the_same(m: int, n: int) -> None:
    inside, outside = groups(m, n)
    found, theirs = Detection(inside, outside), by_sklearn(inside, outside)
    assert {name: found.estimate(name) for name in theirs} == pytest.approx(theirs)


def test_a_resample_is_the_images_repeated() -> None:
    inside, outside = groups(13, 11)
    found = Detection(inside, outside)
    weights = resample_weights(24, 6, np.random.default_rng(2))
    for row, weight in enumerate(weights):
        often = weight.astype(int)
        theirs = by_sklearn(np.repeat(inside, often[:13]), np.repeat(outside, often[13:]))
        ours = {name: found.measure(name, weights)[row] for name in theirs}
        assert ours == pytest.approx(theirs)
    alone = np.zeros((1, 24))
    alone[0, :13] = 1
    assert all(np.isnan(found.measure(name, alone)[0]) for name in MEASURES)


@pytest.mark.parametrize("ties", [False, True])
def test_pytorch_ood_gives_the_same(ties: bool) -> None:
    """Its scores are ours with the sign changed, and its positives the others."""
    theirs = pytest.importorskip("pytorch_ood.metrics", reason="needs pytorch-ood")
    inside, outside = groups(83, 57, ties=ties)
    scores = torch.from_numpy(-np.concatenate([inside, outside]))
    labels = torch.tensor([0] * 83 + [-1] * 57)
    area = theirs.AUROC().update(scores, labels).compute()["AUROC"]
    passed = theirs.FPRAtTPR(tpr=0.95).update(scores, labels).compute()["FPR95TPR"]
    assert area == pytest.approx(Detection(inside, outside).estimate("auroc"), abs=1e-6)
    # It keeps 95 % of the out-of-distribution images: the question with its sides changed.
    assert passed == pytest.approx(Detection(-outside, -inside).estimate("fpr95"), abs=1e-6)


def test_scores_are_those_of_pytorch_ood() -> None:
    theirs = pytest.importorskip("pytorch_ood.detector", reason="needs pytorch-ood")
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 5
    ours = detection_scores(logits.numpy())
    for name, kind in (("msp", "MaxSoftmax"), ("max_logit", "MaxLogit"), ("energy", "EnergyBased")):
        found = getattr(theirs, kind)(torch.nn.Identity()).predict(logits)
        np.testing.assert_allclose(-found.numpy(), ours[name], rtol=1e-5)


def test_order_is_all_that_counts() -> None:
    inside, outside = groups(17, 23)
    found, bent = Detection(inside, outside), Detection(np.exp(inside), np.exp(outside))
    turned = Detection(outside, inside)
    assert all(found.estimate(name) == bent.estimate(name) for name in MEASURES)
    assert turned.estimate("auroc") == pytest.approx(1 - found.estimate("auroc"))
    same = Detection(np.ones(7), np.ones(5))
    assert (same.estimate("auroc"), same.estimate("fpr95")) == (0.5, 1)


def test_delongs_variance_by_pairs() -> None:
    inside, outside = groups(12, 9)
    wins = np.array([[(a > b) + (a == b) / 2 for b in outside] for a in inside], dtype=np.float64)
    value, m, n = wins.mean(), *wins.shape
    first = sum((wins[i].mean() - value) ** 2 for i in range(m)) / (m - 1)
    second = sum((wins[:, j].mean() - value) ** 2 for j in range(n)) / (n - 1)
    half = Z95 * np.sqrt(first / m + second / n) / (value * (1 - value))
    ends = [1 / (1 + np.exp(-(np.log(value / (1 - value)) + s * half))) for s in (-1, 1)]
    found = Detection(inside, outside).auroc().metric()
    assert found.value == pytest.approx(value)
    assert found.ci_method == "delong95"
    assert found.ci == pytest.approx(ends)


def test_the_values_move_as_the_number_does() -> None:
    """Their mean is the number; one image more or less changes both alike, to first order."""
    defined = Detection(*groups(60, 40)).auroc()
    assert defined.values is not None
    assert defined.values.mean() == pytest.approx(defined.estimate())
    for i in (3, 70):
        weights = np.array(once(100))
        weights[0, i] += 1e-4
        moved = (defined.resampled(weights)[0] - defined.estimate()) / 1e-4
        assert moved == pytest.approx((defined.values[i] - defined.estimate()) / 100, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.31, 0.8, 1.0])
def test_newcombes_ends_are_where_the_score_test_turns(value: float) -> None:
    m, n = 9, 14
    theta = np.linspace(0, 1, 200_001)[1:-1]
    spread = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    inside = (theta - value) ** 2 <= Z95**2 * theta * (1 - theta) * spread / (m * n)
    low, high = score_interval(value, m, n)
    assert low == pytest.approx(0.0 if value == 0 else theta[inside].min(), abs=1e-5)
    assert high == pytest.approx(1.0 if value == 1 else theta[inside].max(), abs=1e-5)
    assert 0 <= low < high <= 1


def test_what_is_told_apart_wholly_has_an_interval_too() -> None:
    defined = {
        ("", name): make
        for name, make in {
            "auroc": Detection(np.arange(5.0, 15), np.arange(4.0)).auroc,
            "fpr95": Detection(np.arange(5.0, 15), np.arange(4.0)).fpr95,
        }.items()
    }
    found = summarise_metrics(dict(defined), seed=0)
    area, passed = found["", "auroc"], found["", "fpr95"]
    assert area.ci == pytest.approx(score_interval(1.0, 10, 4))
    assert area.ci_method == "newcombe95"
    assert passed.value == 0
    assert passed.ci is not None
    assert passed.ci[1] > 0.4  # four images say little


def test_wilsons_interval_is_of_the_images_that_pass() -> None:
    assert Detection(np.ones(20), np.array([1.0, 1.0, 0.0])).fpr95().widened == wilson(2, 3)


def test_the_mean_over_sets_shares_the_evaluated_images() -> None:
    inside, first = groups(30, 20)
    second = groups(30, 12, seed=5)[1]
    detections = [Detection(inside, first), Detection(inside, second)]
    places = [np.arange(50), np.append(np.arange(30), np.arange(50, 62))]
    for name in ("auroc", "fpr95"):
        defined = mean_over_sets(detections, places, 62, name)
        value = np.mean([one.estimate(name) for one in detections])
        assert defined.estimate() == pytest.approx(value)
        assert defined.resampled(np.ones((1, 62)))[0] == pytest.approx(value)
    defined = mean_over_sets(detections, places, 62, "auroc")
    assert defined.values is not None
    for i in (4, 33, 60):
        weights = np.ones((1, 62))
        weights[0, i] += 1e-4
        moved = (defined.resampled(weights)[0] - defined.estimate()) / 1e-4
        assert moved == pytest.approx((defined.values[i] - defined.estimate()) / 62, abs=1e-5)


def test_scores_are_those_of_torch() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 5
    found = detection_scores(logits.numpy())
    double = logits.double()
    wanted = {
        "msp": double.softmax(1).amax(1),
        "max_logit": double.amax(1),
        "energy": double.logsumexp(1),
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-12)


def test_a_histogram_counts_every_image_once() -> None:
    inside, outside = groups(90, 50)
    edges, counts = score_histogram({"a": inside, "b": outside}, score="energy")
    assert (edges[0], edges[-1]) == (min(outside.min(), inside.min()), inside.max())
    assert (counts["a"].sum(), counts["b"].sum()) == (90, 50)
    edges, _ = score_histogram({"a": np.full(3, 0.4)}, score="msp")
    assert (edges[0], edges[-1]) == (0, 1)
    _, counts = score_histogram({"a": np.full(3, 7.0)}, score="max_logit")
    assert counts["a"].sum() == 3


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n", "apart"), [(40, 60, 1.0), (200, 50, 2.0), (60, 60, 3.0)])
def test_the_interval_of_the_auroc_covers_it(m: int, n: int, apart: float) -> None:
    truth, rng, held = float(norm.cdf(apart / np.sqrt(2))), np.random.default_rng(1), 0
    for _ in range(1000):
        ends = Detection(rng.normal(apart, 1, m), rng.normal(0, 1, n)).auroc_interval()[0]
        held += ends[0] <= truth <= ends[1]
    assert 0.93 < held / 1000 < 0.985


def test_an_interval_on_the_logit_scale_stays_in_bounds() -> None:
    for value, variance in product((1e-9, 0.5, 1 - 1e-9), (1e-12, 0.1)):
        low, high = logit_interval(value, variance)
        assert 0 <= low <= value <= high <= 1


def test_one_image_of_each_kind_is_enough() -> None:
    one = Detection(np.array([1.0]), np.array([0.0]))
    numbers = {("", name): partial(make, one) for name, make in MEASURES.items()}
    found = summarise_metrics(dict(numbers), seed=0)
    assert found["", "auroc"].value == 1
    assert found["", "aupr_in"].ci is None  # half of the resamples lack one of the two
