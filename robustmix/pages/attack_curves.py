"""Accuracy against the radius of the attacks as a picture: one panel a norm, one curve a suite."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.errors import IntakeError
from robustmix.files import atomic_path
from robustmix.report.report import Report
from robustmix.report.schema import AttackPart, PointPart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

MARKERS = {"fgsm": "o", "pgd": "s", "autoattack": "D"}
"""Of the suites; the rest of the zoo takes those of ``OTHERS`` in turn."""

OTHERS = ("^", "v", "P", "X", "<", ">")

X_LABELS = {"linf": "eps in linf (grey levels of 255)", "l2": "eps in l2 ([0, 1] pixel units)"}


class Curve(NamedTuple):
    """One curve of the picture."""

    label: str
    norm: str
    colour: str
    marker: str
    points: list[PointPart]


def draw_attack_curves(reports: Sequence[Report], path: Path) -> None:
    """Draw accuracy against eps with 95 % bands for every attack suite of some reports.

    The suite chooses the marker; the colour is the report's, of a single report the suite's. A
    suite of one radius is a point. What the presets that reproduce published tools attack is no
    radius in pixels and is left out.

    Args:
        reports: at least one; their run names label the curves where there are several.
        path: where to; the suffix (png, svg, pdf) chooses the format.

    Raises:
        IntakeError: no report has an attack suite with a curve.
        IncompleteError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # no pyplot: it would keep figures and open windows

    curves = [curve for i, report in enumerate(reports) for curve in _curves(i, report, reports)]
    if not curves:
        raise IntakeError("no report has an attack suite", "evaluate with --suite fgsm,pgd")
    norms = [norm for norm in X_LABELS if any(curve.norm == norm for curve in curves)]
    figure = Figure(figsize=(6.2 * len(norms), 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(norms), squeeze=False)[0]
    for axis, norm in zip(panels, norms, strict=True):
        _panel(axis, norm, [curve for curve in curves if curve.norm == norm])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png")


def _curves(number: int, report: Report, reports: Sequence[Report]) -> list[Curve]:
    found = [
        (key, part)
        for key, part in report.content.ordered_suites().items()
        if isinstance(part, AttackPart)
        and part.status == "ok"
        and part.sweep
        and part.norm in X_LABELS
        and part.space != "normalised"
    ]
    others = [key for key, _ in found if key.partition("@")[0] not in MARKERS]
    several = len(reports) > 1
    return [
        Curve(
            label=f"{report.content.run.name}: {key}" if several else key,
            norm=part.norm,
            colour=COLOURS[(number if several else place) % len(COLOURS)],
            marker=OTHERS[others.index(key) % len(OTHERS)]
            if key in others
            else MARKERS[key.partition("@")[0]],
            points=part.sweep,
        )
        for place, (key, part) in enumerate(found)
    ]


def _panel(axis: "Axes", norm: str, curves: Sequence[Curve]) -> None:
    scale = 255 if norm == "linf" else 1
    ticks = {round(scale * point.x, 4) for curve in curves for point in curve.points}
    singles = [place for place, curve in enumerate(curves) if len(curve.points) < 3]
    apart = min(0.05, 0.2 / max(len(singles), 1))
    for place, curve in enumerate(curves):
        points = [p for p in curve.points if p.x > 0] if len(curve.points) < 3 else curve.points
        shift = 1.0
        if len(points) == 1:  # points of equal radius stand side by side
            shift += apart * (singles.index(place) - (len(singles) - 1) / 2)
        x = [scale * point.x * shift for point in points]
        metrics = [point.metrics["robust_acc"] for point in points]
        y = [m.value or 0 for m in metrics]
        intervals = [m.ci or (m.value or 0, m.value or 0) for m in metrics]
        low, high = [ci[0] for ci in intervals], [ci[1] for ci in intervals]
        if len(points) > 1:
            axis.fill_between(x, low, high, color=curve.colour, alpha=0.12, linewidth=0)
            axis.plot(
                x,
                y,
                label=curve.label,
                color=curve.colour,
                marker=curve.marker,
                markersize=5,
                linewidth=1.5,
            )
        else:
            below = [max(0.0, v - bound) for v, bound in zip(y, low, strict=True)]
            above = [max(0.0, bound - v) for v, bound in zip(y, high, strict=True)]
            axis.errorbar(
                x,
                y,
                yerr=[below, above],
                label=curve.label,
                color=curve.colour,
                fmt=curve.marker,
                markersize=5,
                linewidth=1,
                capsize=2,
            )
    axis.set_xscale("symlog", linthresh=1.0 if norm == "linf" else 0.05)
    axis.set_xlim(left=0)
    shown = sorted(ticks)
    axis.set_xticks(shown, [f"{value:g}" for value in shown], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_ylim(-0.02, 1.02)
    axis.set(title="Accuracy under attack", xlabel=X_LABELS[norm], ylabel="accuracy")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, loc="best")
