"""The curves of several reports over each other: a panel for each curve, a line for each report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.pages.curves import set_x_axis, y_label
from robustmix.pages.picture import (
    NothingToDraw,
    Source,
    Style,
    draw_line,
    new_panels,
    sources_of,
    style_of,
    tidy,
    values_of,
)
from robustmix.report.report import Report
from robustmix.report.schema import CurvePart
from robustmix.report.terminal import show_value
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Line(NamedTuple):
    """The curve of one report."""

    source: Source
    curve: CurvePart
    style: Style


def draw_overlaid(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw the curves of some suites with 95 % bands; a report looks the same in every panel.

    Args:
        reports: at least one; their run names are in the legend.
        suites: keys of the suites.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        Where each curve begins and ends, in words.

    Raises:
        NothingToDraw: none of the suites has a curve.
        IncompleteError: the file cannot be written.
    """
    found: dict[tuple[str, str, str], list[Line]] = {}
    for place, report in enumerate(reports):
        for source in sources_of([report], suites):
            for curve in source.part.curves:
                line = Line(source, curve, style_of(place))
                found.setdefault((source.key, curve.panel, curve.name), []).append(line)
    if not found:
        raise NothingToDraw("no report has a curve", "evaluate with a suite that has one")
    panels = {_title(key, list(found)): lines for key, lines in found.items()}
    units = {line.source.part.along(line.curve)[0].unit for p in panels.values() for line in p}
    with new_panels(path, list(panels), alike=len(units) == 1, legend="shared") as axes:
        for (axis,), lines in zip(axes, panels.values(), strict=True):
            # The one with the most places first, which says where the axis has its marks.
            curves = sorted((line.curve for line in lines), key=lambda curve: -len(curve.x))
            for line in lines:
                _draw(axis, line)
            _draw_chance(axis, lines)
            if units == {"fraction"}:
                axis.set_ylim(0, 1.02)
            set_x_axis(axis, curves, curves)
            axis.set_ylabel(y_label(curves))
            tidy(axis)
    return " ".join(f"{title}: {_in_words(lines)}." for title, lines in panels.items())


def _title(curve: tuple[str, str, str], every: Sequence[tuple[str, str, str]]) -> str:
    """Name a curve by its suite, and by its panel and own name where the suite has several."""
    suite, *more = curve
    if len([key for key in every if key[0] == suite]) == 1:
        return suite
    return f"{suite}: {plain(', '.join(part for part in more if part), 60)}"


def _draw(axis: "Axes", line: Line) -> None:
    part, curve, style = line.source.part, line.curve, line.style
    label = line.source.report.content.run.name
    draw_line(axis, curve.x, part.along(curve), style, label=label)
    if curve.dotted:
        dotted = values_of(part.along(curve, curve.dotted))
        axis.plot(curve.x, dotted, color=style.colour, linewidth=1, linestyle=":")


def _draw_chance(axis: "Axes", lines: Sequence[Line]) -> None:
    """Draw how often one is right by chance, where all reports have as many classes."""
    classes = {line.source.report.content.model.num_classes for line in lines}
    if len(classes) == 1 and all(line.curve.y == "acc" for line in lines):
        axis.axhline(1 / classes.pop(), color="grey", linewidth=1, linestyle=":", label="chance")


def _in_words(lines: Sequence[Line]) -> str:
    said = []
    for line in lines:
        found = line.source.part.along(line.curve)
        ends = f"from {show_value(found[0])} to {show_value(found[-1])}"
        said.append(f"{line.source.report.content.run.name} {ends}")
    return "; ".join(said)
