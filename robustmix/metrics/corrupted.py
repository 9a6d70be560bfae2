"""Metrics of corrupted images: of one condition, and means over conditions.

The images repeat across conditions, so a mean over conditions is taken image by image first, and
intervals are over images. Calibration is judged condition by condition: pooled, conditions in which
a model is too confident and others in which it is not confident enough would cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from robustmix.metrics.binned import bin_index
from robustmix.metrics.chance import Chance, Noise, absolute_noise, combined_noise
from robustmix.metrics.conditions import BINS, REPLICATES, bin_gaps, ece_of_gaps
from robustmix.metrics.definition import (
    Definition,
    Numbers,
    Shared,
    Statistic,
    absent,
    function,
    mean,
    quotient,
    share,
)
from robustmix.metrics.intervals import Z95
from robustmix.metrics.metric import Unit
from robustmix.metrics.scores import FloatArray
from robustmix.report.rows import Rows

SCALED = "_scaled"
"""Ends the name of a column or metric of logits divided by the temperature of the clean images."""


@dataclass(frozen=True, eq=False)
class Corrupted:
    """The rows of a corruption suite, whose conditions are ``fog/3``: corruption and severity.

    No column outlives the number that it makes: all of them as float64 would take hundreds of MB.
    """

    rows: Rows
    paired: bool
    """Whether image i of every condition was made from clean image i."""

    @cached_property
    def clean(self) -> FloatArray:
        """Whether each clean image is classified correctly, 0 or 1, (n,)."""
        return self.rows.clean("correct")

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """``""``, and ``SCALED`` where there is a temperature."""
        return ("", SCALED) if self.rows.has(f"confidence{SCALED}") else ("",)

    def condition(self, name: str, severity: int) -> Numbers:
        """Define the numbers of one condition."""
        rows, key, before = self.rows, f"{name}/{severity}", f"{name}/{severity - 1}"
        numbers: Numbers = {(key, "acc"): partial(rows.share, key)}
        for end in self.endings:
            loss = partial(rows.average, key, direction="lower")
            numbers |= {
                (key, f"nll{end}"): partial(loss, f"nll{end}", unit="nats"),
                (key, f"brier_sum{end}"): partial(loss, f"brier{end}", unit="score"),
                (key, f"gap{end}"): partial(self._gap, [key], end),
                (key, f"ece_15{end}"): partial(self._mean_ece, [key], end),
            }
        numbers[key, "retention"] = partial(self._retention, [key])
        if before in rows.conditions:
            numbers[key, "flip"] = partial(self._flip, key, before)
        return numbers

    def accuracy(self, names: Sequence[str], severities: Sequence[int]) -> Definition:
        """Define the unweighted mean accuracy over conditions."""
        note = f"unweighted mean over {len(names)} corruptions x {len(severities)} severities"
        return mean(self.right(names, severities), note=note)

    def right(self, names: Sequence[str], severities: Sequence[int]) -> FloatArray:
        """Give the share of the conditions in which each image is classified correctly, (n,)."""
        return self._mean("correct", _product(names, severities))

    def means(self, names: Sequence[str], severities: Sequence[int], suffix: str = "") -> Numbers:
        """Define what is averaged over conditions; ``suffix`` names the set that they are of."""
        conditions, clean = _product(names, severities), "clean accuracy minus mean"
        numbers: Numbers = {
            ("", f"acc_mean{suffix}"): lambda: self.accuracy(names, severities),
            ("", f"mean_ce{suffix}"): lambda: _complement(self.accuracy(names, severities)),
            ("", f"drop{suffix}"): lambda: difference(
                self.clean, self._mean("correct", conditions), self.paired, note=clean
            ),
            ("", f"retention{suffix}"): partial(self._retention, conditions),
        }
        for end in self.endings:
            numbers |= {
                ("", f"nll_mean{end}{suffix}"): partial(
                    self._loss, f"nll{end}", conditions, "nats"
                ),
                ("", f"brier_sum_mean{end}{suffix}"): partial(
                    self._loss, f"brier{end}", conditions, "score"
                ),
                ("", f"gap_mean{end}{suffix}"): partial(self._gap, conditions, end),
                ("", f"ece_15_mean{end}{suffix}"): partial(
                    self._mean_ece,
                    conditions,
                    end,
                    note=f"mean of the ECE of {len(conditions)} conditions",
                ),
                ("", f"ece_15_slope{end}{suffix}"): partial(self._slope, names, severities, end),
                ("", f"ece_15_pooled{end}{suffix}"): partial(self._pooled, conditions, end),
            }
        return numbers

    def _mean(self, column: str, conditions: Sequence[str]) -> FloatArray:
        return self.rows.total(conditions, column) / len(conditions)

    def _loss(self, column: str, conditions: Sequence[str], unit: Unit) -> Definition:
        return mean(self._mean(column, conditions), unit=unit, direction="lower")

    def _gap(self, conditions: Sequence[str], end: str) -> Definition:
        gap = self._mean(f"confidence{end}", conditions) - self._mean("correct", conditions)
        return mean(gap, direction="neither", note="confidence minus accuracy")

    def _retention(self, conditions: Sequence[str]) -> Definition:
        note = "accuracy over clean accuracy"
        if not self.paired:
            reason = "the corrupted images were not made from the clean ones"
            return absent(self.rows.n, reason, direction="higher", unit="score", note=note)
        right = self._mean("correct", conditions)
        reason = "no clean image is classified correctly"
        return quotient(right, self.clean, reason=reason, note=note)

    def _flip(self, condition: str, before: str) -> Definition:
        flips = self.rows.mean(condition, "pred") != self.rows.mean(before, "pred")
        severity = before.rpartition("/")[2]
        note = f"predictions that differ from those at severity {severity}"
        return share(flips, direction="lower", note=note)

    def _gaps(self, condition: str, end: str) -> Shared[FloatArray]:
        """Share a condition's gaps of each bin, which half a dozen numbers are made from."""

        def compute(weights: FloatArray) -> FloatArray:
            confidence = self.rows.mean(condition, f"confidence{end}")
            return bin_gaps(confidence, self.rows.mean(condition, "correct"), weights)

        return self.rows.shared(f"gaps of {condition}{end}", compute)

    def _errors(self, conditions: Sequence[str], end: str, weights: FloatArray) -> FloatArray:
        """Take the mean ECE of some conditions, of each resample, (R,)."""
        n = self.rows.n
        errors = [ece_of_gaps(self._gaps(key, end)(weights), n) for key in conditions]
        return np.asarray(np.mean(errors, axis=0))

    def error(self, condition: str) -> Definition:
        """Define the ECE of one condition."""
        if self.rows.n == 0:
            return absent(0, "no samples", direction="lower")
        return self._mean_ece([condition], "")

    def _mean_ece(
        self, conditions: Sequence[str], end: str, *, note: str | None = None
    ) -> Definition:
        each = [(1 / len(conditions), condition) for condition in conditions]
        return self._error_sum(each, end, partial(self._errors, conditions, end), note)

    def _error_sum(
        self,
        each: Sequence[tuple[float, str]],
        end: str,
        statistic: Statistic,
        note: str | None,
    ) -> Definition:
        """Define a sum of the ECE of conditions, each times a factor, which is the statistic."""

        def chance(estimate: float) -> Chance:
            noises = ((factor, self._noise(condition, end)) for factor, condition in each)
            return combined_noise(noises).chance(estimate)

        n = self.rows.n
        return function(n, statistic, replicates=REPLICATES, note=note, chance=chance)

    def _noise(self, condition: str, end: str) -> Noise:
        def make() -> Noise:
            confidence = self.rows.mean(condition, f"confidence{end}")
            gaps = self.rows.mean(condition, "correct") - confidence
            groups = bin_index(confidence, BINS)
            return absolute_noise(gaps, confidence * (1 - confidence), groups, BINS)

        return self.rows.kept(f"noise of {condition}{end}", make, 8 * self.rows.n)

    def _slope(self, names: Sequence[str], severities: Sequence[int], end: str) -> Definition:
        note = "change of the mean ECE a step of severity, least squares"
        if len(severities) < 2:
            return absent(self.rows.n, "one severity has no slope", direction="lower", note=note)
        steps = np.array(severities, dtype=float) - np.mean(severities)

        def statistic(weights: FloatArray) -> FloatArray:
            means = [self._errors(_product(names, [s]), end, weights) for s in severities]
            return np.asarray(steps @ np.array(means) / np.square(steps).sum())

        factors = steps / np.square(steps).sum() / len(names)
        each = [
            (float(factor), condition)
            for factor, severity in zip(factors, severities, strict=True)
            for condition in _product(names, [severity])
        ]
        return self._error_sum(each, end, statistic, note)

    def _pooled(self, conditions: Sequence[str], end: str) -> Definition:
        n = self.rows.n

        def statistic(weights: FloatArray) -> FloatArray:
            together = np.sum([self._gaps(key, end)(weights) for key in conditions], axis=0)
            return ece_of_gaps(together, n * len(conditions))

        return function(
            n,
            statistic,
            interval="none",
            reason="no bootstrap was made",
            note="all rows in one table, where over- and under-confident conditions cancel",
        )


def _complement(accuracy: Definition) -> Definition:
    assert accuracy.values is not None, "an accuracy is a mean"
    return replace(accuracy, values=1 - accuracy.values, direction="lower")


def difference(
    minuend: FloatArray,
    subtrahend: FloatArray,
    paired: bool,
    *,
    unit: Unit = "fraction",
    note: str,
) -> Definition:
    """Define the difference of two means over images; less is better.

    Args:
        minuend: one number an image, (n,).
        subtrahend: likewise.
        paired: whether both are of the same images in the same order; the standard error of a
            difference between different images is larger.
        unit: of both.
        note: what the difference is.
    """
    note = f"{note}, {'paired' if paired else 'unpaired'}"
    defined = mean(minuend - subtrahend, unit=unit, direction="lower", note=note)
    if paired or defined.n < 2:
        return defined
    variance = minuend.var(ddof=1) + subtrahend.var(ddof=1)
    half, value = Z95 * float(np.sqrt(variance / defined.n)), defined.estimate()
    return replace(defined, ci=lambda: ((value - half, value + half), "normal95/unpaired"))


def _product(names: Sequence[str], severities: Sequence[int]) -> list[str]:
    return [f"{name}/{severity}" for name in names for severity in severities]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give minimum, quartiles, maximum and mean of some values."""
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    names = ("min", "q1", "median", "q3", "max")
    box = {name: float(value) for name, value in zip(names, quartiles, strict=True)}
    return {**box, "mean": float(np.mean(values))}
