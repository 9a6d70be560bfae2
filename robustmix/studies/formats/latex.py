"""A table for LaTeX: booktabs, best in bold, second underlined, as the papers print theirs."""

from pathlib import Path

from robustmix.report.sheet import render_sheet
from robustmix.studies.formats.as_sheet import as_sheet
from robustmix.studies.table import Table


def text(table: Table, base: Path) -> str:
    """Write a ``table`` environment; what is a stranger's is escaped."""
    return render_sheet(as_sheet(table, second="underlined"), "latex")
