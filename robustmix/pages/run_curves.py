"""Curves of many runs in one picture: a colour a row of the table, a panel a column of it.

Runs of one row are seeds: the line is their mean, the band reaches from the lowest to the highest.
Of one run the band is the report's 95 % interval.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.metrics.metric import Metric
from robustmix.pages.attack_curves import AXES
from robustmix.pages.elements import Picture
from robustmix.pages.picture import (
    COLOURS,
    MARKERS,
    bounds_of,
    new_panels,
    of_our_form,
    tidy,
    values_of,
)
from robustmix.pages.reliability import FEW
from robustmix.pages.svg import inline_figure
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("-", "--", "-.", ":")
"""Lines of the first six rows, of the next six, ...: there are no more colours to tell apart."""

NAME_LENGTH = 40
SAID = 4
"""Most curves that are told in words, one by one."""

LONG_RUN = 20
EARLY = 8
"""Of a run of ``LONG_RUN`` epochs or more the accuracies of the first eighth may lie below."""

BY_SEVERITY = "by_severity:"
"""Conditions ``by_severity:3`` are means over corruptions."""


class Curve(NamedTuple):
    """A curve of one run, or of several together."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    n: Sequence[int] = ()
    """Images of each place, where places are bins."""


class CurveKey(NamedTuple):
    """Which curve of a run it is."""

    kind: str
    """A key of ``KINDS``."""

    suite: str = ""
    name: str = ""
    """Norm of an attack, or mode of an occlusion."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How curves of a kind are shown."""

    title: str
    """``{suite}`` and ``{name}`` stand for those of the curve."""

    x_label: str
    y_label: str = "accuracy"


KINDS = {
    "epochs": Kind(title="Accuracy over epochs", x_label="epoch"),
    "severity": Kind(
        title="Accuracy under corruption by severity ({suite})", x_label="severity (0: clean)"
    ),
    "attack": Kind(title="Accuracy under attack ({suite})", x_label=""),
    "occlusion": Kind(
        title="Accuracy with hidden patches ({suite}, {name})", x_label="share of hidden patches"
    ),
    "reliability": Kind(title="Reliability on clean images ({suite})", x_label="confidence"),
}


@dataclass(frozen=True, kw_only=True)
class RowCurves:
    """What is drawn of one row in one panel."""

    label: str
    row: int
    """Its number in the table, which chooses the colour in every picture."""

    panel: str
    """Title of the panel; empty where there is one alone."""

    runs: Sequence[Mapping[CurveKey, Curve]]
    published: Sequence[tuple[float, float]] = ()
    """Places and accuracies of a released log over epochs."""


def curves_in(report: Report) -> dict[CurveKey, Curve]:
    """Take from a report what is drawn of it.

    Raises:
        IntakeError: something in it is of another form than robustmix writes.
    """
    found: dict[CurveKey, Curve] = {}
    clean = report.content.suites.get("clean")
    start = None if clean is None else clean.number("top1")
    with of_our_form():
        for key, part in report.content.ordered_suites().items():
            if part.status == "ok":
                found |= _curves_of(key, part, start)
    return found


def _curves_of(key: str, part: SuitePart, clean: Metric | None) -> dict[CurveKey, Curve]:
    drawings = part.shown.drawings
    found: dict[CurveKey, Curve] = {}
    if "heatmap" in drawings and (curve := _by_severity(part, clean)):
        found[CurveKey("severity", key)] = curve
    if "reliability" in drawings:
        found[CurveKey("reliability", key)] = _bins(part)
    norm = str(part.details.get("norm"))
    if "attack-curves" in drawings and norm in AXES and part.details.get("space") != "normalised":
        for one in part.curves:
            x = [AXES[norm].scale * place for place in one.x]
            found[CurveKey("attack", key, norm)] = _curve(x, part.along(one))
    if "occlusion-curves" in drawings:
        for one in part.curves:
            found[CurveKey("occlusion", key, one.name)] = _curve(one.x, part.along(one))
    return found


def _by_severity(part: SuitePart, clean: Metric | None) -> Curve | None:
    places = {
        int(one.name.removeprefix(BY_SEVERITY)): one.metrics["acc_mean"]
        for one in part.conditions
        if one.name.startswith(BY_SEVERITY) and "acc_mean" in one.metrics
    }
    if len(places) < 2:
        return None
    places |= {0: clean} if clean is not None else {}
    return _curve(sorted(places), [places[x] for x in sorted(places)])


def _curve(x: Sequence[float], metrics: Sequence[Metric]) -> Curve:
    return Curve(list(x), values_of(metrics), *bounds_of(metrics))


def _bins(part: SuitePart) -> Curve:
    rows = part.details["bins_15"]
    x = [float(row["confidence"]) if row["n"] else math.nan for row in rows]
    y = [float(row["accuracy"]) if row["n"] else math.nan for row in rows]
    return Curve(x, y, y, y, [int(row["n"]) for row in rows])


def together(curves: Sequence[Curve]) -> Curve:
    """Make one curve of those of several runs: the mean, and from the lowest to the highest.

    Bins are pooled by their images. Of curves with other places those count that most runs have, of
    as many the longest: a run that is not done yet does not hide one that is.
    """
    if curves[0].n:
        return _pooled([one for one in curves if len(one.n) == len(curves[0].n)])
    alike: dict[tuple[float, ...], list[Curve]] = {}
    for one in curves:
        alike.setdefault(tuple(one.x), []).append(one)
    x, chosen = max(alike.items(), key=lambda item: (len(item[1]), len(item[0])))
    if len(chosen) == 1:
        return chosen[0]
    columns = list(zip(*(one.y for one in chosen), strict=True))
    mean = [math.fsum(column) / len(column) for column in columns]
    return Curve(x, mean, [min(c) for c in columns], [max(c) for c in columns])


def _pooled(curves: Sequence[Curve]) -> Curve:
    counts = [sum(column) for column in zip(*(one.n for one in curves), strict=True)]

    def mean(values: Sequence[Sequence[float]], at: int) -> float:
        parts = [one.n[at] * v[at] for one, v in zip(curves, values, strict=True) if one.n[at]]
        return math.fsum(parts) / counts[at] if counts[at] else math.nan

    x = [mean([one.x for one in curves], at) for at in range(len(counts))]
    y = [mean([one.y for one in curves], at) for at in range(len(counts))]
    return Curve(x, y, y, y, counts)


def pictures_of_runs(rows: Sequence[RowCurves], *, key: str) -> list[Picture]:
    """Draw all that rows have curves of, a picture for each kind, suite and name.

    Args:
        rows: of the table, in their order.
        key: of letters, digits and hyphens; ids in the pictures begin with it.
    """
    every = dict.fromkeys(one for row in rows for run in row.runs for one in run)
    order = list(KINDS)
    pictures = []
    for number, one in enumerate(sorted(every, key=lambda one: order.index(one.kind))):
        title = heading_of(one)
        drawn = inline_figure(partial(draw_rows, rows, one), key=f"{key}-{number}", title=title)
        pictures.append(Picture(title=title, alt=drawn.description, panels=drawn.panels))
    return pictures


def heading_of(key: CurveKey) -> str:
    """Give what a picture of a curve is called."""
    names = {"suite": plain(key.suite, NAME_LENGTH), "name": plain(key.name, NAME_LENGTH)}
    return KINDS[key.kind].title.format(**names)


def draw_rows(rows: Sequence[RowCurves], key: CurveKey, path: Path) -> str:
    """Draw one curve of every row that has it.

    Args:
        rows: of the table.
        key: which curve.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        Where the curves begin and end, in words.

    Raises:
        IncompleteError: the file cannot be written.
    """
    shown = [row for row in rows if any(key in run for run in row.runs)]
    panels: dict[str, list[RowCurves]] = {}
    for row in shown:
        panels.setdefault(row.panel, []).append(row)
    with new_panels(
        path,
        [plain(title, NAME_LENGTH) for title in panels],
        # Accuracies over epochs are compared within a panel, what is a share of all between them.
        alike=key.kind != "epochs",
        legend="shared",
        title=heading_of(key),
    ) as axes:
        for (axis,), own in zip(axes, panels.values(), strict=True):
            _draw_panel(axis, own, key)
            axis.set_ylabel(KINDS[key.kind].y_label)
    return _in_words(shown, key)


def _draw_panel(axis: "Axes", rows: Sequence[RowCurves], key: CurveKey) -> None:
    kind = KINDS[key.kind]
    released = False
    for row in rows:
        curve = together([run[key] for run in row.runs if key in run])
        released |= _draw_row(axis, row, curve, official=key.kind == "epochs")
    axis.set_xlabel(AXES[key.name].label if key.kind == "attack" else kind.x_label)
    if released:
        axis.plot([], [], "o", color="grey", markerfacecolor="none", label="released log")
    _SETTINGS[key.kind](axis, key, rows)
    tidy(axis)


def _draw_row(axis: "Axes", row: RowCurves, curve: Curve, *, official: bool) -> bool:
    """Draw a row; say whether a released log stands beside it."""
    colour = COLOURS[row.row % len(COLOURS)]
    marker = MARKERS[row.row % len(MARKERS)]
    axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(
        curve.x,
        curve.y,
        label=plain(row.label, NAME_LENGTH),
        color=colour,
        linestyle=DASHES[row.row // len(COLOURS) % len(DASHES)],
        marker=marker if len(curve.x) <= 20 else "",
        markersize=4,
        linewidth=1.5,
    )
    few = [at for at, n in enumerate(curve.n) if 0 < n < FEW]
    x, y = ([values[at] for at in few] for values in (curve.x, curve.y))
    axis.plot(x, y, marker, color=colour, markerfacecolor="white", markersize=4, linestyle="none")
    if official and row.published:
        x, y = map(list, zip(*row.published, strict=True))
        axis.plot(
            x, y, marker, color=colour, markerfacecolor="none", markersize=5, linestyle="none"
        )
    return official and bool(row.published)


def _set_epochs(axis: "Axes", key: CurveKey, rows: Sequence[RowCurves]) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlim(left=0)
    curves = [run[key] for row in rows for run in row.runs if key in run]
    if _cut(curves):
        axis.set_ylim(bottom=min(curve.y[len(curve.y) // EARLY] for curve in curves) - 0.01)


def _cut(curves: Sequence[Curve]) -> bool:
    """Tell whether the first epochs are left out: beside their rise all methods look alike."""
    return all(len(curve.y) >= LONG_RUN for curve in curves)


def _set_severity(axis: "Axes", key: CurveKey, rows: Sequence[RowCurves]) -> None:
    axis.set_xticks(
        sorted({x for row in rows for run in row.runs if key in run for x in run[key].x})
    )
    axis.set_ylim(0, 1.02)


def _set_attack(axis: "Axes", key: CurveKey, rows: Sequence[RowCurves]) -> None:
    places = _places(rows, key)
    axis.set_xscale("symlog", linthresh=AXES[key.name].linear)
    axis.set_xlim(left=0)
    axis.set_xticks(places, [f"{place:g}" for place in places], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_ylim(0, 1.02)


def _places(rows: Sequence[RowCurves], key: CurveKey) -> list[float]:
    curves = [run[key] for row in rows for run in row.runs if key in run]
    return sorted({round(x, 4) for curve in curves for x in curve.x})


def _set_share(axis: "Axes", key: CurveKey, rows: Sequence[RowCurves]) -> None:
    axis.set_ylim(0, 1.02)


def _set_reliability(axis: "Axes", key: CurveKey, rows: Sequence[RowCurves]) -> None:
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="calibrated")
    axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.05))


_SETTINGS: dict[str, Callable[["Axes", CurveKey, Sequence[RowCurves]], None]] = {
    "epochs": _set_epochs,
    "severity": _set_severity,
    "attack": _set_attack,
    "occlusion": _set_share,
    "reliability": _set_reliability,
}


def _in_words(rows: Sequence[RowCurves], key: CurveKey) -> str:
    said = []
    for row in rows[:SAID]:
        curve = together([run[key] for run in row.runs if key in run])
        where = f" on {plain(row.panel, NAME_LENGTH)}" if row.panel else ""
        said.append(f"{plain(row.label, NAME_LENGTH)}{where} {_told(curve)}")
    more = f"; and {len(rows) - SAID} more" if len(rows) > SAID else ""
    notes = [_BINS] if key.kind == "reliability" else []
    counts = [sum(key in run for run in row.runs) for row in rows]
    if max(counts, default=0) > 1:
        notes += [_POOLED if key.kind == "reliability" else _BANDS]
    if key.kind not in ("epochs", "reliability") and 1 in counts:
        notes.append(_ONE)
    if key.kind == "epochs" and _cut([run[key] for row in rows for run in row.runs if key in run]):
        notes.append("The first epochs may lie below the picture.")
    if key.kind == "epochs" and any(row.published for row in rows):
        notes.append("Hollow: the log that was released with AdAutoMix.")
    return " ".join([f"{'; '.join(said)}{more}.", *notes])


_BANDS = "Lines are means over runs, bands go from the lowest to the highest."
_ONE = "Of one run the band is its 95 % interval."
_POOLED = "The images of a row's runs are taken together."
_BINS = f"Hollow: bins of fewer than {FEW} images."


def _told(curve: Curve) -> str:
    if curve.n:
        filled = [at for at, n in enumerate(curve.n) if n]
        sure = sum(curve.x[at] > curve.y[at] for at in filled)
        return f"surer than right in {sure} of {len(filled)} bins"
    known = [y for y in curve.y if not math.isnan(y)]
    return f"from {100 * known[0]:.2f} % to {100 * known[-1]:.2f} %" if known else "undefined"
