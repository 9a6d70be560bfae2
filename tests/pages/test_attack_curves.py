"""Curves of attacks: whose they are, and what they hold."""

from fractions import Fraction
from pathlib import Path

import pytest

from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suites.attack import Attack
from robustmix.pages.attack_curves import sweeps_of
from robustmix.pages.drawings import draw
from robustmix.pages.picture import NothingToDraw
from robustmix.report.report import Report
from tests.evaluation.tiny import tiny_images, tiny_model

EPS = (Fraction(2, 255),)
BOTH = ["fgsm", "pgd"]


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    suites = (
        [
            Attack(attack="fgsm", masking="off"),
            Attack(attack="pgd", eps=EPS, masking="off").with_options(steps=8),
        ],
        [Attack(attack="fgsm", norm="l2", eps=(Fraction(1, 2),), masking="off")],
    )
    return [
        evaluate(tiny_model(), tiny_images(20), made, name=name)
        for name, made in zip(("a", "b"), suites, strict=True)
    ]


def test_one_curve_a_suite_and_one_panel_a_norm(tmp_path: Path, reports: list[Report]) -> None:
    draw("attack-curves", reports, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    for label in ("a: fgsm", "a: pgd", "b: fgsm", "eps in linf", "eps in l2"):
        assert label in text
    lowest = min(m.value or 0 for m in sweeps_of(reports[:1], ["fgsm"], 0)[0].metrics)
    said = draw("attack-curves", reports[:1], tmp_path / "one.png")
    assert said.startswith(f"fgsm falls to {100 * lowest:.2f} %. pgd falls to ")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.svg", "one.png"]


def test_curves_hold_what_the_report_holds(reports: list[Report]) -> None:
    fgsm, pgd = sweeps_of(reports[:1], BOTH, 0)
    assert (fgsm.label, fgsm.norm, pgd.label) == ("fgsm", "linf", "pgd")
    assert fgsm.style.colour != pgd.style.colour
    assert [round(x) for x in fgsm.x] == [0, 1, 2, 4, 8, 16, 32, 64, 255]
    part = reports[0].content.suites["fgsm"]
    assert fgsm.metrics == [condition.metrics["robust_acc"] for condition in part.conditions]
    assert fgsm.metrics[0].value == reports[0].metric("clean.top1").value
    at_two, iterated = fgsm.metrics[2].value, pgd.metrics[1].value
    assert at_two is not None
    assert iterated is not None
    assert iterated <= at_two


def test_of_several_reports_the_colour_tells_which(reports: list[Report]) -> None:
    first, second = (sweeps_of(reports, BOTH, number) for number in (0, 1))
    assert [sweep.label for sweep in (*first, *second)] == ["a: fgsm", "a: pgd", "b: fgsm"]
    assert first[0].style.colour == first[1].style.colour != second[0].style.colour
    assert first[0].style.marker == second[0].style.marker != first[1].style.marker
    assert second[0].x[-1] == 4  # of l2 in pixels of [0, 1], no grey levels


def test_what_is_no_radius_in_pixels_is_left_out(reports: list[Report]) -> None:
    other = Report(reports[0].content.model_copy(deep=True))
    other.content.suites["pgd"].details["space"] = "normalised"
    assert [sweep.label for sweep in sweeps_of([other], BOTH, 0)] == ["fgsm"]


def test_without_attacks_there_is_nothing_to_draw(tmp_path: Path) -> None:
    clean = evaluate(tiny_model(), tiny_images(20), ["clean"])
    with pytest.raises(NothingToDraw, match="no report has an attack suite"):
        draw("attack-curves", [clean], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
