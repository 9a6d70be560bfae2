"""Metrics of an accuracy curve: points with intervals, area, where accuracy is halved.

Trials of one image are not independent, so whatever is averaged over trials is averaged image by
image first, and intervals are over images.
"""

import math

import numpy as np
from numpy.typing import NDArray

from robustmix.metrics.conditions import condition_ece
from robustmix.metrics.intervals import (
    bootstrap,
    bootstrap_metric,
    bootstrap_rng,
    clustered_mean,
)
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import FloatArray, IntArray


def curve_point(
    correct: FloatArray,
    confidence: FloatArray,
    start: FloatArray,
    *,
    weights: IntArray,
    seed: int,
) -> dict[str, Metric]:
    """Return the metrics of one point of a curve.

    Args:
        correct: whether each prediction is right, 0 or 1, (trials, n).
        confidence: largest probability, (trials, n).
        start: likewise ``correct`` at the curve's first point, mean over trials, (n,).
        weights: resamples of the images, (R, n); see ``shared_resamples``.
        seed: what they were made from.

    Returns:
        ``acc``, ``trial_sd`` (spread of the accuracy over trials), ``retention`` (accuracy over
        the first point's), ``confidence`` (mean) and ``ece_15``.
    """
    trials, n = correct.shape
    right = correct.mean(axis=0)
    return {
        "acc": clustered_mean(right, direction="higher"),
        "trial_sd": Metric(
            value=float(correct.mean(axis=1).std(ddof=1)) if trials > 1 else None,
            unit="fraction",
            direction="neither",
            n=n,
            reason="spread over trials, itself an uncertainty" if trials > 1 else "one trial",
        ),
        "retention": retention(right, start),
        "confidence": clustered_mean(confidence.mean(axis=0), direction="neither"),
        "ece_15": condition_ece(list(confidence), list(correct.astype(bool)), weights, seed),
    }


def retention(right: FloatArray, start: FloatArray) -> Metric:
    """Return the ratio of two accuracies over the same images, (n,) each; the score may exceed 1.

    Its interval is that of the ratio to first order.
    """
    note, base = "accuracy over that of the curve's start", float(start.mean())
    if base == 0:
        return Metric(
            value=None,
            unit="score",
            direction="higher",
            n=len(right),
            reason="no image is classified correctly at the curve's start",
            note=note,
        )
    ratio = float(right.mean()) / base
    # To first order the ratio moves with the mean of what is added to it here, which is zero.
    return clustered_mean(
        ratio + (right - ratio * start) / base, unit="score", direction="higher", note=note
    )


def area(curves: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the trapezoid area of accuracy curves (..., points) over the range of x."""
    areas: NDArray[np.float64] = np.trapezoid(curves, x, axis=-1) / (x[-1] - x[0])
    return areas


def half_point(curve: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Return the smallest x where accuracy is half of the first one, linearly interpolated.

    NaN if accuracy never falls that low, or is 0 from the start.

    Example:
        >>> half_point(np.array([0.8, 0.6, 0.2]), np.array([0.0, 0.5, 1.0]))
        0.75
    """
    below = np.flatnonzero(curve <= curve[0] / 2)
    if curve[0] <= 0 or len(below) == 0:
        return math.nan
    i = int(below[0])
    fall = (curve[i - 1] - curve[0] / 2) / (curve[i - 1] - curve[i])
    return float(x[i - 1] + fall * (x[i] - x[i - 1]))


def curve_metrics(
    correct: FloatArray,
    x: FloatArray,
    num_classes: int,
    seed: int,
    suffix: str,
    *,
    half: str | None = "rho50",
    note: str | None = None,
) -> dict[str, Metric]:
    """Return the metrics of a whole curve.

    Args:
        correct: accuracy of each image, mean over trials, (points, n).
        x: place of each point, rising, (points,).
        num_classes: K; chance is 1 / K.
        seed: of the bootstrap.
        suffix: what the names end in.
        half: name of the x where accuracy is halved, if x is a share.
        note: what a reader must know of the area.

    Returns:
        ``auc`` over the range of x, ``nauc`` (over the accuracy at the start), ``nauc_chance``
        (with chance taken off both) and ``half``, each with ``suffix``.
    """
    n = correct.shape[1]
    chance = 1 / num_classes

    def derived(curves: FloatArray) -> dict[str, FloatArray]:
        start, auc = curves[:, 0], area(curves, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {
                "nauc": np.where(start > 0, auc / start, np.nan),
                "nauc_chance": np.where(start > chance, (auc - chance) / (start - chance), np.nan),
            }
        if half is not None:
            found[half] = np.array([half_point(curve, x) for curve in curves])
        return found

    estimates = derived(correct.mean(axis=1)[None])
    replicates = bootstrap(lambda w: derived(w @ correct.T / n), n, rng=bootstrap_rng(seed))
    meaning = {
        "nauc": ("accuracy at the curve's start is 0", "area over the accuracy at the start"),
        "nauc_chance": (
            "accuracy at the curve's start is not above chance",
            "as nauc with the chance level taken off both",
        ),
        half: (
            "accuracy never falls to half of its unmasked value",
            "share of hidden patches that halves the accuracy",
        ),
    }
    metrics = {
        f"auc_{suffix}": clustered_mean(area(correct.T, x), direction="higher", note=note),
    }
    for name, values in replicates.items():
        undefined, told = meaning[name]
        metrics[f"{name}_{suffix}"] = bootstrap_metric(
            float(estimates[name][0]),
            values,
            unit="fraction" if name == half else "score",
            direction="higher",
            n=n,
            seed=seed,
            note=told,
            undefined=undefined,
        )
    return metrics


def gap_area(upper: FloatArray, lower: FloatArray, x: FloatArray, *, note: str) -> Metric:
    """Return the area between two curves over the same images, (points, n) each."""
    return clustered_mean(area((upper - lower).T, x), direction="neither", note=note)
