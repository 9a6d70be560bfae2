"""Comparisons and checks as Markdown, for pull requests and step summaries."""

from collections.abc import Sequence

from robustmix.comparison.document import (
    CheckDocument,
    Comparison,
    ComparisonDocument,
    ReportRef,
    RuleResult,
)
from robustmix.comparison.tables import (
    CORRECTIONS,
    SIGNS,
    check_sheet,
    comparison_sheet,
    default_sentence,
)
from robustmix.report.sheet import markdown_rows
from robustmix.report.text import markdown, markdown_item, plain

CHECK_MARKER = "<!-- robustmix check -->"
"""First line of a comment: whoever posts it finds the last one by this and replaces it."""

COMPARE_MARKER = "<!-- robustmix compare -->"

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
        f"### {SIGNS[document.verdict]} robustmix check: {document.verdict}",
        "",
        f"{_reference(document.candidate)} "
        + (f"against {_reference(document.baseline)}" if document.baseline else "alone")
        + f": {_SENTENCES[document.verdict]}"
        + (" (strict: that fails)." if document.strict and document.exit_code == 1 else "."),
        "",
        *markdown_rows(check_sheet(document, rules, signs=True)),
    ]
    if left_out:
        lines += ["", f"{left_out} more rules are not shown."]
    if document.default_rules:
        lines += ["", markdown(default_sentence(document)) + "."]
        lines += [markdown(f"{note[:1].upper()}{note[1:]}.", 400) for note in document.notes]
    told = [r for r in rules if r.outcome in ("incomplete", "incompatible", "inconclusive")]
    lines += [""] if told or document.warnings else []
    lines += [markdown_item(f"{plain(r.rule)}: {r.message}", 600) for r in told[:20]]
    lines += [markdown_item(line, 400) for line in document.warnings[:20]]
    lines += ["", _footer(document.settings.correction)]
    return "\n".join(lines) + "\n"


def comparison_markdown(document: ComparisonDocument) -> str:
    """Write a comparison as Markdown, a table a pair."""
    lines = [COMPARE_MARKER]
    for comparison in document.comparisons:
        lines += [
            f"### {_side(comparison.a)} → {_side(comparison.b)}",
            "",
            *markdown_rows(comparison_sheet(comparison, document.settings.alpha)),
            "",
            *_remarks(comparison),
        ]
    lines += [_footer(document.settings.correction)]
    return "\n".join(lines) + "\n"


def _remarks(comparison: Comparison) -> list[str]:
    lines = [markdown_item(line, 400) for line in comparison.warnings]
    lines += [
        markdown_item(f"{row.path}: not tested, {row.reason}", 400)
        for row in comparison.metrics
        if row.reason is not None
    ]
    return [*lines, ""] if lines else []


def _side(references: Sequence[ReportRef]) -> str:
    return ", ".join(_reference(reference) for reference in references)


def _reference(reference: ReportRef) -> str:
    return f"{markdown(reference.name, 80)} ({markdown(reference.sha256[:8])})"


def _footer(correction: str) -> str:
    return (
        "<sub>Fractions in percent, differences in points; paired by image; p adjusted after "
        f"{CORRECTIONS[correction]}.</sub>"
    )
