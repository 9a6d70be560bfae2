"""The headline numbers of a report as an HTML table among the cells of a notebook."""

from html import escape

from robustmix.report.report import Report
from robustmix.report.terminal import summary_rows, warning_lines
from robustmix.report.text import plain

HEADS = ("suite", "metric", "value", "95 % interval", "n", "note")
NUMBERS = frozenset({"value", "95 % interval", "n"})


def table_html(report: Report) -> str:
    """Make a table, and a line a warning below it; all of it is escaped."""
    rows = [
        (key if i == 0 else "", *cells)
        for key, part in report.content.ordered_suites().items()
        for i, cells in enumerate(summary_rows(part))
    ]
    lines = "".join(_row("td", row) for row in rows)
    warned = "".join(f"<li>{escape(line)}</li>" for line in warning_lines(report))
    return (
        f"<table><caption>{escape(plain(report.content.run.name))}</caption>"
        f"<thead>{_row('th', HEADS)}</thead><tbody>{lines}</tbody></table>"
        + (f"<ul>{warned}</ul>" if warned else "")
    )


def _row(tag: str, cells: tuple[str, ...]) -> str:
    # Spaces before a name say what it is a part of; a browser would drop them.
    shown = [
        f"<{tag} style='text-align:{'right' if head in NUMBERS else 'left'};white-space:pre-wrap'>"
        f"{escape(plain(cell))}</{tag}>"
        for head, cell in zip(HEADS, cells, strict=True)
    ]
    return f"<tr>{''.join(shown)}</tr>"
