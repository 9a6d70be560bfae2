"""What a check holds against a report though no rule speaks of it, each a row beside the rules'."""

from collections.abc import Sequence

from robustmix.comparison.document import RuleResult, VerdictRow
from robustmix.comparison.open_report import Source
from robustmix.comparison.pair import Pair
from robustmix.comparison.rules import RuleSet
from robustmix.comparison.verdicts import alike, subject, worse
from robustmix.report.schema import ReportModel
from robustmix.report.text import plain
from robustmix.report.trust import report_doubts


def broken_suites(content: ReportModel, results: Sequence[RuleResult]) -> list[RuleResult]:
    """List what did not complete although no rule speaks of it.

    Args:
        content: of the candidate.
        results: of the rules.
    """
    spoken_of = {result.suite for result in results}
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


def unsteady_models(sources: Sequence[Source]) -> list[RuleResult]:
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
        for source in sources
        for doubt in report_doubts(source.content)
    ]


def refused_baseline(refusal: str) -> RuleResult:
    """Say that the baseline is of something else, where no rule would."""
    return RuleResult(
        rule="the baseline can be compared",
        kind="suite",
        path="baseline",
        suite="baseline",
        outcome="incompatible",
        message=plain(refusal, 400),
    )


def worse_verdicts(rules: RuleSet, pair: Pair, rows: Sequence[VerdictRow]) -> list[RuleResult]:
    """Give a row to each verdict that got worse: it says that numbers may be too good.

    No rule is violated, for nobody set one; but what holds in spite of it is not shown.

    Args:
        rules: which, if they are not the default ones, choose the suites.
        pair: the baseline and the candidate.
        rows: their verdicts.
    """
    spoken_of = {rule.path.suite for rule in rules.rules}
    reasons = {
        row: reason
        for row, reason in worse(pair.a, pair.b, rows)
        if rules.is_default or row.suite in spoken_of
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
