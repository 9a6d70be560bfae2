"""One rule judged by what was measured of its metric: passed, failed, or why it cannot be told.

A rule that is a test gets its p value here; the outcome follows in ``decide``, where p values are
adjusted for how many there are.
"""

import math
from collections.abc import Callable

from robustmix.comparison.document import Outcome, RuleResult
from robustmix.comparison.formatting import show, show_change, show_range, unit_word
from robustmix.comparison.measure import Measured, metric_at, stated_wrongly
from robustmix.comparison.open_report import Source
from robustmix.comparison.pair import Pair, own_choice
from robustmix.comparison.paths import MetricPath
from robustmix.comparison.rules import Amount, Kind, Rule
from robustmix.errors import IntakeError, UsageError
from robustmix.metrics.metric import Metric
from robustmix.report.text import plain

UNVERIFIED = "W-UNVERIFIED"
"""Code of the warning of a number that was believed."""

_ROUNDING = 1e-12


def judge_absolute(rule: Rule, report: Source, *, allow_unverified: bool) -> RuleResult:
    """Judge an absolute rule by the number that a report states, if its rows give the same.

    Args:
        rule: of the kind ``absolute``.
        report: the candidate.
        allow_unverified: whether a number that no rows verify is taken as it is stated.

    Raises:
        UsageError: the limit cannot be of the metric.
        IntakeError: the rows give another number.
    """
    metric, reason = metric_at(report.content, rule.path)
    if metric is None or metric.value is None:
        return without_numbers(rule, "incomplete", f"{reason} in the report")
    wrong = stated_wrongly(report, rule.path, metric)
    if wrong is None:
        return _within_limit(rule, metric)
    problem, reason = wrong
    if problem == "damaged":
        raise not_from_rows(rule.path, reason)
    if allow_unverified:
        return _unverified(_within_limit(rule, metric), reason)
    return without_numbers(rule, "incomplete", reason)


def judge_measured(
    rule: Rule, one: Measured, pair: Pair, *, alpha: float, allow_unverified: bool
) -> RuleResult:
    """Judge a rule that holds a report against a baseline.

    Args:
        rule: of any kind but ``absolute``.
        one: what was measured of its metric.
        pair: the baseline and the report, of which it was measured.
        alpha: the interval's level is 1 - alpha.
        allow_unverified: whether numbers that no rows verify are taken as they are stated.

    Returns:
        The result; of a rule that is tested with its p value, to be decided by ``decide_tested``.

    Raises:
        UsageError: the metric has no better direction, or no loss exceeds what the rule allows.
    """
    if one.problem is not None:
        outcome: Outcome = "incomplete" if one.problem == "incomplete" else "incompatible"
        return without_numbers(rule, outcome, one.reason or "")
    assert one.a is not None
    if one.a.direction == "neither":
        raise UsageError(f"{plain(rule.path)} has no better direction", "write an absolute rule")
    if one.unverified and not allow_unverified:
        return without_numbers(rule, "incomplete", f"cannot be verified: {one.reason}")
    if own_choice(pair.a, rule.path) and not pair.same_model:
        told = "each model chose its own patches, so this is for information"
        return _with_numbers(without_numbers(rule, "inconclusive", told), one, alpha)
    if one.effect is None and rule.kind != "no-drop":
        return without_numbers(rule, "incomplete", f"cannot be tested: {one.reason}")
    result = _with_numbers(without_numbers(rule, "pass", ""), one, alpha)
    judged = _JUDGES[rule.kind](rule, one, result)
    return _unverified(judged, one.reason or "") if one.unverified else judged


def not_from_rows(path: MetricPath, reason: str) -> IntakeError:
    """Make the error of a number that is not what the rows of its report give."""
    return IntakeError(
        f"{plain(path)} is not what the per-sample record gives: {reason}",
        "evaluate again",
        code="E-REPORT",
    )


def without_numbers(rule: Rule, outcome: Outcome, message: str) -> RuleResult:
    """Give a rule its outcome, in words alone."""
    return RuleResult(
        rule=plain(rule),
        kind=rule.kind,
        path=plain(rule.path),
        suite=plain(rule.path.suite),
        outcome=outcome,
        message=plain(message, 400),
    )


def _with_numbers(result: RuleResult, one: Measured, alpha: float) -> RuleResult:
    assert one.a is not None
    effect = one.effect
    return result.model_copy(
        update={
            "unit": one.a.unit,
            "direction": one.a.direction,
            "n": one.n,
            "value": one.value_b,
            "baseline": one.value_a,
            "delta": one.delta,
            "ci": None if effect is None else effect.interval(alpha),
            "ci_method": None if effect is None else effect.method,
            "mdd": one.mdd,
        }
    )


def _unverified(result: RuleResult, reason: str) -> RuleResult:
    told = f"{UNVERIFIED}: {result.path} is taken as it is stated, for {reason}"
    return result.model_copy(update={"message": plain(f"{result.message}; {told}", 400)})


# Each kind of rule


def _within_limit(rule: Rule, metric: Metric) -> RuleResult:
    assert rule.limit is not None
    assert metric.value is not None
    operator = rule.operator or {"higher": ">=", "lower": "<=", "neither": ""}[metric.direction]
    if not operator:
        raise UsageError(
            f"{plain(rule.path)} has no better direction", f"write --metric '{rule.path}>=...'"
        )
    if metric.unit == "fraction" and abs(rule.limit) > 1:
        raise UsageError(
            f"{plain(rule.path)} is a fraction, so it cannot be {operator} {rule.limit:g}",
            f"did you mean {rule.limit / 100:g}?",
            code="E-UNIT",
        )
    holds = {
        ">=": metric.value >= rule.limit,
        "<=": metric.value <= rule.limit,
        ">": metric.value > rule.limit,
        "<": metric.value < rule.limit,
    }[operator]
    shown = f"{show(metric.value, metric.unit)} {operator} {show(rule.limit, metric.unit)}"
    return without_numbers(
        rule, "pass" if holds else "fail", shown if holds else f"not {shown}"
    ).model_copy(
        update={
            "unit": metric.unit,
            "direction": metric.direction,
            "n": metric.n,
            "value": metric.value,
            "ci": metric.ci,
            "ci_method": metric.ci_method,
            "limit": rule.limit,
        }
    )


def _no_drop(rule: Rule, one: Measured, result: RuleResult) -> RuleResult:
    assert one.a is not None
    assert one.value_a is not None
    unit, base = one.a.unit, one.value_a
    allowed = [_loss(amount, one, "the tolerance") for amount in rule.tolerances] or [0.0]
    limit = max(allowed) if rule.loosest else min(allowed)
    _, gain = _gain(one)
    fails = -gain > limit + _ROUNDING * max(1.0, abs(base))
    return result.model_copy(
        update={
            "outcome": "fail" if fails else "pass",
            "limit": limit,
            "message": f"{_change(result)}, loss allowed {show(limit, unit)}",
        }
    )


def _significant(rule: Rule, one: Measured, result: RuleResult) -> RuleResult:
    assert one.effect is not None
    return result.model_copy(update={"p": one.effect.p_zero(), "message": _change(result)})


def _non_inferior(rule: Rule, one: Measured, result: RuleResult) -> RuleResult:
    assert one.effect is not None
    assert one.a is not None
    assert one.value_a is not None
    margin = _loss(rule.margin, one, "the margin")
    sign, _ = _gain(one)
    effect = one.effect
    p = effect.p_below(-margin) if sign > 0 else effect.p_above(margin)
    return result.model_copy(
        update={
            "p": min(1.0, 2 * p),
            "limit": margin,
            "message": f"{_change(result)}, margin {show(margin, one.a.unit)}",
        }
    )


def _improved(rule: Rule, one: Measured, result: RuleResult) -> RuleResult:
    low, high = interval_of_gain(result)
    outcome = "pass" if low > 0 else "fail" if high < 0 else "inconclusive"
    return result.model_copy(update={"outcome": outcome, "message": _change(result)})


_JUDGES: dict[Kind, Callable[[Rule, Measured, RuleResult], RuleResult]] = {
    "no-drop": _no_drop,
    "significant": _significant,
    "non-inferiority": _non_inferior,
    "improvement": _improved,
}
"""Kind of a rule against a baseline -> what judges it: the rule, what was measured, and the result
to be filled, which has the numbers."""


# What these are made of


def _gain(one: Measured) -> tuple[int, float]:
    """Give the sign that makes a difference a gain, and the gain."""
    assert one.a is not None
    assert one.delta is not None
    sign = 1 if one.a.direction == "higher" else -1
    return sign, sign * one.delta


def _loss(amount: Amount, one: Measured, what: str) -> float:
    """Give the loss that an amount allows, in the metric's unit.

    Raises:
        UsageError: it is of another unit, or no loss exceeds it.
    """
    assert one.a is not None
    assert one.value_a is not None
    if amount.unit == "%" and amount.number >= 100 and one.a.direction == "higher":
        raise UsageError(
            f"{what} {amount} of {plain(one.path)} allows every loss, so the rule could not fail",
            "give what the metric may lose, such as 1%",
            code="E-MARGIN",
        )
    return amount.of(one.a.unit, one.value_a, what=what)


def interval_of_gain(result: RuleResult) -> tuple[float, float]:
    """Give the interval of the difference with the sign that makes a gain positive."""
    assert result.ci is not None
    low, high = result.ci
    return (low, high) if result.direction == "higher" else (-high, -low)


def _change(result: RuleResult) -> str:
    """Put both values and their difference into words."""
    unit = result.unit
    level = "" if result.ci is None else f", interval {show_range(result.ci, unit)}"
    change = f"{show_change(result.delta, unit)} {unit_word(unit)}"
    assert result.delta is None or math.isfinite(result.delta)
    return f"{show(result.baseline, unit)} -> {show(result.value, unit)} ({change}{level})"
