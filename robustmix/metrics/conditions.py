"""Metrics of one condition among many: resamples are drawn once and shared by all conditions."""

from collections.abc import Sequence

import numpy as np

from robustmix.metrics.binned import bin_sums, ece
from robustmix.metrics.intervals import bootstrap_metric, bootstrap_rng, resample
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import BoolArray, FloatArray, IntArray

REPLICATES = 200
"""Fewer than for a headline number: there may be 95 conditions."""


def shared_resamples(n: int, seed: int) -> IntArray:
    """Return how often each of ``n`` images occurs in each resample, (R, n)."""
    return resample(n, REPLICATES, bootstrap_rng(seed))


def after_plain(weights: IntArray) -> FloatArray:
    """Return the samples themselves and then the resamples, (1 + R, n), laid out to be summed."""
    return np.asfortranarray(np.concatenate([np.ones((1, weights.shape[1])), weights]))


def ece_resampled(confidence: FloatArray, correct: BoolArray, weights: FloatArray) -> FloatArray:
    """Return ECE_15 of the samples, then of each resample, (1 + R,).

    Args:
        confidence: (n,).
        correct: (n,).
        weights: see ``after_plain``.
    """
    return ece(bin_sums(confidence, correct, 15, weights))


def resampled_metric(values: FloatArray, *, n: int, seed: int, note: str | None = None) -> Metric:
    """Return a calibration error with its interval.

    Args:
        values: the error itself, then of each resample, (1 + R,).
        n: number of images.
        seed: what the resamples were made from.
        note: what a reader must know.
    """
    return bootstrap_metric(
        float(values[0]),
        values[1:],
        unit="fraction",
        direction="lower",
        n=n,
        seed=seed,
        note=note,
    )


def condition_ece(
    confidence: Sequence[FloatArray], correct: Sequence[BoolArray], weights: IntArray, seed: int
) -> Metric:
    """Return ECE_15 with a bootstrap interval over images, the mean over trials.

    Args:
        confidence: of each trial, (n,).
        correct: of each trial, (n,).
        weights: the resamples of the images, (R, n).
        seed: what the resamples were made from.
    """
    pairs, all_weights = zip(confidence, correct, strict=True), after_plain(weights)
    errors = np.mean([ece_resampled(c, h, all_weights) for c, h in pairs], axis=0)
    return resampled_metric(errors, n=weights.shape[1], seed=seed)
