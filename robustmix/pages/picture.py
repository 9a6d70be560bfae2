"""What all pictures share: colours, the file they become, and whose numbers they show."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from robustmix.errors import IntakeError, RobustmixError
from robustmix.files import atomic_path, refuse_replacing
from robustmix.metrics.metric import Metric
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

MARKERS = ("o", "s", "^", "D", "v", "P")

LINES = ("-", "--", "-.")
"""Of the reports of one picture in turn; dotted is the second metric of a curve."""

PANEL = (4.6, 3.4)
"""Width and height of a panel in inches: on a telephone its labels can still be read."""

COLUMNS = 3
"""Most panels side by side."""

LETTER = 0.065
"""Width of a letter of a legend in inches, about."""


@contextmanager
def of_our_form() -> Iterator[None]:
    """Turn what a stranger's report makes of tables and pictures into one line.

    Raises:
        IntakeError: something in it is of another form than robustmix writes.
    """
    try:
        yield
    except RobustmixError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise IntakeError(
            f"a report holds something of another form than robustmix writes "
            f"({type(error).__name__}: {plain(error)})",
            "evaluate again, or check it with `robustmix report validate`",
            code="E-REPORT",
        ) from None


class NothingToDraw(IntakeError):
    """No suite of the reports has what a picture shows."""


class Style(NamedTuple):
    """How one curve is drawn."""

    colour: str
    marker: str
    line: str = "-"


def style_of(place: int) -> Style:
    """Give the look of a report, the same in every picture in which it stands beside others.

    Example:
        >>> style_of(1)
        Style(colour='#D55E00', marker='s', line='--')
    """
    return Style(
        COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], LINES[place % len(LINES)]
    )


class Source(NamedTuple):
    """A suite of a report."""

    report: Report
    key: str
    part: SuitePart


def sources_of(reports: Sequence[Report], suites: Sequence[str]) -> list[Source]:
    """List the suites that ended well, of every report that has them, report by report."""
    return [
        Source(report, key, part)
        for report in reports
        for key, part in report.content.ordered_suites().items()
        if key in suites and part.status == "ok"
    ]


_KEPT: "ContextVar[list[Figure] | None]" = ContextVar("kept figures", default=None)
"""Where figures are kept beside being written, while someone asks for that."""


@contextmanager
def kept_figures() -> "Iterator[list[Figure]]":
    """Give a list to which every figure is added that is drawn meanwhile.

    Drawings write files, which is what pages and commands want of them; only a notebook wants the
    figure too.
    """
    figures: list[Figure] = []
    token = _KEPT.set(figures)
    try:
        yield figures
    finally:
        _KEPT.reset(token)


@contextmanager
def new_figure(
    path: Path, width: float, height: float, *, dpi: int = 130, pad: float = 0.04
) -> "Iterator[Figure]":
    """Give a figure to draw into, which is saved when all went well.

    Args:
        path: PNG, SVG or PDF, by its suffix.
        width: in inches.
        height: likewise.
        dpi: pixels an inch of a PNG.
        pad: around every panel, in inches.

    Raises:
        IncompleteError: the file cannot be written.
    """
    # No pyplot: it would keep every figure for good, and open windows where there is a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    yield figure
    refuse_replacing(path, picture=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png")
    kept = _KEPT.get()
    if kept is not None:
        kept.append(figure)


class Key(NamedTuple):
    """What a legend says of one line, row of points or area."""

    label: str
    colour: str
    marker: str = ""
    line: str = ""
    """How it is dashed, in matplotlib's signs; empty: points or an area alone."""

    filled: bool = True
    """Whether its marker is."""

    area: bool = False


class Panel(NamedTuple):
    """A panel that became a picture of its own."""

    path: Path
    title: str
    keys: tuple[Key, ...]


_APART: "ContextVar[list[Panel] | None]" = ContextVar("panels apart", default=None)
"""Where panels are noted that become files of their own, while someone asks for that."""


@contextmanager
def panels_apart() -> Iterator[list[Panel]]:
    """Give a list of the files that every panel drawn meanwhile becomes.

    A page sets them side by side where there is room and below each other where there is not, and
    writes their titles and legends itself, so that long names wrap.
    """
    panels: list[Panel] = []
    token = _APART.set(panels)
    try:
        yield panels
    finally:
        _APART.reset(token)


@contextmanager
def new_panels(
    path: Path,
    titles: Sequence[str],
    *,
    size: tuple[float, float] = PANEL,
    columns: int = COLUMNS,
    heights: Sequence[int] = (1,),
    alike: bool = False,
    legend: Literal["each", "shared", "none"] = "each",
    title: str = "",
    pad: float = 0.04,
    margins: tuple[float, float, float, float] | None = None,
) -> "Iterator[list[list[Axes]]]":
    """Give the axes of panels to draw into: one picture, or one a panel inside ``panels_apart``.

    Args:
        path: PNG, SVG or PDF, by its suffix; files of single panels stand beside it.
        titles: of the panels, one each.
        size: of a panel, in inches.
        columns: most panels side by side.
        heights: of the axes of a panel, which lie below each other; by their ratio.
        alike: whether panels share the scale of their y axes, and its label.
        legend: below each panel, below all of them, or none.
        title: of the whole; a page has its own.
        pad: around every panel, in inches.
        margins: left, right, below and above the axes of a panel that is a picture of its own, in
            inches; where they are not known beforehand they are measured, which takes its time.

    Raises:
        IncompleteError: the file cannot be written.
    """
    apart = _APART.get()
    if apart is None:
        with _together(
            path, titles, size=size, columns=columns, heights=heights, legend=legend, title=title,
            pad=pad,
        ) as axes:  # fmt: skip
            yield axes
            if alike:
                _share_scale(axes)
                for place, panel in enumerate(axes):
                    if place % columns:
                        for axis in panel:
                            axis.set_ylabel("")
        return
    with ExitStack() as files:
        paths = [path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(len(titles))]
        figures = [files.enter_context(new_figure(one, *size, pad=pad)) for one in paths]
        if margins is not None:
            left, right, bottom, top = margins
            for figure in figures:
                figure.set_layout_engine(None)
                figure.subplots_adjust(
                    left / size[0], bottom / size[1], 1 - right / size[0], 1 - top / size[1]
                )
        axes = [
            list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights).flat)
            for figure in figures
        ]
        yield axes
        if alike:
            _share_scale(axes)
        for one, name, panel in zip(paths, titles, axes, strict=True):
            apart.append(Panel(one, name, () if legend == "none" else _keys_of(panel)))


@contextmanager
def _together(
    path: Path,
    titles: Sequence[str],
    *,
    size: tuple[float, float],
    columns: int,
    heights: Sequence[int],
    legend: str,
    title: str,
    pad: float,
) -> "Iterator[list[list[Axes]]]":
    columns = min(columns, len(titles))
    rows, deep = math.ceil(len(titles) / columns), len(heights)
    width, lines = size[0] * columns, max(text.count("\n") for text in titles)
    with new_figure(path, width, size[1] * rows, dpi=120, pad=pad) as figure:
        grid = figure.subplots(
            rows * deep, columns, squeeze=False, height_ratios=list(heights) * rows
        )
        axes = [
            [grid[place // columns * deep + n][place % columns] for n in range(deep)]
            for place in range(rows * columns)
        ]
        for panel in axes[len(titles) :]:
            for axis in panel:
                axis.set_visible(False)
        axes = axes[: len(titles)]
        yield axes
        for panel, text in zip(axes, titles, strict=True):
            panel[0].set_title(text, fontsize=9 if size[0] < PANEL[0] else 10, loc="left")
        room = 0.22 * lines * rows + (0.3 if title else 0)
        if legend == "each":
            room += rows * max(_legend_below(panel[-1], panel, size[0]) for panel in axes)
        elif legend == "shared":
            room += _legend_of_all(figure, axes, width)
        if title:
            figure.suptitle(title, fontsize=10)
        figure.set_size_inches(width, size[1] * rows + room)


def _handles(axes: "Sequence[Axes]") -> "dict[str, Artist]":
    return {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }


def _side_by_side(labels: Sequence[str], width: float) -> int:
    """Count the entries of a legend that have room beside each other."""
    longest = max(map(len, labels), default=0)
    return max(1, min(len(labels), int(width / (0.6 + LETTER * longest))))


def _legend_below(axis: "Axes", panel: "Sequence[Axes]", width: float) -> float:
    """Explain a panel below it, where no curve is in the way; give the height that takes."""
    handles = _handles(panel)
    if not handles:
        return 0.0
    columns = _side_by_side(list(handles), width - 0.5)
    axis.legend(
        handles.values(),
        handles.keys(),
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=columns,
        frameon=False,
    )
    return 0.2 + 0.18 * math.ceil(len(handles) / columns)


def _legend_of_all(figure: "Figure", axes: "Sequence[Sequence[Axes]]", width: float) -> float:
    handles = _handles([axis for panel in axes for axis in panel])
    columns = _side_by_side(list(handles), width)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
    return 0.2 + 0.18 * math.ceil(len(handles) / columns)


def _share_scale(axes: "Sequence[Sequence[Axes]]") -> None:
    for row in zip(*axes, strict=True):
        limits = [axis.get_ylim() for axis in row]
        for axis in row:
            axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _keys_of(axes: "Sequence[Axes]") -> tuple[Key, ...]:
    return tuple(_key(label, handle) for label, handle in _handles(axes).items())


def _key(label: str, handle: "Artist") -> Key:
    from matplotlib.colors import to_hex
    from matplotlib.container import ErrorbarContainer
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if isinstance(handle, ErrorbarContainer):
        handle = handle.lines[0]
    if isinstance(handle, Line2D):
        shown, marker = handle.get_linestyle(), str(handle.get_marker())
        return Key(
            label,
            to_hex(handle.get_color()),
            marker=marker if marker in _SIGNS else "",
            line="" if shown in ("None", "none", "") else str(shown),
            filled=to_hex(handle.get_markerfacecolor()) == to_hex(handle.get_color()),
            area=handle.get_linewidth() > 3,
        )
    assert isinstance(handle, Patch)
    if handle.get_fill():
        return Key(label, to_hex(handle.get_facecolor()), area=True)
    return Key(label, to_hex(handle.get_edgecolor()), line=str(handle.get_linestyle()))


_SIGNS = frozenset((*MARKERS, "X", "<", ">"))
"""Markers that a page can show."""


def values_of(metrics: Sequence[Metric]) -> list[float]:
    """Give the values of metrics; NaN, which is drawn as a gap, where one is undefined."""
    return [float("nan") if metric.value is None else metric.value for metric in metrics]


def bounds_of(metrics: Sequence[Metric]) -> tuple[list[float], list[float]]:
    """Give the ends of 95 % intervals; where there is none, both are the value."""
    values = values_of(metrics)
    ends = [metric.ci or (value, value) for metric, value in zip(metrics, values, strict=True)]
    return [low for low, _ in ends], [high for _, high in ends]


def draw_band(axis: "Axes", x: Sequence[float], metrics: Sequence[Metric], colour: str) -> None:
    """Fill the 95 % intervals along a curve; a part without intervals stays empty."""
    low, high = bounds_of(metrics)
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def draw_line(
    axis: "Axes",
    x: Sequence[float],
    metrics: Sequence[Metric],
    style: Style,
    *,
    label: str,
    band: bool = True,
) -> None:
    """Draw a curve, with its 95 % band if wanted."""
    if band:
        draw_band(axis, x, metrics, style.colour)
    axis.plot(
        x,
        values_of(metrics),
        label=label,
        color=style.colour,
        marker=style.marker,
        linestyle=style.line,
        markersize=4.5,
        linewidth=1.5,
    )


def draw_whiskers(
    axis: "Axes", x: Sequence[float], metrics: Sequence[Metric], style: Style, *, label: str
) -> None:
    """Draw single points with their 95 % intervals."""
    values, (low, high) = values_of(metrics), bounds_of(metrics)
    # Rounding may put an end on the wrong side of the value, and matplotlib refuses that.
    below = [max(0.0, value - end) for value, end in zip(values, low, strict=True)]
    above = [max(0.0, end - value) for value, end in zip(values, high, strict=True)]
    axis.errorbar(
        x,
        values,
        yerr=[below, above],
        label=label,
        color=style.colour,
        fmt=style.marker,
        markersize=5,
        linewidth=1,
        capsize=2,
    )


def text_colour(share: float) -> str:
    """Choose what can be read on a cell of the colour map viridis.

    Args:
        share: place of the cell in the map, from 0 to 1.

    Example:
        >>> text_colour(0.1), text_colour(0.9)
        ('#fefefe', '#000000')
    """
    # Where both have the same contrast by WCAG. White is not quite: a page turns white into its
    # own ground.
    return "#fefefe" if share < 0.44 else "#000000"


def tidy(axis: "Axes") -> None:
    """Leave of an axis what helps reading: a faint grid and two of four edges."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
