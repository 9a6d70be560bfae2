"""What a page is made of: sections of text, tables and pictures, ready to be shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from robustmix.pages.picture import Key
from robustmix.pages.svg import InlineSvg


@dataclass(frozen=True, kw_only=True)
class Line:
    """A smaller line in a cell."""

    text: str
    href: str = ""
    """Address that it leads to, if to one; relative to the page."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table."""

    text: str
    kind: str = ""
    """CSS classes: ``number``, ``note``, ``better``, ..."""

    stress: Literal["", "best", "second"] = ""
    """How the text stands out."""

    below: Sequence[Line] = ()
    """Smaller lines below the text."""

    key: float | str | None = None
    """What sorting goes by, where that is not the text; ``""`` sorts last."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The head of a column."""

    text: str
    number: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table; the first cell of a row names it."""

    caption: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
    narrow: bool = False
    """Whether long heads are broken, so that more columns stand side by side."""

    folded: bool = False
    """Whether it is shown on demand only; in print always."""

    @property
    def wide(self) -> bool:
        """Whether its rows have no room side by side on a telephone, and become cards there."""
        notes = any(cell.kind == "note" for row in self.rows for cell in row)
        return len(self.heads) > (2 if notes else 3 if self.narrow else 4)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawing, and what it shows in words."""

    title: str
    alt: str
    panels: Sequence[InlineSvg]

    columns: int = 3
    """Most panels that are set side by side."""

    @property
    def keys(self) -> Sequence[Key]:
        """What the legends of all panels say; empty where they differ."""
        known = [panel.keys for panel in self.panels if panel.keys]
        return known[0] if known and all(list(one) == list(known[0]) for one in known) else ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and values."""

    title: str = ""
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading."""

    id: str
    title: str
    callouts: Sequence[str] = ()
    text: Sequence[str] = ()
    tables: Sequence[Grid] = ()
    pictures: Sequence[Picture] = ()
    facts: Sequence[Facts] = field(default=())


def heads_of(*names: str, numbers: Sequence[str] = ()) -> list[Head]:
    """Make the heads of columns; those of ``numbers`` are set to the right."""
    return [Head(text=name, number=name in numbers) for name in names]
