"""Accuracy against the radius of the attacks as a picture: one panel a norm, one curve a suite."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.metrics.metric import Metric
from robustmix.pages.picture import (
    COLOURS,
    NothingToDraw,
    Source,
    Style,
    draw_line,
    draw_whiskers,
    new_panels,
    sources_of,
    style_of,
    tidy,
)
from robustmix.report.report import Report
from robustmix.report.terminal import show_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIRST_MARKERS = {"fgsm": "o", "pgd": "s", "autoattack": "D"}
"""Of the attacks that most pictures show; others take those of ``OTHERS`` in turn."""

OTHERS = ("^", "v", "P", "X", "<", ">")


class Axis(NamedTuple):
    """How radii of a norm are shown."""

    label: str
    scale: float
    """Of what is shown, to radii of [0, 1] pixels."""

    linear: float
    """As far as this the axis is linear, then logarithmic."""


AXES = {
    "linf": Axis("eps in linf (grey levels of 255)", 255, 1.0),
    "l2": Axis("eps in l2 ([0, 1] pixel units)", 1, 0.05),
}


class Sweep(NamedTuple):
    """One curve of the picture: its points, from radius 0."""

    label: str
    norm: str
    style: Style
    x: list[float]
    metrics: list[Metric]


def draw_attack_curves(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw accuracy against eps with 95 % bands for the attacks of some reports.

    The suite chooses the marker; the colour is the report's, of a single report the suite's. A
    suite of one radius is a point. What the presets that reproduce published tools attack is no
    radius in pixels and is left out.

    Args:
        reports: at least one; their run names label the curves where there are several.
        suites: keys of the suites.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        How low each curve falls, in words.

    Raises:
        NothingToDraw: none of the suites has a curve of this kind.
        IncompleteError: the file cannot be written.
    """
    sweeps = [sweep for i in range(len(reports)) for sweep in sweeps_of(reports, suites, i)]
    if not sweeps:
        raise NothingToDraw("no report has an attack suite", "evaluate with --suite fgsm,pgd")
    norms = [norm for norm in AXES if any(sweep.norm == norm for sweep in sweeps)]
    titles = [f"norm {norm}" if len(norms) > 1 else "" for norm in norms]
    panels = {norm: [sweep for sweep in sweeps if sweep.norm == norm] for norm in norms}
    with new_panels(path, titles, alike=True, title="Accuracy under attack") as axes:
        for (axis,), (norm, shown) in zip(axes, panels.items(), strict=True):
            _draw_panel(axis, AXES[norm], shown)
    return " ".join(f"{sweep.label} falls to {_lowest(sweep)}." for sweep in sweeps)


def draw_attacks_together(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw accuracy against eps, a panel for each attack and a curve for each report.

    Arguments, result and errors are those of ``draw_attack_curves``.
    """
    panels: dict[tuple[str, str], list[Sweep]] = {}
    for place, report in enumerate(reports):
        for sweep in sweeps_of([report], suites, 0):
            named = sweep._replace(label=report.content.run.name, style=style_of(place))
            panels.setdefault((sweep.label, sweep.norm), []).append(named)
    if not panels:
        raise NothingToDraw("no report has an attack suite", "evaluate with --suite fgsm,pgd")
    titles = [f"{suite}, {norm}" for suite, norm in panels]
    with new_panels(path, titles, alike=True, legend="shared") as axes:
        for (axis,), ((_, norm), shown) in zip(axes, panels.items(), strict=True):
            _draw_panel(axis, AXES[norm], shown)
    return " ".join(
        f"{suite}: {'; '.join(f'{sweep.label} falls to {_lowest(sweep)}' for sweep in shown)}."
        for (suite, _), shown in panels.items()
    )


def _lowest(sweep: Sweep) -> str:
    return show_value(min(sweep.metrics, key=lambda m: (m.value is None, m.value)))


def sweeps_of(reports: Sequence[Report], suites: Sequence[str], number: int) -> list[Sweep]:
    """List the curves of one of the reports, in the style that they have beside the others'."""
    found = [
        source
        for source in sources_of([reports[number]], suites)
        if source.part.curves
        and source.part.details.get("norm") in AXES
        and source.part.details.get("space") != "normalised"
    ]
    others = [s.key for s in found if s.key.partition("@")[0] not in FIRST_MARKERS]
    several = len(reports) > 1
    return [
        _sweep(
            source,
            label=f"{source.report.content.run.name}: {source.key}" if several else source.key,
            style=Style(
                COLOURS[(number if several else place) % len(COLOURS)],
                OTHERS[others.index(source.key) % len(OTHERS)]
                if source.key in others
                else FIRST_MARKERS[source.key.partition("@")[0]],
            ),
        )
        for place, source in enumerate(found)
    ]


def _sweep(source: Source, *, label: str, style: Style) -> Sweep:
    (curve,) = source.part.curves
    norm = source.part.details["norm"]
    x = [AXES[norm].scale * place for place in curve.x]
    return Sweep(label, norm, style, x, source.part.along(curve))


def _draw_panel(axis: "Axes", shown: Axis, sweeps: Sequence[Sweep]) -> None:
    # A curve from 0 to the only radius would pretend to know what lies between.
    singles = [place for place, sweep in enumerate(sweeps) if len(sweep.x) < 3]
    apart = min(0.05, 0.2 / max(len(singles), 1))
    for place, sweep in enumerate(sweeps):
        start = sum(x <= 0 for x in sweep.x) if place in singles else 0
        x, metrics = sweep.x[start:], sweep.metrics[start:]
        if len(x) == 1:  # points of equal radius stand side by side
            shift = 1 + apart * (singles.index(place) - (len(singles) - 1) / 2)
            draw_whiskers(axis, [shift * x[0]], metrics, sweep.style, label=sweep.label)
        else:
            draw_line(axis, x, metrics, sweep.style, label=sweep.label)
    axis.set_xscale("symlog", linthresh=shown.linear)
    axis.set_xlim(left=0)
    places = sorted({round(x, 4) for sweep in sweeps for x in sweep.x})
    axis.set_xticks(places, [f"{place:g}" for place in places], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_ylim(-0.02, 1.02)
    axis.set(xlabel=shown.label, ylabel="accuracy")
    tidy(axis)
