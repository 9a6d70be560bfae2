"""Curves of any suite: what is drawn is what the report holds."""

import math
from pathlib import Path

import pytest

from robustmix.pages.curves import draw_curves
from robustmix.pages.drawings import draw, drawings_of
from robustmix.pages.picture import NothingToDraw
from robustmix.report.schema import ConditionPart, CurvePart, Shown, SuitePart
from tests.pages.drawn import Drawn
from tests.pages.made import made, number, points


def toy(**fields: object) -> SuitePart:
    return SuitePart.model_validate({"kind": "toy", "status": "ok", **fields})


RISING = CurvePart(name="rising", x_label="strength", x=[0, 1, 2], at=["a", "b", "c"])
LEVELS = points(a=0.5, b=None, c=0.25)


def test_a_curve_is_its_numbers_with_their_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    report = made({"toy": toy(conditions=LEVELS, curves=[RISING])})
    said = draw_curves([report], ["toy"], tmp_path / "a.svg")
    (line,) = drawn.lines
    assert line.x == [0, 1, 2]
    # What is undefined is a gap, no zero.
    assert line.y == pytest.approx([0.5, math.nan, 0.25], nan_ok=True)
    ((low, high),) = drawn.bands
    assert low == pytest.approx([0.45, math.nan, 0.20], nan_ok=True)
    assert high == pytest.approx([0.55, math.nan, 0.30], nan_ok=True)
    assert said == "toy: from 50.00 % to 25.00 %."
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for word in ("made", "strength", "accuracy", "rising", "chance"):
        assert f"<!-- {word} -->" in text


def test_a_second_metric_is_dotted_in_the_same_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    levels = [
        ConditionPart(
            name=name,
            metrics={"loss": number(value, unit="nats"), "spread": number(value / 2, unit="nats")},
        )
        for name, value in (("a", 1.0), ("b", 3.0), ("c", 7.0))
    ]
    curve = RISING.model_copy(update={"y": "loss", "dotted": "spread"})
    report = made({"toy": toy(conditions=levels, curves=[curve])})
    said = draw_curves([report], ["toy"], tmp_path / "a.svg")
    solid, dotted = drawn.lines
    assert (solid.y, dotted.y) == ([1, 3, 7], [0.5, 1.5, 3.5])
    assert (solid.style["color"], dotted.style["linestyle"]) == (dotted.style["color"], ":")
    assert said == "toy: from 1.0000 to 7.0000. Dotted: spread."
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<!-- loss; dotted: spread -->" in text
    assert "chance" not in text  # of a loss there is none


@pytest.mark.parametrize(
    ("scale", "x", "ticks", "labels"),
    [
        ("log2", [0.0, 2.0, 4.0], [], ["1", "4", "16"]),
        ("symlog", [0.0, 0.5, 8.0], [], ["0", "0.5", "8"]),
        ("linear", [0.0, 2.0, 4.0], ["none", "some", "all"], ["none", "some", "all"]),
    ],
)
def test_places_bear_their_names(
    scale: str, x: list[float], ticks: list[str], labels: list[str], tmp_path: Path
) -> None:
    curve = RISING.model_copy(update={"scale": scale, "x": x, "ticks": ticks})
    report = made({"toy": toy(conditions=points(a=0.5, b=0.4, c=0.25), curves=[curve])})
    draw_curves([report], ["toy"], tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    axis = text[text.index('id="matplotlib.axis_1"') : text.index('id="matplotlib.axis_2"')]
    for label in labels:
        assert f"<!-- {label} -->" in axis
    assert axis.count('id="xtick_') == 3


def test_panels_and_reports_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    curves = [
        RISING,
        RISING.model_copy(update={"name": "again"}),
        RISING.model_copy(update={"name": "apart", "panel": "far away", "label": "named"}),
    ]
    part = toy(conditions=LEVELS, curves=curves, metrics={"auc_again_7": number(0.375)})
    failed = part.model_copy(update={"status": "failed"})
    reports = [made({"toy": part}, name="a"), made({"toy": failed}), made({"toy": part}, name="b")]
    said = draw_curves(reports, ["toy"], tmp_path / "a.png")
    assert drawn.titles == ["a", "a\nfar away", "b", "b\nfar away"]
    labels = [line.style["label"] for line in drawn.lines]
    assert labels == ["rising", "again, area 37.5 %", "named"] * 2
    assert len({line.style["color"] for line in drawn.lines[:2]}) == 2
    assert said.startswith("a, toy: rising from 50.00 % to 25.00 %; again from")


def test_a_suite_that_names_no_drawing_has_its_curves_drawn(tmp_path: Path) -> None:
    bare = toy(conditions=LEVELS, curves=[RISING])
    assert drawings_of(bare) == ["curves"]
    assert drawings_of(toy()) == []
    foreign = bare.model_copy(update={"shown": Shown(drawings=["of-a-plugin"])})
    assert drawings_of(foreign) == ["curves"]
    named = bare.model_copy(update={"shown": Shown(drawings=["of-a-plugin", "heatmap"])})
    assert drawings_of(named) == ["heatmap"]
    draw("curves", [made({"toy": bare})], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for reports, suite in (([made({"toy": toy()})], ""), ([made({"toy": bare})], "other")):
        with pytest.raises(NothingToDraw, match="no report has a curve"):
            draw("curves", reports, tmp_path / "b.png", suite=suite)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
