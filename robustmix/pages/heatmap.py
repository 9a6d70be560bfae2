"""Accuracy under every corruption and severity, as one picture with its numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from robustmix.corruptions.names import GROUPS
from robustmix.metrics.metric import Metric
from robustmix.pages.picture import NothingToDraw, new_panels, sources_of, text_colour
from robustmix.report.report import Report
from robustmix.report.schema import ReportModel, SuitePart
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MOST_ROWS, MOST_COLUMNS = 200, 20
"""Corruptions and severities of a picture that can be read, and drawn in little memory."""

MEANS = "by_corruption"
"""Conditions ``by_corruption:fog`` are means over severities."""


class Grid(NamedTuple):
    """The numbers of the picture."""

    names: list[str]
    """The corruption of each row, group by group."""

    ends: list[int]
    """Where groups end: numbers of rows above."""

    severities: list[int]
    values: "NDArray[np.float64]"
    """(rows, severities); NaN where there is no number."""

    means: list[float]
    """Of each row."""


def draw_heatmap(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw accuracy by corruption and severity, with the numbers in it.

    Rows are corruptions, in groups; columns are clean, the severities and their mean. Colours run
    from 0 to the clean accuracy. A corruption without some severity has a gap there.

    Args:
        reports: one.
        suites: key of one suite.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        Where accuracy is lowest, in words, and which images are a substitute's.

    Raises:
        NothingToDraw: there is no such suite, or it has no corruption or too many.
        IncompleteError: the file cannot be written.
    """
    source = next(iter(sources_of(reports, suites)), None)
    if source is None:
        raise NothingToDraw(
            "the report has no corruption suite", "evaluate with --suite corruption"
        )
    grid, clean = _grid_of(source.part), _clean_accuracy(source.report.content)
    if not (0 < len(grid.names) <= MOST_ROWS and len(grid.severities) <= MOST_COLUMNS):
        raise NothingToDraw(
            f"{len(grid.names)} corruptions at {len(grid.severities)} severities make no picture",
            f"at most {MOST_ROWS} at {MOST_COLUMNS} are drawn",
        )
    images = source.part.details.get("source", "other")
    approximate = source.part.details.get("approximate", [])
    longest = max(len(label) for label in _row_labels(grid, approximate))
    width = 0.4 + 0.075 * min(longest, 24) + 0.44 * (len(grid.severities) + 2)
    size = (width, 0.9 + 0.26 * len(grid.names))
    told = [f"top-1 in percent ({images})"]
    name = source.report.content.run.name
    with new_panels(path, told, size=size, legend="none", title=name, pad=0.06) as ((axes,),):
        _draw_cells(axes, grid, clean)
        _label(axes, grid, approximate)
    return _in_words(grid, str(images), approximate)


def _grid_of(part: SuitePart) -> Grid:
    """Arrange the conditions called ``corruption/severity``; means of others are passed over."""
    cells = cells_of(part)
    means = {
        condition.name.partition(":")[2]: _value(condition.metrics["acc_mean"])
        for condition in part.conditions
        if condition.name.startswith(f"{MEANS}:") and "acc_mean" in condition.metrics
    }
    names, ends = in_groups([name for name, _ in cells])
    severities = sorted({severity for _, severity in cells})
    values = [
        [_value(cells[name, s]) if (name, s) in cells else np.nan for s in severities]
        for name in names
    ]
    return Grid(
        names=names,
        ends=ends,
        severities=severities,
        values=np.array(values, dtype=np.float64),
        means=[means.get(name, np.nan) for name in names],
    )


def cells_of(part: SuitePart) -> dict[tuple[str, int], Metric]:
    """Give accuracy by corruption and severity: of the conditions ``corruption/severity``."""
    cells = {}
    for condition in part.conditions:
        name, _, severity = condition.name.rpartition("/")
        known = name and severity.isdecimal() and len(severity) < 4
        if known and not condition.name.startswith(f"{MEANS}:") and "acc" in condition.metrics:
            cells[name, int(severity)] = condition.metrics["acc"]
    return cells


def in_groups(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Order corruptions group by group as the benchmark does, each once; say where groups end."""
    found = dict.fromkeys(names)
    known = [name for members in GROUPS.values() for name in members]
    groups = [[name for name in members if name in found] for members in GROUPS.values()]
    groups.append([name for name in found if name not in known])
    ends = np.cumsum([len(members) for members in groups if members]).tolist()
    return [name for members in groups for name in members], ends


def _value(metric: Metric) -> float:
    return float("nan") if metric.value is None else metric.value


def clean_metric(content: ReportModel) -> Metric | None:
    """Give the accuracy without corruption, None if the report does not have it."""
    for part in content.ordered_suites().values():
        if part.kind == "clean" and part.status == "ok" and "top1" in part.metrics:
            return part.metrics["top1"]
    return None


def _clean_accuracy(content: ReportModel) -> float:
    metric = clean_metric(content)
    return 0.0 if metric is None else metric.value or 0.0


def _draw_cells(axes: "Axes", grid: Grid, clean: float) -> None:
    rows, columns = len(grid.names), len(grid.severities) + 2
    table = np.column_stack([np.full(rows, clean), grid.values, grid.means])
    top = max(clean, 1e-9)
    # A mesh, not an image: browsers smooth small images inside an SVG.
    axes.pcolormesh(
        range(columns),
        range(rows),
        np.ma.masked_invalid(table),
        cmap="viridis",
        vmin=0,
        vmax=top,
    )
    axes.invert_yaxis()
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            axes.text(
                column,
                row,
                f"{100 * value:.1f}",
                ha="center",
                va="center",
                fontsize=8,
                color=text_colour(value / top),
            )


def _row_labels(grid: Grid, approximate: Sequence[str]) -> list[str]:
    return [
        plain(name, 40).replace("_", " ") + (" (approximate)" if name in approximate else "")
        for name in grid.names
    ]


def _label(axes: "Axes", grid: Grid, approximate: Sequence[str]) -> None:
    labels = ["clean", *map(str, grid.severities), "mean"]
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    shown = _row_labels(grid, approximate)
    axes.set_yticks(range(len(shown)), shown, fontsize=8)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("severity", fontsize=8)
    axes.tick_params(length=0)
    for end in grid.ends[:-1]:
        axes.axhline(end - 0.5, color="white", linewidth=2)
    for edge in (0.5, len(labels) - 1.5):
        axes.axvline(edge, color="white", linewidth=2)


def _in_words(grid: Grid, images: str, approximate: Sequence[str]) -> str:
    said = f"{images.capitalize()} images."
    if not np.isnan(grid.values).all():
        row, column = np.unravel_index(np.nanargmin(grid.values), grid.values.shape)
        lowest = f"{plain(grid.names[row], 40)} at severity {grid.severities[column]}"
        said += f" Lowest: {lowest} with {100 * grid.values[row, column]:.2f} %."
    if approximate:
        said += f" {', '.join(approximate)} was made with a substitute and is approximate."
    return said
