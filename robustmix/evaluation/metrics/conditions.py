"""Metrics of one condition among many: resamples are drawn once and shared by all conditions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robustmix.evaluation.metrics.binned import bin_sums, ece
from robustmix.evaluation.metrics.scores import BoolArray, FloatArray, IntArray
from robustmix.evaluation.metrics.statistics import bootstrap_metric, bootstrap_rng, resample
from robustmix.report.metric import Metric

REPLICATES = 200
"""Fewer than for a headline number: there may be 95 conditions."""


def shared_resamples(n: int, seed: int) -> IntArray:
    """Return how often each of ``n`` images occurs in each resample, (R, n)."""
    return resample(n, REPLICATES, bootstrap_rng(seed))


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
    pairs = list(zip(confidence, correct, strict=True))
    plain: npt.NDArray[np.int64] = np.ones((1, weights.shape[1]), dtype=np.int64)
    stacked = np.concatenate([plain, weights])
    errors = np.mean([ece(bin_sums(c, h, 15, stacked)) for c, h in pairs], axis=0)
    return bootstrap_metric(
        float(errors[0]),
        errors[1:],
        unit="fraction",
        direction="lower",
        n=weights.shape[1],
        seed=seed,
    )
