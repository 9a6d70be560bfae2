"""How the scores of evaluated images and of others are spread, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustmix.pages.picture import COLOURS, NothingToDraw, new_panels, sources_of, tidy
from robustmix.report.report import Report
from robustmix.report.terminal import show_value
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORDS = {
    "msp": "maximum softmax probability",
    "max_logit": "largest logit",
    "energy": "log-sum-exp",
}
"""What scores are called on an axis."""

GREY = "#999999"
MOST_SETS = 12
"""Lines in one panel that can be told apart."""


def draw_score_histograms(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw the scores of one report: evaluated images filled, each other set as a line.

    Every group's bars add up to 1. The dotted line is the largest score that 95 % of the evaluated
    images reach: what lies to its right passes.

    Args:
        reports: one.
        suites: key of one suite.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        How well each score tells the groups, in words.

    Raises:
        NothingToDraw: there is no such suite, or it has too many sets.
        IncompleteError: the file cannot be written.
    """
    source = next(iter(sources_of(reports, suites)), None)
    if source is None:
        raise NothingToDraw(
            "the report has no ood suite", "evaluate with --suite ood --ood-dataset NAME"
        )
    histograms: Sequence[Mapping[str, Any]] = source.part.details["histograms"]
    if any(len(one["groups"]) > MOST_SETS for one in histograms):
        raise NothingToDraw(f"more than {MOST_SETS} sets make no picture", "evaluate with fewer")
    with new_panels(
        path,
        [""] * len(histograms),
        size=(4.0, 3.4),
        legend="shared",
        title=plain(source.report.content.run.name),
    ) as axes:
        for (axis,), spread in zip(axes, histograms, strict=True):
            _draw(axis, spread)
            axis.set_xlabel(WORDS.get(spread["score"], plain(spread["score"], 40)))
            axis.set_ylabel("share of images")
    said = [
        f"{word} on {plain(condition.name, 40)}: AUROC {show_value(condition.metrics[number])}"
        for condition in source.part.conditions
        for score, word in WORDS.items()
        if (number := f"auroc_{score}") in condition.metrics
    ]
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}."


def _draw(axis: "Axes", spread: Mapping[str, Any]) -> None:
    edges = spread["edges"]
    first = plain(spread["groups"][0]["name"], 40)
    for place, group in enumerate(spread["groups"]):
        label = plain(group["name"], 40)
        share = np.asarray(group["counts"]) / max(1, sum(group["counts"]))
        if place == 0:
            axis.stairs(share, edges, fill=True, color=GREY, alpha=0.5, label=label)
        else:
            colour = COLOURS[(place - 1) % len(COLOURS)]
            style = ("-", "--", "-.")[(place - 1) % 3]
            axis.stairs(share, edges, color=colour, linewidth=1.5, linestyle=style, label=label)
    axis.axvline(
        spread["threshold"],
        color="grey",
        linewidth=1,
        linestyle=":",
        label=f"95 % of {first} reach it",
    )
    axis.set_xlim(edges[0], edges[-1])
    tidy(axis)
