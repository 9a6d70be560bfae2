"""A table as Markdown: best in bold, second in italics."""

from pathlib import Path

from robustmix.report.sheet import render_sheet
from robustmix.studies.formats.as_sheet import as_sheet
from robustmix.studies.table import Table


def text(table: Table, base: Path) -> str:
    """Write the table; what is a stranger's is escaped."""
    return render_sheet(as_sheet(table, second="italics"), "md")
