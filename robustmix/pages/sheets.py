"""Every table of a page as a sheet, to be written as Markdown, LaTeX or CSV."""

import re
from collections.abc import Iterator, Sequence

from robustmix.errors import unknown_name
from robustmix.pages.elements import Cell, Grid, Section
from robustmix.pages.one_report import sections
from robustmix.pages.picture import of_our_form
from robustmix.pages.several_reports import compared, told_apart
from robustmix.report.report import Report
from robustmix.report.sheet import Sheet, Shown, Span

SORTED = "; the heads sort"
"""What only a page's captions say."""


def sheets_of(reports: Sequence[Report]) -> dict[str, Sheet]:
    """Give the tables of the page of one or several reports, in its order, by their names.

    A name is that of the section, and of its second table and those after it a number more:
    ``calibration``, ``calibration-2``.

    Raises:
        IntakeError: a table of a report is of another form than robustmix writes.
    """
    reports = told_apart(reports)
    with of_our_form():
        one = len(reports) == 1
        parts = sections(reports[0], drawn=False) if one else compared(reports, drawn=False)
    return dict(_named(parts))


def chosen(sheets: dict[str, Sheet], names: Sequence[str]) -> list[Sheet]:
    """Choose tables by their names, all where none is said.

    Raises:
        UsageError: there is no such table.
    """
    for name in names:
        if name not in sheets:
            raise unknown_name("table", name, sheets)
    return [sheets[name] for name in names or sheets]


def _named(parts: Sequence[Section]) -> Iterator[tuple[str, Sheet]]:
    taken: dict[str, int] = {}
    for part in parts:
        slug = re.sub(r"[^a-z0-9@.]+", "-", part.title.lower()).strip("-") or part.id
        for table in part.tables:
            taken[slug] = count = taken.get(slug, 0) + 1
            yield (slug if count == 1 else f"{slug}-{count}"), sheet_of(table)


def sheet_of(table: Grid) -> Sheet:
    """Give a table of a page without what a page alone can do with it."""
    return Sheet(
        title=table.caption.removesuffix(SORTED),
        heads=[head.text for head in table.heads],
        numbers=[at for at, head in enumerate(table.heads) if head.number],
        rows=[[_cell(cell) for cell in row] for row in table.rows],
    )


def _cell(cell: Cell) -> Shown:
    below = [Span(f" {line.text}", "small") for line in cell.below]
    return [Span(cell.text, cell.stress), *below] if below or cell.stress else cell.text
