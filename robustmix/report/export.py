"""A report as Markdown and as CSV."""

import csv
import io

from robustmix.report.report import Report, metrics_of
from robustmix.report.terminal import summary_rows, verdict_word
from robustmix.report.text import markdown, plain, spreadsheet

REPORT_MARKER = "<!-- robustmix report -->"
WARNINGS_SHOWN = 20


def report_markdown(report: Report) -> str:
    """Write the headline numbers, warnings and provenance of a report as Markdown."""
    content = report.content
    lines = [
        REPORT_MARKER,
        f"### {markdown(content.run.name)}",
        "",
        f"{markdown(content.model.arch)} on {markdown(content.dataset.name)} "
        f"{markdown(content.dataset.split)}, {content.dataset.n} of {content.dataset.n_total} "
        f"samples, seed {content.run.seed}, {markdown(content.run.status)}",
        "",
        "| suite | metric | value | 95 % interval | n |",
        "|---|---|--:|--:|--:|",
    ]
    for name, part in content.ordered_suites().items():
        if part.status != "ok":
            why = markdown(part.reason or "")
            lines.append(f"| {markdown(name)} | {part.status}: {why} | - | - | - |")
            continue
        for metric, value, interval, n, _ in summary_rows(part):
            shown = f"{markdown(metric.strip())} | {markdown(value)}"
            lines.append(f"| {markdown(name)} | {shown} | {interval} | {n} |")
    warnings = content.warnings[:WARNINGS_SHOWN]
    lines += [""] if warnings else []
    lines += [f"- {markdown(w.code)}: {markdown(w.message, 400)}" for w in warnings]
    lines += [
        "",
        f"<sub>robustmix {markdown(content.tool.version)}; model "
        f"{markdown(content.model.state_sha256[:12])}; protocol "
        f"{markdown(content.protocol.hash[:12])}; run {markdown(content.run.id[:12])}</sub>",
    ]
    return "\n".join(lines) + "\n"


COLUMNS = (
    "suite", "condition", "metric", "value", "ci_low", "ci_high", "n", "unit", "direction",
    "ci_method", "reason", "note",
)  # fmt: skip


def report_csv(report: Report) -> str:
    """Write every number of a report, one a line, with full precision.

    Verdicts of a suite that has no numbers stand in for them, the word in the last column.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for suite, part in report.content.ordered_suites().items():
        for condition, name, metric in metrics_of(part):
            low, high = metric.ci or (None, None)
            texts = (metric.ci_method, metric.reason, metric.note)
            writer.writerow(
                [spreadsheet(suite), spreadsheet(condition), spreadsheet(name)]
                + [metric.value, low, high, metric.n, metric.unit, metric.direction]
                + [None if text is None else spreadsheet(plain(text)) for text in texts]
            )
        for verdict in () if part.metrics or part.conditions else part.verdicts:
            # Else a suite that judges and measures nothing would be missing here.
            words = [spreadsheet(verdict.reason), spreadsheet(verdict_word(verdict))]
            writer.writerow(
                [spreadsheet(suite), "", "verdict", *[""] * 3, verdict.n, *[""] * 3, *words]
            )
    return buffer.getvalue()
