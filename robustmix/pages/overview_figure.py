"""One picture of one or several reports: what people would rather look at than read."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustmix.corruptions.names import NAMES
from robustmix.metrics.metric import Metric
from robustmix.pages.attack_curves import AXES, Sweep, sweeps_of
from robustmix.pages.heatmap import MEANS
from robustmix.pages.picture import (
    COLOURS,
    MARKERS,
    Source,
    Style,
    draw_band,
    draw_whiskers,
    new_figure,
    sources_of,
    tidy,
    values_of,
)
from robustmix.pages.reliability import FEW, draw_bin
from robustmix.report.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_reports(reports: Sequence[Report], path: Path) -> None:
    """Draw reliability, corruption, eps and occlusion curves of some reports into one picture.

    Of several suites of a kind each panel shows the first.

    Args:
        reports: at least one; their run names label the curves.
        path: PNG, SVG or PDF, by its suffix.

    Raises:
        IncompleteError: the file cannot be written.
    """
    styles = [Style(COLOURS[i % len(COLOURS)], MARKERS[i % 6]) for i in range(len(reports))]
    with new_figure(path, 11, 8, dpi=120) as figure:
        axes = figure.subplots(2, 2)
        _reliability(axes[0][0], _named("reliability", reports, styles))
        _corruption(axes[0][1], _named("heatmap", reports, styles))
        _attack(axes[1][0], reports, styles)
        _occlusion(axes[1][1], _named("occlusion-curves", reports, styles))
        for axis in axes.flat:
            tidy(axis)
            if axis.get_legend_handles_labels()[0]:
                where = "lower right" if axis is axes[0][0] else "best"
                axis.legend(loc=where, fontsize="small")


def _named(
    drawing: str, reports: Sequence[Report], styles: Sequence[Style]
) -> list[tuple[Source, Style]]:
    """Find of each report the first suite that has a drawing, and how the report is drawn."""
    found = []
    for report, style in zip(reports, styles, strict=True):
        for source in sources_of([report], list(report.content.suites)):
            if drawing in source.part.shown.drawings:
                found.append((source, style))
                break
    return found


def _reliability(axis: "Axes", found: Sequence[tuple[Source, Style]]) -> None:
    axis.set(title=f"Reliability (clean); hollow: fewer than {FEW} images", xlim=(0, 1.02))
    axis.set(xlabel="confidence", ylabel="accuracy")
    axis.set_ylim(-0.02, 1.05)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    for source, style in found:
        bins = [row for row in source.part.details["bins_15"] if row["n"]]
        x, y = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
        name = source.report.content.run.name
        label = f"{name}, ECE {100 * (source.part.metrics['ece_15'].value or 0):.1f} %"
        axis.plot(x, y, color=style.colour, linewidth=1.5, label=label)
        for row in bins:
            draw_bin(axis, row, style.colour, marker=style.marker)


def _means(source: Source) -> dict[str, Metric]:
    """Give the mean accuracy of each corruption, in the order of the report."""
    start = f"{MEANS}:"
    return {
        condition.name.removeprefix(start): condition.metrics["acc_mean"]
        for condition in source.part.conditions
        if condition.name.startswith(start)
    }


def _corruption(axis: "Axes", found: Sequence[tuple[Source, Style]]) -> None:
    axis.set(title="Corruptions (mean over severities)", ylabel="accuracy")
    axis.set_ylim(0, 1.05)
    means = [_means(source) for source, _ in found]
    every = dict.fromkeys(name for one in means for name in one)
    names = [*(n for n in NAMES if n in every), *(n for n in every if n not in NAMES)]
    for i, ((source, style), one) in enumerate(zip(found, means, strict=True)):
        shift = 0.15 * (i - (len(found) - 1) / 2)  # so that points of equal height stay apart
        shown = [name for name in names if name in one]
        draw_whiskers(
            axis,
            [names.index(name) + shift for name in shown],
            [one[name] for name in shown],
            style,
            label=source.report.content.run.name,
        )
    if names:
        labels = [name.replace("_", " ") for name in names]
        axis.set_xticks(range(len(names)), labels, rotation=40, ha="right")


def _sweeps(
    reports: Sequence[Report], styles: Sequence[Style]
) -> list[tuple[Report, Sweep, Style]]:
    """Find of each report the first attack with a curve."""
    found = []
    for report, style in zip(reports, styles, strict=True):
        keys = [key for key, part in report.content.suites.items() if part.kind == "attack"]
        sweeps = sweeps_of([report], keys, 0)
        if sweeps:
            found.append((report, sweeps[0], style))
    return found


def _attack(axis: "Axes", reports: Sequence[Report], styles: Sequence[Style]) -> None:
    found = _sweeps(reports, styles)
    names = dict.fromkeys(sweep.label.upper() for _, sweep, _ in found)
    axis.set(title=", ".join(names) or "Attacks", ylabel="accuracy")
    axis.set_ylim(0, 1.05)
    # Radii of another norm than the first report's have no place on its axis.
    found = [one for one in found if one[1].norm == found[0][1].norm]
    if not found:
        return
    shown = AXES[found[0][1].norm]
    axis.set_xscale("symlog", linthresh=shown.linear)
    axis.set_xlabel(shown.label)
    for report, sweep, style in found:
        axis.plot(
            sweep.x,
            values_of(sweep.metrics),
            label=report.content.run.name,
            color=style.colour,
            marker=style.marker,
        )
    places = sorted({round(x, 3) for _, sweep, _ in found for x in sweep.x})
    axis.set_xticks(places, [f"{place:g}" for place in places])


def _occlusion(axis: "Axes", found: Sequence[tuple[Source, Style]]) -> None:
    curves = [
        next((c for c in source.part.curves if c.name == "random"), source.part.curves[0])
        for source, _ in found
    ]
    modes = dict.fromkeys(curve.name.capitalize() for curve in curves)
    axis.set(title=f"{', '.join(modes) or 'Random'} PatchDrop", ylabel="accuracy")
    axis.set_xlabel("share of hidden patches")
    axis.set_ylim(0, 1.05)
    for (source, style), curve in zip(found, curves, strict=True):
        metrics = source.part.along(curve)
        draw_band(axis, curve.x, metrics, style.colour)
        axis.plot(
            curve.x,
            values_of(metrics),
            label=source.report.content.run.name,
            color=style.colour,
            marker=style.marker,
        )
