import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from robustmix.errors import IncompleteError, UsageError
from robustmix.metrics.binned import expected_calibration_error
from robustmix.metrics.metric import FIRST_RULES
from robustmix.metrics.scores import FloatArray, IntArray, score_logits
from robustmix.metrics.temperature import (
    CalibrationSplit,
    ScaledResult,
    fit_temperature,
    held_out_temperature,
    stratified_halves,
    two_fold_temperature,
)
from tests.metrics.calibration_fixture import fixture

IDS = [f"toy/test/{i}" for i in range(1000)]


def value(result: ScaledResult, name: str) -> float:
    number = result.metrics[name].value
    assert number is not None
    return number


def test_fixture() -> None:
    logits, labels = fixture()
    fit = fit_temperature(logits, labels)
    assert pytest.approx(1.993229, abs=5e-7) == fit.T
    assert fit.nll_before == pytest.approx(2.079589, abs=5e-7)
    assert fit.nll_after == pytest.approx(1.861750, abs=5e-7)
    assert fit.converged
    assert not fit.bound_hit
    before, after = (score_logits(logits, labels, temperature=t) for t in (1.0, fit.T))
    assert np.array_equal(before.correct, after.correct)
    errors = [expected_calibration_error(s.confidence, s.correct, 15) for s in (before, after)]
    assert errors == pytest.approx([0.182244, 0.348861], abs=5e-7)


def test_two_classes_in_closed_form() -> None:
    # sigmoid(4 / T) = 0.7, hence T = 4 / log(7 / 3).
    fit = fit_temperature(np.array([[4.0, 0.0]] * 10), [0] * 7 + [1] * 3)
    assert pytest.approx(4 / math.log(7 / 3), rel=1e-10) == fit.T
    assert fit.nll_after == pytest.approx(-0.7 * math.log(0.7) - 0.3 * math.log(0.3), rel=1e-12)


def sampled(n: int, k: int, scale: float, seed: int) -> tuple[FloatArray, IntArray]:
    """Labels drawn from softmax(z) and the logits scale * z: the true temperature is ``scale``."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, k))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return scale * z, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_true_temperature_is_found(scale: float) -> None:
    fit = fit_temperature(*sampled(20_000, 7, scale, 0))
    assert pytest.approx(scale, rel=0.05) == fit.T


def test_second_implementation() -> None:
    logits, labels = sampled(211, 13, 2.5, 1)

    def loss(log_t: float) -> float:
        z = torch.from_numpy(logits / math.exp(log_t))
        return float(torch.nn.functional.cross_entropy(z, torch.from_numpy(labels)))

    expected = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    fit = fit_temperature(logits.astype(np.float32), labels)
    assert math.log(fit.T) == pytest.approx(expected.x, abs=1e-6)
    assert fit.nll_after == pytest.approx(expected.fun, abs=1e-6)


def test_scaling_the_logits_scales_the_temperature() -> None:
    logits, labels = sampled(101, 5, 1.0, 2)
    once, thrice = fit_temperature(logits, labels), fit_temperature(3 * logits, labels)
    assert pytest.approx(3, rel=1e-9) == thrice.T / once.T


def test_bounds_are_reported() -> None:
    right = fit_temperature(np.eye(5), np.arange(5))
    assert pytest.approx(math.exp(-3)) == right.T
    wrong = fit_temperature(np.eye(5), (np.arange(5) + 1) % 5)
    assert pytest.approx(math.exp(3)) == wrong.T
    assert right.bound_hit
    assert wrong.bound_hit
    flat = fit_temperature(np.ones((3, 5)), [0, 1, 2])
    assert (flat.T, flat.bound_hit) == (1.0, False)
    huge = fit_temperature(1e4 * np.eye(5, dtype=np.float32), np.arange(5))
    assert huge.nll_after == 0


def photographs(n: int, wrong: int) -> tuple[FloatArray, IntArray]:
    """Logits of ten classes that are sure and right, but for the first ``wrong`` images."""
    rng = np.random.default_rng(4)
    labels = rng.integers(10, size=n)
    logits = rng.normal(size=(n, 10))
    taken = np.where(np.arange(n) < wrong, (labels + 1) % 10, labels)
    logits[np.arange(n), taken] += 6
    return logits, labels


@pytest.mark.parametrize(
    ("n", "wrong", "reason"),
    [
        (40, 0, "the likelihood has no optimum in exp(-3) to exp(3)"),
        (40, 1, "1 of the 40 samples fitted to is classified wrongly"),
        (2000, 4, "4 of the 2000 samples fitted to are classified wrongly"),
        (9, 9, "the likelihood has no optimum in exp(-3) to exp(3)"),
        (12, 6, "12 samples tell it no better than within a factor of 1.5"),
        (2000, 60, None),
        (200, 50, None),
    ],
)
def test_what_samples_must_tell_of_a_temperature(n: int, wrong: int, reason: str | None) -> None:
    fit = fit_temperature(*photographs(n, wrong))
    assert (fit.n, fit.wrong) == (n, wrong)
    assert fit.reason == reason


def test_the_error_of_a_temperature_is_that_of_many_fits() -> None:
    fits = [fit_temperature(*sampled(300, 7, 2.0, seed)) for seed in range(200)]
    spread = np.std([math.log(fit.T) for fit in fits])
    assert np.mean([fit.log_sd for fit in fits]) == pytest.approx(spread, rel=0.15)
    assert fit_temperature(np.ones((30, 3)), np.arange(30) % 3).log_sd == math.inf


def test_nothing_is_scaled_by_a_temperature_that_is_not_determined() -> None:
    logits, labels = photographs(40, 0)
    result = two_fold_temperature(logits, labels, IDS[:40], seed=0)
    block = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert block["T"] is None
    assert block["reason"] == "the likelihood has no optimum in exp(-3) to exp(3)"
    assert block["bound_hit"]
    assert set(result.metrics) == {"nll_before", "ece_before"}
    assert not {"T_fits", "bins_15", "nll_after", "ece_after"} & set(block)
    # One half is enough to spoil it: its other half would be scaled by it.
    logits[stratified_halves(labels, IDS[:40], 0) == 1] *= -1
    half = two_fold_temperature(logits, labels, IDS[:40], seed=0)
    assert half.reason is not None
    # A report of 0.1.0 states all of it, and is validated by the rules of then.
    first = two_fold_temperature(logits, labels, IDS[:40], seed=0, rules=FIRST_RULES)
    assert first.reason is None
    assert {"T", "T_fits", "bins_15", "nll_after", "ece_after"} < set(first.as_dict())


def test_halves_are_stratified_and_depend_on_ids_and_seed_only() -> None:
    labels = np.array([0] * 7 + [1] * 12 + [2] * 3 + [3])
    ids = [f"s{i}" for i in range(23)]
    for seed in range(10):
        half = stratified_halves(labels, ids, seed=seed)
        for k in range(4):
            sizes = np.bincount(half[labels == k], minlength=2)
            assert abs(sizes[0] - sizes[1]) <= 1
        assert sorted(np.bincount(half).tolist()) == [11, 12]
    half = stratified_halves(labels, ids, seed=0)
    order = np.random.default_rng(0).permutation(23)
    shuffled = stratified_halves(labels[order], [ids[i] for i in order], seed=0)
    assert np.array_equal(half[order], shuffled)
    assert not np.array_equal(half, stratified_halves(labels, ids, seed=1))


def test_two_folds_step_by_step() -> None:
    logits, labels = fixture()
    result = two_fold_temperature(logits, labels, IDS, seed=0)
    half = stratified_halves(labels, IDS, 0)
    expected = {"nll_before": 0.0, "nll_after": 0.0, "ece_before": 0.0, "ece_after": 0.0}
    for side in (0, 1):
        scored = half == side
        t = fit_temperature(logits[~scored], labels[~scored]).T
        assert pytest.approx(t, rel=1e-12) == result.fits[side].T
        assert (result.temperature[scored] == result.fits[side].T).all()
        for when, scale in (("before", 1.0), ("after", t)):
            scores = score_logits(logits[scored], labels[scored], temperature=scale)
            share = scored.mean()
            expected[f"nll_{when}"] += share * float(scores.nll.mean())
            expected[f"ece_{when}"] += share * expected_calibration_error(
                scores.confidence, scores.correct, 15
            )
    for name, number in expected.items():
        assert value(result, name) == pytest.approx(number, abs=1e-12)
        method = "chance95" if name.startswith("ece") else "skewed95/images"
        assert result.metrics[name].ci_method == method
    assert result.reason is None
    # The NLL falls on samples T was not fitted to, while the ECE rises.
    assert value(result, "nll_after") < value(result, "nll_before")
    assert value(result, "ece_after") > value(result, "ece_before")
    assert result.scored == (500, 500)
    assert result.fitted == (500, 500)


def test_trap_12_a_label_has_no_say_in_its_own_temperature() -> None:
    logits, labels = fixture()
    before = two_fold_temperature(logits, labels, IDS, seed=0, replicates=0)
    half = stratified_halves(labels, IDS, 0)
    # The logits of half 0 change: only the T fitted to half 0, used on half 1, moves.
    logits[half == 0] *= 1.5
    after = two_fold_temperature(logits, labels, IDS, seed=0, replicates=0)
    assert after.fits[0] == before.fits[0]
    assert pytest.approx(1.5 * before.fits[1].T, rel=1e-9) == after.fits[1].T


def test_the_block_of_the_report() -> None:
    logits, labels = fixture()
    result = two_fold_temperature(logits, labels, IDS, seed=0, replicates=10)
    block = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert math.log(block["T"]) == pytest.approx(np.log(block["T_fits"]).mean())
    assert block["split"] == "two-fold"
    assert block["n_fitted"] == block["n_scored"] == [500, 500]
    assert (block["converged"], block["bound_hit"]) == (True, False)
    assert block["nll_after"]["value"] == value(result, "nll_after")
    assert len(block["ids_sha256"]) == 64
    other = two_fold_temperature(logits, labels, IDS, seed=1, replicates=0)
    assert other.ids_sha256 != block["ids_sha256"]


def split(n: int, seed: int, prefix: str) -> CalibrationSplit:
    logits, labels = sampled(n, 5, 2.0, seed)
    return CalibrationSplit(
        logits=logits, labels=labels, sample_ids=[f"{prefix}/{i}" for i in range(n)]
    )


def test_held_out_split() -> None:
    calibration, scored = split(307, 0, "val"), split(503, 1, "test")
    result = held_out_temperature(
        scored.logits, scored.labels, scored.sample_ids, held_out=calibration, seed=0
    )
    fit = fit_temperature(calibration.logits, calibration.labels)
    assert result.fits == (fit,)
    assert (result.split, result.fitted, result.scored) == ("held-out", (307,), (503,))
    assert (result.temperature == fit.T).all()
    after = score_logits(scored.logits, scored.labels, temperature=fit.T)
    assert value(result, "nll_after") == pytest.approx(after.nll.mean(), abs=1e-12)
    assert value(result, "ece_after") == pytest.approx(
        expected_calibration_error(after.confidence, after.correct, 15), abs=1e-12
    )
    # Logits twice as steep as the labels deserve: scaling mends what is measured elsewhere.
    assert value(result, "ece_after") < 0.5 * value(result, "ece_before")


def test_trap_12_fitting_on_scored_samples_is_refused() -> None:
    calibration, scored = split(11, 0, "test"), split(7, 1, "test")
    with pytest.raises(UsageError, match="7 samples are in the calibration split") as caught:
        held_out_temperature(
            scored.logits, scored.labels, scored.sample_ids, held_out=calibration, seed=0
        )
    assert caught.value.code == "E-CALIB-OVERLAP"
    assert caught.value.exit_code == 2


def test_splits_that_do_not_fit() -> None:
    logits, labels = fixture()
    with pytest.raises(UsageError, match="5 classes, the scored set 10"):
        held_out_temperature(logits, labels, IDS, held_out=split(7, 0, "val"), seed=0)
    with pytest.raises(UsageError, match="at least 2"):
        two_fold_temperature(logits[:1], labels[:1], IDS[:1], seed=0)
    with pytest.raises(UsageError, match="occurs twice"):
        two_fold_temperature(logits[:2], labels[:2], ["a", "a"], seed=0)


def test_trap_23_no_temperature_from_nan() -> None:
    logits, labels = fixture()
    logits[5] = np.nan
    with pytest.raises(IncompleteError):
        fit_temperature(logits, labels)


def test_a_prediction_that_scaling_changes_is_an_error() -> None:
    # Neighbouring float64 numbers below 4, divided by T = 3.5, fall where they lie less densely.
    below = 4 - np.arange(1, 21) * 2.0**-51
    logits = np.vstack([np.stack([below - 2.0**-51, below], axis=1), [[3.0, 0.0]] * 20])
    labels = np.array([1] * 20 + [0] * 14 + [1] * 6)
    with pytest.raises(IncompleteError, match="changed a prediction"):
        two_fold_temperature(logits, labels, [str(i) for i in range(40)], seed=0, replicates=0)
