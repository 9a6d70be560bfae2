"""A gate: rules, a report and a baseline become pass, fail, or neither.

What could not be judged is never a pass: a missing metric, a suite that did not complete, reports
of other images or another protocol end as *incomplete* or *incompatible*.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from robustmix.comparison.check_warnings import check_warnings, unwatched_suites
from robustmix.comparison.compare import settings
from robustmix.comparison.decide import decide_tested
from robustmix.comparison.default_rules import default_rules, gate_kind
from robustmix.comparison.document import (
    CheckDocument,
    Outcome,
    ReportRef,
    RuleResult,
    VerdictRow,
)
from robustmix.comparison.doubts import (
    broken_suites,
    refused_baseline,
    unsteady_models,
    worse_verdicts,
)
from robustmix.comparison.judge import (
    judge_absolute,
    judge_measured,
    not_from_rows,
    without_numbers,
)
from robustmix.comparison.measure import Measured, Options, Watch, measure, unwatched
from robustmix.comparison.named import refuse_misnamed
from robustmix.comparison.open_report import (
    Source,
    check_record_sha256,
    open_baseline,
    open_report,
    told_apart,
)
from robustmix.comparison.pair import Pair, align
from robustmix.comparison.paths import MetricPath
from robustmix.comparison.rules import (
    Amount,
    Kind,
    Rule,
    RuleSet,
    load_rules,
    parse_amount,
    parse_assertion,
)
from robustmix.comparison.verdicts import verdict_rows
from robustmix.comparison.verify import at_once, begun, check_rows, check_statements
from robustmix.errors import IncompatibleError, UsageError
from robustmix.report.report import Report

_EXIT_CODES: dict[Outcome, int] = {
    "pass": 0,
    "inconclusive": 0,
    "fail": 1,
    "incomplete": 4,
    "incompatible": 5,
}
_GRAVEST: tuple[Outcome, ...] = ("incompatible", "incomplete", "fail", "inconclusive")


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
        chosen = default_rules(
            base, asserted=bool(named), kind=kind, margin=width, tolerances=losses
        )
    chosen = replace(chosen, rules=(*chosen.rules, *named), strict=strict or chosen.strict)
    if alpha is not None:
        if chosen.rules and not chosen.compares:
            raise UsageError("--alpha is of tests, and no rule is one", "leave it out")
        chosen = replace(chosen, alpha=alpha)
    options = replace(options or Options(), alpha=chosen.alpha)
    candidate, *others = told_apart([candidate, *([] if base is None else [base])])
    base = others[0] if others else None
    return _Gate(candidate, base, chosen, options, allow_unverified, named, watch).judge()


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
                raise not_from_rows(one.path, one.reason or "")
        results = [self._result(rule, pair, refusal, found) for rule in self.rules.rules]
        results = decide_tested(results, self.rules.correction, self.options.alpha)
        results += [
            *broken_suites(self.candidate.content, results),
            *unsteady_models(self._sources),
        ]
        if refusal and not self.rules.compares:
            results.append(refused_baseline(refusal))
        verdicts = [] if pair is None else _comparable_verdicts(pair)
        doubts = [] if pair is None else worse_verdicts(self.rules, pair, verdicts)
        outcome = overall([*results, *doubts]) if results else overall([])
        if outcome not in ("incompatible", "incomplete"):
            verified()  # raises what they contradict
        strict_failure = self.rules.strict and outcome == "inconclusive"
        return CheckDocument(
            verdict=outcome,
            exit_code=1 if strict_failure else _EXIT_CODES[outcome],
            strict=self.rules.strict,
            candidate=ReportRef.of(self.candidate),
            baseline=None if self.base is None else ReportRef.of(self.base),
            settings=settings(self.options, self.rules.correction),
            default_rules=self.rules.is_default,
            rules=self._timed([*results, *doubts]),
            warnings=check_warnings(pair, results, verdicts),
            notes=self._notes(verdicts, results),
        )

    @property
    def _sources(self) -> list[Source]:
        return [self.candidate] if self.base is None else [self.candidate, self.base]

    def _pair(self) -> tuple[Pair | None, str]:
        """Put the report beside the baseline, or say why they cannot be compared."""
        if self.base is None:
            if self.rules.compares:
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
            return judge_absolute(rule, self.candidate, allow_unverified=self.allow_unverified)
        if pair is None:
            return without_numbers(rule, "incompatible", refusal)
        return judge_measured(
            rule,
            found[rule.path],
            pair,
            alpha=self.options.alpha,
            allow_unverified=self.allow_unverified,
        )

    def _timed(self, results: Sequence[RuleResult]) -> list[RuleResult]:
        """Share what evaluating each suite took among its rows."""
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

    def _notes(self, verdicts: Sequence[VerdictRow], results: Sequence[RuleResult]) -> list[str]:
        if self.base is None or not self.rules.is_default:
            return []
        return unwatched_suites(self.candidate, self.base, verdicts, results)


def _comparable_verdicts(pair: Pair) -> list[VerdictRow]:
    rows = verdict_rows([pair.a], [pair.b])
    return [row for row in rows if pair.protocol_difference(row.suite) is None]


def overall(results: Sequence[RuleResult]) -> Outcome:
    """Give the gravest outcome; nothing judged is nothing passed."""
    outcomes = {result.outcome for result in results}
    if not outcomes:
        return "incomplete"
    return next((outcome for outcome in _GRAVEST if outcome in outcomes), "pass")
