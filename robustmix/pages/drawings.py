"""The one table of drawings: what can be drawn of a suite; needs no matplotlib."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from robustmix.pages.elements import Picture
from robustmix.pages.picture import NothingToDraw, of_our_form
from robustmix.pages.svg import inline_figure
from robustmix.report.text import plain
from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.report.report import Report
    from robustmix.report.schema import SuitePart

Draw: TypeAlias = "Callable[[Sequence[Report], Sequence[str], Path], str]"
"""Reports, keys of their suites, where to -> what the picture shows, in words."""


@dataclass(frozen=True)
class DrawingRow(Row):
    """What is known of a drawing before it is imported."""

    title: str = ""
    """Its heading; ``{suites}`` stands for their names. Empty: that of what it is shown beside."""

    together: bool = True
    """Whether one picture takes several reports and suites; else there is one for each."""

    also: tuple[str, ...] = ()
    """Drawings of the same suites that a page shows after it."""

    beside: tuple[str, ...] = ()
    """Drawings that a page of several reports shows in its place: it sets them side by side."""

    columns: int = 3
    """Most panels that a page sets side by side."""


CURVES = "curves"

DRAWINGS: "Table[Draw, DrawingRow]" = Table(
    "drawing",
    DrawingRow,
    {
        "reliability": DrawingRow(
            "robustmix.pages.reliability:draw_suite_reliability",
            "accuracy against confidence, before and after scaling",
            title="Reliability of {suites}",
            together=False,
            beside=("reliability-together",),
        ),
        "reliability-together": DrawingRow(
            "robustmix.pages.reliability:draw_reliability_together",
            "accuracy against confidence of several reports, before and after scaling",
            title="Reliability of {suites}",
        ),
        "heatmap": DrawingRow(
            "robustmix.pages.heatmap:draw_heatmap",
            "accuracy by corruption and severity",
            title="Accuracy under corruptions ({suites})",
            together=False,
            also=("severity",),
            beside=("severity", "heatmap", "severities"),
        ),
        "severity": DrawingRow(
            "robustmix.pages.severity_curves:draw_severity",
            "mean accuracy over corruptions by severity",
            title="Mean accuracy by severity ({suites})",
        ),
        "severities": DrawingRow(
            "robustmix.pages.severity_curves:draw_severities",
            "accuracy by severity, a panel for each corruption",
            title="Accuracy by severity under each corruption ({suites})",
            columns=5,
        ),
        "attack-curves": DrawingRow(
            "robustmix.pages.attack_curves:draw_attack_curves",
            "accuracy against eps",
            title="Accuracy against the radius of the attack",
            beside=("attacks-together",),
        ),
        "attacks-together": DrawingRow(
            "robustmix.pages.attack_curves:draw_attacks_together",
            "accuracy against eps, a panel for each attack",
            title="Accuracy against the radius of the attack",
        ),
        "occlusion-curves": DrawingRow(
            "robustmix.pages.occlusion_curves:draw_occlusion",
            "accuracy against the share of hidden patches",
            title="Accuracy with hidden patches",
            beside=("curves-together",),
        ),
        "shuffle-curve": DrawingRow(
            "robustmix.pages.curves:draw_curves",
            "accuracy against the number of shuffled pieces",
            title="Accuracy with shuffled patches",
            beside=("curves-together",),
        ),
        "localisation-maps": DrawingRow(
            "robustmix.pages.localisation_maps:draw_localisation_maps",
            "maps of the true class with the true and the found box",
            title="Maps of the true class ({suites})",
            together=False,
        ),
        "score-histograms": DrawingRow(
            "robustmix.pages.score_histograms:draw_score_histograms",
            "scores of evaluated and out-of-distribution images",
            title="Scores of {suites}",
            together=False,
        ),
        "transfer-matrix": DrawingRow(
            "robustmix.pages.transfer_matrix:draw_transfer_matrix",
            "errors of each model on images made on each",
            title="Transfer of adversarial images ({suites})",
            together=False,
        ),
        "curves-together": DrawingRow(
            "robustmix.pages.overlaid_curves:draw_overlaid",
            "the curves of several reports over each other",
        ),
        CURVES: DrawingRow(
            "robustmix.pages.curves:draw_curves",
            "the curves of any suite that names no other drawing",
            title="Curves of {suites}",
            beside=("curves-together",),
        ),
    },
)


def drawings_of(part: "SuitePart") -> list[str]:
    """Name what is drawn of a suite: what it asks for, else its curves.

    A drawing of a plugin that is not installed here is passed over: the page is made without it.
    """
    known = [name for name in part.shown.drawings if name in DRAWINGS]
    return known or [CURVES] * bool(part.curves)


def suites_with(name: str, reports: "Sequence[Report]") -> list[str]:
    """Give the keys of the suites of some reports that a drawing shows, each once."""
    return list(
        dict.fromkeys(
            key
            for report in reports
            for key, part in report.content.ordered_suites().items()
            if part.status == "ok" and any(name in _with(one) for one in drawings_of(part))
        )
    )


def _with(name: str) -> tuple[str, ...]:
    """Name a drawing and those that pages show with it or in its place."""
    row = DRAWINGS.row(name)
    return (name, *row.also, *row.beside)


def draw(name: str, reports: "Sequence[Report]", path: Path, *, suite: str = "") -> str:
    """Draw one picture of some reports into a file.

    Args:
        name: of the drawing, a name of ``DRAWINGS``.
        reports: at least one; a drawing that shows one alone takes the first.
        path: PNG, SVG or PDF, by its suffix.
        suite: key of the suite; if empty all that name the drawing, or the first of them if it
            shows one alone.

    Returns:
        What the picture shows, in words.

    Raises:
        UsageError: there is no such drawing.
        NothingToDraw: no suite of the reports has what it shows.
        IntakeError: a report holds something of another form than robustmix writes.
        IncompleteError: the file cannot be written.
    """
    row = DRAWINGS.row(name)
    suites = [key for key in suites_with(name, reports) if suite in ("", key)]
    if not row.together:
        reports, suites = reports[:1], suites[:1]
    with of_our_form():
        return DRAWINGS[name](reports, suites, path)


def pictures_of(
    reports: "Sequence[Report]", suites: Sequence[str], *, key: str
) -> Iterator[Picture]:
    """Make the pictures of some suites for a page, one for several where the drawing can.

    Args:
        reports: at least one.
        suites: keys of the suites to draw.
        key: of letters, digits and hyphens; ids in the pictures begin with it.
    """
    parts = [part for report in reports for part in report.content.ordered_suites().items()]
    names = dict.fromkeys(
        name for suite, part in parts if suite in suites for name in drawings_of(part)
    )
    several = len(reports) > 1
    number = 0
    for asked in names:
        row = DRAWINGS.row(asked)
        of_asked = [suite for suite in _asking(asked, reports) if suite in suites]
        for name in (row.beside or (asked,)) if several else (asked, *row.also):
            for of, chosen, title in _pictures(name, asked, reports, of_asked):
                drawing = partial(DRAWINGS[name], of, chosen)
                try:
                    drawn = inline_figure(drawing, key=f"{key}-{number}", title=title)
                except NothingToDraw:  # this report lacks the suite, or the suite has no curve
                    continue
                yield Picture(
                    title=title,
                    alt=drawn.description,
                    panels=drawn.panels,
                    columns=DRAWINGS.row(name).columns,
                )
                number += 1


def _asking(name: str, reports: "Sequence[Report]") -> list[str]:
    """Give the keys of the suites that ask for a drawing themselves, each once."""
    found = [
        key
        for report in reports
        for key, part in report.content.ordered_suites().items()
        if part.status == "ok" and name in drawings_of(part)
    ]
    return list(dict.fromkeys(found))


def _pictures(
    name: str, asked: str, reports: "Sequence[Report]", suites: Sequence[str]
) -> "Iterator[tuple[Sequence[Report], Sequence[str], str]]":
    """Yield of which reports and suites the pictures of a drawing are, and their titles."""
    row = DRAWINGS.row(name)
    words = row.title or DRAWINGS.row(asked).title or name
    if row.together:
        yield reports, suites, words.format(suites=", ".join(suites))
        return
    for report in reports:
        for suite in suites:
            title = words.format(suites=suite)
            if len(reports) > 1:
                title = f"{plain(report.content.run.name)}: {title}"
            yield [report], [suite], title
