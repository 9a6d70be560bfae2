"""Metrics of the calibration suite, each with its interval and bootstrap bias."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustmix.evaluation.metrics import binned
from robustmix.evaluation.metrics.binned import Row, bin_sums, reliability_table
from robustmix.evaluation.metrics.classwise import average_calibration_error, classwise_ece
from robustmix.evaluation.metrics.scores import (
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
from robustmix.evaluation.metrics.statistics import (
    REPLICATES,
    Statistic,
    bootstrap,
    bootstrap_metric,
    bootstrap_rng,
    resample,
)
from robustmix.evaluation.metrics.temperature import (
    CalibrationSplit,
    ScaledResult,
    held_out_temperature,
    two_fold_temperature,
)
from robustmix.report.metric import Direction, Metric, Unit

CLASSWISE_REPLICATES = (50, 200)
"""Least and most bootstrap replicates of the classwise errors."""

_CLASSWISE_COST = 2_000_000_000
"""Probabilities that the resamples of the classwise errors may pass over, within those limits."""

_METRICS: dict[str, tuple[Unit, Direction]] = {
    "ece_10": ("fraction", "lower"),
    "ece_15": ("fraction", "lower"),
    "mce_10": ("fraction", "lower"),
    "mce_15": ("fraction", "lower"),
    "mce_min_n": ("fraction", "lower"),
    "rmsce_10": ("fraction", "lower"),
    "rmsce_15": ("fraction", "lower"),
    "adaptive_ece_10": ("fraction", "lower"),
    "adaptive_ece_15": ("fraction", "lower"),
    "classwise_ece_10": ("fraction", "lower"),
    "classwise_ece_15": ("fraction", "lower"),
    "ace_15": ("fraction", "lower"),
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibrationResult:
    """What the calibration suite reports."""

    metrics: dict[str, Metric]
    bins_10: list[Row]
    bins_15: list[Row]
    temperature: dict[str, Any]
    """JSON-like; ``T`` is null with a ``reason`` when nothing can be fitted."""

    sample_temperature: FloatArray | None
    """T of each sample in the order given, (N,), fitted without it; for the corruption suite."""


def calibration_metrics(
    logits: Logits,
    labels: Labels,
    *,
    seed: int,
    sample_ids: Sequence[str] | None = None,
    held_out: CalibrationSplit | None = None,
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
        held_out: what to fit the temperature to; two folds of the samples themselves if None.
        replicates: bootstrap replicates ; 0 leaves the intervals out. The classwise errors have
            at most 200, and no fewer than 50 where N * K is large.

    Raises:
        UsageError: inputs that do not fit, or a sample both fitted to and scored.
        IncompleteError: a NaN or infinite logit.
    """
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
        metrics=_metrics(z, y, scores, seed, replicates),
        bins_10=reliability_table(scores.confidence, scores.correct, 10),
        bins_15=reliability_table(scores.confidence, scores.correct, 15),
        temperature=(
            scaled.as_dict()
            if scaled is not None
            else {"T": None, "reason": "one sample cannot be split into two folds"}
        ),
        sample_temperature=sample_temperature,
    )


def _scale(
    logits: npt.NDArray[np.floating[Any]],
    labels: IntArray,
    ids: Sequence[str],
    held_out: CalibrationSplit | None,
    seed: int,
    replicates: int,
) -> ScaledResult | None:
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
    seed: int,
    replicates: int,
) -> dict[str, Metric]:
    n, num_classes = logits.shape
    once = np.ones((1, n), dtype=np.int64)
    top_label = _top_label_statistic(scores, num_classes)

    def classwise(weights: IntArray) -> dict[str, FloatArray]:
        return {
            "classwise_ece_10": classwise_ece(logits, labels, 10, weights),
            "classwise_ece_15": classwise_ece(logits, labels, 15, weights),
            "ace_15": average_calibration_error(logits, labels, 15, weights),
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
        for name, (unit, direction) in _METRICS.items()
    }


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
    bins = name.rpartition("_")[2]
    if bins in ("10", "15") and n < 10 * int(bins):
        notes.append(f"n={n} is less than 10 a bin")
    return "; ".join(notes) or None


def _top_label_statistic(scores: Scores, num_classes: int) -> Statistic:
    n, confidence, correct = len(scores.nll), scores.confidence, scores.correct

    def statistic(weights: IntArray) -> dict[str, FloatArray]:
        ten = bin_sums(confidence, correct, 10, weights)
        fifteen = bin_sums(confidence, correct, 15, weights)
        gaps = binned.adaptive_gaps(confidence, correct, weights)
        errors = binned.sorted_errors(confidence, correct, weights)
        mean_confidence = weights @ confidence / n
        brier = weights @ scores.brier / n
        return {
            "ece_10": binned.ece(ten),
            "ece_15": binned.ece(fifteen),
            "mce_10": binned.mce(ten),
            "mce_15": binned.mce(fifteen),
            "mce_min_n": binned.mce(fifteen, _min_bin(n)),
            "rmsce_10": binned.rmsce(ten),
            "rmsce_15": binned.rmsce(fifteen),
            "adaptive_ece_10": binned.equal_mass_error(gaps, 10),
            "adaptive_ece_15": binned.equal_mass_error(gaps, 15),
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
