"""Comparisons and checks as tables: for the terminal, at most 100 columns, as sheets, as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich import box
from rich.table import Table

from robustmix.comparison.document import (
    CheckDocument,
    Comparison,
    ComparisonDocument,
    MetricRow,
    Outcome,
    ReportRef,
    RuleResult,
    VerdictRow,
)
from robustmix.comparison.formatting import show, show_change, show_p, show_range
from robustmix.report.sheet import Sheet, render_sheet
from robustmix.report.text import plain, spreadsheet

CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
"""Whose name the correction for several tests bears."""


def comparison_tables(document: ComparisonDocument) -> list[Table]:
    """Lay out a table a pair: metric, A, B, difference, interval, p, MDD, verdict."""
    return [_comparison_table(one, document.settings.alpha) for one in document.comparisons]


def _comparison_table(comparison: Comparison, alpha: float) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{_names(comparison.a)} -> {_names(comparison.b)}",
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("metric", overflow="fold")
    for column in ("A", "B", "Δ", f"{100 * (1 - alpha):g} % of Δ", "p", "MDD"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    suite = ""
    for row in comparison.metrics:
        if row.suite != suite:
            suite = row.suite
            table.add_row(plain(suite), *[""] * 7)
        table.add_row(*_cells(row))
    for suite, told in words_alone(comparison).items():
        table.add_row(plain(suite), *[""] * 7)
        for verdict in told:
            title = "" if verdict.title == suite.partition("@")[0] else f"{verdict.title}: "
            table.add_row(f"  {title}{verdict.a} -> {verdict.b}", *[""] * 6, _changed(verdict))
    return table


def words_alone(comparison: Comparison) -> dict[str, list[VerdictRow]]:
    """Give the verdicts of the suites that have nothing else in the table, by suite."""
    numbered = {row.suite for row in comparison.metrics}
    found: dict[str, list[VerdictRow]] = {}
    for row in comparison.verdicts:
        if row.suite not in numbered:
            found.setdefault(row.suite, []).append(row)
    return found


def _cells(row: MetricRow) -> tuple[str, ...]:
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[row.direction]
    return (
        f"  {plain(row.path.partition('.')[2])}{arrow}",
        show(row.a, row.unit),
        show(row.b, row.unit),
        show_change(row.delta, row.unit),
        show_range(row.ci, row.unit),
        show_p(row.p_adjusted),
        show(row.mdd, row.unit),
        row.verdict,
    )


def _names(references: Sequence[ReportRef]) -> str:
    return plain(", ".join(reference.name for reference in references), 45)


def comparison_notes(document: ComparisonDocument) -> list[str]:
    """Say what a reader of the tables must know, one line each."""
    correction = CORRECTIONS[document.settings.correction]
    lines = [
        "fractions in percent, Δ and MDD in points; paired by image; p after "
        f"{correction} over all tests shown",
        f"MDD: what {100 * document.settings.power:g} % of such tests find; inconclusive: no "
        f"difference is shown and one of {100 * document.margin:g} pp is not excluded",
    ]
    for comparison in document.comparisons:
        lines += _untested(comparison)
    return list(dict.fromkeys([*lines, *_warnings(document.comparisons)]))


def _untested(comparison: Comparison) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row in comparison.metrics:
        if row.reason is not None:
            reasons.setdefault(row.reason, []).append(row.path)
    return [f"not tested: {_some(paths)}: {plain(why)}" for why, paths in reasons.items()]


def _warnings(comparisons: Sequence[Comparison]) -> list[str]:
    return [f"warning: {plain(line, 600)}" for one in comparisons for line in one.warnings]


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return plain(", ".join(paths[:3]), 150) + more


def check_table(document: CheckDocument) -> Table:
    """Lay out a row a rule: rule, baseline, value, change, interval, p, outcome."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"check of {plain(document.candidate.name, 45)}"
        + (f" against {plain(document.baseline.name, 30)}" if document.baseline else ""),
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("rule", overflow="fold")
    level = f"{100 * (1 - document.settings.alpha):g} % of Δ"
    for column in ("baseline", "value", "Δ", level, "p"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for result in document.rules:
        table.add_row(
            plain(result.rule),
            show(result.baseline, result.unit),
            show(result.value, result.unit),
            show_change(result.delta, result.unit),
            show_range(result.ci, result.unit) if result.delta is not None else "-",
            show_p(result.p_adjusted),
            result.outcome,
        )
    return table


def check_notes(document: CheckDocument) -> list[str]:
    """Say what the rules are, why some have no plain verdict, and the warnings."""
    lines = [default_sentence(document)] if document.default_rules else []
    lines += [plain(note, 600) for note in document.notes]
    lines += [
        plain(f"{result.outcome}: {result.rule}: {result.message}", 600)
        for result in document.rules
        if result.outcome in ("incomplete", "incompatible", "inconclusive")
    ]
    return [*lines[:20], *(f"warning: {plain(line, 600)}" for line in document.warnings)]


def default_sentence(document: CheckDocument) -> str:
    """Put the default rules into words."""
    kind = next((r.kind for r in document.rules if r.kind not in ("suite", "verdict")), "")
    correction = CORRECTIONS[document.settings.correction]
    return (
        f"no rules were given: {kind} of the accuracy of every suite in the baseline, "
        f"alpha {document.settings.alpha:g} after {correction}"
    )


def comparison_sheet(comparison: Comparison, alpha: float) -> Sheet:
    """Lay out one pair for Markdown and LaTeX, each metric by its whole path."""
    rows = [(row.path, *_cells(row)[1:]) for row in comparison.metrics]
    rows += [
        (f"{row.suite}: {row.title}", row.a, row.b, *["-"] * 4, _changed(row))
        for told in words_alone(comparison).values()
        for row in told
    ]
    return Sheet(
        title=f"{_names(comparison.a)} → {_names(comparison.b)}",
        heads=["metric", "A", "B", "Δ", f"{100 * (1 - alpha):g} % of Δ", "p", "MDD", "verdict"],
        numbers=range(1, 7),
        rows=rows,
    )


def _changed(row: VerdictRow) -> str:
    return "same" if row.a == row.b else "changed"


def comparison_latex(document: ComparisonDocument) -> str:
    """Write a table a pair as LaTeX; what a reader must know of the figures is in its title."""
    told = [plain(note, 600) for note in comparison_notes(document)]
    return "\n".join(
        render_sheet(
            replace(
                comparison_sheet(one, document.settings.alpha),
                caption=[note[:1].upper() + note[1:] for note in told[:2]],
                notes=[*_untested(one), *(f"warning: {line}" for line in one.warnings)],
            ),
            "latex",
        )
        for one in document.comparisons
    )


SIGNS: dict[Outcome, str] = {
    "pass": "✅",
    "fail": "❌",
    "inconclusive": "⚠️",
    "incomplete": "⛔",
    "incompatible": "⛔",
}
"""Outcomes in a comment on a pull request."""


def check_sheet(
    document: CheckDocument, rules: Sequence[RuleResult], *, signs: bool = False
) -> Sheet:
    """Lay rules out for Markdown and LaTeX; ``signs`` stand for the words of outcomes."""
    level = f"{100 * (1 - document.settings.alpha):g} % interval"
    return Sheet(
        title=f"check of {document.candidate.name}"
        + (f" against {document.baseline.name}" if document.baseline else ""),
        heads=["" if signs else "outcome", "rule", "baseline", "value", "change", level, "p", "n"],
        numbers=range(2, 8),
        rows=[
            [
                SIGNS[result.outcome] if signs else result.outcome,
                result.rule,
                show(result.baseline, result.unit),
                show(result.value, result.unit),
                show_change(result.delta, result.unit),
                show_range(result.ci, result.unit) if result.delta is not None else "-",
                show_p(result.p_adjusted),
                "-" if result.n is None else str(result.n),
            ]
            for result in rules
        ],
    )


def check_latex(document: CheckDocument) -> str:
    """Write the rules as a LaTeX table."""
    correction = CORRECTIONS[document.settings.correction]
    said = f"Fractions in percent, differences in points; p after {correction}."
    sheet = check_sheet(document, document.rules)
    caption = [said, f"Verdict: {document.verdict}."]
    return render_sheet(replace(sheet, caption=caption, notes=check_notes(document)), "latex")


def comparison_csv(document: ComparisonDocument) -> str:
    """Write one line a metric and pair, full precision."""
    values = [{"a": "value_a", "b": "value_b"}.get(name, name) for name in MetricRow.model_fields]
    rows = (
        [_names(one.a), _names(one.b), *row.model_dump(mode="json").values()]
        for one in document.comparisons
        for row in one.metrics
    )
    return _csv(["side_a", "side_b", *values], rows)


def check_csv(document: CheckDocument) -> str:
    """Write one line a rule, full precision."""
    if not document.rules:
        return ""
    head = list(document.rules[0].model_dump())
    return _csv(head, (result.model_dump(mode="json").values() for result in document.rules))


def _csv(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return spreadsheet(value)
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    return value
