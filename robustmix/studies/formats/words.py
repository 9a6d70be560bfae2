"""What all formats say of a table, in words and in numbers."""

import os
from pathlib import Path

from robustmix.comparison.formatting import show, show_change
from robustmix.metrics.metric import Unit
from robustmix.studies.results import CLEAN
from robustmix.studies.statistics import STATISTICS
from robustmix.studies.table import Cell, Column, Table

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
TIED = "="
"""Mark of a figure that no test tells from the best."""


def shown(cell: Cell, unit: Unit) -> str:
    """Write mean and spread, nothing for no value: ``81.52 ± 0.14``.

    Example:
        >>> shown(Cell(mean=0.8152, std=0.0014), "fraction"), shown(Cell(), "fraction")
        ('81.52 ± 0.14', '')
    """
    if cell.mean is None:
        return ""
    spread = "" if cell.std is None else f" ± {show(cell.std, unit)}"
    return show(cell.mean, unit) + spread


def count(cell: Cell, table: Table) -> str:
    """Write how many runs a mean is of, where the table's cells differ in it."""
    return f" (n={cell.n})" if cell.n and len(table.seeds) > 1 else ""


def change(cell: Cell, unit: Unit) -> str:
    """Write the difference to the printed figure, in points; nothing where there is none."""
    return "" if cell.difference is None else show_change(cell.difference, unit)


def caption(table: Table) -> str:
    """Say what the numbers are: a few sentences below the title."""
    said = [f"{_seeds(table)}."]
    if any(column.title != column.metric for column in table.columns):
        said.insert(0, f"{', '.join(dict.fromkeys(c.metric for c in table.columns))}.")
    if any(column.unit == "fraction" for column in table.columns):
        said.append("Fractions in percent.")
    if any(column.metric == CLEAN for column in table.columns):
        said += _statistics(table)
    if table.published:
        said.append(published_words(table))
    if table.tested:
        said.append(f"{TIED}: {table.tested}.")
    return " ".join(said)


def _statistics(table: Table) -> list[str]:
    """Say of which epochs clean accuracy is; nothing where all are of evaluated checkpoints."""
    names = dict.fromkeys(one.statistic for one in table.results if CLEAN in one.values)
    known = [STATISTICS[name].help.partition(":")[0] for name in names if name]
    if not known:
        return []
    alone = "; of a lone report: its checkpoint" if "" in names else ""
    return [f"{CLEAN} of a run: {' or '.join(known)}{alone}."]


def _seeds(table: Table) -> str:
    counts = table.seeds
    if not counts:
        return "No run has a number yet"
    if counts == (1,):
        return "One run a figure"
    if len(counts) == 1:
        return f"Mean ± standard deviation over {counts[0]} runs"
    return f"Mean ± standard deviation over n = {counts[0]} to {counts[-1]} runs"


def published_words(table: Table) -> str:
    """Say where the printed figures are from and what stands beside them."""
    cells = [cell for row in table.rows for cell in row.cells]
    if not any(cell.published for cell in cells):
        return "No figure of these runs was published that is known here."
    of = f" ({table.source})" if table.source else ""
    said = f"In brackets what was published{of}"
    if any(cell.difference is not None for cell in cells):
        said += " and our difference to it in points"
    if any(cell.inside for cell in cells):
        said += "; * where the published figure lies in the 95 % interval over our seeds"
    return said + "."


def reduced_words(table: Table) -> str:
    """Say that runs are reduced and why; empty where none is."""
    if not table.reduced:
        return ""
    every = all(cell.reduced for row in table.rows for cell in row.cells if cell.mean is not None)
    return (
        f"reduced{'' if every else ' (r)'}: runs of less than what is published, not to be held "
        f"against published figures ({'; '.join(table.reduced)})"
    )


def progress_words(table: Table) -> str:
    """Say how many runs came to their end; empty where all did."""
    if table.complete == table.runs:
        return ""
    return f"{table.complete} of {table.runs} runs are complete"


def marks(cell: Cell, table: Table) -> str:
    """Give the signs behind a figure: reduced, tied with the best."""
    partly = cell.reduced and not all(
        other.reduced for row in table.rows for other in row.cells if other.mean is not None
    )
    return (" r" if partly else "") + (f" {TIED}" if cell.tied else "")


def disagreement(cell: Cell) -> str:
    """Say what is in doubt of a printed figure, and what other sources print."""
    if cell.published is None:
        return ""
    said = [cell.published.note] if cell.published.doubtful else []
    said += [f"{one.study}: {one.printed} ({one.stat}, {one.source})" for one in cell.others]
    return "; ".join(said)


def missing_words(cell: Cell) -> str:
    """Say why runs have no value in a cell; empty where all have."""
    return "; ".join(cell.reasons) if cell.mean is None or cell.reasons else ""


def arrow(column: Column) -> str:
    """Give the arrow that says which way is better."""
    return ARROWS[column.direction]


def link(path: Path | None, base: Path) -> str:
    """Give a path relative to the folder that what is written lies in, with slashes."""
    if path is None:
        return ""
    return Path(os.path.relpath(path.resolve(), base.resolve())).as_posix()
