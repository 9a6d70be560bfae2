"""Maps of some images' true classes, with the boxes that were found and those that are true."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustmix.metrics.localised import SIDE
from robustmix.pages.picture import COLOURS, NothingToDraw, new_panels, sources_of
from robustmix.report.report import Report
from robustmix.report.schema import JsonDict
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

COLUMNS = 4
"""Maps side by side."""

MOST = 24
"""Maps of one picture, and true boxes of one map."""

MOST_CELLS = 64
"""Of a side of a map."""

EDGE = 5
"""Pixels around a map."""

TRUE, FOUND = "white", COLOURS[1]


def draw_localisation_maps(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw the maps that a localisation suite keeps as examples; no pixel of a picture is shown.

    Args:
        reports: one.
        suites: key of one suite.
        path: PNG, SVG or PDF, by its suffix.

    Returns:
        How many of the found boxes are right, in words.

    Raises:
        NothingToDraw: there is no such suite, or it has no examples.
        IncompleteError: the file cannot be written.
    """
    source = next(iter(sources_of(reports, suites)), None)
    examples = [] if source is None else list(source.part.details.get("examples", []))[:MOST]
    if source is None or not examples:
        raise NothingToDraw("the report has no maps", "evaluate with --suite localisation")
    details = source.part.details
    with new_panels(
        path,
        [_map_title(example) for example in examples],
        size=(2.1, 2.1),
        columns=COLUMNS,
        legend="none",
        title=_title(source.report.content.run.name, details),
        pad=0.06,
    ) as axes:
        for (axis,), example in zip(axes, examples, strict=True):
            _draw_map(axis, example)
    return _in_words(examples, details)


def _title(name: str, details: JsonDict) -> str:
    shown = plain(name, 60)
    if "threshold" not in details:
        return shown
    return f"{shown}: true box dashed, found box solid, threshold {float(details['threshold']):.3g}"


def _map_title(example: JsonDict) -> str:
    iou = f"\nIoU {float(example['iou']):.2f}" if "iou" in example else ""
    return f"{plain(example['class'], 24)}{iou}"


def _draw_map(axis: "Axes", example: JsonDict) -> None:
    cells = np.array(example["map"], dtype=np.float64)
    if cells.ndim != 2 or max(cells.shape) > MOST_CELLS:
        raise ValueError("a map has rows and columns")
    height, width = cells.shape
    # A mesh, not an image: browsers smooth small images inside an SVG.
    edges = [np.linspace(0, SIDE, count + 1) for count in (width, height)]
    axis.pcolormesh(*edges, cells, cmap="viridis", vmin=0, vmax=255, rasterized=False)
    # The found box lies over the true one, which may be the same.
    for box in list(example.get("true", []))[:MOST]:
        axis.add_patch(_outline(box, colour=TRUE, dashed=True))
    if "found" in example:
        axis.add_patch(_outline(example["found"], colour=FOUND, dashed=False))
    # Boxes often end at the edge, where the frame would hide them.
    axis.set_xlim(-EDGE, SIDE + EDGE)
    axis.set_ylim(SIDE + EDGE, -EDGE)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])


def _outline(box: Sequence[float], *, colour: str, dashed: bool) -> "Rectangle":
    from matplotlib.patches import Rectangle

    left, top, right, bottom = (float(number) for number in box)
    style = (0, (4, 3)) if dashed else "-"
    return Rectangle(
        (left, top), right - left + 1, bottom - top + 1,
        fill=False, edgecolor=colour, linewidth=1.6, linestyle=style,
    )  # fmt: skip


def _in_words(examples: Sequence[JsonDict], details: JsonDict) -> str:
    said = f"{len(examples)} maps of the true class; the true box is dashed, the found one solid."
    ious = [float(one["iou"]) for one in examples if "iou" in one]
    if not ious:
        return said
    bound = float(details["iou"])
    right = sum(iou >= bound for iou in ious)
    return f"{said} {right} of {len(ious)} found boxes have an IoU of {bound:g} or more."
