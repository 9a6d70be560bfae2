"""Metrics of corrupted images: of one condition, and means over conditions.

The images repeat across conditions, so a mean over conditions is taken image by image first, and
intervals are over images. Calibration is judged condition by condition: pooled, conditions in which
a model is too confident and others in which it is not confident enough would cancel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.metrics.binned import bin_sums, ece
from robustmix.metrics.conditions import (
    after_plain,
    ece_resampled,
    resampled_metric,
    shared_resamples,
)
from robustmix.metrics.intervals import (
    Z95,
    bootstrap_metric,
    clustered_mean,
    proportion,
)
from robustmix.metrics.metric import Direction, Metric, Unit
from robustmix.metrics.scores import FloatArray

Condition = tuple[str, int]
"""Corruption and severity."""

SCALED = "_scaled"
"""Ends the name of a column or metric of logits divided by the temperature of the clean images."""


@dataclass(frozen=True, eq=False)
class Corrupted:
    """The rows of a corruption suite."""

    rows: Mapping[Condition, Mapping[str, NDArray[Any]]]
    """Condition -> columns (n,): ``correct confidence nll brier pred``, and the scaled ones."""

    clean: FloatArray
    """Whether each clean image is classified correctly, 0 or 1, (n,)."""

    seed: int
    paired: bool
    """Whether image i of every condition was made from clean image i."""

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """``""``, and ``SCALED`` where there is a temperature."""
        first = next(iter(self.rows.values()))
        return ("", SCALED) if f"confidence{SCALED}" in first else ("",)

    @cached_property
    def _eces(self) -> dict[tuple[Condition, str], FloatArray]:
        weights = after_plain(shared_resamples(len(self.clean), self.seed))
        return {
            (condition, ending): ece_resampled(
                rows[f"confidence{ending}"].astype(float), rows["correct"] > 0, weights
            )
            for condition, rows in self.rows.items()
            for ending in self.endings
        }

    def condition(self, name: str, severity: int) -> dict[str, Metric]:
        """Return the metrics of one condition."""
        rows = self.rows[name, severity]
        correct = rows["correct"].astype(float)
        n = len(correct)
        metrics = {"acc": proportion(int(correct.sum()), n, direction="higher")}
        for ending in self.endings:
            errors = self._eces[(name, severity), ending]
            metrics |= {
                f"nll{ending}": clustered_mean(
                    rows[f"nll{ending}"], unit="nats", direction="lower"
                ),
                f"brier_sum{ending}": clustered_mean(
                    rows[f"brier{ending}"], unit="score", direction="lower"
                ),
                f"gap{ending}": self._gap([(name, severity)], ending),
                f"ece_15{ending}": resampled_metric(errors, n=n, seed=self.seed),
            }
        metrics["retention"] = self._retention(correct)
        before = self.rows.get((name, severity - 1))
        if before is not None:
            flips = int((before["pred"] != rows["pred"]).sum())
            note = f"predictions that differ from those at severity {severity - 1}"
            metrics["flip"] = proportion(flips, n, direction="lower", note=note)
        return metrics

    def accuracy(self, names: Sequence[str], severities: Sequence[int]) -> Metric:
        """Return the unweighted mean accuracy over conditions."""
        note = f"unweighted mean over {len(names)} corruptions x {len(severities)} severities"
        return clustered_mean(self.right(names, severities), direction="higher", note=note)

    def right(self, names: Sequence[str], severities: Sequence[int]) -> FloatArray:
        """Return the share of the conditions in which each image is classified correctly, (n,)."""
        return self._mean("correct", _product(names, severities))

    def means(self, names: Sequence[str], severities: Sequence[int]) -> dict[str, Metric]:
        """Return what is averaged over conditions; the names lack the set that they are of."""
        accuracy = self.accuracy(names, severities)
        assert accuracy.value is not None, "there are images"
        right = self.right(names, severities)
        conditions = _product(names, severities)
        metrics = {
            "acc_mean": accuracy,
            "mean_ce": accuracy.model_copy(
                update={
                    "value": 1 - accuracy.value,
                    "direction": "lower",
                    "ci": accuracy.ci and (1 - accuracy.ci[1], 1 - accuracy.ci[0]),
                }
            ),
            "drop": difference(
                self.clean, right, self.paired, unit="fraction", note="clean accuracy minus mean"
            ),
            "retention": self._retention(right),
        }
        for ending in self.endings:
            metrics |= {
                f"nll_mean{ending}": clustered_mean(
                    self._mean(f"nll{ending}", conditions), unit="nats", direction="lower"
                ),
                f"brier_sum_mean{ending}": clustered_mean(
                    self._mean(f"brier{ending}", conditions), unit="score", direction="lower"
                ),
                f"gap_mean{ending}": self._gap(conditions, ending),
                f"ece_15_mean{ending}": self._mean_ece(conditions, ending),
                f"ece_15_slope{ending}": self._slope(names, severities, ending),
                f"ece_15_pooled{ending}": self._pooled(conditions, ending),
            }
        return metrics

    def boxes(self, names: Sequence[str], severities: Sequence[int]) -> dict[str, Any]:
        """Return minimum, quartiles, maximum and mean of ECE and gap over corruptions."""
        return {
            str(severity): {
                f"{metric}{ending}": _box(
                    [self._value(metric, (name, severity), ending) for name in names]
                )
                for metric in ("ece_15", "gap")
                for ending in self.endings
            }
            for severity in severities
        }

    def _value(self, metric: str, condition: Condition, ending: str) -> float:
        if metric == "ece_15":
            return float(self._eces[condition, ending][0])
        rows = self.rows[condition]
        return float((rows[f"confidence{ending}"].astype(float) - rows["correct"]).mean())

    def _mean(self, column: str, conditions: Sequence[Condition]) -> FloatArray:
        total = np.zeros(len(self.clean))
        for condition in conditions:
            total += self.rows[condition][column]
        return total / len(conditions)

    def _gap(self, conditions: Sequence[Condition], ending: str) -> Metric:
        gap = self._mean(f"confidence{ending}", conditions) - self._mean("correct", conditions)
        return clustered_mean(gap, direction="neither", note="confidence minus accuracy")

    def _mean_ece(self, conditions: Sequence[Condition], ending: str) -> Metric:
        errors = np.mean([self._eces[condition, ending] for condition in conditions], axis=0)
        note = f"mean of the ECE of {len(conditions)} conditions"
        return resampled_metric(errors, n=len(self.clean), seed=self.seed, note=note)

    def _slope(self, names: Sequence[str], severities: Sequence[int], ending: str) -> Metric:
        n, note = len(self.clean), "change of the mean ECE a step of severity, least squares"
        if len(severities) < 2:
            reason = "one severity has no slope"
            return Metric(
                value=None, unit="fraction", direction="lower", n=n, reason=reason, note=note
            )
        means = [
            np.mean([self._eces[(name, severity), ending] for name in names], axis=0)
            for severity in severities
        ]
        steps = np.array(severities, dtype=float) - np.mean(severities)
        slopes = steps @ np.array(means) / np.square(steps).sum()
        return resampled_metric(slopes, n=n, seed=self.seed, note=note)

    def _pooled(self, conditions: Sequence[Condition], ending: str) -> Metric:
        sums = [
            bin_sums(self.rows[c][f"confidence{ending}"].astype(float), self.rows[c]["correct"], 15)
            for c in conditions
        ]
        together = type(sums[0])(*(np.sum(parts, axis=0) for parts in zip(*sums, strict=True)))
        return bootstrap_metric(
            float(ece(together)[0]),
            None,
            unit="fraction",
            direction="lower",
            n=len(self.clean),
            seed=self.seed,
            note="all rows in one table, where over- and under-confident conditions cancel",
        )

    def _retention(self, right: FloatArray) -> Metric:
        note, n = "accuracy over clean accuracy", len(self.clean)
        clean = float(self.clean.mean())
        if not self.paired or clean == 0:
            reason = (
                "no clean image is classified correctly"
                if self.paired
                else "the corrupted images were not made from the clean ones"
            )
            return Metric(
                value=None, unit="score", direction="higher", n=n, reason=reason, note=note
            )
        ratio = float(right.mean()) / clean
        # To first order the ratio moves with the mean of these, which is zero.
        moves = ratio + (right - ratio * self.clean) / clean
        return clustered_mean(moves, unit="score", direction="higher", note=note)


def difference(
    minuend: FloatArray, subtrahend: FloatArray, paired: bool, *, unit: Unit, note: str
) -> Metric:
    """Return the difference of two means over images, with an interval; less is better.

    Args:
        minuend: one number an image, (n,).
        subtrahend: likewise.
        paired: whether both are of the same images in the same order; the standard error of a
            difference between different images is larger.
        unit: of both.
        note: what the difference is.
    """
    direction: Direction = "lower"
    if paired or len(minuend) < 2:
        kind = "paired" if paired else "unpaired"
        return clustered_mean(
            minuend - subtrahend, unit=unit, direction=direction, note=f"{note}, {kind}"
        )
    value = float(minuend.mean() - subtrahend.mean())
    half = Z95 * float(np.sqrt(minuend.var(ddof=1) + subtrahend.var(ddof=1)) / len(minuend) ** 0.5)
    return Metric(
        value=value,
        unit=unit,
        direction=direction,
        n=len(minuend),
        ci=(value - half, value + half),
        ci_method="normal95/unpaired",
        note=f"{note}, unpaired",
    )


def _product(names: Sequence[str], severities: Sequence[int]) -> list[Condition]:
    return [(name, severity) for name in names for severity in severities]


def _box(values: Sequence[float]) -> dict[str, float]:
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    names = ("min", "q1", "median", "q3", "max")
    box = {name: float(value) for name, value in zip(names, quartiles, strict=True)}
    return {**box, "mean": float(np.mean(values))}
