"""A table of runs as a sheet, which Markdown and LaTeX are written from."""

from typing import Literal

from robustmix.report.sheet import Sheet, Span, Stress
from robustmix.studies.formats import words
from robustmix.studies.table import Cell, Column, Table

RANKS: dict[int | None, Stress] = {1: "best", 2: "second", None: ""}


def as_sheet(table: Table, *, second: Literal["italics", "underlined"]) -> Sheet:
    """Lay a table out; ``second`` says how the format sets the second of a column."""
    reduced = words.reduced_words(table)
    bold: Stress = "bold" if second == "italics" else ""  # a caption of LaTeX's is not bold
    marked = [Span(" ("), Span("reduced", "bold"), Span(")")] if reduced else []
    said = [words.caption(table)]
    said += [f"Best in bold, second {'in ' * (second == 'italics')}{second}."] * table.ranked
    said += [f"{one[0].upper()}{one[1:]}." for one in (reduced, words.progress_words(table)) if one]
    return Sheet(
        title=[Span(table.title, bold), *marked],
        heads=[table.heading, *(f"{c.title} {words.arrow(c)}".strip() for c in table.columns)],
        rows=[
            [row.title, *(_cell(*p, table) for p in zip(row.cells, table.columns, strict=True))]
            for row in table.rows
        ],
        numbers=range(1, len(table.columns) + 1),
        caption=said,
        notes=table.notes,
    )


def _cell(cell: Cell, column: Column, table: Table) -> list[Span]:
    spans = []
    if cell.mean is not None:
        figure, between, spread = words.shown(cell, column.unit).partition(" ± ")
        # Only the mean stands out: it is what is the best.
        spans = [Span(figure, RANKS[cell.rank]), Span(between + spread, "small")]
        spans.append(Span(words.count(cell, table) + words.marks(cell, table)))
    if cell.published is not None:
        beside = f"{cell.published.printed} {words.change(cell, column.unit)}".strip()
        spans.append(Span(f" [{beside}{'*' if cell.inside else ''}]", "small"))
    return spans
