"""The table of a study: its runs as they stand, those that are not there as empty cells."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustmix.errors import IncompatibleError, IntakeError
from robustmix.studies.grid import StudyRun, study_runs
from robustmix.studies.layout import Layout
from robustmix.studies.measured import unmeasured
from robustmix.studies.results import RECIPE_FILE, RunResult, read_run
from robustmix.studies.run_state import evaluation_folder, read_state
from robustmix.studies.study import Study
from robustmix.studies.table import Table
from robustmix.studies.tabulate import PUBLISHED_METHOD, printed_figures, tabulate
from robustmix.studies.told import other_statistics


def study_table(
    study: Study, runs_folder: Path, *, published: bool = False, sort: str = ""
) -> Table:
    """Return the table of a study.

    Args:
        study: which runs, and what stands where.
        runs_folder: where the runs lie.
        published: whether printed figures stand beside ours.
        sort: title or metric of the column whose best comes first; empty keeps the study's order.
    """
    runs = study_runs(study)
    form, results = study.table, study_results(study, runs, runs_folder)
    noted = dict.fromkeys(_noted(run) for run in runs if run.note)
    return tabulate(
        results,
        Layout(rows=form.rows, across=form.across, metrics=form.columns),
        title=study.title or study.name,
        source=study.source,
        statistic=study.statistic,
        figure_of=printed_figures(study.published or (study.name,)) if published else None,
        sort=sort,
        notes=(*study.notes, *other_statistics(study, runs), *noted, *unmeasured(study, results)),
    )


def _noted(run: StudyRun) -> str:
    return f"{run.labels.get('method', '')}: {run.note}"


def study_results(study: Study, runs: Sequence[StudyRun], folder: Path) -> list[RunResult]:
    """Return every run of a study as a table takes it."""
    return [_result(study, run, folder / run.name) for run in runs]


def _result(study: Study, run: StudyRun, folder: Path) -> RunResult:
    # The study's own words alone: what else recipes differ in, its rows and columns stand for.
    labels = {**run.labels, "epochs": str(run.epochs), PUBLISHED_METHOD: run.published_as}
    labels["run"] = run.name
    state = read_state(folder, run.recipe, study.evaluate)
    absent = RunResult(
        labels=labels,
        seed=run.seed,
        run=folder,
        complete=False,
        reduced=run.reduced,
        why=state.failure.error if state.failure is not None else f"{state.stage}: no such run yet",
    )
    if not (folder / RECIPE_FILE).is_file():
        return absent
    asked = study.evaluate
    reports = [] if asked is None else [evaluation_folder(folder, asked) / "report.json"]
    try:
        found = read_run(folder, run.statistic, labels=labels, reports=reports)
    except (IntakeError, IncompatibleError) as error:
        return replace(absent, why=error.message)
    why = state.failure.error if state.failure is not None else found.why
    if asked is not None and asked.limit is not None:
        found = _with_numbers_of_parts(found, study.table.columns)
    cuts = tuple(dict.fromkeys((*run.reduced, *found.reduced)))
    return replace(found, labels=labels, reduced=cuts, why=why)


def _with_numbers_of_parts(found: RunResult, columns: Sequence[str]) -> RunResult:
    """Let a column show the number of a part of the images where a reduced study has that alone.

    Reports name means over fewer images otherwise (``acc_mean_all19_subset``), so that nobody takes
    one for the other; here the table says that it is reduced.
    """
    parts = {
        column: value
        for column in columns
        if found.find(column) is None and (value := found.find(f"{column}_subset")) is not None
    }
    return replace(found, values={**found.values, **parts})
