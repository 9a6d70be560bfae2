"""A table as CSV: one line a cell, full precision, every seed's value."""

import csv
import io
from pathlib import Path

from robustmix.report.text import plain, spreadsheet
from robustmix.studies.formats import words
from robustmix.studies.table import Cell, Column, Table

COLUMNS = (
    "row", "column", "metric", "mean", "std", "n", "unit", "direction", "rank", "published", "stat",
    "source", "difference", "inside", "disagreement", "reduced", "not_tested_apart", "seeds",
    "values", "missing", "reports",
)  # fmt: skip


def text(table: Table, base: Path) -> str:
    """Write the table; published figures in the unit of the mean, fractions in [0, 1]."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            values = _values(cell, column, base)
            writer.writerow([_safe(row.title), _safe(column.title), *map(_safe, values)])
    return buffer.getvalue()


def _values(cell: Cell, column: Column, base: Path) -> list[object]:
    figure = cell.published
    with_value = [one for one in cell.seeds if one.value is not None]
    links = dict.fromkeys(words.link(one.report, base) for one in cell.seeds)
    return [
        column.metric,
        cell.mean,
        cell.std,
        cell.n,
        column.unit,
        column.direction,
        cell.rank,
        None if figure is None else round(figure.fraction, 10),
        None if figure is None else figure.stat,
        None if figure is None else figure.source,
        cell.difference,
        None if cell.inside is None else str(cell.inside).lower(),
        words.disagreement(cell),
        "; ".join(cell.reduced),
        "" if cell.tied is None else str(cell.tied).lower(),
        " ".join("-" if one.seed is None else str(one.seed) for one in with_value),
        " ".join(repr(one.value) for one in with_value),
        words.missing_words(cell),
        " ".join(links),
    ]


def _safe(value: object) -> object:
    return spreadsheet(plain(value, 2000)) if isinstance(value, str) else value
