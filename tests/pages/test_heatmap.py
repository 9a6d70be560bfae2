"""The heat map: its numbers, groups and gaps."""

from pathlib import Path

import pytest

from robustmix.pages.drawings import draw
from robustmix.pages.picture import NothingToDraw
from robustmix.report.schema import ConditionPart, Shown, SuitePart
from tests.pages.drawn import Drawn
from tests.pages.made import made, number, points


def corrupted(
    cells: dict[str, float | None], means: dict[str, float], **details: object
) -> dict[str, SuitePart]:
    mean = [
        ConditionPart(name=f"by_corruption:{name}", metrics={"acc_mean": number(value)})
        for name, value in means.items()
    ]
    return {
        "clean": SuitePart(kind="clean", status="ok", metrics={"top1": number(0.9)}),
        "corruption": SuitePart(
            kind="corruption",
            status="ok",
            conditions=[*points(**cells), *mean],
            shown=Shown(drawings=["heatmap"]),
            details=details,
        ),
    }


def test_numbers_stand_in_their_group_and_gaps_stay_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    suites = corrupted(
        {
            **{"fog/1": 0.8, "fog/3": 0.5, "mine/1": 0.2},
            **{"gaussian_noise/1": 0.7, "gaussian_noise/3": None, "groups:noise": 0.7},
        },
        {"fog": 0.65, "mine": 0.2, "gaussian_noise": 0.7},
        source="generated",
        approximate=["fog"],
    )
    said = draw("heatmap", [made(suites)], tmp_path / "a.svg")
    # Noise before weather as in the benchmark, then what is not of the benchmark.
    assert drawn.texts == {
        **{(0, 0): "90.0", (1, 0): "70.0", (3, 0): "70.0"},
        **{(0, 1): "90.0", (1, 1): "80.0", (2, 1): "50.0", (3, 1): "65.0"},
        **{(0, 2): "90.0", (1, 2): "20.0", (3, 2): "20.0"},
    }
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for label in ("gaussian noise", "fog (approximate)", "mine", "severity", "3", "mean"):
        assert f"<!-- {label} -->" in text
    assert said == (
        "Generated images. Lowest: mine at severity 1 with 20.00 %. "
        "fog was made with a substitute and is approximate."
    )


def test_without_corruptions_there_is_no_map(tmp_path: Path) -> None:
    suites = corrupted({"fog/1": 0.8}, {"fog": 0.8})
    suites["corruption"].status = "failed"
    with pytest.raises(NothingToDraw, match="no corruption suite"):
        draw("heatmap", [made(suites)], tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
