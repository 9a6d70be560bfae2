"""Calibration: whether confidence tells how often a prediction is right, by one call each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from robustmix.errors import UsageError
from robustmix.metrics import binned, classwise
from robustmix.metrics.functional.inputs import are_logits, scores_of, told_logits
from robustmix.metrics.scores import (
    FloatArray,
    IntArray,
    Labels,
    Logits,
    Scores,
    as_labels,
    as_probabilities,
    check_finite,
)

# Of the top label


def ece(outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15) -> float:
    """Compute the expected calibration error over bins of equal width.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins of the confidence, the largest probability.

    Returns:
        In [0, 1]; ``calibration.ece_15`` of a report. Chance alone raises it, the more the fewer
        samples: the intervals of ``calibration_metrics`` take that into account.

    Raises:
        UsageError: as ``nll``, or ``bins`` is below 1.
        IncompleteError: as ``nll``.

    Reference:
        Guo et al. 2017, arXiv:1706.04599, section 2, equation 3.

    Example:
        >>> round(ece([[0.8, 0.2]] * 4, [0, 0, 0, 1], from_logits=False), 6)
        0.05
    """
    _check_bins(bins)
    scores = scores_of(outputs, labels, from_logits)
    return float(binned.ece(_bin_sums(scores, bins))[0])


def rmsce(outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15) -> float:
    """Compute the root of the mean square of the gaps that ``ece`` averages.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins.

    Returns:
        In [0, 1]; ``calibration.rmsce_15`` of a report.

    Raises:
        UsageError: as ``ece``.
        IncompleteError: as ``ece``.

    Example:
        >>> p, y = [[0.8, 0.2]] * 4 + [[1.0, 0.0]] * 4, [0, 0, 0, 1, 0, 0, 0, 0]
        >>> round(rmsce(p, y, from_logits=False), 6)  # gaps .05 and 0
        0.035355
    """
    _check_bins(bins)
    scores = scores_of(outputs, labels, from_logits)
    return float(binned.rmsce(_bin_sums(scores, bins))[0])


def maximum_calibration_error(
    outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15
) -> float:
    """Compute the largest gap between accuracy and confidence of any bin that is not empty.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins.

    Returns:
        In [0, 1]; ``calibration.mce_15`` of a report. A bin of one sample can make it large.

    Raises:
        UsageError: as ``ece``.
        IncompleteError: as ``ece``.

    Reference:
        Guo et al. 2017, arXiv:1706.04599, section 2, equation 5.

    Example:
        >>> p, y = [[0.8, 0.2]] * 4 + [[1.0, 0.0]] * 4, [0, 0, 0, 1, 0, 0, 0, 0]
        >>> round(maximum_calibration_error(p, y, from_logits=False), 6)
        0.05
    """
    _check_bins(bins)
    scores = scores_of(outputs, labels, from_logits)
    return float(binned.mce(_bin_sums(scores, bins))[0])


def adaptive_ece(outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15) -> float:
    """Compute the expected calibration error over bins of equal count.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins; equal confidences keep the order of the samples.

    Returns:
        In [0, 1]; ``calibration.adaptive_ece_15`` of a report.

    Raises:
        UsageError: as ``ece``.
        IncompleteError: as ``ece``.

    Reference:
        Nguyen and O'Connor 2015, arXiv:1508.05154, section 4.

    Example:
        >>> p, y = [[0.6, 0.4], [0.8, 0.2], [0.9, 0.1], [1.0, 0.0]], [1, 0, 0, 0]
        >>> round(adaptive_ece(p, y, from_logits=False, bins=2), 6)  # gaps -.4 and .1, each a half
        0.125
    """
    _check_bins(bins)
    scores = scores_of(outputs, labels, from_logits)
    gaps = binned.adaptive_gaps(scores.confidence, scores.correct)
    return float(binned.equal_mass_error(gaps, bins)[0])


def reliability(
    outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15
) -> list[binned.Row]:
    """Make the table that a reliability diagram is drawn from, one row a bin.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins of equal width.

    Returns:
        Rows with ``lo``, ``hi``, ``n``, mean ``confidence``, ``accuracy`` and its Wilson interval
        ``ci``, the last three None where ``n`` is 0; ``pandas.DataFrame`` takes them.

    Raises:
        UsageError: as ``ece``.
        IncompleteError: as ``ece``.

    Example:
        >>> last = reliability([[0.8, 0.2]] * 4, [0, 0, 0, 1], from_logits=False, bins=2)[-1]
        >>> last["n"], round(last["confidence"], 6), last["accuracy"]
        (4, 0.8, 0.75)
    """
    _check_bins(bins)
    scores = scores_of(outputs, labels, from_logits)
    return binned.reliability_table(scores.confidence, scores.correct, bins)


def aurc(outputs: Logits, labels: Labels, *, from_logits: bool) -> float:
    """Compute the area under the risk-coverage curve.

    That is the mean over k of the error among the k most confident samples: small where the
    confidence tells right predictions from wrong ones.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.

    Returns:
        In [0, 1]; ``calibration.aurc`` of a report. Equal confidences keep the order of the
        samples.

    Raises:
        UsageError: as ``nll``.
        IncompleteError: as ``nll``.

    Reference:
        Geifman et al. 2019, arXiv:1805.08206, section 2.

    Example:
        >>> round(aurc([[0.9, 0.1], [0.6, 0.4]], [0, 1], from_logits=False), 6)  # risks 0 and 1/2
        0.25
    """
    scores = scores_of(outputs, labels, from_logits)
    return float(binned.aurc(binned.sorted_errors(scores.confidence, scores.correct))[0])


# Of the probability of every class


def classwise_ece(outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15) -> float:
    """Compute the calibration error of each class's probability over bins of equal width, averaged.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins.

    Returns:
        In [0, 1]; ``calibration.classwise_ece_15`` of a report. It shrinks as 1/K: it cannot be
        compared across numbers of classes.

    Raises:
        UsageError: as ``ece``.
        IncompleteError: as ``ece``.

    Reference:
        Kull et al. 2019, arXiv:1910.12656, section 2; "SCE" in arXiv:1904.01685, section 3.

    Example:
        >>> round(classwise_ece([[0.8, 0.2]] * 4, [0, 0, 0, 1], from_logits=False), 6)
        0.05
    """
    return _of_classes(classwise.classwise_ece, outputs, labels, from_logits, bins)


def ace(outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15) -> float:
    """Compute the adaptive calibration error: of each class, over bins of equal count, averaged.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins; equal probabilities keep the order of the samples.

    Returns:
        In [0, 1]; ``calibration.ace_15`` of a report.

    Raises:
        UsageError: as ``ece``.
        IncompleteError: as ``ece``.

    Reference:
        Nixon et al. 2019, arXiv:1904.01685, section 3, with bins weighed by their count.

    Example:
        >>> round(ace([[0.8, 0.2]] * 4, [0, 0, 0, 1], from_logits=False, bins=1), 6)
        0.05
    """
    return _of_classes(classwise.average_calibration_error, outputs, labels, from_logits, bins)


def tace(outputs: Logits, labels: Labels, *, from_logits: bool, bins: int = 15) -> float:
    """Compute ``ace`` of the probabilities above 0.01 alone.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.
        bins: number of bins; equal probabilities keep the order of the samples.

    Returns:
        In [0, 1]; ``calibration.tace_15`` of a report.

    Raises:
        UsageError: as ``ece``.
        IncompleteError: as ``ece``.

    Reference:
        Nixon et al. 2019, arXiv:1904.01685, section 3 ("TACE"), with bins weighed by their count.

    Example:
        >>> p = [[0.5, 0.495, 0.005]] * 4
        >>> round(tace(p, [0, 0, 1, 1], from_logits=False, bins=1), 6)  # gaps 0 and .005, and none
        0.001667
    """
    return _of_classes(classwise.thresholded_calibration_error, outputs, labels, from_logits, bins)


# What these are made of


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise UsageError(f"expected bins >= 1, got {bins}", "try 15", code="E-BINS")


def _bin_sums(scores: Scores, bins: int) -> binned.BinSums:
    return binned.bin_sums(scores.confidence, scores.correct, bins)


def _of_classes(
    measure: Callable[[npt.NDArray[np.floating[Any]], IntArray, int], FloatArray],
    outputs: Logits,
    labels: Labels,
    from_logits: bool,
    bins: int,
) -> float:
    _check_bins(bins)
    if are_logits(from_logits):
        z = told_logits(outputs)
        check_finite(z)
    else:
        with np.errstate(divide="ignore"):  # an exact zero is the softmax of minus infinity
            z = np.log(as_probabilities(outputs), dtype=np.float64)
    return float(measure(z, as_labels(labels, *z.shape), bins)[0])
