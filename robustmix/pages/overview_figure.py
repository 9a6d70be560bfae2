"""One picture of one or several reports: what people would rather look at than read."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from robustmix.corruptions.names import NAMES
from robustmix.files import atomic_path
from robustmix.report.report import Report
from robustmix.report.schema import AttackPart, CalibrationPart, CorruptionPart, OcclusionPart

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Style(NamedTuple):
    """How one report is drawn."""

    color: str
    marker: str
    shift: float
    """Sideways, in categories, so that points of equal height stay apart."""


Panel: TypeAlias = Callable[["Axes", Report, Style], None]
"""Draws one report into one of the four axes."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

MARKS = ("o", "s", "^", "D", "v", "P")


def draw_reports(reports: Sequence[Report], path: Path) -> None:
    """Draw reliability, corruption, eps and occlusion curves of some reports into one picture.

    Args:
        reports: at least one; their run names label the curves.
        path: where to; the suffix (png, svg, pdf) chooses the format.
    """
    from matplotlib.figure import Figure  # no pyplot: it would keep figures and open windows

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    corruption = partial(_corruption, _corruption_names(reports))
    panels: tuple[Panel, ...] = (_reliability, corruption, _eps, _occlusion)
    for axis, panel in zip(axes.flat, panels, strict=True):
        for i, report in enumerate(reports):
            shift = 0.15 * (i - (len(reports) - 1) / 2)
            panel(axis, report, Style(COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)], shift))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="lower right" if axis is axes[0, 0] else "best", fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=120)


def _reliability(axis: "Axes", report: Report, style: Style) -> None:
    part = report.content.suites.get("calibration")
    axis.set(title="Reliability (clean); hollow: fewer than 10 images", xlim=(0, 1.02))
    axis.set(xlabel="confidence", ylabel="accuracy")
    axis.set_ylim(-0.02, 1.05)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    if not isinstance(part, CalibrationPart) or part.status != "ok":
        return
    bins = [b for b in part.bins_15 if b["n"]]
    x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
    label = f"{report.content.run.name}, ECE {100 * (part.metrics['ece_15'].value or 0):.1f} %"
    axis.plot(x, y, color=style.color, linewidth=1.5, label=label)
    for one, cx, cy in zip(bins, x, y, strict=True):
        face = style.color if one["n"] >= 10 else "white"
        low, high = one["ci"]
        axis.errorbar(
            cx,
            cy,
            yerr=[[max(0, cy - low)], [max(0, high - cy)]],
            fmt=style.marker,
            color=style.color,
            markerfacecolor=face,
            markersize=5,
            linewidth=0.8,
            capsize=2,
        )


def _corruption_names(reports: Sequence[Report]) -> list[str]:
    """Return every corruption that a report holds, in canonical order."""
    parts = [report.content.suites.get("corruption") for report in reports]
    found = {n for part in parts if isinstance(part, CorruptionPart) for n in part.by_corruption}
    return [name for name in NAMES if name in found]


def _corruption(names: Sequence[str], axis: "Axes", report: Report, style: Style) -> None:
    part = report.content.suites.get("corruption")
    axis.set(title="Corruptions (mean over severities)", ylabel="accuracy")
    axis.set_ylim(0, 1.05)
    if not isinstance(part, CorruptionPart) or part.status != "ok":
        return
    places = [i for i, name in enumerate(names) if name in part.by_corruption]
    values = [part.by_corruption[names[i]] for i in places]
    y = [metric.value or 0 for metric in values]
    spread = [
        [value - (m.ci or (value, value))[0] for value, m in zip(y, values, strict=True)],
        [(m.ci or (value, value))[1] - value for value, m in zip(y, values, strict=True)],
    ]
    axis.errorbar(
        [i + style.shift for i in places],
        y,
        yerr=spread,
        fmt=style.marker,
        color=style.color,
        markersize=6,
        capsize=3,
        label=report.content.run.name,
    )
    axis.set_xticks(
        range(len(names)), [n.replace("_", " ") for n in names], rotation=40, ha="right"
    )


def _eps(axis: "Axes", report: Report, style: Style) -> None:
    part = report.content.suites.get("fgsm")
    axis.set(title="FGSM", xlabel="eps (grey levels of 255)", ylabel="accuracy")
    axis.set_ylim(0, 1.05)
    axis.set_xscale("symlog", linthresh=1)
    if not isinstance(part, AttackPart) or part.status != "ok":
        return
    x = [round(255 * point.x, 3) for point in part.sweep]
    axis.plot(
        x,
        [point.metrics["robust_acc"].value or 0 for point in part.sweep],
        label=report.content.run.name,
        color=style.color,
        marker=style.marker,
    )
    axis.set_xticks(x, [f"{value:g}" for value in x])


def _occlusion(axis: "Axes", report: Report, style: Style) -> None:
    part = report.content.suites.get("occlusion")
    axis.set(title="Random PatchDrop", xlabel="share of hidden patches", ylabel="accuracy")
    axis.set_ylim(0, 1.05)
    if not isinstance(part, OcclusionPart) or part.status != "ok":
        return
    x = [point.x for point in part.points]
    metrics = [point.metrics["acc"] for point in part.points]
    axis.plot(
        x,
        [m.value or 0 for m in metrics],
        label=report.content.run.name,
        color=style.color,
        marker=style.marker,
    )
    axis.fill_between(
        x,
        [(m.ci or (0, 0))[0] for m in metrics],
        [(m.ci or (0, 0))[1] for m in metrics],
        color=style.color,
        alpha=0.15,
        linewidth=0,
    )
