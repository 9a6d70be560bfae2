"""A gate: rules, a report and a baseline become pass, fail, or neither.

What could not be judged is never a pass: a missing metric, a suite that did not complete, reports
of other images or another protocol end as *incomplete* or *incompatible*.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from robustmix.comparison.compare import SINGLE_RUNS, adjust, settings
from robustmix.comparison.document import (
    CheckDocument,
    Outcome,
    ReportRef,
    RuleResult,
    VerdictRow,
)
from robustmix.comparison.formatting import show, show_change, show_p, show_range, unit_word
from robustmix.comparison.measure import (
    Measured,
    Options,
    Watch,
    measure,
    metric_at,
    stated_wrongly,
    unwatched,
)
from robustmix.comparison.named import refuse_misnamed
from robustmix.comparison.open_report import (
    Source,
    check_record_sha256,
    open_baseline,
    open_report,
    told_apart,
)
from robustmix.comparison.pair import Pair, align, own_choice, pair_warnings
from robustmix.comparison.paths import MetricPath, accuracy_paths
from robustmix.comparison.rules import (
    GATES,
    Amount,
    Kind,
    Rule,
    RuleSet,
    default_rules,
    load_rules,
    parse_amount,
    parse_assertion,
)
from robustmix.comparison.verdicts import alike, subject, verdict_rows, verdict_warnings, worse
from robustmix.comparison.verify import at_once, begun, check_rows, check_statements
from robustmix.errors import IncompatibleError, IncompleteError, IntakeError, UsageError
from robustmix.metrics.metric import Metric
from robustmix.report.report import Report
from robustmix.report.text import plain
from robustmix.report.trust import report_doubts

EXIT_CODES: dict[Outcome, int] = {
    "pass": 0,
    "inconclusive": 0,
    "fail": 1,
    "incomplete": 4,
    "incompatible": 5,
}
_GRAVEST: tuple[Outcome, ...] = ("incompatible", "incomplete", "fail", "inconclusive")
_TESTED: tuple[Kind, ...] = ("significant", "non-inferiority")
_ROUNDING = 1e-12
UNVERIFIED = "W-UNVERIFIED"
"""Code of the warning of a number that was believed."""


def _amount(value: Amount | str | float, what: str) -> Amount:
    return value if isinstance(value, Amount) else parse_amount(value, what)


def check(
    report: Path | str | Report,
    baseline: Path | str | Report | None = None,
    rules: RuleSet | Path | str | None = None,
    *,
    assertions: Sequence[Rule | str] = (),
    gate: Kind | None = None,
    margin: Amount | str | float | None = None,
    tolerances: Sequence[Amount | str | float] = (),
    alpha: float | None = None,
    strict: bool = False,
    allow_unverified: bool = False,
    expect_sha256: str | None = None,
    options: Options | None = None,
    watch: Watch = unwatched,
) -> CheckDocument:
    """Judge a report by rules.

    Args:
        report: the candidate.
        baseline: what it is held against; a file, a folder, ``git:REF:PATH`` or a report.
        rules: a rule set or a TOML file. None takes the default: each accuracy of the baseline is
            tested for non-inferiority with a margin of one point.
        assertions: absolute rules that are added, e.g. ``["clean.top1>=0.75"]``.
        gate: kind of the default rules, ``non-inferiority`` unless there are tolerances.
        margin: of the default rules, if they are of kind ``non-inferiority``: ``0.005``, ``"1%"``
            of the baseline's value, or ``"0.5pp"``.
        tolerances: likewise; of the default rules, if they are of kind ``no-drop``.
        alpha: level of tests, in place of the rule set's.
        strict: whether *inconclusive* is a failure.
        allow_unverified: whether numbers that no rows verify are taken as they are stated; else
            what they decide is *incomplete*.
        expect_sha256: digest that the candidate's per-sample record must have.
        options: replicates and seed.
        watch: is told how far the resamples are.

    Raises:
        UsageError: invalid rules, a rule on a metric that no suite has, an option that does
            nothing here, or nothing to check.
        IntakeError: a report is missing or damaged, contradicts its rows, or its record is another
            than was expected.
        IncompatibleError: a report of a newer schema.
        IncompleteError: the baseline has no accuracy that default rules could watch.
    """
    if not isinstance(rules, RuleSet | Path | str | None):
        raise UsageError(
            f"a {type(rules).__name__} is no rules",
            "give a TOML file or a RuleSet; single rules are assertions=['clean.top1>=0.75']",
        )
    named = tuple(parse_assertion(one) if isinstance(one, str) else one for one in assertions)
    width = None if margin is None else _amount(margin, "margin")
    losses = [_amount(one, "tolerance") for one in tolerances]
    opening = [partial(open_report, report)]
    if baseline is not None:
        opening.append(partial(open_baseline, baseline))
    candidate, *others = at_once(opening)
    base = others[0] if others else None
    if expect_sha256 is not None:
        check_record_sha256(candidate, expect_sha256)
    kind = gate_kind(rules is not None, base is not None, gate, width, losses)
    chosen = rules if isinstance(rules, RuleSet) else None if rules is None else load_rules(rules)
    if chosen is None:
        chosen = _default(base, bool(named), kind, width, losses)
    chosen = replace(chosen, rules=(*chosen.rules, *named), strict=strict or chosen.strict)
    if alpha is not None:
        if chosen.rules and not compares(chosen):
            raise UsageError("--alpha is of tests, and no rule is one", "leave it out")
        chosen = replace(chosen, alpha=alpha)
    options = replace(options or Options(), alpha=chosen.alpha)
    candidate, *others = told_apart([candidate, *([] if base is None else [base])])
    base = others[0] if others else None
    return _Gate(candidate, base, chosen, options, allow_unverified, named, watch).judge()


def compares(rules: RuleSet) -> bool:
    """Tell whether any rule holds the report against a baseline."""
    return any(rule.kind != "absolute" for rule in rules.rules)


def gate_kind(
    own_rules: bool,
    baseline: bool,
    gate: Kind | None,
    margin: Amount | None,
    tolerances: Sequence[Amount],
) -> Kind:
    """Choose the kind of the default rules, refusing options that would do nothing.

    Args:
        own_rules: whether rules were given, so that there are no default ones.
        baseline: whether there is a baseline.
        gate: see ``check``, as for the other arguments.
        margin: likewise.
        tolerances: likewise.

    Raises:
        UsageError: who gives a margin must not get a gate without it.
    """
    given = {"--gate": gate, "--margin": margin, "--tolerance": tolerances or None}
    names = " and ".join(name for name, value in given.items() if value is not None)
    if names and own_rules:
        raise UsageError(
            "--gate, --margin and --tolerance are of the default rules", "leave out --rules"
        )
    if names and not baseline:
        raise UsageError(
            f"{names} is of rules against a baseline, and there is none",
            "add --baseline REPORT, or leave it out",
        )
    kind = gate or ("no-drop" if tolerances and margin is None else "non-inferiority")
    called = next(name for name, of in GATES.items() if of == kind)
    if margin is not None and kind != "non-inferiority":
        hint = "write --tolerance" if kind == "no-drop" else "leave it out"
        raise UsageError(f"--margin is of --gate non-inferiority, not of --gate {called}", hint)
    if tolerances and kind != "no-drop":
        hint = "write --margin" if kind == "non-inferiority" else "leave it out"
        raise UsageError(f"--tolerance is of --gate point, not of --gate {called}", hint)
    return kind


def _default(
    base: Source | None,
    asserted: bool,
    gate: Kind,
    margin: Amount | None,
    tolerances: Sequence[Amount],
) -> RuleSet:
    if base is None:
        if not asserted:
            raise UsageError(
                "there is nothing to check", "give --baseline, --rules or --metric", code="E-RULES"
            )
        return RuleSet(rules=())
    paths = [path for path in accuracy_paths(base.content) if not own_choice(base, path)]
    if not paths:
        raise IncompleteError(
            f"the baseline {plain(base.label)} has no accuracy to hold a report against",
            "evaluate it with the suite clean at least, or give --rules",
            code="E-NOTHING",
        )
    return default_rules(paths, kind=gate, margin=margin, tolerances=tolerances)


@dataclass(frozen=True)
class _Gate:
    """One check, everything read."""

    candidate: Source
    base: Source | None
    rules: RuleSet
    options: Options
    allow_unverified: bool = False
    assertions: tuple[Rule, ...] = ()
    """Those of the rules that were given one by one."""

    watch: Watch = unwatched

    def judge(self) -> CheckDocument:
        pair, refusal = self._pair()
        if not refusal:
            # First of all: what is made of rows that contradict each other means nothing.
            at_once([partial(check_rows, source) for source in self._sources])
        named = self.assertions if self.rules.is_default else self.rules.rules
        refuse_misnamed([rule.path for rule in named], self._sources)
        paths = [rule.path for rule in self.rules.rules]
        statements = [partial(check_statements, source, paths) for source in self._sources]
        # One beside the resamples, which NumPy makes, and then the other; threads that mostly run
        # Python would wait for each other. For what cannot be compared it will not be asked.
        early = 0 if refusal else 1
        with begun(statements[:early]) as results:
            return self._judged(pair, refusal, partial(results, *statements[early:]))

    def _judged(
        self, pair: Pair | None, refusal: str, verified: Callable[[], Sequence[None]]
    ) -> CheckDocument:
        compared = list(dict.fromkeys(r.path for r in self.rules.rules if r.kind != "absolute"))
        found: dict[MetricPath, Measured] = {}
        if pair is not None:
            measured = measure(pair, compared, self.options, self.watch)
            found = dict(zip(compared, measured, strict=True))
        for one in found.values():
            if one.problem == "damaged":
                raise _not_from_rows(one.path, one.reason or "")
        results = [self._result(rule, pair, refusal, found) for rule in self.rules.rules]
        results = self._adjusted(results)
        results += [*self._broken_suites(results), *self._untrusted(), *self._refused(refusal)]
        verdicts = [] if pair is None else _comparable_verdicts(pair)
        doubts = [] if pair is None else self._doubts(pair, verdicts)
        outcome = overall([*results, *doubts]) if results else overall([])
        if outcome not in ("incompatible", "incomplete"):
            verified()  # raises what they contradict
        strict_failure = self.rules.strict and outcome == "inconclusive"
        return CheckDocument(
            verdict=outcome,
            exit_code=1 if strict_failure else EXIT_CODES[outcome],
            strict=self.rules.strict,
            candidate=ReportRef.of(self.candidate),
            baseline=None if self.base is None else ReportRef.of(self.base),
            settings=settings(self.options, self.rules.correction),
            default_rules=self.rules.is_default,
            rules=self._timed([*results, *doubts]),
            warnings=self._warnings(pair, results, verdicts),
            notes=self._unwatched(verdicts, results),
        )

    @property
    def _sources(self) -> list[Source]:
        return [self.candidate] if self.base is None else [self.candidate, self.base]

    def _pair(self) -> tuple[Pair | None, str]:
        if self.base is None:
            if compares(self.rules):
                raise UsageError(
                    "rules that compare need a baseline", "add --baseline REPORT", code="E-RULES"
                )
            return None, ""
        try:
            return align(self.base, self.candidate), ""
        except IncompatibleError as error:
            return None, error.message

    def _result(
        self, rule: Rule, pair: Pair | None, refusal: str, found: Mapping[MetricPath, Measured]
    ) -> RuleResult:
        if rule.kind == "absolute":
            return self._absolute(rule)
        if pair is None:
            return _blank(rule, "incompatible", refusal)
        one = found[rule.path]
        if one.problem is not None:
            outcome: Outcome = "incomplete" if one.problem == "incomplete" else "incompatible"
            return _blank(rule, outcome, one.reason or "")
        assert one.a is not None
        if one.a.direction == "neither":
            raise UsageError(
                f"{plain(rule.path)} has no better direction", "write an absolute rule"
            )
        if one.unverified and not self.allow_unverified:
            return _blank(rule, "incomplete", f"cannot be verified: {one.reason}")
        if own_choice(pair.a, rule.path) and not pair.same_model:
            told = "each model chose its own patches, so this is for information"
            return _filled(_blank(rule, "inconclusive", told), one, self.options.alpha)
        if one.effect is None and rule.kind != "no-drop":
            return _blank(rule, "incomplete", f"cannot be tested: {one.reason}")
        judges = {
            "no-drop": _no_drop,
            "significant": _significant,
            "non-inferiority": _non_inferior,
            "improvement": _improved,
        }
        blank = _filled(_blank(rule, "pass", ""), one, self.options.alpha)
        judged = judges[rule.kind](rule, one, blank)
        return _unverified(judged, one.reason or "") if one.unverified else judged

    def _absolute(self, rule: Rule) -> RuleResult:
        metric, reason = metric_at(self.candidate.content, rule.path)
        if metric is None or metric.value is None:
            return _blank(rule, "incomplete", f"{reason} in the report")
        wrong = stated_wrongly(self.candidate, rule.path, metric)
        if wrong is None:
            return _judge_absolute(rule, metric)
        problem, reason = wrong
        if problem == "damaged":
            raise _not_from_rows(rule.path, reason)
        if self.allow_unverified:
            return _unverified(_judge_absolute(rule, metric), reason)
        return _blank(rule, "incomplete", reason)

    def _adjusted(self, results: Sequence[RuleResult]) -> list[RuleResult]:
        """Adjust the p values over all tested rules, and decide these."""
        tested = [r for r in results if r.kind in _TESTED and r.p is not None]
        p_values = np.array([r.p for r in tested], dtype=np.float64)
        adjusted = iter(adjust(p_values, self.rules.correction).tolist())
        done = []
        for result in results:
            if result.kind in _TESTED and result.p is not None:
                result = _decide(result, float(next(adjusted)), self.options.alpha)
            done.append(result)
        return done

    def _broken_suites(self, results: Sequence[RuleResult]) -> list[RuleResult]:
        """List what did not complete although no rule speaks of it."""
        spoken_of = {result.suite for result in results}
        content = self.candidate.content
        broken = [
            RuleResult(
                rule=f"{plain(name)} completed",
                kind="suite",
                path=plain(name),
                suite=plain(name),
                outcome="incomplete",
                message=f"suite {plain(name)} is {part.status}: {plain(part.reason or '')}",
            )
            for name, part in content.ordered_suites().items()
            if part.status != "ok" and name not in spoken_of
        ]
        whole = all(part.status == "ok" for part in content.suites.values())
        if content.run.status != "success" and whole:
            broken.append(
                RuleResult(
                    rule="the evaluation completed",
                    kind="suite",
                    path="run",
                    suite="run",
                    outcome="incomplete",
                    message=f"the evaluation is {content.run.status}",
                )
            )
        return broken

    def _untrusted(self) -> list[RuleResult]:
        """Give a row to each report whose model does not repeat its answers."""
        return [
            RuleResult(
                rule=f"the model of {plain(source.label, 60)} repeats its answers",
                kind="suite",
                path="model",
                suite=plain(doubt.suite or "clean"),
                outcome="incomplete",
                message=plain(doubt.message, 400),
            )
            for source in self._sources
            for doubt in report_doubts(source.content)
        ]

    def _refused(self, refusal: str) -> list[RuleResult]:
        """Say that the baseline is of something else, where no rule would."""
        if not refusal or compares(self.rules):
            return []
        return [
            RuleResult(
                rule="the baseline can be compared",
                kind="suite",
                path="baseline",
                suite="baseline",
                outcome="incompatible",
                message=plain(refusal, 400),
            )
        ]

    def _doubts(self, pair: Pair, rows: Sequence[VerdictRow]) -> list[RuleResult]:
        """Give a row to each verdict that got worse: it says that numbers may be too good.

        No rule is violated, for nobody set one; but what holds in spite of it is not shown.
        """
        spoken_of = {rule.path.suite for rule in self.rules.rules}
        reasons = {
            row: reason
            for row, reason in worse(pair.a, pair.b, rows)
            if self.rules.is_default or row.suite in spoken_of
        }
        return [
            RuleResult(
                rule=f"{subject(same)}: {same[0].a} -> {same[0].b}",
                kind="verdict",
                path=plain(same[0].suite),
                suite=plain(same[0].suite),
                outcome="inconclusive",
                message=plain(reasons[same[0]], 400),
            )
            for same in alike(list(reasons))
        ]

    def _timed(self, results: Sequence[RuleResult]) -> list[RuleResult]:
        counts: dict[str, int] = {}
        for result in results:
            counts[result.suite] = counts.get(result.suite, 0) + 1
        timed = []
        for result in results:
            part = self.candidate.content.suites.get(result.suite)
            seconds = part.timing.get("wall_s", 0.0) if part is not None else 0.0
            seconds = seconds if 0 <= seconds < 1e9 else 0.0
            timed.append(
                result.model_copy(update={"seconds": round(seconds / counts[result.suite], 3)})
            )
        return timed

    def _warnings(
        self, pair: Pair | None, results: Sequence[RuleResult], verdicts: Sequence[VerdictRow]
    ) -> list[str]:
        lines = [] if pair is None else pair_warnings(pair)
        lines += [result.message for result in results if UNVERIFIED in result.message]
        lines += [line for result in results if (line := theatre(result)) is not None]
        lines += [line for result in results if (line := cannot_fail(result)) is not None]
        lines += verdict_warnings(verdicts, ("the baseline", "the candidate"))
        if pair is not None and not pair.same_model:
            lines.append(SINGLE_RUNS)
        return lines

    def _unwatched(
        self, verdicts: Sequence[VerdictRow], results: Sequence[RuleResult]
    ) -> list[str]:
        """Name the suites that no default rule watches: a gate that is silent would look whole."""
        if self.base is None or not self.rules.is_default:
            return []
        told = {row.suite: f" ({row.a} -> {row.b})" for row in verdicts}
        watched = {result.suite for result in results if result.kind != "verdict"}
        reasons: dict[str, list[str]] = {}
        for suite in {**self.base.content.ordered_suites(), **self.candidate.content.suites}:
            if plain(suite) not in watched:
                name = plain(suite) + told.get(suite, "")
                reasons.setdefault(self._why_unwatched(self.base, suite), []).append(name)
        return [f"not gated: {', '.join(names)}: {why}" for why, names in reasons.items()]

    def _why_unwatched(self, base: Source, suite: str) -> str:
        for name, source in (("baseline", base), ("candidate", self.candidate)):
            part = source.content.suites.get(suite)
            if part is None:
                return f"the {name} does not have it"
            if part.status != "ok":
                return f"it is {part.status} in the {name}"
        if any(path.suite == suite for path in accuracy_paths(base.content)):
            return "each model chooses what it hides, so they do not compare"
        return "no accuracy"


def _comparable_verdicts(pair: Pair) -> list[VerdictRow]:
    rows = verdict_rows([pair.a], [pair.b])
    return [row for row in rows if pair.protocol_difference(row.suite) is None]


def overall(results: Sequence[RuleResult]) -> Outcome:
    """Give the gravest outcome; nothing judged is nothing passed."""
    outcomes = {result.outcome for result in results}
    if not outcomes:
        return "incomplete"
    return next((outcome for outcome in _GRAVEST if outcome in outcomes), "pass")


def theatre(result: RuleResult) -> str | None:
    """Warn of a rule that asks for more than its data can show; None if it does not."""
    if result.kind not in ("non-inferiority", "no-drop") or not result.mdd or result.limit is None:
        return None
    if result.limit >= result.mdd:
        return None
    return (
        f"W-UNDERPOWERED: {plain(result.path)} allows a loss of {show(result.limit, result.unit)} "
        f"{unit_word(result.unit)}, but {result.n} samples show only differences of "
        f"{show(result.mdd, result.unit)} or more: take more samples or a wider margin"
    )


def cannot_fail(result: RuleResult) -> str | None:
    """Warn of a rule that allows a fraction to lose all that there is; None if it does not."""
    if result.kind not in ("non-inferiority", "no-drop") or result.unit != "fraction":
        return None
    if result.baseline is None or result.limit is None:
        return None
    left = result.baseline if result.direction == "higher" else 1 - result.baseline
    if result.limit < left:
        return None
    return (
        f"W-CANNOT-FAIL: {plain(result.path)} allows a loss of {show(result.limit, result.unit)} "
        f"{unit_word(result.unit)}, and the baseline has {show(left, result.unit)} to lose"
    )


def _not_from_rows(path: MetricPath, reason: str) -> IntakeError:
    return IntakeError(
        f"{plain(path)} is not what the per-sample record gives: {reason}",
        "evaluate again",
        code="E-REPORT",
    )


def _blank(rule: Rule, outcome: Outcome, message: str) -> RuleResult:
    return RuleResult(
        rule=plain(rule),
        kind=rule.kind,
        path=plain(rule.path),
        suite=plain(rule.path.suite),
        outcome=outcome,
        message=plain(message, 400),
    )


def _unverified(result: RuleResult, reason: str) -> RuleResult:
    told = f"{UNVERIFIED}: {result.path} is taken as it is stated, for {reason}"
    return result.model_copy(update={"message": plain(f"{result.message}; {told}", 400)})


def _filled(result: RuleResult, one: Measured, alpha: float) -> RuleResult:
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


def _judge_absolute(rule: Rule, metric: Metric) -> RuleResult:
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
    return _blank(rule, "pass" if holds else "fail", shown if holds else f"not {shown}").model_copy(
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
    low, high = _gains(result)
    outcome = "pass" if low > 0 else "fail" if high < 0 else "inconclusive"
    return result.model_copy(update={"outcome": outcome, "message": _change(result)})


def _gains(result: RuleResult) -> tuple[float, float]:
    """Give the interval of the gain."""
    assert result.ci is not None
    low, high = result.ci
    return (low, high) if result.direction == "higher" else (-high, -low)


def _decide(result: RuleResult, adjusted: float, alpha: float) -> RuleResult:
    """Give a tested rule its outcome."""
    assert result.delta is not None
    higher = result.direction == "higher"
    return result.model_copy(
        update={
            "p_adjusted": adjusted,
            "outcome": decide(
                result.kind,
                _gains(result),
                result.delta if higher else -result.delta,
                adjusted,
                alpha=alpha,
                limit=result.limit,
            ),
            "message": f"{result.message}, p {show_p(adjusted)} after adjustment",
        }
    )


def decide(
    kind: str,
    gains: tuple[float, float],
    gain: float,
    adjusted: float,
    *,
    alpha: float,
    limit: float | None,
) -> Outcome:
    """Decide a rule by a test at an adjusted level.

    A failure is claimed at the adjusted level, for each of many rules could raise a false alarm.
    A pass of the whole needs a pass of every rule, so there each rule's own interval decides.

    Args:
        kind: ``significant`` or ``non-inferiority``.
        gains: 1 - alpha interval of the gain; positive is better.
        gain: its estimate.
        adjusted: adjusted p value against: the candidate is not worse, by the margin if any.
        alpha: level.
        limit: margin of ``non-inferiority``, >= 0.

    Reference:
        Berger 1982, Technometrics 24:295, for the intersection-union test.
    """
    if kind == "significant":
        return "fail" if gain < 0 and adjusted < alpha else "pass"
    assert limit is not None
    if adjusted < alpha:
        return "fail"
    shown = gains[0] > -limit or gains[0] == 0 == limit  # 0 == 0: the same report twice
    return "pass" if shown else "inconclusive"


def _change(result: RuleResult) -> str:
    """Put both values and their difference into words."""
    unit = result.unit
    level = "" if result.ci is None else f", interval {show_range(result.ci, unit)}"
    change = f"{show_change(result.delta, unit)} {unit_word(unit)}"
    assert result.delta is None or math.isfinite(result.delta)
    return f"{show(result.baseline, unit)} -> {show(result.value, unit)} ({change}{level})"
