"""What the reliability diagrams show is what the tables hold."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from robustmix.evaluation.evaluate import evaluate
from robustmix.pages.drawings import draw
from robustmix.pages.picture import NothingToDraw
from robustmix.pages.reliability import Panel, draw_reliability
from robustmix.report import Report
from tests.evaluation.tiny import tiny_images, tiny_model
from tests.pages.drawn import Drawn


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(tiny_model(), tiny_images(), ["clean", "calibration"])


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_bin_with_its_interval_and_count(
    suffix: str, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = report.content.suites["calibration"].details
    drawn = Drawn(monkeypatch)
    path = tmp_path / f"a.{suffix}"
    said = draw("reliability", [report], path)
    assert path.stat().st_size > 5000
    tables = [*details["bins_15"], *details["temperature"]["bins_15"]]
    filled = [row for row in tables if row["n"]]
    assert len(drawn.points) == len(filled)
    for (x, y, low, high, face), row in zip(drawn.points, filled, strict=True):
        assert (x, y) == (row["confidence"], row["accuracy"])
        assert (low, high) == pytest.approx(tuple(row["ci"]))
        assert (face == "white") == (row["n"] < 10)
    assert [height for _, height, _ in drawn.bars] == [row["n"] for row in tables]
    assert [x for x, _, _ in drawn.bars] == [row["lo"] for row in tables]
    assert all(width == pytest.approx(1 / 15) for _, _, width in drawn.bars)
    first = [row for row in details["bins_15"] if row["n"]]
    sure = sum(row["confidence"] > row["accuracy"] for row in first)
    assert f"As the model is: surer than right in {sure} of {len(first)} bins" in said


def test_the_titles_give_ece_and_temperature(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = report.content.suites["calibration"]
    drawn = Drawn(monkeypatch)
    draw("reliability", [report], tmp_path / "a.png")
    scaled = part.details["temperature"]
    assert drawn.titles[0].endswith(f"ECE {100 * (part.metrics['ece_15'].value or 0):.2f} %")
    assert f"T = {scaled['T']:.3f} (two folds)" in drawn.titles[1]
    assert drawn.titles[1].endswith(f"ECE {100 * scaled['ece_after']['value']:.2f} %")


def test_empty_tables_and_missing_suites(report: Report, tmp_path: Path) -> None:
    row = {"lo": 0.0, "hi": 1.0, "n": 0, "confidence": None, "accuracy": None, "ci": None}
    draw_reliability([Panel("nothing", [row], None)], tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
    # Clean has no such tables, whatever is asked for.
    for suite in ("clean", "calibration@elsewhere"):
        with pytest.raises(NothingToDraw, match="no calibration suite"):
            draw("reliability", [report], tmp_path / "b.png", suite=suite)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("panels", [1, 2])
def test_the_legend_is_inside_the_picture(
    panels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    save = Figure.savefig

    def savefig(self: Figure, *args: Any, **more: Any) -> None:
        save(self, *args, **more)
        seen.append((self.legends[0].get_window_extent(), self.bbox))

    monkeypatch.setattr(Figure, "savefig", savefig)
    row = {"lo": 0.0, "hi": 1.0, "n": 3, "confidence": 0.5, "accuracy": 0.6, "ci": [0.2, 0.9]}
    draw_reliability([Panel("as it is", [row], None)] * panels, tmp_path / "a.png")
    ((legend, whole),) = seen
    assert whole.x0 <= legend.x0 < legend.x1 <= whole.x1
