"""Reliability diagrams: accuracy against confidence, bin by bin, with intervals and counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from robustmix.pages.picture import NothingToDraw, new_panels, sources_of
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart
from robustmix.report.text import plain

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

    @property
    def titled(self) -> str:
        """The title with the calibration error below it."""
        return self.title + ("" if self.ece is None else f"\nECE {100 * self.ece:.2f} %")


def draw_suite_reliability(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw the reliability of a report before and after temperature scaling, side by side.

    Args:
        reports: one.
        suites: key of one suite.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        How often the model is surer than right, in words.

    Raises:
        NothingToDraw: there is no such suite.
        IncompleteError: the file cannot be written.
    """
    source = next(iter(sources_of(reports, suites)), None)
    if source is None:
        raise NothingToDraw(
            "the report has no calibration suite", "evaluate with --suite calibration"
        )
    panels = _panels(source.part)
    draw_reliability(panels, path, title=source.report.content.run.name)
    said = "; ".join([*map(_in_words, panels), *_not_scaled(source.part)])
    return f"{said[0].upper()}{said[1:]}."


def _panels(part: SuitePart) -> list[Panel]:
    measured = part.metrics.get("ece_15")
    ece = None if measured is None else measured.value
    panels = [Panel("as the model is", part.details["bins_15"], ece)]
    scaled = part.details.get("temperature") or {}
    if scaled.get("bins_15"):
        how = "two folds" if scaled["split"] == "two-fold" else "held-out images"
        title = f"after scaling, T = {scaled['T']:.3f} ({how})"
        panels.append(Panel(title, scaled["bins_15"], scaled["ece_after"]["value"]))
    return panels


def _not_scaled(part: SuitePart) -> list[str]:
    reason = (part.details.get("temperature") or {}).get("reason")
    return [] if reason is None else [f"not scaled by a temperature: {plain(reason)}"]


def _sure(panel: Panel) -> tuple[int, int]:
    """Count the bins in which a model is surer than right, and all that have samples."""
    filled = [row for row in panel.rows if row["n"]]
    return sum(row["confidence"] > row["accuracy"] for row in filled), len(filled)


def _in_words(panel: Panel) -> str:
    sure, filled = _sure(panel)
    error = "" if panel.ece is None else f", expected calibration error {100 * panel.ece:.2f} %"
    return f"{panel.title}: surer than right in {sure} of {filled} bins with samples{error}"


def draw_reliability_together(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw the reliability of several reports, before scaling and below it after.

    Args:
        reports: at least one.
        suites: keys of the suites.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        How often each model is surer than right, in words.

    Raises:
        NothingToDraw: no report has such a suite.
        IncompleteError: the file cannot be written.
    """
    sources = sources_of(reports, suites)
    if not sources:
        raise NothingToDraw(
            "no report has a calibration suite", "evaluate with --suite calibration"
        )
    rows: list[list[Panel]] = [[], []]
    said = []
    for source in sources:
        name = source.report.content.run.name
        if len({one.key for one in sources}) > 1:
            name = f"{name}, {source.key}"
        found = _panels(source.part)
        for row, panel in zip(rows, found, strict=False):
            row.append(panel._replace(title=f"{name}\n{panel.title}"))
        counts = [f"{_sure(panel)[0]} of {_sure(panel)[1]} bins" for panel in found]
        words = [f"{name}: surer than right in {', after scaling in '.join(counts)}"]
        said.append("; ".join([*words, *_not_scaled(source.part)]))
    # A row before scaling and one after, so that models are compared side by side.
    panels = [panel for row in rows for panel in row]
    draw_reliability(panels, path, columns=min(len(sources), 3))
    return f"{'. '.join(said)}."


def draw_reliability(
    panels: Sequence[Panel], path: Path, *, title: str = "", columns: int = 2
) -> None:
    """Draw reliability diagrams side by side, with the counts of their bins below.

    The line between a bin's accuracy and the diagonal is its gap: orange where the model is surer
    than right, blue where it is less sure. The intervals are Wilson's, 95 %.

    Args:
        panels: at least one.
        path: PNG, SVG or PDF, by its suffix.
        title: over all of them.
        columns: most diagrams side by side.

    Raises:
        IncompleteError: the file cannot be written.
    """
    few = any(0 < row["n"] < FEW for panel in panels for row in panel.rows)
    most = max((row["n"] for panel in panels for row in panel.rows), default=0)
    with new_panels(
        path,
        [panel.titled for panel in panels],
        size=(4.0, 4.8),
        columns=columns,
        heights=(4, 1),
        alike=True,
        legend="shared",
        title=title,
    ) as axes:
        for (upper, lower), panel in zip(axes, panels, strict=True):
            _diagram(upper, panel, few=few)
            _counts(lower, panel)
            lower.set_ylim(0, 1.05 * max(most, 1))


def _diagram(axis: "Axes", panel: Panel, *, few: bool) -> None:
    axis.set_ylabel("accuracy")
    axis.tick_params(labelbottom=False)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    # Drawn of nothing, so that the legend explains colours even where no bin has them.
    for colour, what in ((RED, "over-confident"), (BLUE, "under-confident")):
        axis.plot([], [], color=colour, linewidth=5, alpha=0.4, label=what)
    if few:
        label = f"fewer than {FEW} samples"
        axis.plot([], [], "o", color=GREY, markerfacecolor="white", markersize=4.5, label=label)
    for row in panel.rows:
        if row["n"]:
            colour = RED if row["confidence"] > row["accuracy"] else BLUE
            draw_bin(axis, row, colour)
            gap = [row["confidence"], row["accuracy"]]
            x = [row["confidence"]] * 2
            axis.plot(x, gap, color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
    axis.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axis.grid(alpha=0.25)


def draw_bin(axis: "Axes", row: Mapping[str, Any], colour: str, *, marker: str = "o") -> None:
    """Draw accuracy over confidence of one bin with its interval, hollow where samples are few."""
    y, (low, high) = row["accuracy"], row["ci"]
    axis.errorbar(
        row["confidence"],
        y,
        # Rounding may put an end on the wrong side, and matplotlib refuses that.
        yerr=[[max(0.0, y - low)], [max(0.0, high - y)]],
        fmt=marker,
        color=colour,
        markerfacecolor=colour if row["n"] >= FEW else "white",
        markersize=4.5,
        linewidth=1,
        capsize=2,
    )


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
    axis.set(xlabel="confidence", ylabel="samples", xlim=(0, 1))
    axis.spines[["top", "right"]].set_visible(False)
