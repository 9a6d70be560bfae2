"""Comparisons and checks as Markdown, for pull requests and step summaries."""

from collections.abc import Sequence

from robustmix.comparison.document import (
    CheckDocument,
    Comparison,
    ComparisonDocument,
    MetricRow,
    ReportRef,
    RuleResult,
)
from robustmix.comparison.formatting import show, show_change, show_p, show_range
from robustmix.comparison.tables import default_sentence, words_alone
from robustmix.report.text import markdown

CHECK_MARKER = "<!-- robustmix check -->"
"""First line of a comment: whoever posts it finds the last one by this and replaces it."""

COMPARE_MARKER = "<!-- robustmix compare -->"

_SIGNS = {
    "pass": "✅",
    "fail": "❌",
    "inconclusive": "⚠️",
    "incomplete": "⛔",
    "incompatible": "⛔",
}
_SENTENCES = {
    "pass": "every rule holds",
    "fail": "a rule is violated",
    "inconclusive": "no rule is violated, but the data cannot show that all hold",
    "incomplete": "something could not be judged, because it is missing or did not complete",
    "incompatible": "the reports cannot be compared",
}
_ORDER = ("incompatible", "incomplete", "fail", "inconclusive", "pass")


def check_markdown(document: CheckDocument, *, limit: int | None = None) -> str:
    """Write a check as Markdown.

    Args:
        document: the check.
        limit: at most so many bytes of UTF-8; rules that hold are left out first, and the number
            of those left out is stated.
    """
    rules = sorted(document.rules, key=lambda r: _ORDER.index(r.outcome))
    text = _check_text(document, rules, 0)
    kept = len(rules)
    while limit is not None and len(text.encode("utf-8")) > limit and kept:
        kept = kept * 3 // 4
        text = _check_text(document, rules[:kept], len(rules) - kept)
    return text


def _check_text(document: CheckDocument, rules: Sequence[RuleResult], left_out: int) -> str:
    lines = [
        CHECK_MARKER,
        f"### {_SIGNS[document.verdict]} robustmix check: {document.verdict}",
        "",
        f"{_reference(document.candidate)} "
        + (f"against {_reference(document.baseline)}" if document.baseline else "alone")
        + f": {_SENTENCES[document.verdict]}"
        + (" (strict: that fails)." if document.strict and document.exit_code == 1 else "."),
        "",
        "| | rule | baseline | value | change | 95 % interval | p | n |".replace(
            "95", f"{100 * (1 - document.settings.alpha):g}"
        ),
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_check_row(result) for result in rules]
    if left_out:
        lines += ["", f"{left_out} more rules are not shown."]
    if document.default_rules:
        lines += ["", markdown(default_sentence(document)) + "."]
        lines += [markdown(f"{note[:1].upper()}{note[1:]}.", 400) for note in document.notes]
    told = [r for r in rules if r.outcome in ("incomplete", "incompatible", "inconclusive")]
    lines += [""] if told or document.warnings else []
    lines += [f"- {markdown(r.rule)}: {markdown(r.message, 400)}" for r in told[:20]]
    lines += [f"- {markdown(line, 400)}" for line in document.warnings[:20]]
    lines += ["", _footer(document.settings.correction)]
    return "\n".join(lines) + "\n"


def _check_row(result: RuleResult) -> str:
    cells = [
        _SIGNS[result.outcome],
        markdown(result.rule),
        show(result.baseline, result.unit),
        show(result.value, result.unit),
        show_change(result.delta, result.unit),
        show_range(result.ci, result.unit) if result.delta is not None else "-",
        markdown(show_p(result.p_adjusted)),
        "-" if result.n is None else str(result.n),
    ]
    return "| " + " | ".join(cells) + " |"


def comparison_markdown(document: ComparisonDocument) -> str:
    """Write a comparison as Markdown, a table a pair."""
    level = f"{100 * (1 - document.settings.alpha):g}"
    lines = [COMPARE_MARKER]
    for comparison in document.comparisons:
        lines += [
            f"### {_side(comparison.a)} → {_side(comparison.b)}",
            "",
            f"| metric | A | B | Δ | {level} % interval of Δ | p | MDD | verdict |",
            "|---|--:|--:|--:|--:|--:|--:|---|",
            *(_metric_row(row) for row in comparison.metrics),
            *_verdict_rows(comparison),
            "",
            *_remarks(comparison),
        ]
    lines += [_footer(document.settings.correction)]
    return "\n".join(lines) + "\n"


def _metric_row(row: MetricRow) -> str:
    cells = [
        markdown(row.path),
        show(row.a, row.unit),
        show(row.b, row.unit),
        show_change(row.delta, row.unit),
        show_range(row.ci, row.unit),
        markdown(show_p(row.p_adjusted)),
        show(row.mdd, row.unit),
        row.verdict,
    ]
    return "| " + " | ".join(cells) + " |"


def _verdict_rows(comparison: Comparison) -> list[str]:
    return [
        f"| {markdown(row.suite)}: {markdown(row.title)} | {markdown(row.a)} | {markdown(row.b)} "
        f"| - | - | - | - | {'same' if row.a == row.b else 'changed'} |"
        for told in words_alone(comparison).values()
        for row in told
    ]


def _remarks(comparison: Comparison) -> list[str]:
    lines = [f"- {markdown(line, 400)}" for line in comparison.warnings]
    lines += [
        f"- {markdown(row.path)}: not tested, {markdown(row.reason)}"
        for row in comparison.metrics
        if row.reason is not None
    ]
    return [*lines, ""] if lines else []


def _side(references: Sequence[ReportRef]) -> str:
    return ", ".join(_reference(reference) for reference in references)


def _reference(reference: ReportRef) -> str:
    return f"{markdown(reference.name, 80)} ({markdown(reference.sha256[:8])})"


def _footer(correction: str) -> str:
    name = {"holm": "Holm", "bh": "Benjamini-Hochberg"}[correction]
    return (
        "<sub>Fractions in percent, differences in points; paired by image; p adjusted after "
        f"{name}.</sub>"
    )
