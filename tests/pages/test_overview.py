"""The picture of four panels: each shows the numbers of the first suite that has them."""

from pathlib import Path

import pytest

from robustmix.pages.overview_figure import draw_reports
from robustmix.report import Report
from robustmix.report.schema import ConditionPart, CurvePart, Shown, SuitePart
from tests.pages.drawn import Drawn
from tests.pages.made import made, number, points


def suites(shift: float) -> dict[str, SuitePart]:
    row = {"lo": 0.4, "hi": 0.6, "n": 12, "confidence": 0.5, "accuracy": 0.6, "ci": [0.4, 0.8]}
    empty = {"lo": 0.6, "hi": 1, "n": 0, "confidence": None, "accuracy": None, "ci": None}
    means = {"mine": 0.2 + shift, "fog": 0.4 + shift}
    curve = CurvePart(name="eps", x_label="eps", x=[0, 2 / 255, 8 / 255], at=["0", "2", "8"])
    return {
        "odd": SuitePart(kind="odd", status="failed", shown=Shown(drawings=["heatmap"])),
        "calibration": SuitePart(
            kind="calibration",
            status="ok",
            metrics={"ece_15": number(0.1)},
            details={"bins_15": [row, empty]},
            shown=Shown(drawings=["reliability"]),
        ),
        "corruption": SuitePart(
            kind="corruption",
            status="ok",
            conditions=[
                ConditionPart(name=f"by_corruption:{name}", metrics={"acc_mean": number(value)})
                for name, value in means.items()
            ],
            shown=Shown(drawings=["heatmap"]),
        ),
        "fgsm": SuitePart(
            kind="attack",
            status="ok",
            conditions=points(**{"0": 0.8, "2": 0.6 + shift, "8": 0.1}),
            curves=[curve],
            details={"norm": "linf"},
            shown=Shown(drawings=["attack-curves"]),
        ),
        "occlusion": SuitePart(
            kind="occlusion",
            status="ok",
            conditions=points(**{"0": 0.8, "1": 0.7, "salient:0": 0.5, "salient:1": 0.4}),
            curves=[
                CurvePart(name="salient", x_label="", x=[0, 1], at=["salient:0", "salient:1"]),
                CurvePart(name="random", x_label="", x=[0, 1], at=["0", "1"]),
            ],
            shown=Shown(drawings=["occlusion-curves"]),
        ),
    }


def test_each_panel_holds_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    reports = [made(suites(0.0), name="a"), made(suites(0.1), name="b")]
    draw_reports(reports, tmp_path / "a.svg")
    lines = [(line.x, line.y, line.style.get("label")) for line in drawn.lines]
    assert lines == [
        ([0, 1], [0, 1], None),
        *(([0.5], [0.6], f"{name}, ECE 10.0 %") for name in "ab"),
        *((pytest.approx([0, 2, 8]), [0.8, 0.6 + up, 0.1], n) for n, up in (("a", 0), ("b", 0.1))),
        *(([0, 1], [0.8, 0.7], name) for name in "ab"),
    ]
    bins, corruptions = drawn.points[:2], drawn.points[2:]
    assert [point[:4] for point in bins] == [pytest.approx((0.5, 0.6, 0.4, 0.8))] * 2
    # The benchmark's first, the reports beside each other at each corruption.
    assert [point[:2] for point in corruptions] == [
        *(pytest.approx((-0.075, 0.4)), pytest.approx((0.925, 0.2))),
        *(pytest.approx((0.075, 0.5)), pytest.approx((1.075, 0.3))),
    ]
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for title in ("FGSM", "Random PatchDrop", "eps in linf (grey levels of 255)", "mine", "fog"):
        assert f"<!-- {title} -->" in text


def test_what_a_report_lacks_is_an_empty_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    empty: Report = made({})
    draw_reports([empty], tmp_path / "a.png")
    assert [line.y for line in drawn.lines] == [[0, 1]]  # the diagonal alone
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
