"""Runs become a table: means and spreads over seeds, ranks, and what was published of them.

Pure: the same runs give the same table, in the order they come in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from robustmix.comparison.formatting import show
from robustmix.errors import UsageError, unknown_name
from robustmix.metrics.metric import Direction, Unit
from robustmix.report.text import plain
from robustmix.studies.layout import Layout, clashes
from robustmix.studies.published import Published, find_published
from robustmix.studies.results import DEFAULT_STATISTIC, NAMES, RunResult
from robustmix.studies.run_reports import Value, params_difference
from robustmix.studies.statistics import mean_and_std, seed_interval
from robustmix.studies.table import Cell, Column, SeedValue, Table, TableRow

FigureOf = Callable[[Mapping[str, str], str], Sequence[Published]]
"""Labels of a run, metric path -> what was printed of it, the figure to show first."""

PUBLICATIONS_KNOW = frozenset({"dataset", "arch", "method", "epochs"})
"""Labels by which printed figures are told apart."""

PUBLISHED_METHOD = "published"
"""Label that says what a published table calls the method: ``automix[grids]``; empty for nothing.
It is needed where rows differ in more than such tables do."""

MOST_CELLS = 100_000
"""Of a table; a label that is another in each run would make rows times columns of them."""


def tabulate(
    results: Sequence[RunResult],
    layout: Layout,
    *,
    title: str = "",
    source: str = "",
    statistic: str = DEFAULT_STATISTIC,
    figure_of: FigureOf | None = None,
    sort: str = "",
    notes: Sequence[str] = (),
) -> Table:
    """Lay out runs as a table.

    The best of a column has rank 1 and the next figure rank 2, as they are shown, so that equal
    figures share a rank. Reduced runs are ranked only where all of the column are reduced.

    Args:
        results: the runs, in the order that rows and columns come in.
        layout: what rows and columns are made of.
        title: of the table.
        source: where the published table stands.
        statistic: of which epochs the runs' ``clean.top1`` is.
        figure_of: gives what was printed of a run; None shows no printed figures.
        sort: title or metric of the column whose best comes first; empty keeps the order.
        notes: what to say below the table.

    Raises:
        UsageError: runs of one cell differ in more than their seed or one stands twice, or the
            column to sort by does not exist.
    """
    rows, places = _groups(results, layout.rows), _groups(results, layout.across)
    _check_cells(results, layout)
    cells = len(rows) * len(places) * len(layout.metrics)
    if cells > MOST_CELLS:
        raise UsageError(
            f"the table would have {cells} cells, at most {MOST_CELLS} are made",
            "choose other rows or columns",
            code="E-TABLE",
        )
    alone = len(layout.metrics) == 1
    columns = [
        _column(place, path, results, alone=alone) for place in places for path in layout.metrics
    ]
    told = figure_of if _published_can_tell(results, layout) else None
    made = [
        TableRow(
            title=_title(row),
            labels=row,
            cells=tuple(
                _cell(_sharing(results, {**row, **column.labels}), column, told)
                for column in columns
            ),
        )
        for row in rows
    ]
    made = _ranked(made, columns)
    if sort:
        made = _sorted(made, columns, sort)
    if figure_of is not None and told is None:
        notes = [*notes, "published figures are not told apart by " + ", ".join(layout.rows)]
    every = dict.fromkeys(note for result in results for note in result.notes)
    return Table(
        title=title or "Runs",
        source=source,
        heading=", ".join(layout.rows),
        columns=tuple(columns),
        rows=tuple(made),
        statistic=statistic,
        results=tuple(results),
        runs=len(results),
        complete=sum(result.complete for result in results),
        published=figure_of is not None,
        notes=(*notes, *every, *_unlike(results, columns)),
    )


def printed_figures(studies: Sequence[str] = ()) -> FigureOf:
    """Give what looks up printed figures, those of some studies first."""

    def look_up(labels: Mapping[str, str], path: str) -> list[Published]:
        method = labels.get(PUBLISHED_METHOD, labels.get("method", ""))
        epochs = labels.get("epochs", "")
        if not method or not epochs.isdecimal():
            return []
        return find_published(
            dataset=labels.get("dataset", ""),
            arch=labels.get("arch", ""),
            epochs=int(epochs),
            method=method,
            metric=path,
            studies=studies,
        )

    return look_up


def _published_can_tell(results: Sequence[RunResult], layout: Layout) -> bool:
    """Tell whether rows and columns differ in nothing that published tables do not name."""
    if all(PUBLISHED_METHOD in result.labels for result in results):
        return True
    return {*layout.rows, *layout.across} - {"seed"} <= PUBLICATIONS_KNOW


def _groups(results: Sequence[RunResult], keys: Sequence[str]) -> list[dict[str, str]]:
    """List the values that some labels take together, in the order of the runs."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for result in results:
        labels = {key: result.label(key) for key in keys}
        found.setdefault(tuple(labels.values()), labels)
    return list(found.values())


def _unlike(results: Sequence[RunResult], columns: Sequence[Column]) -> list[str]:
    """Say which columns hold numbers that were not measured alike."""
    told = []
    for column in columns:
        suite = column.metric.partition(".")[0]
        measured = [
            (one, one.params[name])
            for one in _sharing(results, column.labels)
            if (name := one.aliases.get(suite, suite)) in one.params and one.find(column.metric)
        ]
        for other, params in measured[1:]:
            first, usual = measured[0]
            difference = params_difference(usual, params)
            if difference:
                told.append(
                    f"{column.title} was not measured alike: {difference} "
                    f"({first.name}, {other.name})"
                )
                break
    return told


def _sharing(results: Sequence[RunResult], labels: Mapping[str, str]) -> list[RunResult]:
    return [
        result
        for result in results
        if all(result.label(key) == value for key, value in labels.items())
    ]


def _title(labels: Mapping[str, str]) -> str:
    first, *others = labels.items()
    said = [first[1]] + [
        value if key in PUBLICATIONS_KNOW or key in NAMES else f"{key} {value}"
        for key, value in others
        if value
    ]
    return ", ".join(said) or "-"


def _check_cells(results: Sequence[RunResult], layout: Layout) -> None:
    keys = (*layout.rows, *layout.across)
    for clash in clashes(results, keys):
        one, other = (side.label(clash.key) for side in (clash.one, clash.other))
        row = plain(", ".join(clash.one.label(key) for key in keys))
        if clash.key in NAMES:
            what = f"row {row} holds two runs of the same seed: {one} and {other}"
        else:
            what = (
                f"row {row} holds runs that differ in more than their seed: {clash.key} is "
                f"{one or 'not said'} and {other or 'not said'}"
            )
        raise UsageError(what, f"make rows of {', '.join((*keys, clash.key))}", code="E-TABLE")


def _column(
    labels: Mapping[str, str], path: str, results: Sequence[RunResult], *, alone: bool
) -> Column:
    found = [value for result in results if (value := result.find(path)) is not None]
    unit: Unit = found[0].unit if found else "score"
    direction: Direction = found[0].direction if found else "neither"
    place = " ".join(value for value in labels.values() if value)
    return Column(
        metric=path,
        labels=labels,
        title=(place if alone else f"{place}: {path}") if place else path,
        unit=unit,
        direction=direction,
    )


def _cell(results: Sequence[RunResult], column: Column, figure_of: FigureOf | None) -> Cell:
    taken: list[tuple[RunResult, Value]] = []
    seeds = []
    for result in results:
        value = result.find(column.metric) if result.complete else None
        if value is not None:
            taken.append((result, value))
        seeds.append(
            SeedValue(
                run=result.name,
                seed=result.seed,
                value=None if value is None else value.value,
                path=result.key_of(column.metric) or column.metric,
                reason="" if value is not None else result.why_missing(column.metric),
                report=(value.report if value else None) or result.run,
            )
        )
    cuts = (why for result, value in taken for why in (*result.reduced, *value.reduced))
    cell = Cell(seeds=tuple(seeds), reduced=tuple(dict.fromkeys(cuts)))
    if taken:
        values = [value.value for _, value in taken]
        found = mean_and_std(values)
        cell = replace(cell, mean=found.mean, std=found.std, interval=seed_interval(values))
    if figure_of is None or not results:
        return cell
    first = results[0]
    figures = figure_of(first.labels, column.metric)
    if not figures:  # a suite that several protocols ask for alike is published under its own name
        figures = figure_of(first.labels, first.key_of(column.metric) or column.metric)
    return _beside(cell, figures)


def _beside(cell: Cell, figures: Sequence[Published]) -> Cell:
    """Put a printed figure beside a cell, and the difference where the runs are whole."""
    if not figures:
        return cell
    first, *others = figures
    apart = tuple(one for one in others if one.value != first.value)
    cell = replace(cell, published=first, others=apart)
    # Of a source that does not say how long was trained, nobody knows what a difference means.
    if cell.mean is None or cell.reduced or first.epochs is None:
        return cell
    inside = None
    if cell.interval is not None:
        inside = cell.interval[0] <= first.fraction <= cell.interval[1]
    return replace(cell, difference=cell.mean - first.fraction, inside=inside)


def _ranked(rows: Sequence[TableRow], columns: Sequence[Column]) -> list[TableRow]:
    ranks = [_ranks([row.cells[at] for row in rows], column) for at, column in enumerate(columns)]
    return [
        replace(
            row,
            cells=tuple(replace(cell, rank=ranks[at][place]) for at, cell in enumerate(row.cells)),
        )
        for place, row in enumerate(rows)
    ]


def _ranks(cells: Sequence[Cell], column: Column) -> list[Literal[1, 2] | None]:
    whole = any(cell.mean is not None and not cell.reduced for cell in cells)
    # As they are shown: two equal figures of which one is bold would look like a mistake.
    figures = [
        None
        if cell.mean is None or (whole and cell.reduced)
        else float(show(cell.mean, column.unit))
        for cell in cells
    ]
    known = {figure for figure in figures if figure is not None}
    if column.direction == "neither" or sum(figure is not None for figure in figures) < 2:
        return [None] * len(cells)
    best, *others = sorted(known, reverse=column.direction == "higher")
    ranks: dict[float | None, Literal[1, 2]] = {best: 1}
    ranks |= {others[0]: 2} if others else {}
    return [ranks.get(figure) for figure in figures]


def _sorted(rows: Sequence[TableRow], columns: Sequence[Column], sort: str) -> list[TableRow]:
    at = next((i for i, one in enumerate(columns) if sort in (one.title, one.metric)), None)
    if at is None:
        known = dict.fromkeys(name for one in columns for name in (one.title, one.metric))
        hint = unknown_name("column", plain(sort), map(plain, known)).hint
        raise UsageError(f"there is no column {plain(sort)} to sort by", hint, code="E-TABLE")
    sign = 1 if columns[at].direction == "lower" else -1

    def key(row: TableRow) -> tuple[bool, float]:
        mean = row.cells[at].mean
        return mean is None, 0.0 if mean is None else sign * mean

    return sorted(rows, key=key)
