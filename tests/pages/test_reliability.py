"""What the reliability diagrams show is what the tables hold."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from robustmix.errors import IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.pages.reliability import Panel, draw_reliability, draw_report_reliability
from robustmix.report.schema import CalibrationPart
from tests.evaluation.tiny import tiny_images, tiny_model


class Drawn:
    """Points with intervals and bars, in the order they were drawn."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.points: list[tuple[float, float, float, float, str]] = []
        self.bars: list[tuple[float, float, float]] = []
        errorbar, bar = Axes.errorbar, Axes.bar

        def with_interval(axis: Axes, x: float, y: float, *, yerr: Any, **style: Any) -> object:
            (low,), (high,) = yerr
            self.points.append((x, y, y - low, y + high, str(style["markerfacecolor"])))
            return errorbar(axis, x, y, yerr=yerr, **style)

        def with_height(axis: Axes, x: float, height: float, *, width: float, **style: Any) -> Any:
            self.bars.append((x, height, width))
            return bar(axis, x, height, width=width, **style)

        patch.setattr(Axes, "errorbar", with_interval)
        patch.setattr(Axes, "bar", with_height)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_bin_with_its_interval_and_count(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = evaluate(tiny_model(), tiny_images(), ["clean", "calibration"])
    part = report.content.suites["calibration"]
    assert isinstance(part, CalibrationPart)
    assert part.temperature is not None
    drawn = Drawn(monkeypatch)
    path = tmp_path / f"a.{suffix}"
    draw_report_reliability(report, path)
    assert path.stat().st_size > 5000
    tables = [*part.bins_15, *part.temperature["bins_15"]]
    filled = [row for row in tables if row["n"]]
    assert len(drawn.points) == len(filled)
    for (x, y, low, high, face), row in zip(drawn.points, filled, strict=True):
        assert (x, y) == (row["confidence"], row["accuracy"])
        assert (low, high) == pytest.approx(tuple(row["ci"]))
        assert (face == "white") == (row["n"] < 10)
    assert [height for _, height, _ in drawn.bars] == [row["n"] for row in tables]
    assert [x for x, _, _ in drawn.bars] == [row["lo"] for row in tables]
    assert all(width == pytest.approx(1 / 15) for _, _, width in drawn.bars)


def test_the_titles_give_ece_and_temperature(tmp_path: Path) -> None:
    report = evaluate(tiny_model(), tiny_images(), ["clean", "calibration"])
    part = report.content.suites["calibration"]
    assert isinstance(part, CalibrationPart)
    assert part.temperature is not None
    titles: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        true = Axes.set_title

        def noted(axis: Axes, text: str, **style: Any) -> object:
            titles.append(text)
            return true(axis, text, **style)

        patch.setattr(Axes, "set_title", noted)
        draw_report_reliability(report, tmp_path / "a.png")
    assert titles[0].endswith(f"ECE {100 * (part.metrics['ece_15'].value or 0):.2f} %")
    assert f"T = {part.temperature['T']:.3f} (two folds)" in titles[1]
    assert titles[1].endswith(f"ECE {100 * part.temperature['ece_after']['value']:.2f} %")


def test_empty_tables_and_missing_suites(tmp_path: Path) -> None:
    row = {"lo": 0.0, "hi": 1.0, "n": 0, "confidence": None, "accuracy": None, "ci": None}
    draw_reliability([Panel("nothing", [row], None)], tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
    report = evaluate(tiny_model(), tiny_images(), ["clean"])
    with pytest.raises(IntakeError, match="no calibration suite"):
        draw_report_reliability(report, tmp_path / "b.png")
