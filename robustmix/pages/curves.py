"""The curves of any suite as one picture: a panel for each report and suite."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.pages.picture import (
    COLOURS,
    MARKERS,
    NothingToDraw,
    Source,
    Style,
    draw_line,
    new_panels,
    sources_of,
    tidy,
    values_of,
)
from robustmix.report.report import Report
from robustmix.report.schema import CurvePart, SuitePart
from robustmix.report.terminal import show_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES: dict[str, Style] = {
    "random": Style("#0072B2", "o"),
    "salient": Style("#D55E00", "v"),
    "nonsalient": Style("#009E73", "^"),
    "foreground": Style("#CC79A7", "s"),
    "background": Style("#E69F00", "D"),
}
"""Curves that look the same in every picture; others take colours in turn."""

WORDS = {
    "acc": "accuracy",
    "robust_acc": "accuracy",
    "confidence": "mean confidence",
    "boxacc": "box accuracy",
}
"""What metrics are called on an axis, where that is not their name."""


class Panel(NamedTuple):
    """Curves that share their axes."""

    title: str
    source: Source
    curves: list[CurvePart]


def draw_curves(
    reports: Sequence[Report],
    suites: Sequence[str],
    path: Path,
    *,
    told: Callable[[SuitePart], str] | None = None,
) -> str:
    """Draw the curves of some suites with 95 % bands, and a second metric of theirs dotted.

    Args:
        reports: at least one; their run names are the panels' titles.
        suites: keys of the suites.
        path: PNG, SVG or PDF, by its suffix.
        told: what to say of a suite below the title of its panels.

    Returns:
        What the picture shows, in words.

    Raises:
        NothingToDraw: none of the suites has a curve.
        IncompleteError: the file cannot be written.
    """
    panels = [
        panel
        for source in sources_of(reports, suites)
        for panel in _panels(source, told(source.part) if told else "", named=len(suites) > 1)
    ]
    if not panels:
        raise NothingToDraw("no report has a curve", "evaluate with a suite that has one")
    # Panels of one unit are compared by eye, for which they need one scale.
    alike = len({_unit(panel) for panel in panels}) == 1
    with new_panels(path, [panel.title for panel in panels], alike=alike) as axes:
        for (axis,), panel in zip(axes, panels, strict=True):
            _draw_panel(axis, panel)
            set_x_axis(axis, panel.curves, [curve for p in panels for curve in p.curves])
            axis.set_ylabel(y_label(panel.curves))
    return " ".join(_in_words(panel, reports) for panel in panels)


def _panels(source: Source, told: str, *, named: bool) -> list[Panel]:
    name = source.report.content.run.name
    title = f"{name}: {source.key}" if named else name
    found: dict[str, list[CurvePart]] = {}
    for curve in source.part.curves:
        found.setdefault(curve.panel, []).append(curve)
    return [
        Panel("\n".join(line for line in (title, told, panel) if line), source, curves)
        for panel, curves in found.items()
    ]


def _unit(panel: Panel) -> str:
    return panel.source.part.along(panel.curves[0])[0].unit


def y_label(curves: Sequence[CurvePart]) -> str:
    """Name what is drawn of some curves, and what of them is dotted."""
    solid = dict.fromkeys(_word(curve.y) for curve in curves)
    dotted = dict.fromkeys(_word(curve.dotted) for curve in curves if curve.dotted)
    return ", ".join(solid) + (f"; dotted: {', '.join(dotted)}" if dotted else "")


def _word(metric: str) -> str:
    return WORDS.get(metric, metric.replace("_", " "))


def _draw_panel(axis: "Axes", panel: Panel) -> None:
    part = panel.source.part
    for place, curve in enumerate(panel.curves):
        turn = Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])
        _draw_curve(axis, part, curve, STYLES.get(curve.name, turn))
    if any(curve.y == "acc" for curve in panel.curves):
        chance = 1 / panel.source.report.content.model.num_classes
        axis.axhline(chance, color="grey", linewidth=1, linestyle="--", label="chance")
    if _unit(panel) == "fraction":
        axis.set_ylim(0, 1.02)
    tidy(axis)


def _draw_curve(axis: "Axes", part: SuitePart, curve: CurvePart, style: Style) -> None:
    metrics = part.along(curve)
    draw_line(axis, curve.x, metrics, style, label=_label(part, curve))
    if curve.dotted:
        dotted = values_of(part.along(curve, curve.dotted))
        axis.plot(curve.x, dotted, color=style.colour, linewidth=1, linestyle=":")


def _label(part: SuitePart, curve: CurvePart) -> str:
    """Name a curve, with the area below it where the suite has that number."""
    if curve.label:
        return curve.label
    areas = [name for name in part.metrics if name.startswith("auc_")]
    if len(part.curves) > 1:
        areas = [name for name in areas if curve.name in name.split("_")]
    area = part.metrics[areas[0]].value if len(areas) == 1 else None
    return curve.name if area is None else f"{curve.name}, area {100 * area:.1f} %"


def set_x_axis(axis: "Axes", curves: Sequence[CurvePart], every: Sequence[CurvePart]) -> None:
    """Set the x axis of a panel, as wide as that of the panels with the same label."""
    first = curves[0]
    like = [x for curve in every if curve.x_label == first.x_label for x in curve.x]
    if first.scale == "symlog":
        # Linear up to the first place that is not 0, so that every place has room.
        axis.set_xscale("symlog", linthresh=min((x for x in like if x > 0), default=1.0))
        axis.set_xlim(left=min(0.0, *like))
    else:
        margin = 0.02 * (max(like) - min(like)) or 1.0
        axis.set_xlim(min(like) - margin, max(like) + margin)
    ticks = _ticks(first)
    if ticks:
        axis.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
        if not first.ticks and sum(map(len, ticks.values())) > 40:
            axis.tick_params(axis="x", rotation=40)
        axis.set_xticks([], minor=True)
    axis.set_xlabel(first.x_label)


def _ticks(curve: CurvePart) -> dict[float, str]:
    """Label the places of a curve, where the axis alone would not; of ``log2`` x is the power."""
    if curve.ticks:
        return dict(zip(curve.x, curve.ticks, strict=True))
    shown = {"log2": lambda x: f"{2**x:.3g}", "symlog": lambda x: f"{x:.3g}"}.get(curve.scale)
    return {} if shown is None else {x: shown(x) for x in curve.x}


def _in_words(panel: Panel, reports: Sequence[Report]) -> str:
    source = panel.source
    name = f"{source.report.content.run.name}, {source.key}" if len(reports) > 1 else source.key
    said = []
    for curve in panel.curves:
        found = source.part.along(curve)
        ends = f"from {show_value(found[0])} to {show_value(found[-1])}"
        said.append(f"{curve.name} {ends}" if len(panel.curves) > 1 else ends)
    dotted = dict.fromkeys(_word(curve.dotted) for curve in panel.curves if curve.dotted)
    last = f" Dotted: {', '.join(dotted)}." if dotted else ""
    return f"{name}: {'; '.join(said)}.{last}"
