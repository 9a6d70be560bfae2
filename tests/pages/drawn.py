"""What matplotlib is told to draw, noted down."""

from typing import Any, NamedTuple

import pytest
from matplotlib.axes import Axes


class Line(NamedTuple):
    """One line of a plot."""

    x: list[float]
    y: list[float]
    style: dict[str, Any]


class Drawn:
    """Lines, bands, points with intervals, bars and texts, in the order they are drawn."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lines: list[Line] = []
        self.bands: list[tuple[list[float], list[float]]] = []
        self.points: list[tuple[float, float, float, float, str]] = []
        self.bars: list[tuple[float, float, float]] = []
        self.titles: list[str] = []
        self.texts: dict[tuple[int, int], str] = {}
        for name in ("plot", "fill_between", "errorbar", "bar", "set_title", "text"):
            self._note(patch, name)

    def _note(self, patch: pytest.MonkeyPatch, name: str) -> None:
        method = getattr(Axes, name)

        def noted(axis: Axes, *values: Any, **style: Any) -> Any:
            getattr(self, f"_{name}")(*values, **style)
            return method(axis, *values, **style)

        patch.setattr(Axes, name, noted)

    def _plot(self, x: Any, y: Any, *form: str, **style: Any) -> None:
        self.lines.append(Line(list(x), list(y), style))

    def _fill_between(self, x: Any, low: Any, high: Any, **style: Any) -> None:
        self.bands.append((list(low), list(high)))

    def _errorbar(self, x: Any, y: Any, *, yerr: Any, **style: Any) -> None:
        several = isinstance(y, list)
        xs, ys = (x, y) if several else ([x], [y])
        for place, value, low, high in zip(xs, ys, *yerr, strict=True):
            face = str(style.get("markerfacecolor"))
            self.points.append((place, value, value - low, value + high, face))

    def _bar(self, x: float, height: float, *, width: float, **style: Any) -> None:
        self.bars.append((x, height, width))

    def _set_title(self, text: str, **style: Any) -> None:
        self.titles.append(text)

    def _text(self, x: int, y: int, text: str, **style: Any) -> None:
        self.texts[x, y] = text
