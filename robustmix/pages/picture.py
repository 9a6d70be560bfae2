"""What all pictures share: colours, the file they become, and whose numbers they show."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.errors import IntakeError, RobustmixError
from robustmix.files import atomic_path
from robustmix.metrics.metric import Metric
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart
from robustmix.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

MARKERS = ("o", "s", "^", "D", "v", "P")


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
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png")
    kept = _KEPT.get()
    if kept is not None:
        kept.append(figure)


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


def tidy(axis: "Axes") -> None:
    """Leave of an axis what helps reading: a faint grid and two of four edges."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
