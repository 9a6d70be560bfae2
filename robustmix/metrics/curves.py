"""Numbers of an accuracy curve: its points, its area, and where accuracy is halved.

Trials of one image are not independent, so whatever is averaged over trials is averaged image by
image first, and intervals are over images.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustmix.metrics.binned import bin_index, bin_sums, ece
from robustmix.metrics.chance import Chance, absolute_noise, combined_noise
from robustmix.metrics.conditions import REPLICATES
from robustmix.metrics.definition import (
    Definition,
    Numbers,
    Undefined,
    absent,
    function,
    mean,
    quotient,
)
from robustmix.metrics.intervals import wilson
from robustmix.metrics.metric import FIRST_RULES, Unit
from robustmix.metrics.scores import FloatArray
from robustmix.report.rows import Rows
from robustmix.report.schema import Shown, SuitePart


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Conditions along an axis, over which areas are taken."""

    conditions: tuple[str, ...]
    """Names of the rows' conditions."""

    x: tuple[float, ...]
    """Their places, rising."""

    suffix: str
    """What the names of the curve's numbers end in."""

    note: str | None = None
    """What a reader must know of the area."""

    half: str | None = None
    """Name of the x where accuracy is halved, if x is a share."""

    trials: int | None = None
    """The first trials that count, where the others repeat them; None: all."""


def area(curves: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the trapezoid area of accuracy curves (..., points) over the range of x."""
    areas: NDArray[np.float64] = np.trapezoid(curves, x, axis=-1) / (x[-1] - x[0])
    return areas


def half_point(curve: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Find the smallest x where accuracy is half of the first one, linearly interpolated.

    NaN if accuracy never falls that low, or is 0 from the start.

    Example:
        >>> half_point(np.array([0.8, 0.6, 0.2]), np.array([0.0, 0.5, 1.0]))
        0.75
    """
    below = np.flatnonzero(curve <= curve[0] / 2)
    if curve[0] <= 0 or len(below) == 0:
        return math.nan
    i = int(below[0])
    fall = (curve[i - 1] - curve[0] / 2) / (curve[i - 1] - curve[i])
    return float(x[i - 1] + fall * (x[i] - x[i - 1]))


def trials_of(rows: Rows, condition: str, column: str, trials: int | None) -> FloatArray:
    """Give a column of the trials that count, (trials, n)."""
    found: FloatArray = rows.column(condition, column)[:trials]
    return found


def right_along(rows: Rows, curve: Curve) -> FloatArray:
    """Give the accuracy of each image at each place, mean over trials, (points, n)."""
    return np.stack(
        [trials_of(rows, name, "correct", curve.trials).mean(axis=0) for name in curve.conditions]
    )


_MEANINGS = {
    "nauc": ("accuracy at the curve's start is 0", "area over the accuracy at the start"),
    "nauc_chance": (
        "accuracy at the curve's start is not above chance",
        "as nauc with the chance level taken off both",
    ),
    "half": (
        "accuracy never falls to half of its unmasked value",
        "share of hidden patches that halves the accuracy",
    ),
}


_UNSURE = "accuracy at the curve's start is not surely above chance"


def curve_numbers(rows: Rows, curve: Curve) -> Numbers:
    """Define ``auc`` over the range of x, its relatives, and the point of half the accuracy.

    ``nauc`` is the area over the accuracy at the start, ``nauc_chance`` the same with chance,
    1 / K, taken off both.
    """
    right, x = right_along(rows, curve), np.array(curve.x)
    if not x[-1] > x[0]:
        raise Undefined("a curve of one point has no area")
    numbers: Numbers = {
        ("", f"auc_{curve.suffix}"): lambda: mean(area(right.T, x), note=curve.note),
    }
    chance, first = 1 / rows.num_classes, rows.rules == FIRST_RULES
    # A curve that begins at chance is halved by chance. Whether a lower one is, resamples tell.
    floors = {"nauc": 0.0, "nauc_chance": chance, "half": 0.0 if first else chance}
    names = {"nauc": "nauc", "nauc_chance": "nauc_chance", "half": curve.half}
    for kind, name in names.items():
        if name is not None:
            numbers["", f"{name}_{curve.suffix}"] = partial(
                _derived, right, x, kind, floors[kind], sure=not first
            )
    return numbers


def _derived(
    right: FloatArray, x: FloatArray, name: str, floor: float, *, sure: bool
) -> Definition:
    """Define what is made of a curve and its start, which must be above the floor.

    ``sure``: beyond what chance does to the accuracy of so many images.
    """
    n = right.shape[1]
    undefined, told = _MEANINGS[name]
    unit: Unit = "fraction" if name == "half" else "score"
    if sure and wilson(round(right[0].sum()), n)[0] <= floor:
        reason = undefined if floor == 0 else _UNSURE
        return absent(n, reason, direction="higher", unit=unit, note=told)

    def statistic(weights: FloatArray) -> FloatArray:
        curves = weights @ right.T / n
        if name == "half":
            halves = np.array([half_point(curve, x) for curve in curves])
            return np.where(curves[:, 0] > floor, halves, np.nan)
        start, whole = curves[:, 0], area(curves, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(start > floor, (whole - floor) / (start - floor), np.nan)

    return function(n, statistic, unit=unit, direction="higher", note=told, reason=undefined)


def point_numbers(rows: Rows, points: Mapping[str, str], *, trials: int | None = None) -> Numbers:
    """Define the numbers of each point of a curve.

    Args:
        rows: of the suite.
        points: name of the point in the report -> condition of the rows, from the curve's start.
        trials: the first trials that count, where the others repeat them.

    Returns:
        For each point ``acc``, ``trial_sd`` (spread of the accuracy over trials), ``retention``
        (accuracy over the first point's), ``confidence`` (mean) and ``ece_15``.
    """
    start = next(iter(points.values()))
    return {
        (name, metric): partial(define, rows, condition, start, trials)
        for name, condition in points.items()
        for metric, define in _POINT.items()
    }


def _acc(rows: Rows, condition: str, start: str, trials: int | None) -> Definition:
    return mean(trials_of(rows, condition, "correct", trials).mean(axis=0))


def _trial_sd(rows: Rows, condition: str, start: str, trials: int | None) -> Definition:
    correct = trials_of(rows, condition, "correct", trials)
    if len(correct) < 2:
        return absent(rows.n, "one trial", direction="neither")

    def statistic(weights: FloatArray) -> FloatArray:
        return np.asarray((weights @ correct.T / rows.n).std(axis=1, ddof=1))

    reason = "spread over trials, itself an uncertainty"
    return function(rows.n, statistic, direction="neither", reason=reason, interval="none")


def _retention(rows: Rows, condition: str, start: str, trials: int | None) -> Definition:
    return quotient(
        trials_of(rows, condition, "correct", trials).mean(axis=0),
        trials_of(rows, start, "correct", trials).mean(axis=0),
        reason="no image is classified correctly at the curve's start",
        note="accuracy over that of the curve's start",
    )


def _confidence(rows: Rows, condition: str, start: str, trials: int | None) -> Definition:
    values = trials_of(rows, condition, "confidence", trials).mean(axis=0)
    return mean(values, direction="neither")


def _ece(rows: Rows, condition: str, start: str, trials: int | None) -> Definition:
    confidence = trials_of(rows, condition, "confidence", trials)
    correct = trials_of(rows, condition, "correct", trials)

    def statistic(weights: FloatArray) -> FloatArray:
        pairs = zip(confidence, correct, strict=True)
        errors = [ece(bin_sums(c, right, 15, weights)) for c, right in pairs]
        return np.asarray(np.mean(errors, axis=0))

    def chance(estimate: float) -> Chance:
        each = (
            (1 / len(confidence), absolute_noise(right - c, c * (1 - c), bin_index(c, 15), 15))
            for c, right in zip(confidence, correct, strict=True)
        )
        return combined_noise(each).chance(estimate)

    return function(rows.n, statistic, replicates=REPLICATES, chance=chance)


_POINT: dict[str, Callable[[Rows, str, str, int | None], Definition]] = {
    "acc": _acc,
    "trial_sd": _trial_sd,
    "retention": _retention,
    "confidence": _confidence,
    "ece_15": _ece,
}


def shown_curves(
    part: SuitePart, *, section: str, drawings: Sequence[str], note: str = ""
) -> Shown:
    """Show the areas of a suite's curves; the gate watches them too."""
    # By name, as the keys of a file are: a part says the same before and after it is saved.
    names = sorted(part.metrics)
    return Shown(
        headline=[n for n in names if n.startswith(("auc_", "nauc_mean", "rho50_"))],
        compared=[n for n in names if n.startswith(("auc_", "nauc_", "rho50_"))],
        gated=[n for n in names if n.startswith("auc_")],
        note=note,
        section=section,
        drawings=list(drawings),
    )
