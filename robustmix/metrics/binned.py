"""Calibration of the top label: how far confidence and accuracy lie apart, bin by bin.

Every measure is a function of sums over bins, with leading dimensions for bootstrap replicates, so
the estimate and its resamples run through the same lines.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from robustmix.metrics.intervals import group_sums, row_groups, wilson
from robustmix.metrics.scores import FloatArray, IntArray

Row = dict[str, int | float | list[float] | None]
"""One row of a reliability table, as it is written to a report."""

Weights: TypeAlias = IntArray | FloatArray
"""How often each sample counts, whole numbers (R, n); each row sums to n."""


class BinSums(NamedTuple):
    """Sums within bins, each (R, bins) for R replicates."""

    n: FloatArray
    correct: FloatArray
    confidence: FloatArray


def bin_index(confidence: FloatArray, bins: int) -> IntArray:
    """Find the bin of each confidence: bin j (from 0) holds j < bins * c <= j + 1.

    Confidence 0 goes to the first bin and confidence 1 to the last.
    """
    return np.clip(np.ceil(bins * confidence).astype(np.int64) - 1, 0, bins - 1)


def bin_sums(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    bins: int,
    weights: Weights | None = None,
) -> BinSums:
    """Sum within equal-width bins.

    Args:
        confidence: largest probability of each sample, (n,), in [0, 1].
        correct: whether its prediction is right, (n,).
        bins: number of bins, at least 1.
        weights: how often each sample counts, (R, n); once if None.
    """
    c = np.asarray(confidence, dtype=np.float64)
    if weights is None:
        weights = np.ones((1, len(c)), dtype=np.int64)
    return BinSums(*group_sums(weights, bin_index(c, bins), bins, np.ones(len(c)), correct, c))


def _last(values: FloatArray) -> FloatArray:
    total: FloatArray = values.sum(axis=-1)
    return total


def ece(sums: BinSums) -> FloatArray:
    """Compute sum_j (n_j / n) |acc_j - conf_j|, (R,)."""
    return _last(np.abs(sums.correct - sums.confidence)) / _last(sums.n)


def over_confidence(sums: BinSums) -> FloatArray:
    """Compute the part of the ECE from bins whose confidence exceeds their accuracy, (R,)."""
    return _last(np.maximum(sums.confidence - sums.correct, 0)) / _last(sums.n)


def under_confidence(sums: BinSums) -> FloatArray:
    """Compute the part of the ECE from bins whose accuracy exceeds their confidence, (R,)."""
    return _last(np.maximum(sums.correct - sums.confidence, 0)) / _last(sums.n)


def mce(sums: BinSums, min_n: float = 1) -> FloatArray:
    """Find max_j |acc_j - conf_j| over bins of at least ``min_n`` samples, NaN if none, (R,)."""
    gaps = np.abs(sums.correct - sums.confidence) / np.maximum(sums.n, 1)
    widest = np.where(sums.n >= min_n, gaps, -1.0).max(axis=-1)
    return np.where(widest < 0, np.nan, widest)


def rmsce(sums: BinSums) -> FloatArray:
    """Compute sqrt(sum_j (n_j / n) (acc_j - conf_j)^2), (R,)."""
    squares = np.square(sums.correct - sums.confidence) / np.maximum(sums.n, 1)
    return np.sqrt(_last(squares) / _last(sums.n))


def debiased(sums: BinSums) -> FloatArray:
    """Compute sum_j (n_j / n) [(acc_j - conf_j)^2 - acc_j (1 - acc_j) / (n_j - 1)], (R,).

    Bins of fewer than two samples are left out; the value may be negative.

    Reference:
        Kumar et al. 2019, arXiv:1909.10155, section 5.
    """
    n = np.maximum(sums.n, 2)
    acc = sums.correct / n
    terms = np.square((sums.correct - sums.confidence) / n) - acc * (1 - acc) / (n - 1)
    return _last(np.where(sums.n >= 2, sums.n * terms, 0)) / _last(sums.n)


def equal_mass_edges(n: int, bins: int) -> IntArray:
    """Find the first position of each of the groups of ``n`` sorted samples.

    The sizes differ by at most one, larger groups first; with fewer samples than bins there are
    ``n`` groups.
    """
    sizes = np.full(min(bins, n), n // bins if n >= bins else 1)
    if n >= bins:
        sizes[: n % bins] += 1
    edges: IntArray = np.cumsum(sizes) - sizes
    return edges


def rising_order(values: FloatArray) -> IntArray:
    """Sort the last axis: the positions of its values, rising; equal ones keep their order.

    Example:
        >>> rising_order(np.array([0.5, 0.25, 0.5, 0.0])).tolist()
        [3, 1, 0, 2]
    """
    # Where no two values are equal there is one order, which a sort that keeps none finds in a
    # fraction of the time.
    order: IntArray = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    if (ordered[..., 1:] > ordered[..., :-1]).all():
        return order
    return np.argsort(values, axis=-1, kind="stable")


def repeat_sorted(
    values: FloatArray, weights: Weights, order: IntArray | None = None
) -> FloatArray:
    """Repeat each row of ``values`` (R, n) by ``weights`` (R, n), whose rows sum to n.

    Args:
        values: (R, n).
        weights: (R, n), whole numbers.
        order: positions in the weights that the values are of, (n,); as they stand if None.
    """
    repeated = np.empty(values.shape)
    for rows in row_groups(*values.shape):
        counts = weights[rows] if order is None else weights[rows, order]
        counts = counts.ravel().astype(np.int64, copy=False)
        repeated[rows] = np.repeat(values[rows].ravel(), counts).reshape(repeated[rows].shape)
    return repeated


def adaptive_gaps(
    confidence: FloatArray, correct: npt.ArrayLike, weights: Weights | None = None
) -> FloatArray:
    """Give correctness minus confidence in the order of rising confidence, (R, n).

    Equal confidences keep the order of the samples.
    """
    order = rising_order(confidence)
    gaps = (np.asarray(correct, dtype=np.float64) - confidence)[order]
    if weights is None:
        weights = np.ones((1, len(gaps)), dtype=np.int64)
    return repeat_sorted(np.broadcast_to(gaps, weights.shape), weights, order)


def equal_mass_error(gaps: FloatArray, bins: int) -> FloatArray:
    """Sum |sum of gaps| / n over equal-count groups, for sorted gaps (R, n)."""
    n: int = gaps.shape[-1]
    return _last(np.abs(np.add.reduceat(gaps, equal_mass_edges(n, bins), axis=-1))) / n


def sorted_errors(
    confidence: FloatArray, correct: npt.ArrayLike, weights: Weights | None = None
) -> FloatArray:
    """Give 1 for wrong and 0 for right in the order of falling confidence, (R, n)."""
    order = rising_order(-confidence)
    errors = 1 - np.asarray(correct, dtype=np.float64)[order]
    if weights is None:
        weights = np.ones((1, len(errors)), dtype=np.int64)
    return repeat_sorted(np.broadcast_to(errors, weights.shape), weights, order)


def aurc(errors: FloatArray) -> FloatArray:
    """Average over k the error among the k most confident samples, (R,).

    Args:
        errors: 1 for wrong and 0 for right, sorted by falling confidence, (R, n).

    Reference:
        Geifman et al. 2019, arXiv:1805.08206, section 2.
    """
    n = errors.shape[-1]
    # Sample i takes part in every prefix from i on: its weight is sum_{k >= i} 1 / k.
    area: FloatArray = errors @ (_sums_from(1 / np.arange(1, n + 1)) / n)
    return area


def _sums_from(values: FloatArray) -> FloatArray:
    """Sum the values from each place to the end, (n,)."""
    sums: FloatArray = np.cumsum(values[::-1])[::-1]
    return sums


def aurc_values(errors: FloatArray) -> FloatArray:
    """Give what the area moves with to first order, one value a sample, (n,); their mean is it.

    A sample changes the risk at its own place, and at all places after it, where it adds its error
    and takes the place of another.

    Args:
        errors: 1 for wrong and 0 for right, sorted by falling confidence, (n,).
    """
    places = np.arange(1, len(errors) + 1)
    risk = np.cumsum(errors) / places
    moves = risk + errors * _sums_from(1 / places) - _sums_from(risk / places)
    values: FloatArray = risk.mean() + moves - moves.mean()
    return values


def kept_at(n: int, percent: int) -> int:
    """Count the most confident ``percent`` % of samples, rounded up."""
    return -(-n * percent // 100)


class RunningErrors(NamedTuple):
    """Errors among the most confident samples of resamples, without repeating any sample."""

    errors: FloatArray
    """1 for wrong and 0 for right, in the order of falling confidence, (n,)."""

    counts: FloatArray
    """How many each resample has up to each of them, (n, R)."""

    wrong: FloatArray
    """How many wrong ones it has up to each of those that are wrong, (1 + wrong ones, R)."""

    @classmethod
    def of(
        cls, confidence: FloatArray, correct: npt.ArrayLike, weights: Weights
    ) -> "RunningErrors":
        """Count them in resamples, (R, n) weights whose rows sum to n."""
        order = rising_order(-confidence)
        errors = 1 - np.asarray(correct, dtype=np.float64)[order]
        drawn = np.asarray(weights.T, dtype=np.float64)[order]
        wrong = np.zeros((1 + np.count_nonzero(errors), drawn.shape[1]))
        np.cumsum(drawn[errors > 0], axis=0, out=wrong[1:])
        return cls(errors, np.cumsum(drawn, axis=0, out=drawn), wrong)

    def accuracy(self, percent: int) -> FloatArray:
        """Compute the accuracy of the most confident ``percent`` % of samples, rounded up, (R,)."""
        n, resamples = self.counts.shape
        kept = kept_at(n, percent)
        every = np.arange(resamples)
        # The first sample with which there are as many, by halving.
        low, high = np.zeros(resamples, dtype=np.int64), np.full(resamples, n - 1)
        while (low < high).any():
            middle = (low + high) // 2
            few = self.counts[middle, every] < kept
            low, high = np.where(few, middle + 1, low), np.where(few, high, middle)
        among = np.cumsum(self.errors).astype(np.int64)[low]
        surplus = self.counts[low, every] - kept
        return np.asarray(1 - (self.wrong[among, every] - self.errors[low] * surplus) / kept)


def accuracy_at(errors: FloatArray, percent: int) -> FloatArray:
    """Compute the accuracy of the most confident ``percent`` % of samples, rounded up, (R,)."""
    kept = kept_at(errors.shape[-1], percent)
    return 1 - _last(errors[..., :kept]) / kept


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15
) -> float:
    """Compute the ECE over equal-width bins.

    Args:
        confidence: largest probability of each sample, (n,), in [0, 1].
        correct: whether its prediction is right, (n,).
        bins: number of bins.

    Reference:
        Guo et al. 2017, arXiv:1706.04599, section 2, equation 3.

    Example:
        >>> round(expected_calibration_error([0.8, 0.8, 0.8, 0.8], [1, 1, 1, 0]), 6)
        0.05
    """
    return float(ece(bin_sums(confidence, correct, bins))[0])


def ece_paper_tool(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10) -> float:
    """Compute what the analysis script published with AdAutoMix prints as ECE. It is not the ECE.

    The script sorts the accuracies of the bins and their confidences independently and keeps the
    counts in the old order. Where accuracy rises with confidence over all bins the two agree;
    elsewhere it understates. Empty bins take part in the sorting, as 0.
    """
    return float(paper_tool_error(bin_sums(confidence, correct, bins))[0])


def paper_tool_error(sums: BinSums) -> FloatArray:
    """Compute what ``ece_paper_tool`` describes, of each replicate, (R,)."""
    filled = np.maximum(sums.n, 1)
    accuracy = np.sort(sums.correct / filled, axis=-1)
    confidence = np.sort(sums.confidence / filled, axis=-1)
    return _last(sums.n * np.abs(accuracy - confidence)) / _last(sums.n)


def reliability_table(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int) -> list[Row]:
    """Make one row a bin: edges, n, mean confidence, accuracy and its Wilson interval.

    An empty bin has n = 0 and null for the rest. A bin holds lo < confidence <= hi; the first one
    holds 0 as well.
    """
    sums = bin_sums(confidence, correct, bins)
    rows: list[Row] = []
    for j, (n, right, total) in enumerate(
        zip(sums.n[0], sums.correct[0], sums.confidence[0], strict=True)
    ):
        filled = n > 0
        rows.append(
            {
                "lo": j / bins,
                "hi": (j + 1) / bins,
                "n": int(n),
                "confidence": float(total / n) if filled else None,
                "accuracy": float(right / n) if filled else None,
                "ci": list(wilson(round(right), round(n))) if filled else None,
            }
        )
    return rows
