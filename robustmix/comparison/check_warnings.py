"""Warnings and notes of a check: rules that ask too much or nothing, suites that none watches."""

from collections.abc import Sequence

from robustmix.comparison.compare import SINGLE_RUNS
from robustmix.comparison.document import RuleResult, VerdictRow
from robustmix.comparison.formatting import show, unit_word
from robustmix.comparison.judge import UNVERIFIED
from robustmix.comparison.open_report import Source
from robustmix.comparison.pair import Pair, pair_warnings
from robustmix.comparison.paths import accuracy_paths
from robustmix.comparison.verdicts import verdict_warnings
from robustmix.report.text import plain


def check_warnings(
    pair: Pair | None, results: Sequence[RuleResult], verdicts: Sequence[VerdictRow]
) -> list[str]:
    """List the warnings of a check, one line each.

    Args:
        pair: the baseline and the candidate, if they can be compared.
        results: what became of the rules.
        verdicts: of both reports.
    """
    lines = [] if pair is None else pair_warnings(pair)
    lines += [result.message for result in results if UNVERIFIED in result.message]
    lines += [line for result in results if (line := theatre(result)) is not None]
    lines += [line for result in results if (line := cannot_fail(result)) is not None]
    lines += verdict_warnings(verdicts, ("the baseline", "the candidate"))
    if pair is not None and not pair.same_model:
        lines.append(SINGLE_RUNS)
    return lines


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


def unwatched_suites(
    candidate: Source,
    baseline: Source,
    verdicts: Sequence[VerdictRow],
    results: Sequence[RuleResult],
) -> list[str]:
    """Name the suites that no default rule watches: a gate that is silent would look whole.

    Args:
        candidate: the report that is judged.
        baseline: what it is held against.
        verdicts: of both, which are told with the suites' names.
        results: what became of the default rules, and of what stands beside them.
    """
    told = {row.suite: f" ({row.a} -> {row.b})" for row in verdicts}
    watched = {result.suite for result in results if result.kind != "verdict"}
    reasons: dict[str, list[str]] = {}
    for suite in {**baseline.content.ordered_suites(), **candidate.content.suites}:
        if plain(suite) not in watched:
            name = plain(suite) + told.get(suite, "")
            reasons.setdefault(_why_unwatched(suite, candidate, baseline), []).append(name)
    return [f"not gated: {', '.join(names)}: {why}" for why, names in reasons.items()]


def _why_unwatched(suite: str, candidate: Source, baseline: Source) -> str:
    for name, source in (("baseline", baseline), ("candidate", candidate)):
        part = source.content.suites.get(suite)
        if part is None:
            return f"the {name} does not have it"
        if part.status != "ok":
            return f"it is {part.status} in the {name}"
    if any(path.suite == suite for path in accuracy_paths(baseline.content)):
        return "each model chooses what it hides, so they do not compare"
    return "no accuracy"
