"""Runs and reports side by side: what ``robustmix table`` and ``robustmix.table`` do."""

from collections.abc import Sequence
from pathlib import Path

from robustmix.comparison.measure import Watch, unwatched
from robustmix.errors import UsageError
from robustmix.studies.layout import layout_of, refuse_misnamed
from robustmix.studies.results import DEFAULT_STATISTIC, read_results
from robustmix.studies.table import Table
from robustmix.studies.tabulate import printed_figures, tabulate


def table(
    *places: Path | str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    sort: str = "",
    published: bool = False,
    statistic: str | None = None,
    significance: bool = False,
    title: str = "Runs",
    watch: Watch = unwatched,
) -> Table:
    """Put runs and reports side by side: mean and spread over seeds.

    A run folder's clean.top1 is a statistic of its epochs; all other numbers, and those of lone
    reports, are of the evaluated checkpoints.

    Args:
        places: run folders, report files, or folders that hold some.
        rows: what tells rows apart: recipe keys and ``run``, ``name``, ``model``; by default the
            method, and what else runs differ in.
        columns: metrics such as ``clean.top1``; recipe keys among them, such as ``dataset``, make
            a column of each value. By default one metric a suite.
        sort: the column whose best comes first.
        published: show what papers print of the same runs.
        statistic: which epochs a run's clean.top1 is of; ``median-last10`` by default.
        significance: mark figures that no test tells from the best.
        title: what the table is called.
        watch: is told how far the tests are.

    Raises:
        UsageError: a name is invalid, or an option does nothing here.
        IntakeError: a place holds no run and no report.
    """
    used = DEFAULT_STATISTIC if statistic is None else statistic
    found = read_results(places, used)
    if statistic is not None and not any(result.statistic for result in found.results):
        raise UsageError(
            "--statistic is of the epochs of run folders, of which there are none",
            "leave it out: the clean.top1 of a report is that of its checkpoint",
            code="E-UNUSED-OPTION",
        )
    layout = layout_of(found.results, rows=list(rows), columns=list(columns))
    refuse_misnamed(found.results, layout)
    made = tabulate(
        found.results,
        layout,
        title=title,
        statistic=used,
        figure_of=printed_figures() if published else None,
        sort=sort,
        notes=found.notes,
    )
    if significance:
        from robustmix.studies.significance import with_significance  # imports the comparisons

        made = with_significance(made, watch=watch)
    return made
