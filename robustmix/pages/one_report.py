"""What the page says of one report, section by section."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from robustmix.metrics.metric import Metric
from robustmix.pages.attack_curves import draw_attack_curves
from robustmix.pages.heatmap import draw_heatmap
from robustmix.pages.occlusion_curves import draw_occlusion, draw_shuffle
from robustmix.pages.page import Cell, Drawing, Facts, Grid, Head, Section
from robustmix.pages.reliability import Panel, draw_reliability
from robustmix.pages.svg import inline_svg
from robustmix.report.report import Report
from robustmix.report.schema import (
    AttackPart,
    CalibrationPart,
    CleanPart,
    CorruptionPart,
    MaskingVerdict,
    OcclusionPart,
    PointPart,
    ShufflePart,
    SuitePart,
)
from robustmix.report.terminal import headline, show_interval, show_value
from robustmix.report.text import plain

WORST_CLASSES = 10


def subtitle(reports: Sequence[Report]) -> str:
    """Return one line on the data."""
    data = reports[0].content.dataset
    of = f" of {data.n_total}" if data.n != data.n_total else ""
    return f"{plain(data.name)}, {plain(data.split)} split, {data.n}{of} images"


def sections(report: Report) -> list[Section]:
    """Return the sections of a page on one report, those that have something to say."""
    found = [
        _summary(report),
        _calibration(report),
        _corruption(report),
        _attacks(report),
        _occlusion(report),
        _classes(report),
        _warnings(report),
        _provenance(report),
    ]
    return [section for section in found if section is not None]


def _ok(report: Report, kind: type[SuitePart]) -> Iterator[tuple[str, Any]]:
    for key, part in report.content.ordered_suites().items():
        if isinstance(part, kind) and part.status == "ok":
            yield key, part


def metric_cells(metric: Metric) -> list[Cell]:
    """Return value, interval and n."""
    return [
        Cell(
            text=show_value(metric), kind="number", key="" if metric.value is None else metric.value
        ),
        Cell(text=show_interval(metric), kind="number"),
        Cell(text=str(metric.n), kind="number"),
    ]


def _summary(report: Report) -> Section:
    rows = []
    for key, part in report.content.ordered_suites().items():
        if part.status != "ok":
            failed = [Cell(text=part.status, kind="worse"), *[Cell(text="-", kind="number")] * 3]
            rows.append([Cell(text=key), *failed, Cell(text=plain(part.reason or ""), kind="note")])
            continue
        for name, metric in headline(key, part):
            note = metric.note or metric.reason or ""
            cells = metric_cells(metric)
            rows.append(
                [Cell(text=key), Cell(text=name.strip()), *cells, Cell(text=note, kind="note")]
            )
    heads = [Head(text=text, number=text in ("value", "95 % interval", "n")) for text in (
        "suite", "metric", "value", "95 % interval", "n", "note"
    )]  # fmt: skip
    return Section(
        id="summary",
        title="Summary",
        callouts=[w.message for w in report.content.warnings if w.code == "W-SINGLE-STEP"],
        tables=[Grid(caption="The headline number of every suite", heads=heads, rows=rows)],
    )


def _calibration(report: Report) -> Section | None:
    figures, rows = [], []
    for key, part in _ok(report, CalibrationPart):
        panels = [Panel("as the model is", part.bins_15, _value(part.metrics.get("ece_15")))]
        scaled = part.temperature or {}
        if scaled.get("bins_15"):
            after = Metric.model_validate(scaled["ece_after"])
            title = f"after scaling with T = {scaled['T']:.3f}"
            panels.append(Panel(title, scaled["bins_15"], after.value))
        figures.append(_reliability(key, panels))
        rows += [
            [Cell(text=key), Cell(text=name), *metric_cells(metric)]
            for name, metric in part.metrics.items()
        ]
    if not figures:
        return None
    heads = heads_of("suite", "metric", "value", "95 % interval", "n")
    table = Grid(caption="Calibration on clean images", heads=heads, rows=rows, folded=True)
    return Section(id="calibration", title="Calibration", figures=figures, tables=[table])


def _value(metric: Metric | None) -> float | None:
    return None if metric is None else metric.value


def _reliability(key: str, panels: Sequence[Panel]) -> Drawing:
    said = []
    for panel in panels:
        filled = [row for row in panel.rows if row["n"]]
        sure = sum(row["confidence"] > row["accuracy"] for row in filled)
        error = "" if panel.ece is None else f", expected calibration error {100 * panel.ece:.2f} %"
        said.append(
            f"{panel.title}: surer than right in {sure} of {len(filled)} bins with samples{error}"
        )
    title = f"Reliability of {key}"
    alt = f"{title}. {'; '.join(said)}."
    svg = inline_svg(
        partial(draw_reliability, panels), key=f"rel-{_slug(key)}", title=title, description=alt
    )
    return Drawing(title=title, alt=alt, svg=svg)


def _corruption(report: Report) -> Section | None:
    figures, rows, text = [], [], []
    for key, part in _ok(report, CorruptionPart):
        worst = part.worst or {}
        alt = (
            f"Accuracy by corruption and severity, {plain(part.source)} images. Lowest: "
            f"{plain(worst.get('corruption'))} at severity {plain(worst.get('severity'))} with "
            f"{100 * (worst.get('acc') or 0):.2f} %. The table below holds the means."
        )
        svg = inline_svg(
            partial(draw_heatmap, report, suite=key),
            key=f"heat-{_slug(key)}",
            title="Accuracy under corruptions",
            description=alt,
        )
        figures.append(Drawing(title="Accuracy under corruptions", alt=alt, svg=svg))
        if part.approximate:
            names = ", ".join(part.approximate)
            text.append(f"{key}: {names} was made with a substitute and is approximate.")
        rows += [
            [Cell(text=key), Cell(text=name), *metric_cells(metric)]
            for name, metric in part.metrics.items()
        ]
        rows += [
            [Cell(text=key), Cell(text=name.replace("_", " ")), *metric_cells(metric)]
            for name, metric in part.by_corruption.items()
        ]
    if not figures:
        return None
    heads = heads_of("suite", "mean over conditions", "value", "95 % interval", "n")
    table = Grid(
        caption="Means over corruptions and severities", heads=heads, rows=rows, folded=True
    )
    return Section(id="corruption", title="Corruptions", text=text, figures=figures, tables=[table])


def _attacks(report: Report) -> Section | None:
    found = list(_ok(report, AttackPart))
    if not found:
        return None
    callouts = [w.message for w in report.content.warnings if w.code == "W-SINGLE-STEP"]
    rows = [
        [Cell(text=key), Cell(text=name), *metric_cells(metric)]
        for key, part in found
        for name, metric in part.metrics.items()
    ]
    tables = [
        Grid(
            caption="Attacks; every image was kept within the radius and scored again",
            heads=heads_of("suite", "metric", "value", "95 % interval", "n"),
            rows=rows,
            folded=True,
        )
    ]
    text = []
    verdicts = [part.masking for _, part in found if part.masking is not None]
    if verdicts:
        verdict = verdicts[0]
        found_out = verdict.reason[:1].upper() + verdict.reason[1:]
        text.append(
            f"Gradient masking: {verdict.verdict.replace('_', ' ')}. {plain(found_out, 500)}."
        )
        tables.append(_masking(verdict))
    members = [(key, member) for key, part in found for member in part.members]
    if members:
        tables.append(
            Grid(
                caption="Robust accuracy after each member of the ensemble",
                heads=heads_of("member", "attacked", "broken", "value", "95 % interval", "n"),
                rows=[
                    [
                        Cell(text=f"{key}: {plain(member.name)}"),
                        Cell(text=str(member.tried), kind="number"),
                        Cell(text=str(member.broken), kind="number"),
                        *metric_cells(member.robust_acc),
                    ]
                    for key, member in members
                ],
            )
        )
    figures = []
    if any(part.sweep for _, part in found):
        lowest = {
            key: min(point.metrics["robust_acc"].value or 0 for point in part.sweep)
            for key, part in found
            if part.sweep
        }
        alt = "Accuracy against eps. " + " ".join(
            f"{key} falls to {100 * value:.2f} %." for key, value in lowest.items()
        )
        title = "Accuracy against the radius of the attack"
        draw = partial(draw_attack_curves, [report])
        figures.append(
            Drawing(
                title=title,
                alt=alt,
                svg=inline_svg(draw, key="eps", title=title, description=alt),
            )
        )
    return Section(
        id="attacks", title="Attacks", callouts=callouts, text=text, figures=figures, tables=tables
    )


def _masking(verdict: MaskingVerdict) -> Grid:
    def number(value: float | None) -> Cell:
        return Cell(text="-" if value is None else f"{value:.4g}", kind="number")

    return Grid(
        caption=f"Does the model merely hide its gradients? {len(verdict.checks)} checks on "
        f"{verdict.n} images that it classifies correctly",
        heads=heads_of("check", "result", "measured", "warns above", "fails above", "found"),
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


def _occlusion(report: Report) -> Section | None:
    figures, rows = [], []
    kinds = (
        (OcclusionPart, "occlusion", "Accuracy with hidden patches", draw_occlusion),
        (ShufflePart, "shuffle", "Accuracy with shuffled patches", draw_shuffle),
    )
    for kind, name, title, draw in kinds:
        found = list(_ok(report, kind))
        if not found:
            continue
        ends = "; ".join(
            f"{key}: from {_percent(part.points[0])} to {_percent(part.points[-1])}"
            for key, part in found
            if part.points
        )
        alt = f"{title}. {ends}. Dotted: mean confidence."
        svg = inline_svg(partial(draw, [report]), key=name, title=title, description=alt)
        figures.append(Drawing(title=title, alt=alt, svg=svg))
        rows += [
            [Cell(text=key), Cell(text=metric_name), *metric_cells(metric)]
            for key, part in found
            for metric_name, metric in part.metrics.items()
        ]
    if not figures:
        return None
    heads = heads_of("suite", "metric", "value", "95 % interval", "n")
    table = Grid(caption="Areas and half points of the curves", heads=heads, rows=rows, folded=True)
    return Section(id="occlusion", title="Occlusion and shuffling", figures=figures, tables=[table])


def _percent(point: PointPart) -> str:
    value = point.metrics["acc"].value
    return "unknown" if value is None else f"{100 * value:.2f} %"


def _classes(report: Report) -> Section | None:
    for _, part in _ok(report, CleanPart):
        rows = sorted(part.per_class, key=lambda row: (row["acc"] is None, row["acc"]))
        rows = [row for row in rows if row["acc"] is not None][:WORST_CLASSES]
        if not rows:
            return None
        table = Grid(
            caption=f"The {len(rows)} classes with the lowest clean accuracy",
            heads=heads_of("class", "accuracy", "right", "n"),
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
        return Section(id="classes", title="Worst classes", tables=[table])
    return None


def _warnings(report: Report) -> Section | None:
    found = [*report.content.errors, *report.content.warnings]
    if not found:
        return None
    rows = [
        [
            Cell(text=plain(warning.code)),
            Cell(text=plain(warning.suite or "")),
            Cell(text=plain(warning.message, 1000), kind="note"),
        ]
        for warning in found
    ]
    table = Grid(
        caption="What to know before using a number",
        heads=heads_of("code", "suite", "message"),
        rows=rows,
    )
    return Section(id="warnings", title="Warnings", tables=[table])


def facts_of(report: Report, *, named: bool = False) -> list[Facts]:
    """Return what was measured with what; ``named`` puts the run's name before the titles."""
    content = report.content
    name = f"{plain(content.run.name)}: " if named else ""
    model, data, run, env = content.model, content.dataset, content.run, content.environment
    return [
        Facts(
            title=f"{name}model",
            rows=[
                ("source", plain(model.source)),
                ("architecture", plain(model.arch)),
                ("sha256", plain(model.sha256 or "no file")),
                ("parameters", f"{model.params:,}"),
                ("head, weights", f"{plain(model.head or 'only one')}, {plain(model.weights)}"),
                ("normalisation", plain(json.dumps(model.normalisation))),
                ("method", plain(model.training.get("method") or "unknown")),
                ("checks", plain(json.dumps(model.checks), 1000)),
            ],
        ),
        Facts(
            title=f"{name}data",
            rows=[
                ("set", f"{plain(data.name)} ({plain(data.split)})"),
                ("images", f"{data.n} of {data.n_total}"),
                ("transform", plain(data.transform)),
                ("order sha256", plain(data.order_sha256)),
                *((plain(f.name), plain(f.sha256)) for f in data.files),
            ],
        ),
        Facts(
            title=f"{name}run",
            rows=[
                ("status", run.status),
                ("started", plain(run.started)),
                ("seconds", f"{run.wall_s:.0f}"),
                ("seed", str(run.seed)),
                ("command", plain(" ".join(run.argv), 1000)),
                ("fingerprint", plain(run.fingerprint)),
                ("protocol hash", plain(content.protocol.hash)),
                ("presets", plain(", ".join(content.protocol.presets))),
                ("tool", f"{plain(content.tool.name)} {plain(content.tool.version)}"),
                ("python, platform", f"{plain(env.python)}, {plain(env.platform)}"),
                ("device", f"{plain(env.device)}, {env.threads} threads"),
                ("packages", plain(", ".join(f"{k} {v}" for k, v in env.packages.items()), 1000)),
            ],
        ),
    ]


def _provenance(report: Report) -> Section:
    rows = [
        [Cell(text=plain(suite)), Cell(text=plain(json.dumps(params), 2000), kind="note")]
        for suite, params in report.content.protocol.params.items()
    ]
    table = Grid(
        caption="Parameters of every suite",
        heads=heads_of("suite", "parameters"),
        rows=rows,
        folded=True,
    )
    return Section(id="provenance", title="Provenance", tables=[table], facts=facts_of(report))


NUMBERS = {
    *("value", "95 % interval", "n", "accuracy", "right"),
    *("attacked", "broken", "measured", "warns above", "fails above"),
}


def heads_of(*names: str) -> list[Head]:
    """Return the heads of columns, those of numbers set to the right."""
    return [Head(text=name, number=name in NUMBERS) for name in names]


def _slug(key: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in key)
