"""Experimental recalibrators beside the temperature: vector scaling and isotonic regression.

Both have many parameters, may change predictions and need many samples a class. They are tried by
two folds of the scored samples, never on samples they were fitted to, and never replace the
temperature.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robustmix.errors import UsageError, unknown_name
from robustmix.later import optimize
from robustmix.metrics.binned import expected_calibration_error
from robustmix.metrics.metric import FIRST_RULES, RULES
from robustmix.metrics.scores import (
    FloatArray,
    IntArray,
    check_sample_ids,
    log_normaliser,
    score_logits,
)
from robustmix.metrics.temperature import LEAST_WRONG, few_wrong, stratified_halves

_Logits = npt.NDArray[np.floating[Any]]
Recalibrator = Callable[[_Logits, IntArray, _Logits], FloatArray]
"""(Logits (M, K) and labels (M,) to fit to, logits (N, K)) -> log-probabilities (N, K)."""

FLOOR = 1e-12
"""Least probability of an isotonic fit, which gives exact zeros."""


def vector_scaling(logits: _Logits, labels: IntArray, others: _Logits) -> FloatArray:
    """Fit a factor and an offset a class by the NLL; return the others' log-probabilities.

    Args:
        logits: (M, K), fitted to.
        labels: (M,).
        others: (N, K).

    Reference:
        Guo et al. 2017, arXiv:1706.04599, section 4.2 ("vector scaling").
    """
    z = logits.astype(np.float64)
    n, k = z.shape
    rows = np.arange(n)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        scaled = z * parameters[:k] + parameters[k:]
        log_p = scaled - log_normaliser(scaled)[:, None]
        error = np.exp(log_p)
        error[rows, labels] -= 1
        slope = np.concatenate([(error * z).sum(axis=0), error.sum(axis=0)]) / n
        return -float(log_p[rows, labels].mean()), slope

    start = np.concatenate([np.ones(k), np.zeros(k)])
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    scaled = others.astype(np.float64) * found[:k] + found[k:]
    result: FloatArray = scaled - log_normaliser(scaled)[:, None]
    return result


def isotonic(logits: _Logits, labels: IntArray, others: _Logits) -> FloatArray:
    """Fit a rising step function of each class's probability; return the others' log-probabilities.

    The probabilities of a sample are normalised afterwards.

    Args:
        logits: (M, K), fitted to.
        labels: (M,).
        others: (N, K).

    Reference:
        Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass
        probability estimates", section 4.
    """
    known, asked = (
        np.exp(z.astype(np.float64) - log_normaliser(z)[:, None]) for z in (logits, others)
    )
    columns = [_rising(known[:, k], labels == k, asked[:, k]) for k in range(known.shape[1])]
    p = np.maximum(np.stack(columns, axis=1), FLOOR)
    result: FloatArray = np.log(p / p.sum(axis=1, keepdims=True))
    return result


def _rising(known: FloatArray, hit: npt.NDArray[np.bool_], asked: FloatArray) -> FloatArray:
    """Return what a rising fit of 0 and 1 over ``known`` says at ``asked``, straight in between."""
    at, where, counts = np.unique(known, return_inverse=True, return_counts=True)
    shares = np.bincount(where, weights=hit) / counts  # of samples that are told apart by nothing
    fitted = optimize.isotonic_regression(shares, weights=counts).x
    return np.interp(asked, at, fitted)


RECALIBRATORS: dict[str, Recalibrator] = {
    "vector": vector_scaling,
    "isotonic": isotonic,
}
"""All of them experimental."""


def two_fold_recalibration(
    name: str,
    logits: _Logits,
    labels: IntArray,
    sample_ids: Sequence[str],
    *,
    seed: int,
    rules: str = RULES,
) -> dict[str, Any]:
    """Fit a recalibrator on each half of the samples and score it on the other.

    Args:
        name: one of ``RECALIBRATORS``.
        logits: (N, K), N >= 2.
        labels: (N,).
        sample_ids: names of the samples, each once.
        seed: seed of the halves.
        rules: ``RULES``, or those that a report was made by.

    Returns:
        JSON-like: ``top1``, ``nll``, ``brier_sum`` and ``ece_15`` ``_before`` and ``_after``, the
        ECE being the mean of the two halves'. Where a half does not determine the fit, a ``reason``
        and nothing ``_after``.

    Raises:
        UsageError: there is no such recalibrator, or there are fewer than two samples.
    """
    if name not in RECALIBRATORS:
        raise unknown_name("recalibrator", name, RECALIBRATORS)
    n = len(labels)
    check_sample_ids(sample_ids, n)
    if n < 2:
        raise UsageError("two folds need at least 2 samples", "evaluate more samples")
    half = stratified_halves(labels, sample_ids, seed)
    result: dict[str, Any] = {"experimental": True, "split": "two-fold", "n": n}
    sums = {"before": np.zeros(4), "after": np.zeros(4)}
    reasons = []
    for side in (0, 1):
        scored = half == side
        after = RECALIBRATORS[name](logits[~scored], labels[~scored], logits)
        if rules != FIRST_RULES:
            reasons += _undetermined(logits[~scored], after[~scored], labels[~scored])
        for when, z in (("before", logits[scored]), ("after", after[scored])):
            scores = score_logits(z, labels[scored])
            ece = expected_calibration_error(scores.confidence, scores.correct, 15)
            means = scores.correct.mean(), scores.nll.mean(), scores.brier.mean(), ece
            sums[when] += scored.mean() * np.array(means)
    if reasons:
        result["reason"] = reasons[0]
        del sums["after"]
    for when, values in sums.items():
        names = ("top1", "nll", "brier_sum", "ece_15")
        result |= {f"{key}_{when}": float(v) for key, v in zip(names, values, strict=True)}
    return result


def _undetermined(before: _Logits, after: FloatArray, labels: IntArray) -> list[str]:
    """Say why samples do not determine a fit to them, in no words or one line.

    A class without samples has no likelihood to be fitted; samples that are all right, before or
    after, are fitted the better the surer the model is made.
    """
    n, classes = before.shape
    missing = classes - len(np.unique(labels))
    if missing:
        return [f"{missing} of {classes} classes have none of the {n} samples fitted to"]
    wrong = int((before.argmax(axis=1) != labels).sum())
    if wrong < LEAST_WRONG:
        return [few_wrong(wrong, n)]
    if not (after.argmax(axis=1) != labels).any():
        return [f"the fit explains each of the {n} samples fitted to"]
    return []
