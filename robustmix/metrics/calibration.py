"""Metrics of the calibration suite, each with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypedDict

import numpy as np

from robustmix.errors import UsageError
from robustmix.metrics import binned
from robustmix.metrics.binned import BinSums, RunningErrors, bin_index, bin_sums, reliability_table
from robustmix.metrics.chance import (
    Chance,
    Noise,
    absolute_noise,
    group_spreads,
    part_chance,
    root_chance,
    square_chance,
)
from robustmix.metrics.classwise import (
    Grouping,
    average_calibration_error,
    classwise_ece,
    classwise_noise,
    equal_count,
    equal_count_above,
    equal_width,
    thresholded_calibration_error,
)
from robustmix.metrics.definition import Definition, Numbers, Shared, function, mean, once
from robustmix.metrics.from_logits import logits_of, metrics_of_rows, rows_of_logits
from robustmix.metrics.intervals import REPLICATES, wilson
from robustmix.metrics.metric import Metric, Unit
from robustmix.metrics.recalibration import two_fold_recalibration
from robustmix.metrics.scores import FloatArray, Labels, Logits
from robustmix.metrics.temperature import (
    CalibrationSplit,
    FittedElsewhere,
    ScaledResult,
    held_out_temperature,
    scaled_by,
    two_fold_temperature,
)
from robustmix.report.rows import Rows

CLASSWISE_REPLICATES = (50, 200)
"""Least and most bootstrap replicates of the classwise errors."""

_CLASSWISE_COST = 2_000_000_000
"""Probabilities that the resamples of the classwise errors may pass over, within those limits."""

BINS = (10, 15)
"""Bin counts of every report: that of the papers' tool, and the common one."""


def bin_counts(asked: Sequence[int]) -> tuple[int, ...]:
    """Give the bin counts of a report, rising: those asked for, and 10 and 15.

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


# The top label in bins of equal width


def _sums(rows: Rows, bins: int) -> Shared[BinSums]:
    confidence, correct = rows.clean("confidence"), rows.clean("correct")
    return rows.shared(f"{bins} bins", lambda weights: bin_sums(confidence, correct, bins, weights))


Measure = Callable[[BinSums], FloatArray]
"""Sums over bins -> a value of each resample, (R,)."""


def _of_bins(
    rows: Rows,
    measure: Measure,
    bins: int = 15,
    *,
    chance: Callable[["Gaps"], Chance],
    unit: Unit = "fraction",
    note: str | None = None,
) -> Definition:
    sums = _sums(rows, bins)
    return function(
        rows.n,
        lambda weights: measure(sums(weights)),
        unit=unit,
        note=note,
        chance=lambda estimate: chance(Gaps.of(rows, sums, bins, measure)),
    )


class Gaps(NamedTuple):
    """The gaps of the bins, each (bins,), and the estimate that was made of them."""

    sums: FloatArray
    """Sum over the images of a bin of correctness minus confidence."""

    spread: FloatArray
    """Standard error of each."""

    counts: FloatArray
    noise: Noise
    estimate: float

    @classmethod
    def of(cls, rows: Rows, sums: Shared[BinSums], bins: int, measure: Measure) -> "Gaps":
        """Take them of the images themselves."""
        confidence, correct = rows.clean("confidence"), rows.clean("correct")
        found = sums(once(rows.n))
        groups = correct - confidence, confidence * (1 - confidence), bin_index(confidence, bins)
        return cls(
            sums=found.correct[0] - found.confidence[0],
            spread=group_spreads(*groups, bins),
            counts=found.n[0],
            noise=absolute_noise(*groups, bins),
            estimate=float(measure(found)[0]),
        )

    def absolute(self) -> Chance:
        """Tell what chance does to the sum of their absolute values."""
        return self.noise.chance(self.estimate)

    def root(self) -> Chance:
        """Tell what it does to the root of their mean square."""
        return root_chance(self.sums, self.spread, self.counts)

    def square(self) -> Chance:
        """Tell what it does to their mean square, when its bias is taken off."""
        return square_chance(self.sums, self.spread, self.counts)

    def part(self, sign: int) -> Chance:
        """Tell what it does to the sum of those of one sign."""
        n = round(self.counts.sum())
        return part_chance(self.estimate, self.sums, self.spread, n, sign=sign)


def _noted(rows: Rows, bins: int, *notes: str) -> str | None:
    """Join notes, and say if there are few samples for so many bins."""
    few = [f"n={rows.n} is less than 10 a bin"] if rows.n < 10 * bins else []
    return "; ".join([*notes, *few]) or None


_HIDDEN = "a bin of few images, or of none, may hide any gap"


def _largest(
    rows: Rows, bins: int, least: float = 1, *, note: str | None, reason: str = ""
) -> Definition:
    """Define the largest gap of a bin, of which no sample says how much larger it may be."""
    sums = _sums(rows, bins)

    def statistic(weights: FloatArray) -> FloatArray:
        return binned.mce(sums(weights), least)

    none = bool(np.isnan(statistic(once(rows.n))[0]))
    return function(
        rows.n,
        statistic,
        note=note,
        reason=reason if none else _HIDDEN,
        interval="none",
        before="bootstrap",
    )


def mce_min_n(rows: Rows) -> Definition:
    """Define the largest gap of a bin that holds more than a handful of samples."""
    least = max(10, 0.001 * rows.n)
    note, reason = f"15 bins, those of {least:g} samples or more", f"no bin holds {least:g} samples"
    return _largest(rows, 15, least, note=note, reason=reason)


def debiased_15(rows: Rows) -> Definition:
    """Define the squared calibration error without what chance alone adds to it."""
    note = _noted(rows, 15)
    return _of_bins(rows, binned.debiased, unit="score", note=note, chance=Gaps.square)


def over(rows: Rows) -> Definition:
    """Define the part of the ECE from bins whose confidence exceeds their accuracy."""
    return _of_bins(rows, binned.over_confidence, chance=partial(Gaps.part, sign=-1))


def under(rows: Rows) -> Definition:
    """Define the part of the ECE from bins whose accuracy exceeds their confidence."""
    return _of_bins(rows, binned.under_confidence, chance=partial(Gaps.part, sign=1))


# The top label without bins


def gap(rows: Rows) -> Definition:
    """Define the mean confidence minus the accuracy."""
    return mean(
        rows.clean("confidence") - rows.clean("correct"),
        unit="score",
        direction="neither",
        note="mean confidence minus accuracy; positive is over-confident",
        interval="skewed",
    )


def mean_confidence(rows: Rows) -> Definition:
    """Define the mean probability of the predicted class."""
    return mean(rows.clean("confidence"), direction="neither", interval="skewed")


def _errors(rows: Rows) -> Shared[FloatArray]:
    confidence, correct = rows.clean("confidence"), rows.clean("correct")
    return rows.shared(
        "errors by confidence",
        lambda weights: binned.sorted_errors(confidence, correct, weights),
    )


def aurc(rows: Rows) -> Definition:
    """Define the area under the error of the most confident samples against their share."""
    errors = _errors(rows)
    return Definition(
        n=rows.n,
        values=binned.aurc_values(errors(once(rows.n))[0]),
        statistic=lambda weights: binned.aurc(errors(weights)),
        direction="lower",
        interval="skewed",
        before="bootstrap",
    )


def _accuracy_at(rows: Rows, *, percent: int) -> Definition:
    confidence, correct = rows.clean("confidence"), rows.clean("correct")
    errors = rows.shared(
        "running errors", lambda weights: RunningErrors.of(confidence, correct, weights)
    )

    def statistic(weights: FloatArray) -> FloatArray:
        return errors(weights).accuracy(percent)

    kept = binned.kept_at(rows.n, percent)
    hits = round(kept * float(statistic(once(rows.n))[0]))
    defined = function(rows.n, statistic, direction="higher")
    # Resamples of images of which hardly one is wrong show hardly an error.
    return replace(defined, widened=wilson(hits, kept))


acc_at_90 = partial(_accuracy_at, percent=90)
acc_at_80 = partial(_accuracy_at, percent=80)
acc_at_50 = partial(_accuracy_at, percent=50)


# Every class's probability

ClasswiseError = Callable[[Any, Any, int, FloatArray], FloatArray]
"""(Logits (N, K), labels (N,), bins, weights (R, N)) -> error of each resample, (R,)."""


def _classwise(
    rows: Rows, measure: ClasswiseError, grouping: Grouping, bins: int, *notes: str
) -> Definition:
    least, most = CLASSWISE_REPLICATES
    few = min(most, max(least, _CLASSWISE_COST // (rows.n * rows.num_classes)))

    def statistic(weights: FloatArray) -> FloatArray:
        return measure(logits_of(rows), rows.labels, bins, weights)

    def chance(estimate: float) -> Chance:
        noise = classwise_noise(logits_of(rows), rows.labels, bins, grouping)
        return noise.chance(estimate)

    note = _noted(rows, bins, *notes)
    return function(rows.n, statistic, replicates=few, costly=True, note=note, chance=chance)


def ace_15(rows: Rows) -> Definition:
    """Define the classwise error over 15 bins of equal count."""
    return _classwise(rows, average_calibration_error, equal_count, 15)


def tace_15(rows: Rows) -> Definition:
    """Define the classwise error over 15 bins of equal count of probabilities above 0.01."""
    note = "probabilities above 0.01 only"
    return _classwise(rows, thresholded_calibration_error, equal_count_above, 15, note)


# Numbers whose bin count is a parameter


def binned_numbers(rows: Rows, bins: Sequence[int], *, paper_tool: bool = False) -> Numbers:
    """Define ``ece mce rmsce adaptive_ece classwise_ece`` with each number of bins.

    Args:
        rows: with the columns of suite ``clean``.
        bins: numbers of bins.
        paper_tool: add ``ece_paper_tool``, which is not an ECE; see there.
    """
    measures: dict[str, tuple[Measure, Callable[[Gaps], Chance]]] = {
        "ece": (binned.ece, Gaps.absolute),
        "rmsce": (binned.rmsce, Gaps.root),
    }
    numbers: Numbers = {
        ("", f"{name}_{b}"): partial(_of_bins, rows, of, b, note=_noted(rows, b), chance=chance)
        for name, (of, chance) in measures.items()
        for b in bins
    }
    numbers |= {("", f"mce_{b}"): partial(_largest, rows, b, note=_noted(rows, b)) for b in bins}
    numbers |= {("", f"adaptive_ece_{b}"): partial(_adaptive, rows, b) for b in bins}
    shrinks = "shrinks as 1/K: not comparable across class counts"
    numbers |= {
        ("", f"classwise_ece_{b}"): partial(
            _classwise, rows, classwise_ece, equal_width, b, shrinks
        )
        for b in bins
    }
    if paper_tool:
        numbers["", "ece_paper_tool"] = partial(_paper_tool, rows)
    return numbers


def _paper_tool(rows: Rows) -> Definition:
    sums = _sums(rows, 10)
    return function(
        rows.n,
        lambda weights: binned.paper_tool_error(sums(weights)),
        note="not an ECE: bin accuracies and confidences are sorted independently",
        reason="sorting the bins changes with every sample",
        interval="none",
        before="bootstrap",
    )


def _adaptive(rows: Rows, bins: int) -> Definition:
    confidence, correct = rows.clean("confidence"), rows.clean("correct")
    gaps = rows.shared(
        "gaps by confidence", lambda weights: binned.adaptive_gaps(confidence, correct, weights)
    )

    def statistic(weights: FloatArray) -> FloatArray:
        return binned.equal_mass_error(gaps(weights), bins)

    def chance(estimate: float) -> Chance:
        groups = equal_count(confidence, bins)
        noise = absolute_noise(correct - confidence, confidence * (1 - confidence), groups, bins)
        return noise.chance(estimate)

    return function(rows.n, statistic, note=_noted(rows, bins), chance=chance)


# What is no single number


def reliability_tables(rows: Rows, bins: Sequence[int]) -> dict[int, list[binned.Row]]:
    """Make a reliability table for each number of bins."""
    confidence, correct = rows.clean("confidence"), rows.clean("correct")
    return {b: reliability_table(confidence, correct, b) for b in bins}


class _How(TypedDict):
    seed: int
    replicates: int
    rules: str


def scale(
    rows: Rows,
    held_out: CalibrationSplit | FittedElsewhere | None,
    *,
    replicates: int = REPLICATES,
) -> ScaledResult | None:
    """Score the samples before and after scaling by a temperature that was fitted without them.

    Args:
        rows: with the logits of suite ``clean``.
        held_out: what to fit the temperature to, or what was fitted to other samples; two folds of
            the samples themselves if None.
        replicates: bootstrap replicates, 0 for none.

    Returns:
        None for a single sample without anything held out: it cannot be split into two folds.

    Raises:
        UsageError: a sample is both fitted to and scored (``E-CALIB-OVERLAP``).
    """
    which = logits_of(rows), rows.labels, rows.sample_ids
    how: _How = {"seed": rows.seed, "replicates": replicates, "rules": rows.rules}
    if isinstance(held_out, FittedElsewhere):
        return scaled_by(*which, fitted=held_out, **how)
    if held_out is not None:
        return held_out_temperature(*which, held_out=held_out, **how)
    if rows.n < 2:
        return None
    return two_fold_temperature(*which, **how)


def temperature_block(scaled: ScaledResult | None) -> dict[str, Any]:
    """Give what a report says of the temperature, JSON-like; ``T`` is null with a ``reason``."""
    if scaled is None:
        return {"T": None, "reason": "one sample cannot be split into two folds"}
    return scaled.as_dict()


def recalibrated(rows: Rows, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Try experimental recalibrators by two folds of the samples; JSON-like, by their names."""
    return {
        name: two_fold_recalibration(
            name,
            logits_of(rows),
            rows.labels,
            rows.sample_ids,
            seed=rows.seed,
            rules=rows.rules,
        )
        for name in names
    }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibrationResult:
    """What the calibration suite reports."""

    metrics: dict[str, Metric]
    bins: dict[int, list[binned.Row]]
    """Bin count -> reliability table; 10 and 15 are always there."""

    temperature: dict[str, Any]
    """JSON-like; ``T`` is null with a ``reason`` when nothing can be fitted."""

    sample_temperature: FloatArray | None
    """T of each sample in the order given, (N,), fitted without it; None likewise."""

    recalibrated: dict[str, dict[str, Any]]
    """Experimental recalibrators that were asked for, by name; JSON-like."""

    @property
    def bins_10(self) -> list[binned.Row]:
        """Reliability table of 10 bins."""
        return self.bins[10]

    @property
    def bins_15(self) -> list[binned.Row]:
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
        held_out: see ``scale``.
        bins: bin counts beside 10 and 15, which are always given.
        paper_tool: add ``ece_paper_tool``, which is not an ECE; see there.
        recalibrators: names in ``RECALIBRATORS``, tried by two folds; experimental.
        replicates: bootstrap replicates; 0 leaves the intervals out that are made of them.

    Raises:
        UsageError: inputs that do not fit, a sample both fitted to and scored, or a bin count or
            recalibrator that does not exist.
        IncompleteError: a NaN or infinite logit.
    """
    counts = bin_counts(bins)
    rows = rows_of_logits(logits, labels, seed=seed, sample_ids=sample_ids)
    scaled = scale(rows, held_out, replicates=replicates)
    sample_temperature = None
    if scaled is not None and scaled.reason is None:
        sample_temperature = np.empty(rows.n)
        sample_temperature[rows.order] = scaled.temperature
    numbers = binned_numbers(rows, counts, paper_tool=paper_tool)
    return CalibrationResult(
        metrics=metrics_of_rows("calibration", rows, numbers, replicates=replicates),
        bins=reliability_tables(rows, counts),
        temperature=temperature_block(scaled),
        sample_temperature=sample_temperature,
        recalibrated=recalibrated(rows, recalibrators),
    )
