"""A table as Markdown: best in bold, second in italics."""

from pathlib import Path

from robustmix.report.text import markdown
from robustmix.studies.formats import words
from robustmix.studies.table import Cell, Column, Table


def text(table: Table, base: Path) -> str:
    """Write the table; what is a stranger's is escaped."""
    reduced = words.reduced_words(table)
    heads = [markdown(table.heading), *(_head(column) for column in table.columns)]
    lines = [f"**{markdown(table.title)}**" + (" (**reduced**)" if reduced else ""), ""]
    lines += [_line(heads), _line(["---", *["--:"] * len(table.columns)])]
    for row in table.rows:
        cells = zip(row.cells, table.columns, strict=True)
        lines.append(_line([markdown(row.title), *(_cell(*pair, table) for pair in cells)]))
    below = [words.caption(table), "Best in bold, second in italics." if table.ranked else ""]
    below += [reduced, words.progress_words(table), *table.notes]
    lines += ["", *(f"- {markdown(said, 1000)}" for said in below if said)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(column: Column) -> str:
    return f"{markdown(column.title)} {words.arrow(column)}".strip()


def _cell(cell: Cell, column: Column, table: Table) -> str:
    figure = words.shown(cell, column.unit)
    if figure:
        stress = {1: "**", 2: "*", None: ""}[cell.rank]
        figure = stress + figure + stress + words.count(cell, table)
        figure += markdown(words.marks(cell, table))
    if cell.published is not None:
        inside = "&#42;" if cell.inside else ""
        beside = f"{cell.published.printed} {words.change(cell, column.unit)}".strip()
        figure += f" [{markdown(beside)}{inside}]"
    return figure.strip()
