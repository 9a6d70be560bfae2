"""Calibration under each of many conditions, resampled less often than a headline number."""

import numpy as np

from robustmix.metrics.binned import bin_index
from robustmix.metrics.intervals import group_sums
from robustmix.metrics.scores import FloatArray

REPLICATES = 200
"""Fewer than for a headline number: there may be 95 conditions."""

BINS = 15


def bin_gaps(confidence: FloatArray, correct: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum correctness minus confidence within 15 bins, of each resample, (R, 15).

    It is all that an ECE needs, and a third of the work of ``bin_sums``, on which a summary of 95
    conditions would spend its time.

    Args:
        confidence: (n,), in [0, 1].
        correct: 0 or 1, (n,).
        weights: how often each sample counts, (R, n).
    """
    (gaps,) = group_sums(weights, bin_index(confidence, BINS), BINS, correct - confidence)
    return gaps


def ece_of_gaps(gaps: FloatArray, n: int) -> FloatArray:
    """Make the ECE of ``n`` samples from their gaps, (R,)."""
    return np.asarray(np.abs(gaps).sum(axis=1) / n)
