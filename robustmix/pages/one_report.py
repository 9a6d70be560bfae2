"""What the page says of one report, section by section."""

import json
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from robustmix.metrics.metric import Metric, Unit
from robustmix.pages.drawings import pictures_of
from robustmix.pages.elements import Cell, Facts, Grid, Section, heads_of
from robustmix.report.report import Report
from robustmix.report.schema import ReportModel, SuitePart, TablePart, VerdictPart
from robustmix.report.terminal import (
    headline,
    show_interval,
    show_number,
    show_value,
    verdict_word,
)
from robustmix.report.text import plain

WORST_CLASSES = 10
"""Most that are shown."""

MOST_PLAIN = 6
"""Columns of a table of a suite whose heads have room in one line."""

VALUES = ("value", "95 % interval", "n")
"""Heads of the three cells of a number."""

VERDICT_KINDS = ("clean", "suspicious", "masked")
"""Verdicts that have a colour."""


def subtitle(reports: Sequence[Report]) -> str:
    """Say in one line what the data are."""
    data = reports[0].content.dataset
    of = f" of {data.n_total}" if data.n != data.n_total else ""
    return f"{plain(data.name)}, {plain(data.split)} split, {data.n}{of} images"


def sections(report: Report, *, drawn: bool = True) -> list[Section]:
    """Make the sections of a page on one report; ``drawn``: with their pictures."""
    content = report.content
    return [
        _summary(content),
        *_suites(report, drawn),
        *_worst_classes(content),
        *_warnings(content),
        _provenance(content),
    ]


def metric_cells(metric: Metric) -> list[Cell]:
    """Show value, interval and n."""
    key = "" if metric.value is None else metric.value
    return [
        Cell(text=show_value(metric), kind="number", key=key),
        Cell(text=show_interval(metric), kind="number"),
        Cell(text=str(metric.n), kind="number"),
    ]


def verdict_cell(verdict: VerdictPart) -> Cell:
    """Show a verdict among numbers, in its colour where it is one that has a colour."""
    kind = f"number {verdict.verdict}" if verdict.verdict in VERDICT_KINDS else "number"
    return Cell(text=verdict_word(verdict), kind=kind)


def _summary(content: ReportModel) -> Section:
    rows = [row for key, part in content.ordered_suites().items() for row in _headline(key, part)]
    heads = heads_of("suite", "metric", *VALUES, "note", numbers=VALUES)
    table = Grid(caption="The headline number of every suite", heads=heads, rows=rows)
    return Section(id="summary", title="Summary", tables=[table])


def _headline(key: str, part: SuitePart) -> Iterator[list[Cell]]:
    """Yield the rows of one suite; there is always one, so that no suite goes unseen."""
    dash, suite = Cell(text="-", kind="number"), Cell(text=key)
    if part.status != "ok":
        reason = Cell(text=plain(part.reason or "", 500), kind="note")
        yield [suite, Cell(text=part.status, kind="worse"), dash, dash, dash, reason]
        return
    numbers = headline(part)
    for label, metric in numbers:
        note = Cell(text=plain(metric.note or metric.reason or "", 500), kind="note")
        yield [suite, Cell(text=label.strip()), *metric_cells(metric), note]
    if numbers:
        return
    for verdict in part.verdicts:
        n = Cell(text=str(verdict.n), kind="number")
        note = Cell(text=plain(verdict.reason, 500), kind="note")
        yield [suite, Cell(text="verdict"), verdict_cell(verdict), dash, n, note]
    if not part.verdicts:
        yield [suite, dash, dash, dash, dash, Cell(text=plain(part.shown.note), kind="note")]


def _suites(report: Report, drawn: bool) -> Iterator[Section]:
    """Yield a section for each heading that the suites ask for, in the order of the suites."""
    headings: dict[str, dict[str, SuitePart]] = {}
    for key, part in report.content.ordered_suites().items():
        if part.status == "ok":
            headings.setdefault(_heading(key, part), {})[key] = part
    told: list[VerdictPart] = []
    for number, (heading, parts) in enumerate(headings.items()):
        verdicts = _verdicts(parts, told)
        told += verdicts
        yield Section(
            id=f"suites-{number}",
            title=heading,
            callouts=_callouts(report.content, parts, verdicts),
            text=[*_notes(parts), *map(_in_words, verdicts)],
            pictures=list(pictures_of([report], list(parts), key=f"picture-{number}"))
            if drawn
            else [],
            tables=[
                *(_checks(verdict) for verdict in verdicts if verdict.checks),
                *(_table(key, t, parts) for key, part in parts.items() for t in part.tables),
                *_metrics(heading, parts),
                *_conditions(heading, parts),
            ],
        )


def _heading(key: str, part: SuitePart) -> str:
    """Name the section that a suite stands in."""
    return plain(part.shown.section or key.partition("@")[0].capitalize(), 60)


def _verdicts(parts: Mapping[str, SuitePart], told: Sequence[VerdictPart]) -> list[VerdictPart]:
    """Give the verdicts that are not told yet.

    They stand in the part of the suite that made them and in those of the suites they speak of;
    a reader needs each once.
    """
    found: list[VerdictPart] = []
    for part in parts.values():
        found += [verdict for verdict in part.verdicts if verdict not in (*told, *found)]
    return found


def _callouts(
    content: ReportModel, parts: Mapping[str, SuitePart], verdicts: Sequence[VerdictPart]
) -> list[str]:
    """Give the warnings of some suites, each once, but for those that only repeat a verdict."""
    said = [w.message for w in content.warnings if w.suite in parts]
    reasons = [verdict.reason for verdict in verdicts]
    return [
        plain(message, 1000)
        for message in dict.fromkeys(said)
        if not any(reason and reason in message for reason in reasons)
    ]


def _notes(parts: Mapping[str, SuitePart]) -> list[str]:
    """Give the suites' own words; a row of bars says less than the curve that stands there."""
    notes = {key: plain(part.shown.note) for key, part in parts.items()}
    said = [f"{key}: {note}" for key, note in notes.items() if any(map(str.isalnum, note))]
    return [f"{'; '.join(said)}."] if said else []


def _in_words(verdict: VerdictPart) -> str:
    found = plain(verdict.reason[:1].upper() + verdict.reason[1:], 500)
    title = plain(verdict.title).capitalize()
    return f"{title}: {verdict_word(verdict)}. {found}."


def _checks(verdict: VerdictPart) -> Grid:
    def number(value: float | None) -> Cell:
        return Cell(text="-" if value is None else f"{value:.4g}", kind="number")

    measured = ("measured", "warns above", "fails above")
    checks = f"{len(verdict.checks)} check{'s' * (len(verdict.checks) > 1)}"
    return Grid(
        caption=f"{plain(verdict.title).capitalize()}: {checks} on {verdict.n} images",
        heads=heads_of("check", "result", *measured, "found", numbers=measured),
        rows=[
            [
                Cell(text=f"{plain(check.id)} {plain(check.title)}"),
                Cell(text=check.status, kind=check.status),
                number(check.value),
                number(check.warn),
                number(check.fail),
                Cell(text=plain(check.text, 500), kind="note"),
            ]
            for check in verdict.checks
        ],
    )


def _table(key: str, table: TablePart, parts: Mapping[str, SuitePart]) -> Grid:
    caption = plain(table.caption, 500)
    units = [table.units.get(column) for column in table.columns]
    rows = [[_value(*cell) for cell in zip(row, units, strict=True)] for row in table.rows]
    # A column of numbers is set to the right, its head as well; the first one names the row.
    numbers = [
        head
        for place, head in enumerate(table.columns)
        if place and rows and all(row[place].kind == "number" for row in rows)
    ]
    return Grid(
        caption=caption if len(parts) == 1 else f"{key}: {caption}",
        heads=heads_of(*map(plain, table.columns), numbers=[plain(head) for head in numbers]),
        rows=rows,
        sortable=True,
        narrow=len(table.columns) > MOST_PLAIN,
    )


def _value(value: JsonValue, unit: Unit | None) -> Cell:
    if value is None:
        return Cell(text="-", kind="number", key="")
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no")
    if isinstance(value, int | float):
        bare = str(value) if isinstance(value, int) else f"{value:.4g}"
        shown = bare if unit is None else show_number(value, unit)
        return Cell(text=shown, kind="number", key=value)
    return Cell(text=plain(value if isinstance(value, str) else json.dumps(value), 500))


def _metrics(heading: str, parts: Mapping[str, SuitePart]) -> list[Grid]:
    """Make the table of all numbers of whole suites, on demand: there may be dozens."""
    rows = [
        [Cell(text=key), Cell(text=plain(name)), *metric_cells(metric)]
        for key, part in parts.items()
        for name, metric in part.metrics.items()
    ]
    heads = heads_of("suite", "metric", *VALUES, numbers=VALUES)
    grid = Grid(caption=f"{heading}: all numbers", heads=heads, rows=rows, folded=True)
    return [grid] if rows else []


def _conditions(heading: str, parts: Mapping[str, SuitePart]) -> list[Grid]:
    """Make the table of what the pictures show, number by number, on demand."""
    rows = []
    for key, part in parts.items():
        drawn = {place: curve.y for curve in part.curves for place in curve.at}
        for condition in part.conditions:
            name = drawn.get(condition.name, "acc")
            if name not in condition.metrics:
                name = next(iter(condition.metrics))
            cells = [Cell(text=plain(condition.name)), Cell(text=plain(name))]
            rows.append([Cell(text=key), *cells, *metric_cells(condition.metrics[name])])
    heads = heads_of("suite", "condition", "metric", *VALUES, numbers=VALUES)
    grid = Grid(caption=f"{heading}: every condition", heads=heads, rows=rows, folded=True)
    return [grid] if rows else []


def _worst_classes(content: ReportModel) -> list[Section]:
    """Make the table of the classes that a suite tells the accuracy of, if one does."""
    for part in content.ordered_suites().values():
        rows = [row for row in part.details.get("per_class", []) if row["acc"] is not None]
        if not rows:
            continue
        rows = sorted(rows, key=lambda row: row["acc"])[:WORST_CLASSES]
        numbers = ("accuracy", "right", "n")
        table = Grid(
            caption=f"The {len(rows)} classes with the lowest {part.kind} accuracy",
            heads=heads_of("class", *numbers, numbers=numbers),
            rows=[
                [
                    Cell(text=plain(row["class"])),
                    Cell(text=f"{100 * row['acc']:.2f} %", kind="number", key=row["acc"]),
                    Cell(text=str(row["correct"]), kind="number", key=row["correct"]),
                    Cell(text=str(row["n"]), kind="number", key=row["n"]),
                ]
                for row in rows
            ],
            sortable=True,
        )
        return [Section(id="classes", title="Worst classes", tables=[table])]
    return []


def _warnings(content: ReportModel) -> list[Section]:
    """List every warning, with where its message stands on the page; else with the message."""
    headings = {
        key: f"see {_heading(key, part)}"
        for key, part in content.suites.items()
        if part.status == "ok"
    }
    reasons = {key: "see Summary" for key, part in content.suites.items() if part.status != "ok"}
    told = [
        *((error, reasons.get(error.suite or "")) for error in content.errors),
        *((warning, headings.get(warning.suite or "")) for warning in content.warnings),
    ]
    rows = [
        [
            Cell(text=plain(warning.code)),
            Cell(text=plain(warning.suite or "")),
            Cell(text=where or plain(warning.message, 1000), kind="note"),
        ]
        for warning, where in told
    ]
    table = Grid(
        caption="What to know before using a number",
        heads=heads_of("code", "suite", "message"),
        rows=rows,
    )
    return [Section(id="warnings", title="Warnings", tables=[table])] if rows else []


def facts_of(content: ReportModel, *, named: bool = False) -> list[Facts]:
    """Say what was measured with what; ``named`` puts the run's name before the titles."""
    name = f"{plain(content.run.name)}: " if named else ""
    rows = {"model": _model_facts, "data": _data_facts, "run": _run_facts}
    return [Facts(title=name + title, rows=facts(content)) for title, facts in rows.items()]


def _model_facts(content: ReportModel) -> list[tuple[str, str]]:
    model = content.model
    return [
        ("source", plain(model.source)),
        ("architecture", plain(model.arch)),
        ("sha256", plain(model.sha256 or "no file")),
        ("parameters", f"{model.params:,}"),
        ("head, weights", f"{plain(model.head or 'only one')}, {plain(model.weights)}"),
        ("normalisation", plain(json.dumps(model.normalisation))),
        ("method", plain(model.training.get("method") or "unknown")),
        ("checks", plain(json.dumps(model.checks), 1000)),
    ]


def _data_facts(content: ReportModel) -> list[tuple[str, str]]:
    data = content.dataset
    return [
        ("set", f"{plain(data.name)} ({plain(data.split)})"),
        ("images", f"{data.n} of {data.n_total}"),
        *([("official images", f"{data.partial_of}: some are missing")] * bool(data.partial_of)),
        *([("found as", plain(data.layout))] * bool(data.layout)),
        ("transform", plain(data.transform)),
        ("order sha256", plain(data.order_sha256)),
        *((plain(f.name), plain(f.sha256)) for f in data.files),
    ]


def _run_facts(content: ReportModel) -> list[tuple[str, str]]:
    run, tool, env = content.run, content.tool, content.environment
    foreign = [f"{one.kind} {one.name} of {one.module} {one.version}" for one in tool.plugins]
    return [
        ("status", run.status),
        ("started", plain(run.started)),
        ("seconds", f"{run.wall_s:.0f}"),
        ("seed", str(run.seed)),
        ("command", plain(" ".join(run.argv), 1000)),
        ("fingerprint", plain(run.fingerprint)),
        ("protocol hash", plain(content.protocol.hash)),
        ("presets", plain(", ".join(content.protocol.presets))),
        ("tool", f"{plain(tool.name)} {plain(tool.version)}"),
        *([("not robustmix's own", plain("; ".join(foreign), 1000))] if foreign else []),
        ("python, platform", f"{plain(env.python)}, {plain(env.platform)}"),
        ("device", f"{plain(env.device)}, {env.threads} threads"),
        ("packages", plain(", ".join(f"{k} {v}" for k, v in env.packages.items()), 1000)),
    ]


def _provenance(content: ReportModel) -> Section:
    rows = [
        [Cell(text=plain(suite)), Cell(text=plain(json.dumps(params), 2000), kind="note")]
        for suite, params in content.protocol.params.items()
    ]
    table = Grid(
        caption="Parameters of every suite",
        heads=heads_of("suite", "parameters"),
        rows=rows,
        folded=True,
    )
    return Section(id="provenance", title="Provenance", tables=[table], facts=facts_of(content))
