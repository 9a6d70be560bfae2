"""Drawings of a report as matplotlib's figures, for notebooks."""

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from robustmix.errors import UsageError, unknown_name
from robustmix.pages.drawings import DRAWINGS, draw, drawings_of, suites_with
from robustmix.pages.overview_figure import draw_reports
from robustmix.pages.picture import kept_figures
from robustmix.report.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERVIEW = "overview"
"""Name of the picture of all that most reports have."""

ALIASES = {"eps": "attack-curves"}
"""What people ask for, where neither a drawing nor a suite is called so."""


def figure_of(report: Report, what: str = OVERVIEW, *, suite: str = "") -> "Figure":
    """Draw a report.

    Args:
        report: with at least one suite.
        what: ``overview``; a suite of the report, whose first drawing is made; a drawing
            (``reliability``, ``heatmap``, ``attack-curves``, ...); or ``eps``, accuracy against the
            radius of all attacks.
        suite: key of the suite, where several have the drawing.

    Raises:
        UsageError: there is no such drawing or suite.
        NothingToDraw: no suite of the report has what is asked for.
    """
    name, suite = _drawing(report, what, suite)
    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder, kept_figures() as figures:
        path = Path(folder) / "figure.png"
        if name == OVERVIEW:
            draw_reports([report], path)
        else:
            draw(name, [report], path, suite=suite)
        return _shown(figures[-1] if figures else _picture(path))


def _drawing(report: Report, what: str, suite: str) -> tuple[str, str]:
    """Find the drawing that is meant, and the suite it is of."""
    suites = report.content.suites
    if suite and suite not in suites:
        raise unknown_name("suite", suite, suites)
    if what == OVERVIEW:
        return what, suite
    name = ALIASES.get(what, what)
    if name in DRAWINGS:
        return name, suite
    if what in suites:
        drawn = drawings_of(suites[what])
        if not drawn:
            raise UsageError(
                f"nothing is drawn of suite '{what}'", f"plot one of {', '.join(_names(report))}"
            )
        return drawn[0], what
    raise unknown_name("plot", what, _names(report))


def _names(report: Report) -> list[str]:
    """List what can be asked for of a report."""
    drawn = [name for name in DRAWINGS if suites_with(name, [report])]
    suites = [key for key, part in report.content.ordered_suites().items() if drawings_of(part)]
    return list(dict.fromkeys([OVERVIEW, *ALIASES, *drawn, *suites]))


def _shown(figure: "Figure") -> "Figure":
    """Let a figure show itself in a notebook.

    IPython knows how to show matplotlib's only once pyplot was imported, which these do without.
    """

    def png() -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    figure._repr_png_ = png  # type: ignore[attr-defined]
    return figure


def _picture(path: Path) -> "Figure":
    """Give a file of a drawing that made its figure by other means than ours."""
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    pixels = imread(path)
    figure = Figure(figsize=(pixels.shape[1] / 100, pixels.shape[0] / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(pixels)
    axis.set_axis_off()
    return figure
