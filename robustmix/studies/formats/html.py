"""A table as a page: sortable, with pictures of its runs and links to their reports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from robustmix.comparison.formatting import show, show_p
from robustmix.pages.elements import Cell as PageCell
from robustmix.pages.elements import Grid, Head, Line, Section, heads_of
from robustmix.pages.page import page_of
from robustmix.pages.run_curves import pictures_of_runs
from robustmix.report.report import REPORT_FILE
from robustmix.report.text import plain
from robustmix.studies.curves import curves_of
from robustmix.studies.formats import words
from robustmix.studies.table import Cell, Column, SeedValue, Table, TableRow

LONG = 1000
MOST_LINES = 24
"""Longer lists are shown on demand."""
RANKS: dict[int | None, Literal["", "best", "second"]] = {1: "best", 2: "second", None: ""}


def text(table: Table, base: Path) -> str:
    """Write the page; it asks nothing of the network, and all that is a stranger's is escaped."""
    reduced = words.reduced_words(table)
    below = (
        "Best in bold, second underlined; the heads sort." if table.ranked else "The heads sort."
    )
    if any(cell.published for row in table.rows for cell in row.cells):
        below += " ? behind a published figure: sources differ or it is in doubt, see below."
    told = [words.caption(table), below, *table.notes]
    sections = [
        Section(
            id="table",
            title="Table" + (" (reduced)" if reduced else ""),
            callouts=[plain(one, LONG) for one in (reduced, words.progress_words(table)) if one],
            text=[plain(one, LONG) for one in told],
            tables=[_main(table)],
        ),
        *_pictures(table),
        Section(id="runs", title="Runs", tables=[_runs(table, base)]),
        *_published(table),
    ]
    return page_of(
        sections,
        title=plain(table.title) + (" (reduced)" if reduced else ""),
        subtitle=plain(table.source, LONG) or f"{len(table.rows)} rows, {table.runs} runs",
        footer="Fractions are shown in percent, differences in points.",
    )


def _heads(table: Table) -> list[Head]:
    return [
        Head(text=plain(f"{column.title} {words.arrow(column)}".strip()), number=True)
        for column in table.columns
    ]


def _main(table: Table) -> Grid:
    return Grid(
        caption=plain(table.title),
        heads=[*heads_of(plain(table.heading)), *_heads(table)],
        rows=[
            [
                PageCell(text=plain(row.title)),
                *(_cell(*pair, table) for pair in zip(row.cells, table.columns, strict=True)),
            ]
            for row in table.rows
        ],
        sortable=True,
        narrow=True,
    )


def _cell(cell: Cell, column: Column, table: Table) -> PageCell:
    figure = words.shown(cell, column.unit)
    if figure:
        figure += words.count(cell, table) + words.marks(cell, table)
    below = []
    if cell.published is not None:
        change = words.change(cell, column.unit)
        doubt = "?" if cell.published.doubtful or cell.others else ""
        inside = "*" if cell.inside else ""
        beside = f"{cell.published.printed}{doubt} {change}".strip()
        below.append(f"[{beside}{inside}]")
    if cell.p is not None:
        below.append(f"p {show_p(cell.p)}")
    if words.missing_words(cell):
        below.append(words.missing_words(cell))
    return PageCell(
        text=figure,
        kind="number",
        stress=RANKS[cell.rank],
        below=[Line(text=plain(one, LONG)) for one in below],
        key="" if cell.mean is None else cell.mean,
    )


def _pictures(table: Table) -> list[Section]:
    pictures = pictures_of_runs(curves_of(table), key="run")
    return [Section(id="pictures", title="Pictures", pictures=pictures)] if pictures else []


def _runs(table: Table, base: Path) -> Grid:
    numbers = ["seed", *(head.text for head in _heads(table))]
    lines = [line for row in table.rows for line in _lines_of_row(table, row, base)]
    return Grid(
        caption="Every run, with links to its reports",
        heads=heads_of(plain(table.heading), "run", *numbers, numbers=numbers),
        rows=lines,
        sortable=True,
        narrow=True,
        folded=len(lines) > MOST_LINES,
    )


def _lines_of_row(table: Table, row: TableRow, base: Path) -> Iterator[list[PageCell]]:
    """Yield a line for each run of a row, with its number in each column."""
    runs = dict.fromkeys((one.run, one.seed) for cell in row.cells for one in cell.seeds)
    for run, seed in runs:
        own = [
            next((one for one in cell.seeds if (one.run, one.seed) == (run, seed)), None)
            for cell in row.cells
        ]
        links = dict.fromkeys(one.report for one in own if one is not None)
        below = [_link(path, base) for path in links if path is not None and path.exists()]
        reasons = {None if one is None else one.reason for one in own}
        if len(own) > 1 and len(reasons) == 1 and (why := reasons.pop()):
            # Of a run that has nothing to show it is said once why.
            below.append(Line(text=plain(why, LONG)))
            own = [None] * len(own)
        yield [
            PageCell(text=plain(row.title)),
            PageCell(text=plain(run), below=below),
            PageCell(
                text="" if seed is None else str(seed),
                kind="number",
                key="" if seed is None else seed,
            ),
            *(_value(*pair) for pair in zip(own, table.columns, strict=True)),
        ]


def _link(path: Path, base: Path) -> Line:
    address = words.link(path, base)
    short = "/".join(path.parts[-3:]) if path.name == REPORT_FILE else "its folder"
    # Quoted, so that no name of a folder can be an address of another kind.
    return Line(text=plain(short), href=quote(address))


def _value(one: SeedValue | None, column: Column) -> PageCell:
    if one is None or one.value is None:
        reason = [] if one is None else [Line(text=plain(one.reason, LONG))]
        return PageCell(text="", kind="number", key="", below=reason)
    return PageCell(text=show(one.value, column.unit), kind="number", key=one.value)


def _published(table: Table) -> list[Section]:
    rows = [
        [
            PageCell(text=plain(row.title)),
            PageCell(text=plain(column.title)),
            PageCell(text=figure.printed, kind="number", key=figure.value),
            PageCell(text=f"{figure.study}, {figure.table}"),
            PageCell(text=figure.stat),
            PageCell(text=figure.source),
            PageCell(text=plain(figure.note, LONG), kind="note"),
        ]
        for row in table.rows
        for cell, column in zip(row.cells, table.columns, strict=True)
        for figure in ((cell.published, *cell.others) if cell.published else ())
    ]
    if not rows:
        return []
    heads = heads_of(
        *(plain(table.heading), "column", "figure", "table", "statistic", "source", "note"),
        numbers=["figure"],
    )
    grid = Grid(
        caption="Published figures, those shown first, then what other sources print",
        heads=heads,
        rows=rows,
        sortable=True,
        folded=len(rows) > MOST_LINES,
    )
    return [Section(id="published", title="Published figures", tables=[grid])]
