"""A report as Markdown, LaTeX and CSV."""

import csv
import io
from dataclasses import replace

from robustmix.report.report import Report, metrics_of
from robustmix.report.sheet import Sheet, markdown_rows, render_sheet
from robustmix.report.terminal import summary_rows, verdict_word
from robustmix.report.text import markdown, markdown_item, plain, spreadsheet

REPORT_MARKER = "<!-- robustmix report -->"
WARNINGS_SHOWN = 20


HEADS = ("suite", "metric", "value", "95 % interval", "n", "note")


def report_sheet(report: Report) -> Sheet:
    """Lay out the headline numbers, a row each; the note of a suite is beside its first."""
    return Sheet(
        title=report.content.run.name,
        heads=HEADS,
        numbers=range(2, 5),
        rows=[
            (name, *cells)
            for name, part in report.content.ordered_suites().items()
            for cells in summary_rows(part)
        ],
    )


def report_latex(report: Report) -> str:
    """Write the headline numbers as a LaTeX table, what they are of in its title."""
    content, data = report.content, report.content.dataset
    presets = ", ".join(content.protocol.presets)
    about = (
        f"{content.model.arch} on {data.name} {data.split}, {data.n} of {data.n_total} images, "
        f"seed {content.run.seed}, protocol {presets} {content.protocol.hash[:12]}"
    )
    sheet = report_sheet(report)
    rows = [list(row) for row in sheet.rows]
    for before, row in zip(sheet.rows, rows[1:], strict=False):
        row[0] = "" if row[0] == before[0] else row[0]
    return render_sheet(replace(sheet, rows=rows, caption=[" ".join(about.split())]), "latex")


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
        *markdown_rows(report_sheet(report)),
    ]
    warnings = content.warnings[:WARNINGS_SHOWN]
    lines += [""] if warnings else []
    lines += [markdown_item(f"{plain(w.code)}: {w.message}", 600) for w in warnings]
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
