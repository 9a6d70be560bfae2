"""A table of runs as data: what every format shows, and nothing of how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robustmix.metrics.metric import Direction, Unit
from robustmix.studies.published import Published
from robustmix.studies.results import RunResult

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of numbers."""

    metric: str
    """Metric path."""

    labels: Mapping[str, str]
    """What its runs have in common, where columns are made of labels; else empty."""

    title: str
    unit: Unit
    """``score`` where no run has the number."""

    direction: Direction


@dataclass(frozen=True, kw_only=True)
class SeedValue:
    """What one run says of a cell."""

    run: str
    """Its name."""

    seed: int | None
    value: float | None
    """None with a reason."""

    path: str = ""
    """By which its report has the number."""

    reason: str = ""
    report: Path | None = None
    """Where the number stands, or else the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The runs of one row and column. Without a value it is empty, and ``reasons`` say why."""

    seeds: tuple[SeedValue, ...] = ()
    mean: float | None = None
    std: float | None = None
    """Sample standard deviation over runs; None of one run."""

    interval: tuple[float, float] | None = None
    """95 % interval of the mean over seeds, of two runs or more."""

    rank: Literal[1, 2] | None = None
    """1 for the best of the column, 2 for the second; equal figures share a rank."""

    published: Published | None = None
    """The printed figure, where one was asked for and there is one."""

    others: tuple[Published, ...] = ()
    """What other sources print for the same run, where that is another figure."""

    difference: float | None = None
    """Mean minus printed figure, in the unit; only of whole runs."""

    inside: bool | None = None
    """Whether the printed figure lies in the interval; None where there is no interval."""

    reduced: tuple[str, ...] = ()
    """Why the runs are less than the published ones; empty for whole runs."""

    tied: bool | None = None
    """Whether a paired test shows no difference to the best of the column; None: not tested."""

    p: float | None = None
    """Of that test, adjusted for all of the table."""

    tested: str = ""
    """What the test says, or why there is none."""

    @property
    def n(self) -> int:
        """How many runs the mean is of."""
        return sum(one.value is not None for one in self.seeds)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why runs have no value here, each reason once."""
        if not self.seeds:
            return ("no run",)
        told = (one.reason for one in self.seeds if one.value is None)
        return tuple(dict.fromkeys(told))


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row: its name and a cell for each column."""

    title: str
    labels: Mapping[str, str]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of runs, columns of numbers."""

    title: str
    source: str = ""
    """Where the published table stands, e.g. ``Qin et al. 2024``."""

    heading: str
    """What the rows are: ``method``."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    statistic: str
    """Of which epochs clean accuracy is."""

    runs: int
    complete: int
    """How many of the runs came to their end."""

    published: bool = False
    """Whether printed figures were asked for."""

    tested: str = ""
    """How differences to the best were tested; empty: they were not."""

    notes: tuple[str, ...] = ()
    results: tuple[RunResult, ...] = field(default=(), repr=False)
    """The runs that it was made of."""

    def to_frame(self) -> "pd.DataFrame":
        """Tabulate the cells: row, column, mean, std, n, unit, rank, published and difference."""
        import pandas as pd

        return pd.DataFrame([
            {
                self.heading: row.title,
                "column": column.title,
                "metric": column.metric,
                "mean": cell.mean,
                "std": cell.std,
                "n": cell.n,
                "unit": column.unit,
                "rank": cell.rank,
                "published": None if cell.published is None else cell.published.value,
                "difference": cell.difference,
            }
            for row in self.rows
            for column, cell in zip(self.columns, row.cells, strict=True)
        ])  # fmt: skip

    @property
    def reduced(self) -> tuple[str, ...]:
        """Why runs of the table are less than published ones, each reason once."""
        every = (why for row in self.rows for cell in row.cells for why in cell.reduced)
        return tuple(dict.fromkeys(every))

    @property
    def ranked(self) -> bool:
        """Whether any figure is called best."""
        return any(cell.rank == 1 for row in self.rows for cell in row.cells)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The numbers of runs that cells are of, rising."""
        return tuple(sorted({cell.n for row in self.rows for cell in row.cells if cell.n}))
