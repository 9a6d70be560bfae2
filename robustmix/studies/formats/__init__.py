"""A table as text, in one of the formats; one file each."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from robustmix.errors import unknown_name
from robustmix.studies.table import Table

FORMATS = {
    "terminal": "for people: at most 80 columns, or as wide as the terminal is",
    "md": "Markdown",
    "latex": "a LaTeX table with booktabs, best in bold and second underlined",
    "csv": "one line a cell, every seed's value",
    "json": "all that the table knows",
    "html": "a page that sorts, with pictures of the runs and links to their reports",
}
"""Name of a format, which is that of its file, with a line of help."""


def render(table: Table, format: str, *, where: Path | None = None) -> str:
    """Write a table in one of the formats.

    Args:
        table: the table.
        format: a key of ``FORMATS``.
        where: the file that the text is for, which links and paths are relative to; None for
            stdout, and links relative to the current folder.

    Raises:
        UsageError: there is no such format.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    module = importlib.import_module(f"robustmix.studies.formats.{format}")
    text = cast("Callable[[Table, Path], str]", module.text)
    return text(table, Path() if where is None else where.parent)
