"""Metrics of the calibration suite, each with its interval and bootstrap bias."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustmix.errors import UsageError
from robustmix.metrics import binned
from robustmix.metrics.binned import Row, bin_sums, reliability_table
from robustmix.metrics.classwise import (
    average_calibration_error,
    classwise_ece,
    thresholded_calibration_error,
)
from robustmix.metrics.intervals import (
    REPLICATES,
    Statistic,
    bootstrap,
    bootstrap_metric,
    bootstrap_rng,
    resample,
)
from robustmix.metrics.metric import Direction, Metric, Unit
from robustmix.metrics.recalibration import two_fold_recalibration
from robustmix.metrics.scores import (
    FloatArray,
    IntArray,
    Labels,
    Logits,
    Scores,
    as_labels,
    as_logits,
    check_sample_ids,
    order_by_id,
    score_logits,
)
from robustmix.metrics.temperature import (
    CalibrationSplit,
    FittedElsewhere,
    ScaledResult,
    held_out_temperature,
    scaled_by,
    two_fold_temperature,
)

CLASSWISE_REPLICATES = (50, 200)
"""Least and most bootstrap replicates of the classwise errors."""

_CLASSWISE_COST = 2_000_000_000
"""Probabilities that the resamples of the classwise errors may pass over, within those limits."""

BINS = (10, 15)
"""Bin counts of every report: that of the papers' tool, and the common one."""

_BY_BINS = ("ece", "mce", "rmsce", "adaptive_ece", "classwise_ece")
"""Metrics that are given for every bin count that is asked for."""

_OTHERS: dict[str, tuple[Unit, Direction]] = {
    "mce_min_n": ("fraction", "lower"),
    "ace_15": ("fraction", "lower"),
    "tace_15": ("fraction", "lower"),
    "debiased_15": ("score", "lower"),
    "gap": ("score", "neither"),
    "mean_confidence": ("fraction", "neither"),
    "over": ("fraction", "lower"),
    "under": ("fraction", "lower"),
    "aurc": ("fraction", "lower"),
    "acc_at_90": ("fraction", "higher"),
    "acc_at_80": ("fraction", "higher"),
    "acc_at_50": ("fraction", "higher"),
    "nll": ("nats", "lower"),
    "brier_sum": ("score", "lower"),
    "brier_mean": ("score", "lower"),
}
_PAPER_TOOL = "ece_paper_tool"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibrationResult:
    """What the calibration suite reports."""

    metrics: dict[str, Metric]
    bins: dict[int, list[Row]]
    """Bin count -> reliability table; 10 and 15 are always there."""

    temperature: dict[str, Any]
    """JSON-like; ``T`` is null with a ``reason`` when nothing can be fitted."""

    sample_temperature: FloatArray | None
    """T of each sample in the order given, (N,), fitted without it; for the corruption suite."""

    recalibrated: dict[str, dict[str, Any]]
    """Experimental recalibrators that were asked for, by name; JSON-like."""

    @property
    def bins_10(self) -> list[Row]:
        """Reliability table of 10 bins."""
        return self.bins[10]

    @property
    def bins_15(self) -> list[Row]:
        """Reliability table of 15 bins."""
        return self.bins[15]


def calibration_metrics(
    logits: Logits,
    labels: Labels,
    *,
    seed: int,
    sample_ids: Sequence[str] | None = None,
    held_out: CalibrationSplit | FittedElsewhere | None = None,
    bins: Sequence[int] = BINS,
    paper_tool: bool = False,
    recalibrators: Sequence[str] = (),
    replicates: int = REPLICATES,
) -> CalibrationResult:
    """Compute the metrics of the calibration suite.

    Samples are put in the order of their ids first, which settles ties between confidences and
    the resamples: the order given does not matter.

    Args:
        logits: (N, K), float32 or float64.
        labels: (N,), each in [0, K).
        seed: seed of the bootstrap and of the two folds.
        sample_ids: names of the samples, each once; positions if None.
        held_out: what to fit the temperature to, or what was fitted to other samples; two folds of
            the samples themselves if None.
        bins: bin counts beside 10 and 15, which are always given.
        paper_tool: add ``ece_paper_tool``, which is not an ECE; see there.
        recalibrators: names in ``RECALIBRATORS``, tried by two folds; experimental.
        replicates: bootstrap replicates; 0 leaves the intervals out. The classwise errors have
            at most 200, and no fewer than 50 where N * K is large.

    Raises:
        UsageError: inputs that do not fit, a sample both fitted to and scored, or a bin count or
            recalibrator that does not exist.
        IncompleteError: a NaN or infinite logit.
    """
    counts = bin_counts(bins)
    z = as_logits(logits)
    n, num_classes = z.shape
    y = as_labels(labels, n, num_classes)
    ids = [f"{i:012d}" for i in range(n)] if sample_ids is None else list(sample_ids)
    check_sample_ids(ids, n)
    order = order_by_id(ids)
    if not np.array_equal(order, np.arange(n)):
        z, y, ids = z[order], y[order], [ids[i] for i in order]
    scores = score_logits(z, y, sample_ids=ids)
    scaled = _scale(z, y, ids, held_out, seed, replicates)
    sample_temperature = None
    if scaled is not None:
        sample_temperature = np.empty(n)
        sample_temperature[order] = scaled.temperature
    return CalibrationResult(
        metrics=_metrics(z, y, scores, counts, paper_tool, seed, replicates),
        bins={b: reliability_table(scores.confidence, scores.correct, b) for b in counts},
        temperature=(
            scaled.as_dict()
            if scaled is not None
            else {"T": None, "reason": "one sample cannot be split into two folds"}
        ),
        sample_temperature=sample_temperature,
        recalibrated={
            name: two_fold_recalibration(name, z, y, ids, seed=seed) for name in recalibrators
        },
    )


def bin_counts(asked: Sequence[int]) -> tuple[int, ...]:
    """Return the bin counts of a report, rising: those asked for, and 10 and 15.

    Raises:
        UsageError: a count is not in 1 to 1000.

    Example:
        >>> bin_counts([20])
        (10, 15, 20)
    """
    for count in asked:
        if not 1 <= count <= 1000:
            raise UsageError(f"expected 1 to 1000 bins, got {count}", "try 15", code="E-BINS")
    return tuple(sorted({*asked, *BINS}))


def _scale(
    logits: npt.NDArray[np.floating[Any]],
    labels: IntArray,
    ids: Sequence[str],
    held_out: CalibrationSplit | FittedElsewhere | None,
    seed: int,
    replicates: int,
) -> ScaledResult | None:
    if isinstance(held_out, FittedElsewhere):
        return scaled_by(logits, labels, ids, fitted=held_out, seed=seed, replicates=replicates)
    if held_out is not None:
        return held_out_temperature(
            logits, labels, ids, held_out=held_out, seed=seed, replicates=replicates
        )
    if len(labels) < 2:
        return None
    return two_fold_temperature(logits, labels, ids, seed=seed, replicates=replicates)


def _metrics(
    logits: npt.NDArray[np.floating[Any]],
    labels: IntArray,
    scores: Scores,
    bins: Sequence[int],
    paper_tool: bool,
    seed: int,
    replicates: int,
) -> dict[str, Metric]:
    n, num_classes = logits.shape
    once = np.ones((1, n), dtype=np.int64)
    top_label = _top_label_statistic(scores, num_classes, bins, paper_tool)

    def classwise(weights: IntArray) -> dict[str, FloatArray]:
        return {
            **{f"classwise_ece_{b}": classwise_ece(logits, labels, b, weights) for b in bins},
            "ace_15": average_calibration_error(logits, labels, 15, weights),
            "tace_15": thresholded_calibration_error(logits, labels, 15, weights),
        }

    estimates = dict(top_label(once)) | classwise(once)
    drawn: dict[str, FloatArray] = {}
    if replicates:
        drawn = bootstrap(top_label, n, rng=bootstrap_rng(seed), replicates=replicates)
        least, most = CLASSWISE_REPLICATES
        few = min(replicates, most, max(least, _CLASSWISE_COST // (n * num_classes)))
        # One call: each class is sorted once for all resamples.
        drawn |= classwise(resample(n, few, bootstrap_rng(seed)))
    return {
        name: bootstrap_metric(
            float(estimates[name][0]),
            drawn.get(name),
            unit=unit,
            direction=direction,
            n=n,
            seed=seed,
            note=_note(name, n),
            undefined=f"no bin holds {_min_bin(n):g} samples",
        )
        for name, (unit, direction) in _described(bins, paper_tool).items()
    }


def _described(bins: Sequence[int], paper_tool: bool) -> dict[str, tuple[Unit, Direction]]:
    by_bins: dict[str, tuple[Unit, Direction]] = {
        f"{name}_{b}": ("fraction", "lower") for name in _BY_BINS for b in bins
    }
    if paper_tool:
        by_bins[_PAPER_TOOL] = ("fraction", "lower")
    return by_bins | _OTHERS


def _min_bin(n: int) -> float:
    return max(10, 0.001 * n)


def _note(name: str, n: int) -> str | None:
    notes = []
    if name == "mce_min_n":
        notes.append(f"15 bins, those of {_min_bin(n):g} samples or more")
    if name == "gap":
        notes.append("mean confidence minus accuracy; positive is over-confident")
    if name.startswith("classwise"):
        notes.append("shrinks as 1/K: not comparable across class counts")
    if name == "tace_15":
        notes.append("probabilities above 0.01 only")
    if name == _PAPER_TOOL:
        notes.append("not an ECE: bin accuracies and confidences are sorted independently")
    bins = name.rpartition("_")[2]
    binned_name = bins.isdecimal() and name.startswith((*_BY_BINS, "ace", "tace", "debiased"))
    if binned_name and n < 10 * int(bins):
        notes.append(f"n={n} is less than 10 a bin")
    return "; ".join(notes) or None


def _top_label_statistic(
    scores: Scores, num_classes: int, bins: Sequence[int], paper_tool: bool
) -> Statistic:
    n, confidence, correct = len(scores.nll), scores.confidence, scores.correct

    def statistic(weights: IntArray) -> dict[str, FloatArray]:
        sums = {b: bin_sums(confidence, correct, b, weights) for b in bins}
        fifteen = sums[15]
        gaps = binned.adaptive_gaps(confidence, correct, weights)
        errors = binned.sorted_errors(confidence, correct, weights)
        mean_confidence = weights @ confidence / n
        brier = weights @ scores.brier / n
        by_bins: dict[str, FloatArray] = {}
        for b, sums_b in sums.items():
            by_bins |= {
                f"ece_{b}": binned.ece(sums_b),
                f"mce_{b}": binned.mce(sums_b),
                f"rmsce_{b}": binned.rmsce(sums_b),
                f"adaptive_ece_{b}": binned.equal_mass_error(gaps, b),
            }
        if paper_tool:
            by_bins[_PAPER_TOOL] = binned.paper_tool_error(sums[10])
        return by_bins | {
            "mce_min_n": binned.mce(fifteen, _min_bin(n)),
            "debiased_15": binned.debiased(fifteen),
            "gap": mean_confidence - weights @ correct / n,
            "mean_confidence": mean_confidence,
            "over": binned.over_confidence(fifteen),
            "under": binned.under_confidence(fifteen),
            "aurc": binned.aurc(errors),
            "acc_at_90": binned.accuracy_at(errors, 90),
            "acc_at_80": binned.accuracy_at(errors, 80),
            "acc_at_50": binned.accuracy_at(errors, 50),
            "nll": weights @ scores.nll / n,
            "brier_sum": brier,
            "brier_mean": brier / num_classes,
        }

    return statistic
