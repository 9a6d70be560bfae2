"""Calibration of every class's probability, not only of the top label.

The N x K probabilities are made by blocks of classes. Nearly all of them are small, so bin 1 of
the equal-width form is found as the class's total minus its other bins, which hold at most one
entry a bin count and sample: the cost of a resample falls from N * K to about N.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from robustmix.later import sparse
from robustmix.metrics.binned import (
    Weights,
    bin_index,
    equal_mass_edges,
    equal_mass_error,
    repeat_sorted,
    rising_order,
)
from robustmix.metrics.chance import FOLD, Noise
from robustmix.metrics.definition import once
from robustmix.metrics.intervals import row_groups
from robustmix.metrics.scores import BLOCK, FloatArray, IntArray, log_normaliser

_Logits = npt.NDArray[np.floating[Any]]

THRESHOLD = 0.01
"""Probabilities up to it take no part in ``thresholded_calibration_error``."""

Grouping = Callable[[FloatArray, int], IntArray]
"""(Probabilities of a class (N,), bins) -> the group of each, (N,); ``bins`` for those left out."""


def _class_blocks(logits: _Logits) -> Iterator[tuple[int, FloatArray]]:
    """Yield the first class and the probabilities (N, k) of each block of k classes."""
    n, num_classes = logits.shape
    normaliser = log_normaliser(logits)[:, None]
    width = max(1, BLOCK // n)
    for first in range(0, num_classes, width):
        p_NK = logits[:, first : first + width].astype(np.float64)
        p_NK -= normaliser
        yield first, np.exp(p_NK, out=p_NK)


def _counts(weights: Weights | None, n: int) -> IntArray:
    """Give the weights as counts, row after row: they are repeated and summed resample by resample.

    Resamples come column after column, as sums over groups want them.
    """
    return np.ascontiguousarray(once(n) if weights is None else weights, dtype=np.int64)


def _hits(labels: IntArray, first: int, width: int) -> FloatArray:
    """Mark with 1 where a sample's label is the class, (N, width)."""
    classes = np.arange(first, first + width)
    return np.equal(labels[:, None], classes).astype(np.float64)


def _by_class(
    p_NK: FloatArray, labels: IntArray, first: int
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield a class's probabilities, and hits less these, (N,) each and in one piece."""
    p_KN = np.ascontiguousarray(p_NK.T)
    gaps_KN = _hits(labels, first, len(p_KN)).T - p_KN
    yield from zip(p_KN, gaps_KN, strict=True)


def classwise_ece(
    logits: _Logits, labels: IntArray, bins: int, weights: Weights | None = None
) -> FloatArray:
    """Compute (1/K) sum_k sum_j (n_jk / n) |freq_jk - mean p_jk| over equal-width bins, (R,).

    Its scale shrinks as 1/K because most probabilities are near 0: do not compare across K.

    Args:
        logits: (N, K).
        labels: (N,).
        bins: number of bins.
        weights: how often each sample counts, (R, N); once if None.

    Reference:
        Kull et al. 2019, arXiv:1910.12656, section 2; "SCE" in arXiv:1904.01685, section 3.
    """
    n, num_classes = logits.shape
    w_NR = np.ascontiguousarray((once(n) if weights is None else weights).T, dtype=np.float64)
    total: FloatArray = np.zeros(w_NR.shape[1])
    for first, p_NK in _class_blocks(logits):
        width = p_NK.shape[1]
        gaps_NK = _hits(labels, first, width) - p_NK
        sums_KR = gaps_NK.T @ w_NR
        sample, column = np.nonzero(bins * p_NK > 1)  # all that lies above the first bin
        groups = column * bins + bin_index(p_NK[sample, column], bins)
        upper = sparse.csr_array(
            (gaps_NK[sample, column], (groups, sample)), shape=(width * bins, n)
        )
        upper_KBR = np.asarray(upper @ w_NR).reshape(width, bins, -1)
        total += np.abs(upper_KBR).sum(axis=(0, 1))
        total += np.abs(sums_KR - upper_KBR.sum(axis=1)).sum(axis=0)
    total /= n * num_classes
    return total


def average_calibration_error(
    logits: _Logits, labels: IntArray, bins: int, weights: Weights | None = None
) -> FloatArray:
    """Compute the classwise error over equal-count bins of each class's probabilities, (R,).

    Args:
        logits: (N, K).
        labels: (N,).
        bins: number of groups; equal probabilities keep the order of the samples.
        weights: how often each sample counts, (R, N), each row summing to N; once if None.

    Reference:
        Nixon et al. 2019, arXiv:1904.01685, section 3 ("ACE", threshold 0).
    """
    n, num_classes = logits.shape
    counts = _counts(weights, n)
    total: FloatArray = np.zeros(len(counts))
    for first, p_NK in _class_blocks(logits):
        width = p_NK.shape[1]
        errors_RK = np.empty((len(counts), width))
        for some in row_groups(width, n):
            p_KN = np.ascontiguousarray(p_NK[:, some].T)
            order_KN = rising_order(p_KN)
            gaps_KN = _hits(labels, first + some.start, len(p_KN)).T - p_KN
            gaps_KN = np.take_along_axis(gaps_KN, order_KN, axis=1)
            for errors_K, w_N in zip(errors_RK[:, some], counts, strict=True):
                drawn_KN = repeat_sorted(gaps_KN, w_N[order_KN])
                errors_K[:] = equal_mass_error(drawn_KN, bins)
        total += errors_RK.sum(axis=1)
    total /= num_classes
    return total


def thresholded_calibration_error(
    logits: _Logits,
    labels: IntArray,
    bins: int,
    weights: Weights | None = None,
    *,
    threshold: float = THRESHOLD,
) -> FloatArray:
    """Compute the classwise error over equal-count bins of large probabilities, (R,).

    The many classes that a model rules out would otherwise fill nearly all bins with agreement
    about zero. The bins of a class weigh as many of its probabilities as they hold; a class that no
    sample gives more than the threshold counts as 0.

    Args:
        logits: (N, K).
        labels: (N,).
        bins: number of groups; equal probabilities keep the order of the samples.
        weights: how often each sample counts, (R, N); once if None.
        threshold: in [0, 1).

    Reference:
        Nixon et al. 2019, arXiv:1904.01685, section 3 ("TACE").
    """
    n, num_classes = logits.shape
    counts = _counts(weights, n)
    total: FloatArray = np.zeros(len(counts))
    for first, p_NK in _class_blocks(logits):
        for p_N, gaps_N in _by_class(p_NK, labels, first):
            kept = np.flatnonzero(p_N > threshold)
            order = kept[rising_order(p_N[kept])]
            total += _equal_mass_error_of_any_count(gaps_N[order], counts[:, order], bins)
    total /= num_classes
    return total


def _equal_mass_error_of_any_count(gaps: FloatArray, weights: IntArray, bins: int) -> FloatArray:
    """Sum |sum of gaps| / count over equal-count groups, (R,), 0 without samples.

    Unlike ``equal_mass_error`` for replicates of different sizes: each gap stands for ``weights``
    equal entries, so the running sum is linear between the ends of their runs.

    Args:
        gaps: sorted, (m,).
        weights: (R, m).
        bins: number of groups.
    """
    counts = np.cumsum(weights, axis=1)
    sums = np.cumsum(weights * gaps, axis=1)
    result = np.zeros(len(weights))
    for replicate, (count, running) in enumerate(zip(counts, sums, strict=True)):
        n = int(count[-1]) if len(count) else 0
        if n:
            ends = np.append(equal_mass_edges(n, bins), n)
            at_ends = np.interp(ends, np.append(0, count), np.append(0.0, running))
            result[replicate] = np.abs(np.diff(at_ends)).sum() / n
    return result


def equal_width(p: FloatArray, bins: int) -> IntArray:
    """Put probabilities (N,) into bins of equal width, see ``Grouping``."""
    return bin_index(p, bins)


def equal_count(p: FloatArray, bins: int, threshold: float = -1.0) -> IntArray:
    """Put the probabilities (N,) above the threshold into groups of equal count."""
    kept = np.flatnonzero(p > threshold)
    groups = np.full(len(p), bins, dtype=np.int64)
    edges = equal_mass_edges(len(kept), bins)
    sizes = np.diff(np.append(edges, len(kept)))
    groups[kept[rising_order(p[kept])]] = np.repeat(np.arange(len(edges)), sizes)
    return groups


equal_count_above = partial(equal_count, threshold=THRESHOLD)


def classwise_noise(logits: _Logits, labels: IntArray, bins: int, grouping: Grouping) -> Noise:
    """Give the noise of a classwise error.

    Args:
        logits: (N, K).
        labels: (N,).
        bins: number of groups.
        grouping: how the error puts the probabilities of a class into them.
    """
    n, num_classes = logits.shape
    moved, spread = np.zeros(n), 0.0
    for first, p_NK in _class_blocks(logits):
        for p_N, gaps_N in _by_class(p_NK, labels, first):
            groups = grouping(p_N, bins)
            inside = groups < bins
            count = int(inside.sum())
            if count:
                seen = np.bincount(groups, np.square(gaps_N), minlength=bins)[:bins]
                expected = np.bincount(groups, p_N * (1 - p_N), minlength=bins)[:bins]
                spread += float(np.sqrt(np.maximum(seen, expected)).sum()) / count
                moved += np.abs(gaps_N) * inside * (n / count)
    # An image counts in its own class and in the one it is taken for.
    return Noise(FOLD * spread / num_classes, 0.0, moved / num_classes, 2 / num_classes)
