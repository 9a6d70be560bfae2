"""What is drawn of a table's runs: accuracy over epochs, and the curves of their reports."""

from pathlib import Path

from robustmix.pages.run_curves import Curve, CurveKey, RowCurves, curves_in
from robustmix.report.report import Report
from robustmix.studies.official_curves import official_curve
from robustmix.studies.results import RunResult
from robustmix.studies.statistics import read_epochs
from robustmix.studies.table import Table

PLACE = ("dataset", "arch")
"""Labels that choose the panel."""


def curves_of(table: Table) -> list[RowCurves]:
    """Collect the curves of a table's runs, row by row and panel by panel.

    Runs that did not come to their end are drawn as far as they are.

    Raises:
        IntakeError: a report or log was damaged since the table was made.
    """
    several = len({_place(result) for result in table.results}) > 1
    found = []
    for at, row in enumerate(table.rows):
        own = [
            result
            for result in table.results
            if all(result.label(key) == value for key, value in row.labels.items())
        ]
        for place in dict.fromkeys(map(_place, own)):
            here = [result for result in own if _place(result) == place]
            found.append(
                RowCurves(
                    label=row.title,
                    row=at,
                    panel=" ".join(filter(None, place)) if several else "",
                    runs=[_curves(result) for result in here],
                    published=_released(here[0]),
                )
            )
    return found


def _place(result: RunResult) -> tuple[str, ...]:
    return tuple(result.label(key) for key in PLACE)


def _curves(result: RunResult) -> dict[CurveKey, Curve]:
    found: dict[CurveKey, Curve] = {}
    for path in result.reports:
        for key, curve in curves_in(Report.load(path, samples=False)).items():
            found.setdefault(key, curve)
    if result.run is not None and (log := Path(result.run) / "metrics.jsonl").is_file():
        records = read_epochs(log)
        if records:
            x = [float(record["epoch"]) for record in records]
            y = [float(record["top1"]) for record in records]
            found[CurveKey("epochs")] = Curve(x, y, y, y)
    return found


def _released(result: RunResult) -> list[tuple[float, float]]:
    """Give the released log of a run, unless the run is a reduced one."""
    if result.reduced:
        return []
    curve = official_curve(
        **{key: result.label(key) for key in ("dataset", "arch", "method", "epochs")}
    )
    return [(float(point.epoch), point.top1) for point in curve]
