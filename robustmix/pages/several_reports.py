"""What the page says of several reports: models side by side, and each against the first."""

import re
from collections import Counter
from collections.abc import Sequence

from robustmix.comparison.compare import compare
from robustmix.comparison.document import ComparisonDocument, MetricRow, VerdictRow
from robustmix.comparison.formatting import show, show_change, show_p, show_range
from robustmix.comparison.tables import comparison_notes
from robustmix.comparison.verdicts import alike, subject
from robustmix.errors import RobustmixError
from robustmix.pages.drawings import pictures_of
from robustmix.pages.elements import Cell, Grid, Head, Section, heads_of
from robustmix.pages.one_report import facts_of, verdict_cell
from robustmix.report.report import Report
from robustmix.report.schema import ReportModel, SuitePart
from robustmix.report.terminal import show_value
from robustmix.report.text import plain

COLOURED = ("better", "worse", "inconclusive")
"""Verdicts on a difference that have a colour."""

NUMBERS = ("Δ", "interval of Δ", "p", "MDD")
"""Heads of what stands beside the values of two reports, whose heads are their names."""

NAME_LENGTH = 80
"""Most characters of a run's name that are shown."""

_SIDE = re.compile(r"\bin ([AB])(?=$|,| and | only$)")

UNITS = {"fraction": " %", "percent": " %"}


def told_apart(reports: Sequence[Report]) -> list[Report]:
    """Give reports whose names have room on a page and tell them apart."""
    names = [plain(report.content.run.name, NAME_LENGTH) for report in reports]
    counts = Counter(names)
    found = []
    for place, (report, name) in enumerate(zip(reports, names, strict=True)):
        nth = 1 + names[:place].count(name)
        shown = f"{name} ({nth})" if counts[name] > 1 else name
        run = report.content.run.model_copy(update={"name": shown})
        found.append(Report(report.content.model_copy(update={"run": run}), report.samples))
    return found


def compared(
    reports: Sequence[Report], comparison: ComparisonDocument | None = None, *, drawn: bool = True
) -> list[Section]:
    """Make the sections of a page on several reports; the first is what others are held to.

    Args:
        reports: two or more.
        comparison: of the first with each of the others; made here if it is not known.
        drawn: with their pictures.
    """
    contents = [report.content for report in reports]
    facts = [fact for content in contents for fact in facts_of(content, named=True)]
    return [
        _models(contents),
        *_pairs(reports, comparison),
        *(_curves(reports) if drawn else []),
        Section(id="provenance", title="Provenance", facts=facts),
    ]


def _models(contents: Sequence[ReportModel]) -> Section:
    numbers = _leading_numbers(contents)
    titles = list(dict.fromkeys(title for content in contents for title in _verdicts(content)))
    rows = [
        [
            Cell(text=plain(content.run.name)),
            *(_number(content, suite, path) for suite, path in numbers.items()),
            *(_verdicts(content).get(title, Cell(text="-", kind="number")) for title in titles),
        ]
        for content in contents
    ]
    heads = [
        *heads_of("model"),
        *(Head(text=f"{suite}.{plain(path)}", number=True) for suite, path in numbers.items()),
        *heads_of(*titles, numbers=titles),
    ]
    table = Grid(
        caption="Models side by side; the heads sort",
        heads=heads,
        rows=rows,
        sortable=True,
        narrow=True,
    )
    return Section(id="models", title="Models", tables=[table])


def _parts(content: ReportModel) -> dict[str, SuitePart]:
    return {key: part for key, part in content.ordered_suites().items() if part.status == "ok"}


def _leading_numbers(contents: Sequence[ReportModel]) -> dict[str, str]:
    """Choose the number that stands for each suite: the first of those that are compared."""
    found: dict[str, str] = {}
    for content in contents:
        for suite, part in _parts(content).items():
            paths = [*part.shown.compared, *part.shown.gated]
            known = [path for path in paths if part.number(path) is not None]
            if known:
                found.setdefault(suite, known[0])
    return found


def _number(content: ReportModel, suite: str, path: str) -> Cell:
    part = content.suites.get(suite)
    metric = None if part is None else part.number(path)
    if metric is None or metric.value is None:
        return Cell(text="-", kind="number", key="")
    return Cell(text=show_value(metric), kind="number", key=metric.value)


def _verdicts(content: ReportModel) -> dict[str, Cell]:
    """Give the verdicts by their titles; one that several suites bear is told by the first."""
    found: dict[str, Cell] = {}
    for part in _parts(content).values():
        for verdict in part.verdicts:
            found.setdefault(plain(verdict.title), verdict_cell(verdict))
    return found


def _pairs(reports: Sequence[Report], comparison: ComparisonDocument | None) -> list[Section]:
    found = []
    for number, other in enumerate(reports[1:], start=1):
        names = [plain(report.content.run.name) for report in (reports[0], other)]
        title, key = f"{names[1]} against {names[0]}", f"pair-{number}"
        try:
            if comparison is None:
                document = compare(reports[0], other)
            else:
                one = comparison.comparisons[number - 1]
                document = comparison.model_copy(update={"comparisons": [one]})
        except RobustmixError as error:
            found.append(Section(id=key, title=title, callouts=[f"Not compared: {error.line()}"]))
            continue
        text = [_by_names(note, names) for note in comparison_notes(document)]
        tables = [_pair_table(document, title, names)]
        found.append(Section(id=key, title=title, text=text, tables=tables))
    return found


def _by_names(note: str, names: Sequence[str]) -> str:
    """Call the sides of a comparison by their names; a document of its own has A and B."""
    return _SIDE.sub(lambda found: f"in {names['AB'.index(found[1])]}", note)


def _pair_table(document: ComparisonDocument, title: str, names: Sequence[str]) -> Grid:
    numbers = [*names, *NUMBERS]
    return Grid(
        caption=f"{title}: differences, with 95 % intervals",
        heads=heads_of("metric", *numbers, "verdict", numbers=numbers),
        narrow=True,
        rows=[
            *(_pair_row(row) for one in document.comparisons for row in one.metrics),
            *(_verdict_row(rows) for one in document.comparisons for rows in alike(one.verdicts)),
        ],
    )


def _pair_row(row: MetricRow) -> list[Cell]:
    unit = UNITS.get(row.unit, "")
    return [
        Cell(text=plain(row.path)),
        Cell(text=show(row.a, row.unit) + unit * (row.a is not None), kind="number"),
        Cell(text=show(row.b, row.unit) + unit * (row.b is not None), kind="number"),
        Cell(text=show_change(row.delta, row.unit), kind="number"),
        Cell(text=show_range(row.ci, row.unit), kind="number"),
        Cell(text=show_p(row.p_adjusted), kind="number"),
        Cell(text=show(row.mdd, row.unit), kind="number"),
        Cell(text=row.verdict, kind=row.verdict if row.verdict in COLOURED else ""),
    ]


def _verdict_row(rows: Sequence[VerdictRow]) -> list[Cell]:
    """Show a verdict on both sides, with the suites that it is told of; none of it is a test."""
    a, b, dash = rows[0].a, rows[0].b, Cell(text="-", kind="number")
    sides = [Cell(text=plain(word), kind="number") for word in (a, b)]
    changed = Cell(text="-" if a == b else "changed")
    return [Cell(text=subject(rows)), *sides, *[dash] * 4, changed]


def _curves(reports: Sequence[Report]) -> list[Section]:
    suites = [suite for report in reports for suite in report.content.suites]
    pictures = list(pictures_of(reports, suites, key="picture"))
    return [Section(id="curves", title="Curves", pictures=pictures)] if pictures else []
