"""Reliability diagrams: accuracy against confidence, bin by bin, with intervals and counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from robustmix.errors import IntakeError
from robustmix.files import atomic_path
from robustmix.report.report import Report
from robustmix.report.schema import CalibrationPart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, GREY = "#0072B2", "#D55E00", "#777777"
FEW = 10
"""Bins of fewer samples are drawn hollow."""


class Panel(NamedTuple):
    """One diagram."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    """A reliability table: lo, hi, n, confidence, accuracy and ci of each bin."""

    ece: float | None
    """Shown in the title."""


def draw_report_reliability(report: Report, path: Path, *, suite: str = "calibration") -> None:
    """Draw the reliability of a report before and after temperature scaling, side by side.

    Args:
        report: with a calibration suite.
        path: PNG, SVG or PDF, by its suffix.
        suite: key of the suite in the report.

    Raises:
        IntakeError: the report has no such suite.
        IncompleteError: the file cannot be written.
    """
    part = report.content.suites.get(suite)
    if not isinstance(part, CalibrationPart) or part.status != "ok":
        raise IntakeError(
            "the report has no calibration suite", "evaluate with --suite calibration"
        )
    panels = [Panel("as the model is", part.bins_15, part.metrics["ece_15"].value)]
    scaled = part.temperature or {}
    if scaled.get("bins_15"):
        how = "two folds" if scaled["split"] == "two-fold" else "held-out images"
        title = f"after scaling, T = {scaled['T']:.3f} ({how})"
        panels.append(Panel(title, scaled["bins_15"], scaled["ece_after"]["value"]))
    draw_reliability(panels, path, title=report.content.run.name)


def draw_reliability(panels: Sequence[Panel], path: Path, *, title: str = "") -> None:
    """Draw reliability diagrams side by side, with the counts of their bins below.

    The line between a bin's accuracy and the diagonal is its gap: orange where the model is surer
    than right, blue where it is less sure. The intervals are Wilson's, 95 %.

    Args:
        panels: at least one.
        path: PNG, SVG or PDF, by its suffix.
        title: over all of them.

    Raises:
        IncompleteError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.7 + 3.9 * len(panels), 6.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        2, len(panels), squeeze=False, sharex=True, sharey="row", height_ratios=(4, 1)
    )
    for upper, lower, panel in zip(axes[0], axes[1], panels, strict=True):
        _diagram(upper, panel)
        _counts(lower, panel)
    most = max((row["n"] for panel in panels for row in panel.rows), default=0)
    axes[1][0].set_ylim(0, 1.05 * max(most, 1))
    axes[0][0].set_ylabel("accuracy")
    axes[1][0].set_ylabel("samples")
    shown = {
        label: handle
        for axis in axes[0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        shown.values(),
        shown.keys(),
        loc="outside lower center",
        ncols=len(shown),
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png")


def _diagram(axis: "Axes", panel: Panel) -> None:
    shown = "" if panel.ece is None else f"\nECE {100 * panel.ece:.2f} %"
    axis.set_title(panel.title + shown, fontsize=9)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    for colour, what in ((RED, "over-confident"), (BLUE, "under-confident")):
        axis.plot([], [], color=colour, linewidth=5, alpha=0.4, label=what)
    if any(0 < row["n"] < FEW for row in panel.rows):
        label = f"fewer than {FEW} samples"
        axis.plot([], [], "o", color=GREY, markerfacecolor="white", markersize=4.5, label=label)
    for row in panel.rows:
        if not row["n"]:
            continue
        x, y, (low, high) = row["confidence"], row["accuracy"], row["ci"]
        colour = RED if x > y else BLUE
        axis.plot([x, x], [x, y], color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
        axis.errorbar(
            x,
            y,
            yerr=[[max(0.0, y - low)], [max(0.0, high - y)]],
            fmt="o",
            color=colour,
            markerfacecolor=colour if row["n"] >= FEW else "white",
            markersize=4.5,
            linewidth=1,
            capsize=2,
        )
    axis.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axis.grid(alpha=0.25)


def _counts(axis: "Axes", panel: Panel) -> None:
    for row in panel.rows:
        axis.bar(
            row["lo"],
            row["n"],
            width=row["hi"] - row["lo"],
            align="edge",
            color=GREY,
            edgecolor="white",
            linewidth=0.5,
        )
    axis.set_xlabel("confidence")
    axis.spines[["top", "right"]].set_visible(False)
