"""Suites ``torchattacks:NAME``: a second implementation of ours, under our own rules."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.plan import plan
from robustmix.evaluation.recompute import recompute
from robustmix.report.report import Report
from tests.evaluation.attacks import attack
from tests.evaluation.maskers import digits, robust, trained
from tests.evaluation.test_engine import comparable
from tests.evaluation.tiny import tiny_images, tiny_model

pytest.importorskip("torchattacks", reason="needs the torchattacks extra")

TWENTY: dict[str, Any] = {"alpha": 2 / 255, "steps": 20, "random_start": False}
"""The same search as ours: without a random start no sample differs by luck."""


def wrong(report: Report, suite: str, condition: str = "8/255") -> Any:
    assert report.samples is not None
    return ~report.samples.tables[suite].at(condition)["correct"].astype(bool)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """All test digits under our FGSM and PGD-20 and under those of the package."""
    out = tmp_path_factory.mktemp("zoo") / "run"
    suites: list[Any] = [
        attack("fgsm", sweep=()),
        attack("pgd", random_start=False),
        attack("torchattacks:FGSM"),
        attack("torchattacks:PGD", **TWENTY),
    ]
    evaluate(robust(trained()), digits(), suites, out=out)
    return Report.load(out)


def test_fgsm_agrees_with_torchattacks_on_999_of_1000_samples(report: Report) -> None:
    ours, theirs = wrong(report, "fgsm"), wrong(report, "torchattacks:FGSM")
    assert 0.2 < ours.mean() < 0.8
    assert (ours == theirs).mean() >= 0.999


def test_pgd_of_torchattacks_is_not_stronger_by_more_than_a_thousandth(report: Report) -> None:
    ours, theirs = wrong(report, "pgd").mean(), wrong(report, "torchattacks:PGD").mean()
    assert 0.3 < ours < 0.9
    assert theirs - ours <= 0.001
    last = report.metric("pgd.error_last").value
    assert theirs == pytest.approx(last, abs=0.003)  # theirs is the last step too


def test_they_run_last_and_are_recomputed_from_their_rows(report: Report) -> None:
    names = list(report.content.ordered_suites())
    assert names == ["clean", "fgsm", "pgd", "torchattacks:FGSM", "torchattacks:PGD"]
    assert recompute(report) == []
    part = report.content.suites["torchattacks:PGD"]
    assert part.details["attack"] == "torchattacks:PGD"
    assert part.params["options"] == TWENTY
    assert part.metrics["error"].n == 500
    assert part.details["steps"] == 20
    # 20 steps of one pass each way, the clean image and its gradient, two scorings.
    assert part.details["forwards"] == 500 * (20 + 1 + 2)
    assert part.details["backwards"] == 500 * 21


def test_trap_01_the_package_is_given_pixels(report: Report) -> None:
    """Its switch for normalised input is never used: the change in pixels is eps, not eps / std."""
    assert report.metric("torchattacks:FGSM.max_linf").value == pytest.approx(8 / 255, abs=1e-6)
    clean = report.metric("clean.top1").value
    part = report.content.suites["torchattacks:FGSM"]
    assert part.condition("0")["robust_acc"].value == clean


@pytest.mark.parametrize("name", ["CW", "FAB"])
def test_trap_27_what_lies_outside_the_radius_does_not_count(name: str) -> None:
    """A minimum-norm attack misclassifies almost everything, at whatever distance."""
    options: dict[str, Any] = {"CW": {"steps": 30, "c": 10, "lr": 0.05}, "FAB": {"steps": 5}}
    data = digits().subset(range(40))
    errors = {}
    for levels in (1, 64):
        suite = attack(f"torchattacks:{name}", eps=(Fraction(levels, 255),), **options[name])
        found = evaluate(robust(trained()), data, [suite])
        assert found.samples is not None
        rows = found.samples.tables[suite.attack].at(f"{levels}/255")
        assert rows["linf"].max() <= levels / 255 + 1e-6
        errors[levels] = (~rows["correct"].astype(bool)).mean()
        held = rows["linf"] == 0
        assert np.array_equal(rows["pred"][held], rows["clean_pred"][held])
    assert errors[1] < 0.2
    assert errors[64] > 0.7


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_fixed_batches_make_numbers_independent_of_the_batch_size(batch: int) -> None:
    """PGD draws its start for a whole batch: the suite's batches are its own."""
    suite = attack("torchattacks:PGD", steps=2)
    plain = evaluate(tiny_model(), tiny_images(70), [suite])
    other = evaluate(tiny_model(), tiny_images(70), [suite], batch_size=batch)
    assert comparable(plain) == comparable(other)


def test_trap_25_the_package_seeds_nothing_but_itself() -> None:
    import random

    model, data = tiny_model(), tiny_images(20)
    before = torch.get_rng_state(), random.getstate()
    evaluate(model, data, [attack("torchattacks:PGD", steps=1)])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_names_are_checked_before_any_work() -> None:
    chosen = plan(["torchattacks:Square", "pgd", "torchattacks:CW"], options={"masking": "off"})
    assert [item.key for item in chosen] == [
        "clean", "pgd", "torchattacks:CW", "torchattacks:Square",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="did you mean 'PGDL2'"):
        plan(["torchattacks:PGDL3"])
    with pytest.raises(UsageError, match="use autoattack"):
        plan(["torchattacks:AutoAttack"])
    with pytest.raises(UsageError, match="asked for twice"):
        plan(["torchattacks:CW", "torchattacks:CW"])


def test_options_reach_the_attacks_that_take_them() -> None:
    options = {"steps": "7", "step_size": "1/255", "masking": "off"}
    planned = plan(["torchattacks:PGD", "torchattacks:FGSM"], options=options)
    suites: dict[str, Any] = {item.key: item.suite for item in planned}
    assert suites["torchattacks:FGSM"] == attack("torchattacks:FGSM")
    asked = suites["torchattacks:PGD"]
    assert asked == attack("torchattacks:PGD", steps=7, alpha=1 / 255)
    report = evaluate(tiny_model(), tiny_images(4), [asked])
    recorded = report.content.protocol.params["torchattacks:PGD"]["options"]
    assert recorded == {"steps": 7, "alpha": 1 / 255}


def test_a_number_of_the_package_need_not_be_whole() -> None:
    assert attack("torchattacks:CW", c="0.5", steps="3").own == {"c": 0.5, "steps": 3}


def test_an_option_the_attack_does_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match="option of torchattacks:FGSM 'steps'"):
        attack("torchattacks:FGSM", steps=3)


def test_a_norm_the_attack_does_not_have_is_refused(tmp_path: Path) -> None:
    assert attack("torchattacks:PGDL2").radius == Fraction(1, 2)
    suites = [attack("torchattacks:PGDL2", norm="linf")]
    with pytest.raises(UsageError, match="PGDL2 is an attack in l2, not linf"):
        evaluate(tiny_model(), tiny_images(10), suites, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()
