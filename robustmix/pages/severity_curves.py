"""Accuracy by severity: the mean over corruptions, and every corruption in a panel of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.metrics.metric import Metric
from robustmix.pages.heatmap import MOST_COLUMNS, MOST_ROWS, cells_of, clean_metric, in_groups
from robustmix.pages.picture import (
    NothingToDraw,
    Source,
    Style,
    draw_line,
    new_panels,
    sources_of,
    style_of,
    tidy,
)
from robustmix.report.report import Report
from robustmix.report.terminal import show_value
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN = "by_severity:"
"""Conditions ``by_severity:3`` are means over corruptions."""

SMALL = (1.95, 1.5)
"""Of a panel of one corruption in inches: two stand side by side on a telephone."""

MARGINS = (0.31, 0.06, 0.24, 0.06)
"""Around its axes, in inches: the labels are the same in all panels."""

COLUMNS = 5


class Line(NamedTuple):
    """The curve of one report: its places are severities, 0 the clean images."""

    source: Source
    style: Style
    places: dict[int, Metric]


def draw_severity(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw the mean accuracy over corruptions by severity, with 95 % bands, a line for each report.

    Args:
        reports: at least one; their run names are in the legend.
        suites: keys of the suites, a panel each.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        Where each line begins and ends, in words.

    Raises:
        NothingToDraw: none of the suites has means of several severities.
        IncompleteError: the file cannot be written.
    """
    panels = {key: found for key in suites if (found := _means(reports, key))}
    if not panels:
        raise NothingToDraw(
            "no report has means of several severities", "evaluate with --suite corruption"
        )
    titles = list(panels) if len(panels) > 1 else [""]
    legend: str = "shared" if len(reports) > 1 else "none"
    with new_panels(path, titles, alike=True, legend=legend) as axes:  # type: ignore[arg-type]
        for (axis,), lines in zip(axes, panels.values(), strict=True):
            for line in lines:
                _draw(axis, line, band=True)
            _finish(axis, lines)
            axis.set(xlabel="severity (0: clean)", ylabel="mean accuracy")
    said = [_in_words(line) for lines in panels.values() for line in lines]
    return f"{'; '.join(said)}."


def draw_severities(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw the accuracy under every corruption by severity, a line for each report.

    Arguments and errors are those of ``draw_severity``.

    Returns:
        For each report the corruption that lowers accuracy most, in words.
    """
    lines = {key: _by_corruption(reports, key) for key in suites}
    panels = [(key, name, found) for key, of in lines.items() for name, found in of.items()]
    if not panels or max(len(line.places) for _, _, of in panels for line in of) < 2:
        raise NothingToDraw(
            "no report has corruptions of several severities", "evaluate with --suite corruption"
        )
    if len(panels) > MOST_ROWS or any(len(s.places) > MOST_COLUMNS for p in panels for s in p[2]):
        raise NothingToDraw(f"{len(panels)} corruptions make no picture", f"at most {MOST_ROWS} do")
    several = len([key for key in suites if lines[key]]) > 1
    titles = [
        (f"{key}: " if several else "") + plain(name, 40).replace("_", " ")
        for key, name, _ in panels
    ]
    with new_panels(
        path,
        titles,
        size=SMALL,
        columns=COLUMNS,
        alike=True,
        legend="shared" if len(reports) > 1 else "none",
        pad=0.02,
        margins=MARGINS,
    ) as axes:
        for (axis,), (_, _, shown) in zip(axes, panels, strict=True):
            for line in shown:
                _draw(axis, line, band=False)
            _finish(axis, shown)
            axis.tick_params(labelsize=8)
    return " ".join(_worst(report, place, panels) for place, report in enumerate(reports)).strip()


def _means(reports: Sequence[Report], key: str) -> list[Line]:
    found = []
    for place, report in enumerate(reports):
        for source in sources_of([report], [key]):
            places = {
                int(one.name.removeprefix(MEAN)): one.metrics["acc_mean"]
                for one in source.part.conditions
                if one.name.startswith(MEAN) and "acc_mean" in one.metrics
            }
            if len(places) > 1:
                found.append(_line(source, place, places))
    return found


def _by_corruption(reports: Sequence[Report], key: str) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for place, report in enumerate(reports):
        for source in sources_of([report], [key]):
            cells = cells_of(source.part)
            for name in dict.fromkeys(name for name, _ in cells):
                places = {s: metric for (of, s), metric in cells.items() if of == name}
                found.setdefault(name, []).append(_line(source, place, places))
    return {name: found[name] for name in in_groups(list(found))[0]}


def _line(source: Source, place: int, places: dict[int, Metric]) -> Line:
    clean = clean_metric(source.report.content)
    places = places if clean is None else {0: clean, **places}
    return Line(source, style_of(place), dict(sorted(places.items())))


def _draw(axis: "Axes", line: Line, *, band: bool) -> None:
    name = line.source.report.content.run.name
    metrics = list(line.places.values())
    draw_line(axis, list(line.places), metrics, line.style, label=name, band=band)


def _finish(axis: "Axes", lines: Sequence[Line]) -> None:
    axis.set_xticks(sorted({x for line in lines for x in line.places}))
    axis.set_ylim(0, 1.02)
    axis.set_yticks([0, 0.5, 1])
    tidy(axis)


def _in_words(line: Line) -> str:
    found = list(line.places.values())
    name = line.source.report.content.run.name
    return f"{name} from {show_value(found[0])} to {show_value(found[-1])}"


def _worst(report: Report, place: int, panels: Sequence[tuple[str, str, Sequence[Line]]]) -> str:
    """Say which corruption at its highest severity a report is worst at."""
    own = [
        (list(line.places.values())[-1], name)
        for _, name, lines in panels
        for line in lines
        if line.source.report is report and line.style == style_of(place)
    ]
    known = [(metric.value, metric, name) for metric, name in own if metric.value is not None]
    if not known:
        return ""
    _, metric, name = min(known, key=lambda one: one[0])
    said = plain(name, 40).replace("_", " ")
    return f"{report.content.run.name}: at its highest severity lowest under {said}, " + (
        f"{show_value(metric)}."
    )
