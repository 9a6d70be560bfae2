from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.pgd import PgdSuite
from robustmix.pages.attack_curves import _curves, draw_attack_curves
from robustmix.report.report import Report
from tests.evaluation.tiny import tiny_images, tiny_model

EPS = Fraction(2, 255)


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    suites: tuple[list[Any], ...] = (
        [FgsmSuite(masking=False), PgdSuite(eps=EPS, steps=8, masking=False)],
        [FgsmSuite(norm="l2", eps=Fraction(1, 2), masking=False)],
    )
    return [
        evaluate(tiny_model(), tiny_images(20), made, name=name)
        for name, made in zip(("a", "b"), suites, strict=True)
    ]


def test_one_curve_a_suite_and_one_panel_a_norm(tmp_path: Path, reports: list[Report]) -> None:
    draw_attack_curves(reports, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    for label in ("a: fgsm", "a: pgd", "b: fgsm", "eps in linf", "eps in l2"):
        assert label in text
    draw_attack_curves(reports[:1], tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.svg", "one.png"]


def test_curves_hold_what_the_report_holds(reports: list[Report]) -> None:
    fgsm, pgd = _curves(0, reports[0], reports[:1])
    assert (fgsm.label, fgsm.norm, pgd.label) == ("fgsm", "linf", "pgd")
    assert fgsm.colour != pgd.colour
    assert [round(255 * p.x) for p in fgsm.points] == [0, 1, 2, 4, 8, 16, 32, 64, 255]
    at_two = fgsm.points[2].metrics["error"].value
    assert at_two is not None
    assert (pgd.points[1].metrics["error"].value or 0) >= at_two


def test_without_attacks_there_is_nothing_to_draw(tmp_path: Path) -> None:
    clean = evaluate(tiny_model(), tiny_images(20), ["clean"])
    with pytest.raises(IntakeError, match="no report has an attack suite"):
        draw_attack_curves([clean], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
