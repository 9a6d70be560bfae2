"""Which figures of a column no test tells from its best: paired by image, as in ``compare``."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robustmix.comparison.compare import adjust, compare, compare_groups
from robustmix.comparison.document import MetricRow
from robustmix.comparison.formatting import show_change, show_p, show_range
from robustmix.comparison.measure import Watch, unwatched
from robustmix.comparison.open_report import Source, open_report
from robustmix.comparison.paths import parse_path
from robustmix.errors import RobustmixError
from robustmix.report.text import plain
from robustmix.studies.results import CLEAN
from robustmix.studies.table import Cell, Table, TableRow

ALPHA = 0.05
CORRECTION = "holm"


@dataclass(frozen=True)
class _Test:
    """What is known of one cell against the best of its column."""

    row: int
    column: int
    found: MetricRow | None
    why: str
    """Why there is no test."""


def with_significance(table: Table, *, alpha: float = ALPHA, watch: Watch = unwatched) -> Table:
    """Test the difference of every figure to the best of its column, where records tell.

    What is tested are the evaluated checkpoints: of ``clean.top1`` too, which in the table may be a
    statistic of epochs. Runs of a cell are resampled with their images; of one run a side McNemar's
    test is made.

    Args:
        table: whose runs' reports can be read.
        alpha: level of the tests together, after Holm's adjustment over all of the table.
        watch: is told how far the tests are.
    """
    opened: dict[Path, Source] = {}
    tests = list(_tests(table, opened, watch))
    known = [test for test in tests if test.found is not None and test.found.p is not None]
    p_values = np.array([test.found.p for test in known if test.found], dtype=np.float64)
    adjusted = dict(zip(known, adjust(p_values, CORRECTION).tolist(), strict=True))
    places = {(test.row, test.column): test for test in tests}
    rows = [
        replace(row, cells=tuple(_marked(table, i, j, places, adjusted, alpha) for j in _of(row)))
        for i, row in enumerate(table.rows)
    ]
    if not known:
        told = (test.why for test in tests if test.why)
        why = next(told, "no column has a best and another figure")
        note = f"no difference to a best figure could be tested: {why}"
        return replace(table, rows=tuple(rows), notes=(*table.notes, note))
    said = (
        f"no difference to the best of the column is shown (paired by image, Holm over "
        f"{len(known)} tests, alpha {alpha:g})"
    )
    if any(column.metric == CLEAN for column in table.columns):
        said += "; of clean.top1 the evaluated checkpoints are tested"
    return replace(table, rows=tuple(rows), tested=said)


def _of(row: TableRow) -> range:
    return range(len(row.cells))


def _tests(table: Table, opened: dict[Path, Source], watch: Watch) -> Iterator[_Test]:
    for j in range(len(table.columns)):
        cells = [row.cells[j] for row in table.rows]
        best = next((i for i, cell in enumerate(cells) if cell.rank == 1), None)
        if best is None:
            continue
        for i, cell in enumerate(cells):
            watch(table.columns[j].title, i, len(cells))
            # A reduced run beside whole ones is not of the same images, or not of the same kind.
            if (
                i != best
                and cell.mean is not None
                and bool(cell.reduced) == bool(cells[best].reduced)
            ):
                yield _test(i, j, cells[best], cell, opened)


def _test(i: int, j: int, best: Cell, cell: Cell, opened: dict[Path, Source]) -> _Test:
    try:
        sides = [_sources(one, opened) for one in (best, cell)]
        path = parse_path(next(one.path for one in cell.seeds if one.value is not None))
        if len(sides[0]) == len(sides[1]) == 1:
            document = compare(sides[0][0], sides[1][0], metrics=[path])
        else:
            document = compare_groups(sides[0], sides[1], metrics=[path])
    except RobustmixError as error:
        return _Test(i, j, None, plain(error.message, 300))
    found = document.comparisons[0].metrics[0]
    return _Test(i, j, found, plain(found.reason or "") if found.p is None else "")


def _sources(cell: Cell, opened: dict[Path, Source]) -> list[Source]:
    paths = [one.report for one in cell.seeds if one.value is not None]
    for path in paths:
        if path is not None and path not in opened:
            opened[path] = open_report(path)
    return [opened[path] for path in paths if path is not None]


def _marked(
    table: Table,
    i: int,
    j: int,
    places: dict[tuple[int, int], _Test],
    adjusted: dict[_Test, float],
    alpha: float,
) -> Cell:
    cell, test = table.rows[i].cells[j], places.get((i, j))
    if test is None:
        return cell
    if test.found is None or test not in adjusted:
        return replace(cell, tested=f"not tested: {test.why}")
    p, found = adjusted[test], test.found
    change = show_change(found.delta, found.unit)
    said = f"to the best {change} {show_range(found.ci, found.unit)}, p {show_p(p)}"
    return replace(cell, tied=p >= alpha, p=p, tested=said)
