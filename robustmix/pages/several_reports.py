"""What the page says of several reports: models side by side, and each against the first."""

from collections.abc import Sequence
from functools import partial

from robustmix.comparison.compare import compare
from robustmix.comparison.document import ComparisonDocument, MetricRow
from robustmix.comparison.formatting import show, show_change, show_p, show_range
from robustmix.comparison.paths import headline_paths
from robustmix.comparison.tables import comparison_notes
from robustmix.errors import RobustmixError
from robustmix.metrics.metric import Metric
from robustmix.pages.attack_curves import draw_attack_curves
from robustmix.pages.heatmap import draw_heatmap
from robustmix.pages.occlusion_curves import draw_occlusion
from robustmix.pages.one_report import facts_of
from robustmix.pages.page import Cell, Drawing, Grid, Head, Section
from robustmix.pages.svg import inline_svg
from robustmix.report.report import Report
from robustmix.report.schema import AttackPart, CorruptionPart, OcclusionPart, SuitePart
from robustmix.report.terminal import show_value
from robustmix.report.text import plain

VERDICT_KINDS = {"better": "better", "worse": "worse", "inconclusive": "inconclusive"}
NUMBERS = ("A", "B", "Δ", "interval of Δ", "p", "MDD")
UNITS = {"fraction": " %", "percent": " %"}


def compared(reports: Sequence[Report]) -> list[Section]:
    """Return the sections of a page on several reports; the first is what others are held to."""
    found = [_models(reports), *_pairs(reports), _figures(reports)]
    facts = [fact for report in reports for fact in facts_of(report, named=True)]
    found.append(Section(id="provenance", title="Provenance", facts=facts))
    return [section for section in found if section is not None]


def _models(reports: Sequence[Report]) -> Section:
    leading: dict[str, str] = {}  # the first number of each suite
    for report in reports:
        for path in headline_paths(report.content):
            leading.setdefault(path.suite, str(path))
    paths = list(leading.values())
    rows = [
        [Cell(text=plain(report.content.run.name)), *(_cell(report, path) for path in paths)]
        for report in reports
    ]
    heads = [Head(text="model"), *(Head(text=path, number=True) for path in paths)]
    table = Grid(
        caption="Models side by side; the heads sort", heads=heads, rows=rows, sortable=True
    )
    return Section(id="models", title="Models", tables=[table])


def _cell(report: Report, path: str) -> Cell:
    suite, _, name = path.partition(".")
    part = report.content.suites.get(suite)
    metric: Metric | None = None if part is None else part.metrics.get(name)
    if metric is None or metric.value is None:
        return Cell(text="-", kind="number", key="")
    return Cell(text=show_value(metric), kind="number", key=metric.value)


def _pairs(reports: Sequence[Report]) -> list[Section]:
    found = []
    for number, other in enumerate(reports[1:], start=1):
        names = [plain(report.content.run.name) for report in (reports[0], other)]
        title, key = f"{names[1]} against {names[0]}", f"pair-{number}"
        try:
            document = compare(reports[0], other)
        except RobustmixError as error:
            found.append(Section(id=key, title=title, callouts=[f"Not compared: {error.line()}"]))
            continue
        found.append(
            Section(
                id=key,
                title=title,
                text=comparison_notes(document),
                tables=[_pair_table(document, title)],
            )
        )
    return found


def _pair_table(document: ComparisonDocument, title: str) -> Grid:
    rows = [_pair_row(row) for one in document.comparisons for row in one.metrics]
    return Grid(
        caption=f"{title}: differences, with 95 % intervals",
        heads=[
            Head(text="metric"),
            *(
                Head(text=text, number=True)
                for text in ("A", "B", "Δ", "interval of Δ", "p", "MDD")
            ),
            Head(text="verdict"),
        ],
        rows=rows,
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
        Cell(text=row.verdict, kind=VERDICT_KINDS.get(row.verdict, "")),
    ]


def _has(report: Report, suite: str, kind: type[SuitePart]) -> bool:
    part = report.content.suites.get(suite)
    return isinstance(part, kind) and part.status == "ok"


def _figures(reports: Sequence[Report]) -> Section | None:
    drawings = []
    attacked = [
        r
        for r in reports
        if any(isinstance(p, AttackPart) and p.sweep for p in r.content.suites.values())
    ]
    if attacked:
        title = "Accuracy against the radius of the attack"
        alt = f"{title}, {len(attacked)} models in one picture; the models' table holds the areas."
        draw = partial(draw_attack_curves, attacked)
        svg = inline_svg(draw, key="eps", title=title, description=alt)
        drawings.append(Drawing(title=title, alt=alt, svg=svg))
    hidden = [r for r in reports if _has(r, "occlusion", OcclusionPart)]
    if hidden:
        title = "Accuracy with hidden patches"
        alt = f"{title}, a panel for each of {len(hidden)} models."
        draw = partial(draw_occlusion, hidden)
        svg = inline_svg(draw, key="occlusion", title=title, description=alt)
        drawings.append(Drawing(title=title, alt=alt, svg=svg))
    for number, report in enumerate(reports):
        if not _has(report, "corruption", CorruptionPart):
            continue
        title = f"{plain(report.content.run.name)}: accuracy under corruptions"
        svg = inline_svg(
            partial(draw_heatmap, report), key=f"heat-{number}", title=title, description=title
        )
        drawings.append(Drawing(title=title, alt=f"{title}, by corruption and severity.", svg=svg))
    if not drawings:
        return None
    return Section(id="curves", title="Curves", figures=drawings)
