"""A table for the terminal: 80 columns are enough, wider tables continue below."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from robustmix.report.text import folded, plain
from robustmix.studies.formats import words
from robustmix.studies.table import Cell, Column, Table

WIDTH = 80
LONGEST_NAME = 28
"""Columns that the name of a row takes at most; a longer one is folded."""

LEAST = 12
"""Columns that the head of a column may always take."""


def text(table: Table, base: Path) -> str:
    """Write the table without colours."""
    console = Console(
        file=io.StringIO(),
        width=WIDTH,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    for part in parts(table, WIDTH):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def parts(table: Table, width: int = WIDTH) -> Iterator[RichTable | Text]:
    """Yield what a console prints: the title, the columns in as many pieces as they need, notes."""
    reduced = words.reduced_words(table)
    yield Text(plain(table.title) + (" (reduced)" if reduced else ""), style="bold")
    name = min(LONGEST_NAME, max(map(cell_len, [table.heading, *(r.title for r in table.rows)])))
    for chosen in _pieces(table, width - name - 2):
        yield _piece(table, chosen, name)
    below = [words.caption(table), "¹ best, ² second of a column." if table.ranked else ""]
    below += [reduced, words.progress_words(table), *table.notes]
    yield from (Text(plain(said, 1000)) for said in below if said)


def _pieces(table: Table, room: int) -> Iterator[list[int]]:
    """Yield the numbers of the columns that stand side by side."""
    piece: list[int] = []
    taken = 0
    for at in range(len(table.columns)):
        needed = _width(table, at) + 2
        if piece and taken + needed > room:
            yield piece
            piece, taken = [], 0
        piece.append(at)
        taken += needed
    yield piece


def _width(table: Table, at: int) -> int:
    column = table.columns[at]
    lines = [line for row in table.rows for line in _lines(row.cells[at], column, table)]
    most = max([LEAST, *map(cell_len, lines)])
    return max(most, *(cell_len(line) for line in folded(_head(column), most)))


def _head(column: Column) -> str:
    return plain(f"{column.title} {words.arrow(column)}".strip(), 120)


def _piece(table: Table, chosen: Sequence[int], name: int) -> RichTable:
    piece = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    piece.add_column(plain(table.heading), width=name, overflow="fold")
    for at in chosen:
        width = _width(table, at)
        head = "\n".join(folded(_head(table.columns[at]), width))
        piece.add_column(head, justify="right", width=width, no_wrap=True, vertical="top")
    for row in table.rows:
        cells = (_text(row.cells[at], table.columns[at], table) for at in chosen)
        piece.add_row(Text(plain(row.title)), *cells)
    return piece


def _text(cell: Cell, column: Column, table: Table) -> Text:
    first, *others = _lines(cell, column, table) or [""]
    style = {1: "bold", 2: "underline", None: ""}[cell.rank]
    return Text("\n").join([Text(first, style=style), *map(Text, others)])


def _lines(cell: Cell, column: Column, table: Table) -> list[str]:
    """Write our figure, and below it the printed one with the difference."""
    figure = words.shown(cell, column.unit).replace(" ± ", "±")
    if figure:
        figure += {1: "¹", 2: "²", None: " "}[cell.rank]
        figure += words.count(cell, table) + words.marks(cell, table)
    lines = [figure]
    if cell.published is not None:
        beside = f"{cell.published.printed} {words.change(cell, column.unit)}".strip()
        lines.append(f"[{beside}{'*' if cell.inside else ''}]")
    return lines
