"""Tables of ``robustmix study``: which there are, what a study is, and where its runs stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from robustmix.progress import show_duration

if TYPE_CHECKING:  # recipes and their checks take a third of the program's start
    from robustmix.studies.grid import StudyRun
    from robustmix.studies.run_state import RunState


def state_table(
    runs: Sequence[tuple[StudyRun, RunState]], jobs: Mapping[str, str] | None = None
) -> Table:
    """Return where runs stand, a row each.

    Args:
        runs: with their states.
        jobs: Slurm's word for those of their jobs that it still has, by the run's name.
    """
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    table.add_column("seed", justify="right")
    table.add_column("state")
    table.add_column("epoch", justify="right")
    table.add_column("left", justify="right")
    if jobs:
        table.add_column("job")
    for run, state in runs:
        left = "" if state.left_s is None else show_duration(state.left_s)
        told = " ".join(run.labels.values())
        cells = [told, str(run.seed), state.stage, f"{state.epoch}/{state.epochs}", left]
        table.add_row(*cells, *([jobs.get(run.name, "").lower()] if jobs else []))
    return table


def counted(states: Sequence[RunState]) -> str:
    """Return how many runs are in which state, in words."""
    counts = Counter(state.stage for state in states)
    return ", ".join(f"{count} {stage}" for stage, count in counts.items()) or "no runs"


def failures(runs: Sequence[tuple[StudyRun, RunState]]) -> list[str]:
    """Return a line for each run that failed, with its error line."""
    return [
        f"{run.told}: {state.failure.command} said {state.failure.error}"
        for run, state in runs
        if state.failure is not None
    ]


def amount(value: float | None, digits: int = 3) -> str:
    """Return a large number as people write it: ``12.3M``; ``?`` for None.

    Example:
        >>> amount(1234567), amount(999), amount(None), amount(4.2e9)
        ('1.23M', '999', '?', '4.2G')
    """
    if value is None:
        return "?"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def hours(value: float | None) -> str:
    """Return GPU hours as people write them.

    Example:
        >>> hours(0.004), hours(0.12), hours(12.34), hours(1376.2), hours(None)
        ('<0.01', '0.12', '12', '1,376', '?')
    """
    if value is None:
        return "?"
    if value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
