"""How the metrics of each suite follow from its rows.

The rows are those that the report itself was summarised from, and every definition is held against
the number in the report before it is used: a metric whose stated value the rows do not give has no
test.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from robustmix.comparison.aligned_rows import (
    Definition,
    Rows,
    Undefined,
    function_of,
    mean_of,
    ratio,
)
from robustmix.comparison.paths import MetricPath, as_number, same_condition
from robustmix.corruptions.names import GROUPS, MAIN, NAMES
from robustmix.metrics import binned
from robustmix.metrics.curves import area, half_point
from robustmix.metrics.intervals import group_sums
from robustmix.metrics.mce import MceReference
from robustmix.metrics.scores import FloatArray
from robustmix.report.schema import (
    AttackPart,
    CorruptionPart,
    OcclusionPart,
    ShufflePart,
    SuiteUnion,
)

BINS = re.compile(r"(ece|mce|rmsce|adaptive_ece)_(10|15)")
MEANS = re.compile(r"(.+?)_(main15|all19|selected\d+)(?:_subset)?")
UNKNOWN = "it is not a number of single images that could be resampled"

BIN_MEASURES: dict[str, Callable[[binned.BinSums], FloatArray]] = {
    "ece": binned.ece,
    "mce": binned.mce,
    "rmsce": binned.rmsce,
    "over": binned.over_confidence,
    "under": binned.under_confidence,
    "debiased_15": binned.debiased,
}


def define(rows: Rows, part: SuiteUnion, path: MetricPath) -> Definition:
    """Return how a metric follows from the rows.

    Raises:
        Undefined: it is a count, a maximum or a fit, or the rows do not hold it.
        IntakeError: the rows are damaged.
    """
    try:
        if isinstance(part, CorruptionPart):
            return _corruption(rows, part, path)
        if isinstance(part, AttackPart):
            return _attack(rows, part, path)
        if isinstance(part, OcclusionPart | ShufflePart):
            return _curve(rows, part, path)
        if part.kind == "clean":
            return _clean(rows, path.metric)
        if part.kind == "calibration":
            return _calibration(rows, path.metric)
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError):
        raise Undefined("the recorded parameters do not fit the rows") from None
    raise Undefined(UNKNOWN)


def _clean(rows: Rows, name: str) -> Definition:
    right = rows.clean("correct")
    if name == "top1":
        return mean_of(right)
    if name == "error":
        return mean_of(1 - right)
    if name == "top5" and rows.num_classes >= 5:
        return mean_of((rows.clean("rank") < 5).astype(float))
    if name == "superclass_acc" and rows.view.superclass is not None:
        coarse = np.asarray(rows.view.superclass)
        same = coarse[rows.clean("pred").astype(np.int64)] == coarse[rows.labels]
        return mean_of(same.astype(float))
    if name in ("macro_acc", "worst_class"):
        return _by_class(rows, right, name)
    return _proper_score(rows, name)


def _proper_score(rows: Rows, name: str) -> Definition:
    if name == "nll":
        return mean_of(rows.clean("nll"))
    if name in ("brier_sum", "brier_mean"):
        return mean_of(rows.clean("brier") / (1 if name == "brier_sum" else rows.num_classes))
    raise Undefined(UNKNOWN)


def _by_class(rows: Rows, right: FloatArray, name: str) -> Definition:
    labels, classes = rows.labels, rows.num_classes
    if labels.min() < 0 or labels.max() >= classes:
        raise Undefined("a label is no class")

    def statistic(weights: FloatArray) -> FloatArray:
        counts, hits = group_sums(weights, labels, classes, np.ones(rows.n), right)
        present = counts > 0
        accuracy = hits / np.maximum(counts, 1)
        if name == "macro_acc":
            return np.asarray(accuracy.sum(axis=1) / present.sum(axis=1))
        return np.asarray(np.where(present, accuracy, np.inf).min(axis=1))

    return function_of(rows.n, statistic)


def _calibration(rows: Rows, name: str) -> Definition:
    confidence, right = rows.clean("confidence"), rows.clean("correct")
    if name == "gap":
        return mean_of(confidence - right)
    if name == "mean_confidence":
        return mean_of(confidence)
    if name in ("aurc", "acc_at_90", "acc_at_80", "acc_at_50"):
        return _selective(rows, confidence, right, name)
    found = BINS.fullmatch(name)
    if found and found[1] == "adaptive_ece":
        bins = int(found[2])

        def adaptive(weights: FloatArray) -> FloatArray:
            gaps = binned.adaptive_gaps(confidence, right, weights.astype(np.int64))
            return binned.equal_mass_error(gaps, bins)

        return function_of(rows.n, adaptive)
    if found or name in BIN_MEASURES:
        return _binned(rows, name if found is None else found[1], int(found[2]) if found else 15)
    return _proper_score(rows, name)


def _binned(rows: Rows, measure: str, bins: int) -> Definition:
    confidence, right = rows.clean("confidence"), rows.clean("correct")

    def statistic(weights: FloatArray) -> FloatArray:
        return BIN_MEASURES[measure](binned.bin_sums(confidence, right, bins, weights))

    return function_of(rows.n, statistic)


def _selective(rows: Rows, confidence: FloatArray, right: FloatArray, name: str) -> Definition:
    def statistic(weights: FloatArray) -> FloatArray:
        errors = binned.sorted_errors(confidence, right, weights.astype(np.int64))
        if name == "aurc":
            return binned.aurc(errors)
        return binned.accuracy_at(errors, int(name.rpartition("_")[2]))

    return function_of(rows.n, statistic)


def _mean_error(
    confidences: Sequence[FloatArray], rights: Sequence[FloatArray], n: int
) -> Definition:
    """Return the mean over conditions or trials of their ECE with 15 bins."""
    if not confidences:
        raise Undefined("the report names no condition")

    def statistic(weights: FloatArray) -> FloatArray:
        total = np.zeros(len(weights))
        for confidence, right in zip(confidences, rights, strict=True):
            total += binned.ece(binned.bin_sums(confidence, right, 15, weights))
        return total / len(confidences)

    return function_of(n, statistic)


def _corruption(rows: Rows, part: CorruptionPart, path: MetricPath) -> Definition:
    if path.metric in ("mce", "relative_mce"):
        return _mce(rows, part, path)
    if path.condition:
        kind, colon, name = path.condition.partition(":")
        if colon:
            names, severities = _selection(part, kind, name)
            return mean_of(_over(rows, path.suite, "correct", names, severities))
        corruption, _, severity = path.condition.partition("/")
        return _under(rows, path.suite, path.metric, corruption, int(severity))
    found = MEANS.fullmatch(path.metric)
    if found is None:
        raise Undefined(UNKNOWN)
    sets = {"main15": MAIN, "all19": NAMES}
    names = list(sets.get(found[2], part.corruptions))
    return _mean_over(rows, path.suite, found[1], names, part.severities)


def _selection(part: CorruptionPart, kind: str, name: str) -> tuple[list[str], list[int]]:
    if kind == "groups":
        return [c for c in part.corruptions if c in GROUPS[name]], part.severities
    if kind == "by_severity":
        return part.corruptions, [int(name)]
    return [name], part.severities


def _over(
    rows: Rows, suite: str, column: str, names: Sequence[str], severities: Sequence[int]
) -> FloatArray:
    """Return the mean of a column over conditions, image by image, (n,)."""
    keys = [f"{name}/{severity}" for name in names for severity in severities]
    if not keys:
        raise Undefined("the report names no condition")
    total = np.zeros(rows.n)
    for key in keys:
        total += rows.mean(suite, key, column)
    return total / len(keys)


def _ending(stat: str) -> tuple[str, str]:
    return (stat.removesuffix("_scaled"), "_scaled") if stat.endswith("_scaled") else (stat, "")


COLUMNS = {"nll": "nll", "brier_sum": "brier", "nll_mean": "nll", "brier_sum_mean": "brier"}


def _under(rows: Rows, suite: str, stat: str, corruption: str, severity: int) -> Definition:
    """Return a metric of one corruption at one severity."""
    condition = f"{corruption}/{severity}"
    right = rows.mean(suite, condition, "correct")
    base, ending = _ending(stat)
    if stat == "acc":
        return mean_of(right)
    if stat == "retention":
        return ratio(right, rows.clean("correct"))
    if stat == "flip":
        before = rows.mean(suite, f"{corruption}/{severity - 1}", "pred")
        return mean_of((before != rows.mean(suite, condition, "pred")).astype(float))
    if base in COLUMNS:
        return mean_of(rows.mean(suite, condition, COLUMNS[base] + ending))
    confidence = rows.mean(suite, condition, f"confidence{ending}")
    if base == "gap":
        return mean_of(confidence - right)
    if base == "ece_15":
        return _mean_error([confidence], [right], rows.n)
    raise Undefined(UNKNOWN)


def _mean_over(
    rows: Rows, suite: str, stat: str, names: Sequence[str], severities: Sequence[int]
) -> Definition:
    """Return a metric averaged over conditions."""
    base, ending = _ending(stat)
    if base in COLUMNS:
        return mean_of(_over(rows, suite, COLUMNS[base] + ending, names, severities))
    right = _over(rows, suite, "correct", names, severities)
    plain: dict[str, Callable[[], Definition]] = {
        "acc_mean": lambda: mean_of(right),
        "mean_ce": lambda: mean_of(1 - right),
        "drop": lambda: mean_of(rows.clean("correct") - right),
        "retention": lambda: ratio(right, rows.clean("correct")),
    }
    if stat in plain:
        return plain[stat]()
    if base == "gap_mean":
        return mean_of(_over(rows, suite, f"confidence{ending}", names, severities) - right)
    if base == "ece_15_mean":
        keys = [f"{name}/{severity}" for name in names for severity in severities]
        return _mean_error(
            [rows.mean(suite, key, f"confidence{ending}") for key in keys],
            [rows.mean(suite, key, "correct") for key in keys],
            rows.n,
        )
    raise Undefined(UNKNOWN)


def _mce(rows: Rows, part: CorruptionPart, path: MetricPath) -> Definition:
    reference = MceReference.from_params(part.params["mce_reference"])
    wrong = [1 - _over(rows, path.suite, "correct", [name], part.severities) for name in MAIN]
    if path.metric == "mce":
        shares = [100 * w / e for w, e in zip(wrong, reference.errors, strict=True)]
        return mean_of(np.mean(shares, axis=0))
    gains = [error - reference.clean for error in reference.errors]
    shares = [100 * w / g for w, g in zip(wrong, gains, strict=True)]
    clean = 100 * (1 - rows.clean("correct")) * float(np.mean([1 / gain for gain in gains]))
    return mean_of(np.mean(shares, axis=0) - clean)


ATTACK_COLUMNS = {
    "nll": "nll",
    "linf": "linf",
    "l2": "l2",
    "frac_zero_grad": "zero_gradient",
    "frac_clipped": "clipped",
}

AREA_ENDS = {"auc_eps_16": Fraction(16, 255), "auc_eps_l2_1": Fraction(1)}
"""Areas under accuracy against eps, and up to which radius."""


def _attack(rows: Rows, part: AttackPart, path: MetricPath) -> Definition:
    suite, name = path.suite, path.metric
    if name in AREA_ENDS:
        return _area_under_eps(rows, suite, AREA_ENDS[name])
    wanted = path.condition or str(part.params["eps"])
    found = [c for c in rows.conditions(suite) if same_condition(c, wanted)]
    if not found and len(rows.conditions(suite)) == 1:
        found = list(rows.conditions(suite))
    right, clean = rows.mean(suite, found[0], "correct"), rows.clean("correct")
    if name in ATTACK_COLUMNS:
        return mean_of(rows.mean(suite, found[0], ATTACK_COLUMNS[name]))
    if name == "error_uint8":
        return mean_of(1 - rows.mean(suite, f"{found[0]} 8-bit", "correct"))
    if name == "frac_zero_grad_samples":
        return mean_of((rows.mean(suite, found[0], "zero_gradient") == 1).astype(float))
    if name == "asr":
        return ratio(clean * (1 - right), clean)
    values = {
        "robust_acc": right,
        "error": 1 - right,
        "clean_acc": clean,
        "delta_error": clean - right,
        "newly_right": (1 - clean) * right,
    }
    if name not in values:
        raise Undefined(UNKNOWN)
    return mean_of(values[name])


def _area_under_eps(rows: Rows, suite: str, end: Fraction) -> Definition:
    radii = {}
    for condition in rows.conditions(suite):
        value = as_number(condition)
        if value is not None and value <= float(end) + 1e-9:
            radii[value] = condition
    x = np.array(sorted(radii))
    curve = np.stack([rows.mean(suite, radii[value], "correct") for value in x])
    return mean_of(np.trapezoid(curve, x, axis=0) / float(end))


def _curve(rows: Rows, part: OcclusionPart | ShufflePart, path: MetricPath) -> Definition:
    curves = _curves(rows, part, path.suite)
    if path.condition:
        mode, _, x = path.condition.rpartition(":")
        curve = curves[mode]
        condition = next(c for value, c in curve if same_condition(f"{value:.6g}", x))
        return _point(rows, path.suite, condition, path.metric, curve[0][1])
    stat = re.match(r"(auc|nauc_chance|nauc|rho50)(?:_|$)", path.metric)
    if stat is None:
        raise Undefined(UNKNOWN)
    curve = curves[next((mode for mode in curves if mode and f"_{mode}_" in path.metric), "")]
    shares = np.array([_place(part, value) for value, _ in curve])
    right = np.stack([rows.mean(path.suite, condition, "correct") for _, condition in curve])
    if not shares[-1] > shares[0]:
        raise Undefined("a curve of one point has no area")
    if stat[1] == "auc":
        return mean_of(area(right.T, shares))
    return function_of(rows.n, _curve_statistic(right, shares, stat[1], rows.num_classes))


def _curves(
    rows: Rows, part: OcclusionPart | ShufflePart, suite: str
) -> dict[str, list[tuple[float, str]]]:
    """Return the points of each mode's curve: x and the condition whose rows it is made from."""
    if isinstance(part, ShufflePart):
        return {"": [(p.x, p.grid) for p in part.points]}
    conditions = rows.conditions(suite)
    ends = {0.0: "none", 1.0: "all"}  # shared by the modes

    def condition(mode: str, x: float, masked: int) -> str:
        own = f"{mode}/{masked}"
        return own if own in conditions else ends.get(x, own)

    modes = {
        mode: [(p.x, condition(mode, p.x, p.masked)) for p in points]
        for mode, points in part.curves.items()
    }
    first = next((m for m, points in part.curves.items() if points is part.points), "")
    return {"": modes[first], **modes}


def _place(part: OcclusionPart | ShufflePart, x: float) -> float:
    return float(np.log2(x)) if isinstance(part, ShufflePart) else x


def _curve_statistic(
    curve: FloatArray, shares: FloatArray, stat: str, num_classes: int
) -> Callable[[FloatArray], FloatArray]:
    n, chance = curve.shape[1], 1 / num_classes

    def statistic(weights: FloatArray) -> FloatArray:
        curves = weights @ curve.T / n
        if stat == "rho50":
            return np.array([half_point(one, shares) for one in curves])
        start, whole = curves[:, 0], area(curves, shares)
        floor: Any = chance if stat == "nauc_chance" else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(start > floor, (whole - floor) / (start - floor), np.nan)

    return statistic


def _point(rows: Rows, suite: str, condition: str, name: str, start: str) -> Definition:
    """Return a metric of one point of a curve, the mean over trials."""
    if name == "retention":
        return ratio(rows.mean(suite, condition, "correct"), rows.mean(suite, start, "correct"))
    if name == "acc":
        return mean_of(rows.mean(suite, condition, "correct"))
    if name == "confidence":
        return mean_of(rows.mean(suite, condition, "confidence"))
    if name == "ece_15":
        confidence = rows.column(suite, condition, "confidence")
        right = rows.column(suite, condition, "correct")
        return _mean_error(list(confidence), list(right), rows.n)
    raise Undefined(UNKNOWN)
