"""Metrics by one call each, of logits or probabilities at hand.

They are the numbers of the reports, by the same definitions, for whoever has arrays or tensors and
no report. Where logits and probabilities give different numbers, ``from_logits`` says which they
are; nothing is guessed. Intervals: ``wilson`` for shares, ``bootstrap_interval`` for the rest.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from robustmix.errors import UsageError
from robustmix.metrics import binned, classwise
from robustmix.metrics.consistency import kappa
from robustmix.metrics.detection import Detection
from robustmix.metrics.intervals import REPLICATES, bootstrap_rng, percentile_interval
from robustmix.metrics.scores import (
    DISTRIBUTION,
    FloatArray,
    IntArray,
    Labels,
    Logits,
    Scores,
    as_labels,
    as_logits,
    as_probabilities,
    check_finite,
    score_logits,
    score_probabilities,
)

if TYPE_CHECKING:
    from torch import Tensor

Values: TypeAlias = "npt.NDArray[np.floating[Any]] | Tensor | Sequence[float]"
"""Numbers, one a sample or group of samples."""

# Accuracy


def accuracy(outputs: Logits, labels: Labels) -> float:
    """Compute the share of samples whose label has the largest output.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64; only their order counts, and
            of equal ones the lowest index is the prediction.
        labels: class indices, (N,), each in [0, K).

    Returns:
        In [0, 1]; ``clean.top1`` of a report.

    Raises:
        UsageError: shapes, types or labels that do not fit.
        IncompleteError: a NaN or infinite output.

    Example:
        >>> accuracy([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]], [1, 0, 1, 1])
        0.75
    """
    return float(score_logits(outputs, labels).correct.mean())


def top_k_accuracy(outputs: Logits, labels: Labels, k: int = 5) -> float:
    """Compute the share of samples whose label is among the ``k`` largest outputs.

    Args:
        outputs: logits or probabilities, (N, K); only their order counts.
        labels: class indices, (N,), each in [0, K).
        k: 1 to K.

    Returns:
        In [0, 1]; ``clean.top5`` of a report for k = 5.

    Raises:
        UsageError: there are fewer than ``k`` classes; else as ``accuracy``.
        IncompleteError: as ``accuracy``.

    Example:
        >>> top_k_accuracy([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]], [2, 2], k=2)
        0.5
    """
    scores = score_logits(outputs, labels)
    classes = as_logits(outputs).shape[1]
    if not 1 <= k <= classes:
        raise UsageError(f"expected 1 <= k <= {classes} classes, got k = {k}")
    return float((scores.rank < k).mean())


def macro_accuracy(outputs: Logits, labels: Labels) -> float:
    """Compute the mean over classes of their accuracy, also known as balanced accuracy.

    Args:
        outputs: logits or probabilities, (N, K); only their order counts.
        labels: class indices, (N,). Classes without samples do not count.

    Returns:
        In [0, 1]; ``clean.macro_acc`` of a report.

    Raises:
        UsageError: as ``accuracy``.
        IncompleteError: as ``accuracy``.

    Example:
        >>> macro_accuracy([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]], [0, 0, 0, 1])
        0.5
    """
    correct = score_logits(outputs, labels).correct
    y = as_labels(labels, *as_logits(outputs).shape)
    counts = np.bincount(y)
    hits = np.bincount(y, correct)
    return float((hits[counts > 0] / counts[counts > 0]).mean())


# Proper scores


def nll(outputs: Logits, labels: Labels, *, from_logits: bool) -> float:
    """Compute the mean negative log-likelihood of the labels, the cross-entropy.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.

    Returns:
        In nats, >= 0; infinite where a label has probability 0. ``clean.nll`` of a report.

    Raises:
        UsageError: shapes, types or labels that do not fit, or rows that are no distribution.
        IncompleteError: a NaN or infinite logit.

    Example:
        >>> round(nll([[0.5, 0.5], [0.25, 0.75]], [0, 1], from_logits=False), 6)
        0.490415
    """
    return float(_scores(outputs, labels, from_logits).nll.mean())


def brier_score(outputs: Logits, labels: Labels, *, from_logits: bool) -> float:
    """Compute the mean squared error of the probabilities, summed over classes.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.

    Returns:
        In [0, 2]; ``clean.brier_sum`` of a report, which divided by K is ``clean.brier_mean``.

    Raises:
        UsageError: as ``nll``.
        IncompleteError: as ``nll``.

    Reference:
        Brier 1950, Monthly Weather Review 78:1.

    Example:
        >>> brier_score([[0.5, 0.5], [0.25, 0.75]], [0, 1], from_logits=False)
        0.3125
    """
    return float(_scores(outputs, labels, from_logits).brier.mean())


# Calibration of the top label


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
    return float(binned.ece(_bin_sums(outputs, labels, from_logits, bins))[0])


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
    return float(binned.rmsce(_bin_sums(outputs, labels, from_logits, bins))[0])


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
    return float(binned.mce(_bin_sums(outputs, labels, from_logits, bins))[0])


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
    scores = _scores(outputs, labels, from_logits)
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
    scores = _scores(outputs, labels, from_logits)
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
    scores = _scores(outputs, labels, from_logits)
    return float(binned.aurc(binned.sorted_errors(scores.confidence, scores.correct))[0])


# Calibration of every class's probability


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


# Out-of-distribution detection


def auroc(inside: Values, outside: Values) -> float:
    """Compute the area under the ROC curve of a score that tells two groups apart.

    Args:
        inside: scores of in-distribution samples, the positives, (m,); ``detection_scores`` makes
            them of logits, or any score of yours.
        outside: scores of the others, (n,).

    Returns:
        Share of pairs in which the one inside has the larger score, equal ones by half, in [0, 1].

    Raises:
        UsageError: a group is empty, or a score is not finite.

    Reference:
        Hendrycks and Gimpel 2017, arXiv:1610.02136, section 2.

    Example:
        >>> auroc([0.9, 0.8, 0.4], [0.5, 0.4])
        0.75
    """
    return _detection(inside, outside).estimate("auroc")


def fpr95(inside: Values, outside: Values) -> float:
    """Compute the share of others that pass where 95 % of in-distribution samples do.

    Args:
        inside: scores of in-distribution samples, (m,).
        outside: scores of the others, (n,).

    Returns:
        Share of others at or above the largest score that 95 % of those inside reach, in [0, 1].

    Raises:
        UsageError: a group is empty, or a score is not finite.

    Reference:
        Liu et al. 2020, arXiv:2010.03759, section 4.

    Example:
        >>> fpr95([0.9, 0.8, 0.4], [0.5, 0.3])
        0.5
    """
    return _detection(inside, outside).estimate("fpr95")


def aupr(inside: Values, outside: Values, *, positive: Literal["in", "out"] = "in") -> float:
    """Compute the average precision of a score that tells two groups apart.

    Args:
        inside: scores of in-distribution samples, (m,), larger than those of others if all is well.
        outside: scores of the others, (n,).
        positive: which group is looked for; ``out`` looks for low scores.

    Returns:
        In [0, 1]; chance gives the share of the positives.

    Raises:
        UsageError: a group is empty, a score is not finite, or ``positive`` is something else.

    Reference:
        Hendrycks and Gimpel 2017, arXiv:1610.02136, section 2.

    Example:
        >>> aupr([0.9, 0.8], [0.85])
        0.8333333333333333
    """
    if positive not in ("in", "out"):
        raise UsageError(f"expected positive 'in' or 'out', got {positive!r}")
    return _detection(inside, outside).estimate(f"aupr_{positive}")


# Agreement of two models


def error_consistency(first: Labels, second: Labels, labels: Labels) -> float:
    """Compute whether two models err on the same samples, beyond what their accuracies make them.

    Args:
        first: predicted classes of one model, (N,).
        second: of the other.
        labels: true classes, (N,).

    Returns:
        Cohen's kappa of being right, at most 1; 0 is what independent models have.

    Raises:
        UsageError: shapes that do not fit, or it is undefined because both models are right
            everywhere or both wrong everywhere.

    Reference:
        Geirhos, Meding and Wichmann 2020, arXiv:2006.16736, equation 3.

    Example:
        >>> error_consistency([0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0])
        0.0
    """
    y = _classes(labels)
    right, other = (_classes(one, len(y)) == y for one in (first, second))
    return _kappa(right.astype(np.int64), other.astype(np.int64))


def cohen_kappa(first: Labels, second: Labels) -> float:
    """Compute Cohen's kappa of two models' predictions: agreement beyond chance.

    Args:
        first: predicted classes of one model, (N,).
        second: of the other.

    Returns:
        At most 1; 0 is what models have that give each class as often, independently.

    Raises:
        UsageError: shapes that do not fit, or it is undefined because both give one class alone.

    Reference:
        Cohen 1960, Educational and Psychological Measurement 20:37.

    Example:
        >>> cohen_kappa([0, 0, 1, 1], [0, 1, 1, 1])
        0.5
    """
    mine = _classes(first)
    return _kappa(mine, _classes(second, len(mine)))


# Corruptions


def mean_corruption_error(errors: Values, reference: Values) -> float:
    """Compute mCE: the mean over corruptions of the error divided by a reference model's.

    Args:
        errors: error under each corruption, mean over severities, (C,), in [0, 1]; 1 minus
            ``corruption.acc_mean[by_corruption:NAME]`` of a report.
        reference: errors of the reference model under the same corruptions, (C,), in (0, 1].

    Returns:
        In percent, as is usual; 100 is as good as the reference.

    Raises:
        UsageError: other shapes, or errors outside these ranges.

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.

    Example:
        >>> mean_corruption_error([0.25, 0.5], [0.5, 0.5])
        75.0
    """
    mine, theirs = _floats(errors), _floats(reference)
    if mine.ndim != 1 or mine.shape != theirs.shape or not len(mine):
        raise UsageError(
            f"expected as many errors as reference errors, got {mine.shape} and {theirs.shape}"
        )
    if not (((mine >= 0) & (mine <= 1)).all() and ((theirs > 0) & (theirs <= 1)).all()):
        raise UsageError("expected errors in [0, 1] and reference errors in (0, 1]")
    return float(100 * (mine / theirs).mean())


# Intervals


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: Any,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of any metric of samples.

    Args:
        metric: what is given the arrays, resampled, and returns a number; one with options is
            made by ``functools.partial``: ``partial(ece, from_logits=True)``.
        arrays: arrays, tensors or lists of equal length, whose i-th entries are of one sample, so
            that they are drawn together: outputs and labels, or two models' outputs and labels.
        seed: of the resamples.
        replicates: number of resamples, at least 1.

    Returns:
        2.5 % and 97.5 % quantile. Of a calibration error or a maximum, which chance raises, it may
        lie above what holds: ``calibration_metrics`` has intervals for these.

    Raises:
        UsageError: there are no arrays, they differ in length, or are empty.

    Reference:
        Efron 1979, "Bootstrap methods: another look at the jackknife".

    Example:
        >>> right = np.repeat([1.0, 0.0], [80, 20])
        >>> low, high = bootstrap_interval(np.mean, right)
        >>> 0.70 < low < 0.74 and 0.86 < high < 0.89
        True
    """
    lengths = {len(one) for one in arrays}
    if len(lengths) != 1 or lengths == {0}:
        raise UsageError(f"expected arrays of one length of at least 1, got {sorted(lengths)}")
    if replicates < 1:
        raise UsageError(f"expected replicates >= 1, got {replicates}")
    held = [np.asarray(one) if isinstance(one, Sequence) else one for one in arrays]
    (n,), rng = lengths, bootstrap_rng(seed)
    draws = (rng.integers(n, size=n) for _ in range(replicates))
    return percentile_interval(np.array([metric(*(one[at] for one in held)) for at in draws]))


# What these are made of


def _scores(outputs: Logits, labels: Labels, from_logits: bool) -> Scores:
    if _are_logits(from_logits):
        return score_logits(_told_logits(outputs), labels)
    return score_probabilities(outputs, labels)


def _are_logits(from_logits: bool) -> bool:
    """Refuse what is neither true nor false: a text such as "probabilities" would count as true."""
    if from_logits not in (True, False):
        raise UsageError(f"expected from_logits True or False, got {from_logits!r}")
    return bool(from_logits)


def _told_logits(outputs: Logits) -> npt.NDArray[np.floating[Any]]:
    """Return logits, (N, K), and warn if they are what a softmax gives: no network's ever are."""
    z = as_logits(outputs)
    if z.min() >= 0 and (abs(z.sum(axis=1) - 1) <= DISTRIBUTION).all():
        warnings.warn(
            "every row of these logits is a distribution: probabilities want from_logits=False",
            stacklevel=4,
        )
    return z


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise UsageError(f"expected bins >= 1, got {bins}", "try 15", code="E-BINS")


def _bin_sums(outputs: Logits, labels: Labels, from_logits: bool, bins: int) -> binned.BinSums:
    _check_bins(bins)
    scores = _scores(outputs, labels, from_logits)
    return binned.bin_sums(scores.confidence, scores.correct, bins)


def _of_classes(
    measure: Callable[[npt.NDArray[np.floating[Any]], IntArray, int], FloatArray],
    outputs: Logits,
    labels: Labels,
    from_logits: bool,
    bins: int,
) -> float:
    _check_bins(bins)
    if _are_logits(from_logits):
        z = _told_logits(outputs)
        check_finite(z)
    else:
        with np.errstate(divide="ignore"):  # an exact zero is the softmax of minus infinity
            z = np.log(as_probabilities(outputs), dtype=np.float64)
    return float(measure(z, as_labels(labels, *z.shape), bins)[0])


def _detection(inside: Values, outside: Values) -> Detection:
    both = [_floats(one) for one in (inside, outside)]
    if any(one.ndim != 1 or not len(one) or not np.isfinite(one).all() for one in both):
        raise UsageError("expected finite scores of two groups, (m,) and (n,), neither empty")
    return Detection(*both)


def _floats(values: Values) -> FloatArray:
    """Return numbers as float64; those of a tensor wherever it lies, and without its gradient."""
    if isinstance(values, np.ndarray | Sequence):
        return np.asarray(values, dtype=np.float64)
    found: FloatArray = values.detach().cpu().double().numpy()
    return found


def _classes(classes: Labels, n: int | None = None) -> IntArray:
    array = np.asarray(classes) if isinstance(classes, Sequence) else classes
    size = len(array) if n is None else n
    return as_labels(classes, size, 2**31)


def _kappa(first: IntArray, second: IntArray) -> float:
    if not len(first):
        raise UsageError("expected at least one sample")
    classes = int(max(first.max(), second.max())) + 1
    found = kappa(first, second, max(classes, 2), note="", reason="").estimate()
    if math.isnan(found):
        raise UsageError("it is undefined: both models give one and the same answer alone")
    return found
