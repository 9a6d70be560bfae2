"""Curves of many runs: what is taken from reports, how seeds become one line, and its colours."""

import math
from pathlib import Path

import pytest

from robustmix.errors import IntakeError
from robustmix.pages.picture import COLOURS
from robustmix.pages.run_curves import (
    KINDS,
    Curve,
    CurveKey,
    RowCurves,
    curves_in,
    draw_rows,
    pictures_of_runs,
    together,
)
from robustmix.report.schema import ConditionPart, CurvePart, Shown, SuitePart
from tests.pages.drawn import Drawn
from tests.pages.made import made, number, points


def suites() -> dict[str, SuitePart]:
    row = {"n": 12, "confidence": 0.5, "accuracy": 0.6}
    empty = {"n": 0, "confidence": None, "accuracy": None}
    eps = CurvePart(name="eps", x_label="eps", x=[0, 2 / 255, 8 / 255], at=["0", "2", "8"])
    attack = points(**{"0": 0.8, "2": 0.6, "8": 0.1})
    linf = {"norm": "linf", "space": "model_input"}
    return {
        "clean": SuitePart(kind="clean", status="ok", metrics={"top1": number(0.9)}),
        "calibration": SuitePart(
            kind="calibration",
            status="ok",
            details={"bins_15": [row, empty]},
            shown=Shown(drawings=["reliability"]),
        ),
        "corruption": SuitePart(
            kind="corruption",
            status="ok",
            conditions=[
                ConditionPart(name=f"by_severity:{s}", metrics={"acc_mean": number(1 - s / 10)})
                for s in (3, 1, 5)
            ],
            shown=Shown(drawings=["heatmap"]),
        ),
        **{
            name: SuitePart(
                kind="attack",
                status="failed" if name == "pgd" else "ok",
                conditions=attack,
                curves=[eps],
                details={**linf, **details},
                shown=Shown(drawings=["attack-curves"]),
            )
            for name, details in (("fgsm", {}), ("paper", {"space": "normalised"}), ("pgd", {}))
        },
        "occlusion": SuitePart(
            kind="occlusion",
            status="ok",
            conditions=points(**{"0": 0.8, "1": 0.7, "s:0": 0.5, "s:1": 0.4}),
            curves=[
                CurvePart(name="random", x_label="", x=[0, 1], at=["0", "1"]),
                CurvePart(name="salient", x_label="", x=[0, 1], at=["s:0", "s:1"]),
            ],
            shown=Shown(drawings=["occlusion-curves"]),
        ),
    }


def test_what_is_taken_from_a_report() -> None:
    found = curves_in(made(suites()))
    assert set(found) == {
        CurveKey("severity", "corruption"),
        CurveKey("reliability", "calibration"),
        CurveKey("attack", "fgsm", "linf"),
        CurveKey("occlusion", "occlusion", "random"),
        CurveKey("occlusion", "occlusion", "salient"),
    }
    severity = found[CurveKey("severity", "corruption")]
    # Clean accuracy is severity 0; places rise, whatever order the report has.
    assert (severity.x, severity.y) == ([0, 1, 3, 5], [0.9, 0.9, 0.7, 0.5])
    assert severity.low == pytest.approx([0.85, 0.85, 0.65, 0.45])
    assert found[CurveKey("attack", "fgsm", "linf")].x == pytest.approx([0, 2, 8])
    bins = found[CurveKey("reliability", "calibration")]
    assert (bins.x[0], bins.y[0], list(bins.n)) == (0.5, 0.6, [12, 0])
    assert math.isnan(bins.x[1])


def test_a_report_of_another_form_is_one_line() -> None:
    broken = suites()
    broken["calibration"].details["bins_15"] = [{"n": "many"}]
    with pytest.raises(IntakeError, match="another form than robustmix writes"):
        curves_in(made(broken))


def curve(*y: float, x: tuple[float, ...] = (1, 2)) -> Curve:
    return Curve(x, y, y, y)


def test_seeds_become_a_mean_and_a_range() -> None:
    found = together([curve(0.2, 0.6), curve(0.4, 0.5), curve(0.9, 0.7)])
    assert found.y == pytest.approx([0.5, 0.6])
    assert (found.low, found.high) == ([0.2, 0.5], [0.9, 0.7])
    one = Curve((1, 2), (0.5, 0.6), (0.4, 0.5), (0.6, 0.7))
    assert together([one]) == one
    # What most runs have counts; of as many the longest, whichever comes first.
    others = [curve(0.1, x=(3,)), curve(0.2, x=(3,))]
    assert together([one, *others]).y == pytest.approx([0.15])
    short = curve(0.1, x=(1,))
    assert together([short, one]) == together([one, short]) == one


def test_bins_are_pooled_by_their_images() -> None:
    nan = math.nan
    first = Curve((0.5, nan, nan), (0.6, nan, nan), (), (), (30, 0, 0))
    second = Curve((0.7, 0.9, nan), (0.2, 0.8, nan), (), (), (10, 5, 0))
    found = together([first, second])
    # (30 * .5 + 10 * .7) / 40 and (30 * .6 + 10 * .2) / 40.
    assert list(found.x[:2]) == pytest.approx([0.55, 0.9])
    assert list(found.y[:2]) == pytest.approx([0.5, 0.8])
    assert math.isnan(found.y[2])
    assert list(found.n) == [40, 5, 0]


EPOCHS = CurveKey("epochs")


def row(label: str, at: int, *runs: Curve, panel: str = "", **others: object) -> RowCurves:
    drawn = [{EPOCHS: run} for run in runs]
    return RowCurves(label=label, row=at, panel=panel, runs=drawn, **others)  # type: ignore[arg-type]


def test_a_row_has_its_colour_in_every_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    # The second row has no curve over epochs, and the third keeps its own colour all the same.
    rows = [row("a", 0, curve(0.1, 0.2)), row("b", 1), row("c", 2, curve(0.3, 0.4))]
    draw_rows(rows, EPOCHS, tmp_path / "a.svg")
    lines = {line.style["label"]: line for line in drawn.lines if "label" in line.style}
    assert {name: line.style["color"] for name, line in lines.items()} == {
        "a": COLOURS[0],
        "c": COLOURS[2],
    }
    assert (lines["c"].x, lines["c"].y) == ([1, 2], [0.3, 0.4])
    drawn.lines.clear()
    many = [row(str(i), i, curve(0.1, 0.2)) for i in range(8)]
    draw_rows(many, EPOCHS, tmp_path / "b.svg")
    looks = [
        (line.style["color"], line.style["linestyle"])
        for line in drawn.lines
        if "label" in line.style
    ]
    assert len(set(looks)) == 8


def test_a_released_log_stands_beside_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    rows = [
        row("a", 0, curve(0.1, 0.2), published=[(1.0, 0.5), (2.0, 0.6)]),
        row("b", 1, curve(0, 0)),
    ]
    said = draw_rows(rows, EPOCHS, tmp_path / "a.svg")
    hollow = [line for line in drawn.lines if line.style.get("linestyle") == "none" and line.x]
    assert [(line.x, line.y, line.style["color"]) for line in hollow] == [
        ([1.0, 2.0], [0.5, 0.6], COLOURS[0])
    ]
    assert "Hollow: the log that was released" in said
    assert "a from 10.00 % to 20.00 %; b from 0.00 % to 0.00 %." in said
    assert "Hollow" not in draw_rows(rows[1:], EPOCHS, tmp_path / "b.svg")


def test_panels_are_the_places_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    rows = [row("a", 0, curve(0.1, 0.2), panel=panel) for panel in ("cifar100", "tiny")]
    said = draw_rows(rows, EPOCHS, tmp_path / "a.svg")
    assert drawn.titles == ["cifar100", "tiny"]
    assert "a on tiny from 10.00 % to 20.00 %" in said


def test_one_picture_for_each_kind_suite_and_name() -> None:
    curves = curves_in(made(suites())) | {EPOCHS: curve(0.1, 0.2)}
    rows = [RowCurves(label=HOSTILE, row=0, panel="", runs=[curves, curves])]
    pictures = pictures_of_runs(rows, key="run")
    titles = [picture.title for picture in pictures]
    assert titles == [
        "Accuracy over epochs",
        "Accuracy under corruption by severity (corruption)",
        "Accuracy under attack (fgsm)",
        "Accuracy with hidden patches (occlusion, random)",
        "Accuracy with hidden patches (occlusion, salient)",
        "Reliability on clean images (calibration)",
    ]
    assert {key.kind for key in curves} == set(KINDS)
    for picture in pictures:
        assert all("<script" not in panel.text for panel in picture.panels)
    assert "surer than right in 0 of 1 bins" in pictures[-1].alt
    assert pictures_of_runs([], key="run") == []


HOSTILE = "<script>alert(1)</script> $x_{$"
