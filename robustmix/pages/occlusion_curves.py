"""Occlusion and shuffle curves of some reports as pictures: one panel for each run of the suite."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustmix.errors import IntakeError
from robustmix.files import atomic_path
from robustmix.report.report import Report
from robustmix.report.schema import OcclusionPart, OcclusionPoint, ShufflePart, ShufflePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODE_STYLES = {
    "random": ("#0072B2", "o"),
    "salient": ("#D55E00", "v"),
    "nonsalient": ("#009E73", "^"),
    "foreground": ("#CC79A7", "s"),
    "background": ("#E69F00", "D"),
}
"""Colour and marker of each mode, the same in every picture; Okabe and Ito's palette."""

COLUMNS = 3
"""Most panels side by side."""


def draw_occlusion(reports: Sequence[Report], path: Path) -> None:
    """Draw accuracy against the share of hidden patches, a curve with its 95 % band for each mode.

    Mean confidence is dotted: where it stays above the accuracy, the model is over-confident.

    Args:
        reports: at least one; each run of suite ``occlusion`` gets a panel.
        path: where to; the suffix (png, svg, pdf) chooses the format.

    Raises:
        IntakeError: no report has the suite.
        IncompleteError: the file cannot be written.
    """
    found = [
        (f"{title}\n{_settings(part)}", part, report.content.model.num_classes)
        for report, title, part in _parts(reports, "occlusion")
        if isinstance(part, OcclusionPart)
    ]
    panels = [lambda axis, p=p, k=k: _occlusion(axis, p, k) for _, p, k in found]
    _draw([title for title, _, _ in found], panels, path, "share of hidden patches")


def draw_shuffle(reports: Sequence[Report], path: Path) -> None:
    """Draw accuracy against the number of shuffled pieces, with its 95 % band.

    Arguments, errors and dotted lines are those of ``draw_occlusion``, of suite ``shuffle``.
    """
    found = [
        (title, part, report.content.model.num_classes)
        for report, title, part in _parts(reports, "shuffle")
        if isinstance(part, ShufflePart)
    ]
    panels = [lambda axis, p=p, k=k: _shuffle(axis, p, k) for _, p, k in found]
    _draw([title for title, _, _ in found], panels, path, "shuffled pieces")


def _parts(reports: Sequence[Report], suite: str) -> list[tuple[Report, str, object]]:
    found: list[tuple[Report, str, object]] = []
    for report in reports:
        for key, part in report.content.ordered_suites().items():
            name, _, preset = key.partition("@")
            if name == suite and part.status == "ok":
                title = report.content.run.name + (f" @ {preset}" if preset else "")
                found.append((report, title, part))
    if not found:
        raise IntakeError(f"no report has suite {suite}", f"evaluate with --suite {suite}")
    return found


def _draw(
    titles: Sequence[str], panels: Sequence[Callable[["Axes"], None]], path: Path, x: str
) -> None:
    from matplotlib.figure import Figure  # no pyplot: it would keep figures and open windows

    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    size = (max(5.2, 4.4 * columns), 4.4 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for i, (axis, title, panel) in enumerate(zip(axes, titles, panels, strict=False)):
        panel(axis)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(x)
        if i % columns == 0:
            axis.set_ylabel("accuracy; dotted: mean confidence")
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        # Below the axes: inside, some curve or band is always in the way.
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=120)


def _occlusion(axis: "Axes", part: OcclusionPart, num_classes: int) -> None:
    for mode, points in part.curves.items():
        style = MODE_STYLES[mode]
        auc = part.metrics[f"auc_{part.fill}_{mode}_{part.grid}"].value or 0.0
        _curve(axis, [p.x for p in points], points, style, f"{mode}, area {100 * auc:.1f} %")
    _reference(axis, num_classes)
    axis.set_xlim(-0.02, 1.02)


def _settings(part: OcclusionPart) -> str:
    told = [part.grid, f"fill {part.fill}"]
    if part.saliency is not None:
        told.append(f"saliency {part.saliency['source']}")
    if part.mask_scope != "sample":
        told.append(f"one mask per {part.mask_scope.partition(':')[2]}")
    return ", ".join(told)


def _shuffle(axis: "Axes", part: ShufflePart, num_classes: int) -> None:
    x = [math.log2(point.pieces) for point in part.points]
    auc = part.metrics[f"auc_pieces{part.points[-1].pieces}"].value or 0.0
    _curve(axis, x, part.points, MODE_STYLES["random"], f"shuffled, area {100 * auc:.1f} %")
    _reference(axis, num_classes)
    labels = [f"{point.pieces}\n{point.grid}" for point in part.points]
    axis.set_xticks(x, labels, fontsize=8)


def _curve(
    axis: "Axes",
    x: Sequence[float],
    points: Sequence[OcclusionPoint] | Sequence[ShufflePoint],
    style: tuple[str, str],
    label: str,
) -> None:
    colour, marker = style
    accuracy = [point.metrics["acc"] for point in points]
    middle = [metric.value or 0.0 for metric in accuracy]
    bounds = [metric.ci or (metric.value or 0.0,) * 2 for metric in accuracy]
    axis.fill_between(
        x, [low for low, _ in bounds], [high for _, high in bounds],
        color=colour, alpha=0.18, linewidth=0,
    )  # fmt: skip
    axis.plot(x, middle, color=colour, marker=marker, markersize=4, linewidth=1.5, label=label)
    confidence = [point.metrics["confidence"].value or 0.0 for point in points]
    axis.plot(x, confidence, color=colour, linewidth=1, linestyle=":")


def _reference(axis: "Axes", num_classes: int) -> None:
    axis.axhline(1 / num_classes, color="grey", linewidth=1, linestyle="--", label="chance")
