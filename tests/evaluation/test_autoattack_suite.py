"""Suite ``autoattack``: the cascade in units, its parameters and its honest n."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.attacks import AUTOATTACK, Member, autoattack, ensemble
from robustmix.data.images import ImageSet
from robustmix.errors import UsageError
from robustmix.evaluation.engine import padded
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites import autoattack as suite_module
from robustmix.evaluation.suites.autoattack import MEMBERS, AutoAttackSuite, final_rows
from robustmix.evaluation.suites.registry import DEFAULT_LIMITS, SUITES
from robustmix.report.report import Report
from robustmix.report.schema import AttackPart
from robustmix.rng import sample_keys
from robustmix.types import Model
from tests.evaluation.test_engine import Stop, comparable
from tests.evaluation.tiny import Net, tiny_images, tiny_model

pytest.importorskip("torchattacks", reason="needs the torchattacks extra")

EPS = Fraction(3, 255)
SHORT = AutoAttackSuite(eps=EPS, steps=4, queries=30, masking=False)
"""Few enough steps that every member is left something to break."""


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def part(report: Report) -> AttackPart:
    found = report.content.suites["autoattack"]
    assert isinstance(found, AttackPart)
    assert found.status == "ok", found.reason
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("autoattack") / "run"
    evaluate(tiny_model(), tiny_images(), [SHORT], out=out, seed=2)
    return out


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return Report.load(folder)


def test_trap_26_the_record_states_the_standard_parameters() -> None:
    """100 steps, at most 9 targets, 5,000 queries without rescheduling, keys and no clock."""
    suite = AutoAttackSuite()
    params = suite.params()
    assert params["attack"] == suite.attack == AUTOATTACK == "autoattack-ta-equivalent"
    assert (params["steps"], params["queries"], params["reschedule"]) == (100, 5000, False)
    assert params["members"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert params["targets"].startswith("the 9 highest")
    assert "clock" not in str(params)
    members = {member.name: member for member in suite.members(100)}
    assert tuple(members) == MEMBERS
    for name in MEMBERS:
        stated: dict[str, Any] = suite._member_params(name, 100)
        done: dict[str, Any] = dict(members[name].params)
        done["restarts"] = done.pop("n_restarts", done.get("restarts"))
        assert stated.items() <= done.items()
    assert suite._member_params("fab-t", 6)["targets"] == 5
    for other in (AutoAttackSuite(steps=10), AutoAttackSuite(queries=1000)):
        assert other.params()["attack"] == "autoattack-ta-equivalent-shortened"


def test_trap_26_a_run_with_one_seed_repeats_itself_and_with_another_does_not(
    report: Report,
) -> None:
    again = evaluate(tiny_model(), tiny_images(), [SHORT], seed=2)
    assert comparable(again) == comparable(report)
    other = evaluate(tiny_model(), tiny_images(), [SHORT], seed=3)
    assert other.samples is not None
    assert report.samples is not None
    left = report.samples.tables["autoattack"].at("apgd-ce")["nll"]
    assert not np.array_equal(left, other.samples.tables["autoattack"].at("apgd-ce")["nll"])


def test_the_suite_in_units_is_the_cascade_in_one_piece(report: Report) -> None:
    data, model = tiny_images(), tiny_model()
    keys = sample_keys(2, "autoattack", "3/255", 0, data.sample_ids)
    stages = autoattack.outcome(
        padded(model), pixels(data), data.labels, eps=float(EPS), steps=4, queries=30, keys=keys
    ).stages
    assert report.samples is not None
    table = report.samples.tables["autoattack"]
    found = part(report)
    for stage, member in zip(stages, found.members, strict=True):
        rows = table.at(stage.member)
        assert np.array_equal(rows["tested"], stage.tried.numpy())
        assert member.name == stage.member
        assert member.tried == int(stage.tried.sum())
        # The same search from the same start: also the images it found are the same.
        new = (stage.broken & stage.tried & torch.from_numpy(~rows["correct"].astype(bool))).numpy()
        size = (stage.images - pixels(data)).flatten(1).norm(dim=1).numpy()
        np.testing.assert_allclose(rows["l2"][new], size[new], rtol=1e-5)
        held = float((~stage.broken).float().mean())
        assert member.robust_acc.value == pytest.approx(held)
        assert member.robust_acc.n == 103
    assert found.metrics["robust_acc"].value == found.members[-1].robust_acc.value
    assert found.metrics["error"].value == pytest.approx(float(stages[-1].broken.float().mean()))
    assert sum(member.broken > 0 for member in found.members) > 1  # else the order is not tested
    assert 0 < found.members[-1].tried < found.members[0].tried < 103


def test_only_survivors_are_attacked_and_no_row_is_made_of_others(report: Report) -> None:
    assert report.samples is not None
    table = report.samples.tables["autoattack"]
    alive = table.at("clean")["correct"].astype(bool)
    for name in MEMBERS:
        rows = table.at(name)
        assert np.array_equal(rows["tested"], alive)
        assert not rows["forwards"][~alive].any()
        alive = alive & rows["correct"].astype(bool)
    final = final_rows(table)
    assert np.array_equal(final["correct"].astype(bool), alive)
    assert (final["linf"] <= float(EPS) + 1e-6).all()


def test_it_is_no_weaker_than_any_member_and_counts_its_passes(report: Report) -> None:
    found = part(report)
    assert found.attack == "autoattack-ta-equivalent-shortened"
    accs = [member.robust_acc.value or 0 for member in found.members]
    assert accs == sorted(accs, reverse=True)
    members = sum(member.forwards for member in found.members)
    assert found.forwards == members + 2 * 103
    assert found.backwards == sum(m.backwards for m in found.members) + 103
    assert found.members[3].backwards == 0


def test_numbers_come_from_the_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        return None

    # A report is checked where the extra is not installed.
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    assert recompute(Report.load(folder)) == []


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_trap_22_numbers_do_not_depend_on_the_batch_size(batch: int, report: Report) -> None:
    other = evaluate(tiny_model(), tiny_images(), [SHORT], seed=2, batch_size=batch)
    assert comparable(other) == comparable(report)
    assert other.samples is not None
    assert report.samples is not None
    for name, column in report.samples.tables["autoattack"].columns.items():
        assert np.array_equal(column, other.samples.tables["autoattack"].columns[name]), name


@pytest.mark.parametrize("after", [4, 5, 6, 7])
def test_every_member_is_a_unit_that_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report, after: int
) -> None:
    cut = evaluate(
        tiny_model(), tiny_images(), [SHORT], seed=2, out=tmp_path, should_stop=Stop(after)
    )
    assert cut.content.run.status == "interrupted"
    finished = list(tmp_path.glob("units/autoattack/*.npz"))
    assert len(finished) == after - 3  # asked before both suites and before each unit
    made: list[str] = []

    def watched(**asked: Any) -> tuple[Member, ...]:
        return tuple(noting(member, made) for member in ensemble(**asked))

    monkeypatch.setattr(suite_module, "ensemble", watched)
    resumed = evaluate(tiny_model(), tiny_images(), [SHORT], seed=2, out=tmp_path, resume=True)
    assert comparable(resumed) == comparable(report)
    assert list(dict.fromkeys(made)) == list(MEMBERS[len(finished) - 1 :])


def noting(member: Member, made: list[str]) -> Member:
    def attack(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        made.append(member.name)
        return member.attack(model, images, labels, keys)

    return Member(name=member.name, number=member.number, params=member.params, attack=attack)


def test_by_default_a_thousand_samples_are_attacked_and_the_metric_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert DEFAULT_LIMITS == {"autoattack": 1000, "torchattacks": 1000}
    monkeypatch.setitem(DEFAULT_LIMITS, "autoattack", 30)
    limited = evaluate(tiny_model(), tiny_images(), [SHORT])
    metric = limited.metric("autoattack.robust_acc")
    assert metric.n == 30
    assert metric.ci_method == "wilson95"
    assert limited.metric("clean.top1").n == 103
    assert limited.content.protocol.limits == {"autoattack": 30}
    assert recompute(limited) == []
    asked = evaluate(tiny_model(), tiny_images(), [SHORT], limit=50)
    assert asked.metric("autoattack.robust_acc").n == 50


def test_what_cannot_be_done_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="at least 4 classes"):
        evaluate(tiny_model(Net(3), 3), tiny_images(classes=3), ["autoattack"], out=tmp_path / "a")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="torchattacks is not installed"):
        evaluate(tiny_model(), tiny_images(), ["autoattack"], out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert "autoattack" in SUITES


def test_a_model_without_survivors_costs_nothing() -> None:
    data = tiny_images(30)
    with torch.no_grad():
        wrong = (tiny_model()(pixels(data)).argmax(dim=1) + 1) % 5
    object.__setattr__(data, "labels", wrong)
    found = part(evaluate(tiny_model(), data, [SHORT]))
    assert [member.tried for member in found.members] == [0, 0, 0, 0]
    assert found.metrics["robust_acc"].value == 0
    assert found.metrics["asr"].value is None
    assert found.forwards == 60
