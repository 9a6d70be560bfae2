"""How images made to fool one model fool others, as one matrix with its numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustmix.pages.picture import NothingToDraw, new_panels, sources_of, text_colour
from robustmix.report.report import Report
from robustmix.report.text import plain

MOST_MODELS = 30


def draw_transfer_matrix(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw errors by the model that images were made on (rows) and that was shown them (columns).

    Args:
        reports: one.
        suites: key of one suite.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        The strongest transfer between two models, in words.

    Raises:
        NothingToDraw: there is no such suite, it attacked none, or has too many models.
        IncompleteError: the file cannot be written.
    """
    source = next(iter(sources_of(reports, suites)), None)
    table = None if source is None else source.part.table("transfer")
    if source is None or table is None or not table.rows:
        raise NothingToDraw(
            "the report has no images made on one model and shown to another",
            "evaluate with --suite agreement --other CKPT",
        )
    if len(table.rows) > MOST_MODELS:
        raise NothingToDraw(f"more than {MOST_MODELS} models make no picture", "evaluate fewer")
    names = [plain(str(row[0]), 40) for row in table.rows]
    values = np.array(
        [[np.nan if cell is None else cell for cell in row[1:]] for row in table.rows],
        dtype=np.float64,
    )
    side = 0.9 * len(names)
    title = "errors in percent,\nof images both classify right"
    size = (2.6 + side, 1.8 + side)
    with new_panels(path, [title], size=size, legend="none", pad=0.1) as ((axes,),):
        # A mesh, not an image: browsers smooth small images inside an SVG.
        places = range(len(names))
        axes.pcolormesh(
            places, places, np.ma.masked_invalid(values), cmap="viridis", vmin=0, vmax=1
        )
        axes.invert_yaxis()
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                text = f"{100 * value:.1f}"
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=text_colour(value),
                )
        axes.set_xticks(places, names, fontsize=8)
        axes.set_yticks(places, names, fontsize=8)
        axes.tick_params(length=0)
        axes.set_xlabel("shown to")
        axes.set_ylabel("made on")
        axes.set_aspect("equal")
    return _in_words(names, values)


def _in_words(names: Sequence[str], values: NDArray[np.float64]) -> str:
    between = np.where(np.eye(len(names), dtype=bool), np.nan, values)
    if np.isnan(between).all():
        return "No image is classified right by two models."
    row, column = divmod(int(np.nanargmax(between)), len(names))
    return (
        f"Most transfers from {names[row]} to {names[column]}: errors on "
        f"{100 * between[row, column]:.2f} % of the images that both classify right."
    )
