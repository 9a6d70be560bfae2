"""Suite ``autoattack``: the cascade in units, its parameters and its honest n."""

import importlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.attacks import AUTOATTACK, Member, Outcome, autoattack, ensemble
from robustmix.data.images import ImageSet
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites import attack as suite_module
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.attack_ensemble import Ensemble, members_of
from robustmix.evaluation.suites.attack_work import AttackDetails
from robustmix.evaluation.suites.registry import find_suite, read_suite
from robustmix.metrics.attacked import Attacked
from robustmix.models.robust_model import padded
from robustmix.report.report import Report
from robustmix.report.rows import Rows
from robustmix.report.schema import SuitePart
from robustmix.rng import sample_keys
from robustmix.types import Model
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import Stop, comparable
from tests.evaluation.tiny import Net, tiny_images, tiny_model

EPS = Fraction(3, 255)
SHORT = attack("autoattack", eps=(EPS,), steps=4, queries=30)
"""Few enough steps that every member is left something to break."""


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")


def part(report: Report) -> SuitePart:
    found = report.content.suites["autoattack"]
    assert found.status == "ok", found.reason
    return found


def details(report: Report) -> AttackDetails:
    return AttackDetails.model_validate(part(report).details)


def prepared(suite: Attack, classes: int = 5) -> Ensemble:
    robust, data = tiny_model(classes=classes), tiny_images(4, classes=classes)
    made = suite.prepare(Scene(robust=robust, data=data, folder=Path()))
    assert isinstance(made, Ensemble)
    return made


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
    made = prepared(attack("autoattack"))
    params = made.params
    assert params["attack"] == made.attack == AUTOATTACK == "autoattack-ta-equivalent"
    assert (params["steps"], params["queries"], params["reschedule"]) == (100, 5000, False)
    assert params["members"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert params["targets"].startswith("the 9 highest")
    assert "clock" not in str(params)
    members = {member.name: member for member in members_of(made, 100)}
    assert tuple(members) == MEMBERS
    for name, stated in made._member_params(100).items():
        done: dict[str, Any] = dict(members[name].params)
        assert stated.items() <= done.items()
    assert made._member_params(6)["fab-t"]["targets"] == 5
    for other in ({"steps": 10}, {"queries": 1000}):
        shorter = prepared(attack("autoattack", **other)).params["attack"]
        assert shorter == "autoattack-ta-equivalent-shortened"
    again = read_suite("autoattack", json.loads(json.dumps(params)))
    assert again == made


def test_its_steps_are_no_options_of_a_command_line() -> None:
    options = [one.name for one in find_suite("autoattack").options()]
    assert options == ["norm", "eps", "masking", "version"]


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
    metrics, members = part(report).metrics, details(report).members
    for stage, member in zip(stages, members, strict=True):
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
    assert metrics["robust_acc"].value == members[-1].robust_acc.value
    assert metrics["error"].value == pytest.approx(float(stages[-1].broken.float().mean()))
    assert sum(member.broken > 0 for member in members) > 1  # else the order is not tested
    assert 0 < members[-1].tried < members[0].tried < 103
    (shown,) = part(report).tables
    assert [row[:3] for row in shown.rows] == [[m.name, m.tried, m.broken] for m in members]


def test_only_survivors_are_attacked_and_no_row_is_made_of_others(report: Report) -> None:
    assert report.samples is not None
    table = report.samples.tables["autoattack"]
    alive = table.at("clean")["correct"].astype(bool)
    for name in MEMBERS:
        rows = table.at(name)
        assert np.array_equal(rows["tested"], alive)
        assert not rows["forwards"][~alive].any()
        alive = alive & rows["correct"].astype(bool)
    rows_of = Rows.of(
        report.samples.view("autoattack"), "autoattack", order=np.arange(103), num_classes=5,
        input_size=(3, 32, 32), seed=2,
    )  # fmt: skip
    final = Attacked.of(rows_of)
    assert final is not None
    assert np.array_equal(final.after("correct") == 1, alive)
    assert (final.after("linf") <= float(EPS) + 1e-6).all()


def test_it_is_no_weaker_than_any_member_and_counts_its_passes(report: Report) -> None:
    found = details(report)
    assert found.attack == "autoattack-ta-equivalent-shortened"
    accs = [member.robust_acc.value or 0 for member in found.members]
    assert accs == sorted(accs, reverse=True)
    members = sum(member.forwards for member in found.members)
    assert found.forwards == members + 103
    assert found.backwards == sum(m.backwards for m in found.members) + 103
    assert found.members[3].backwards == 0


def test_numbers_come_from_the_rows(folder: Path) -> None:
    assert recompute(Report.load(folder)) == []


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_trap_22_numbers_do_not_depend_on_the_batch_size(batch: int, report: Report) -> None:
    other = evaluate(tiny_model(), tiny_images(), [SHORT], seed=2, batch_size=batch)
    assert comparable(other) == comparable(report)
    assert other.samples is not None
    assert report.samples is not None
    for name, column in report.samples.tables["autoattack"].columns.items():
        assert np.array_equal(column, other.samples.tables["autoattack"].columns[name]), name


@pytest.mark.parametrize("after", [5, 6, 7])
def test_every_member_is_a_unit_that_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report, after: int
) -> None:
    cut = evaluate(
        tiny_model(), tiny_images(), [SHORT], seed=2, out=tmp_path, should_stop=Stop(after)
    )
    assert cut.content.run.status == "interrupted"
    units = {path.name.partition("-t0-")[0] for path in tmp_path.glob("units/autoattack/*.npz")}
    finished = [name for name in MEMBERS if name in units]
    assert "clean" in units
    assert len(finished) < len(MEMBERS)
    made: list[str] = []

    def watched(**asked: Any) -> tuple[Member, ...]:
        return tuple(noting(member, made) for member in ensemble(**asked))

    module = importlib.import_module("robustmix.attacks.autoattack")
    monkeypatch.setattr(module, "ensemble", watched)
    resumed = evaluate(tiny_model(), tiny_images(), [SHORT], seed=2, out=tmp_path, resume=True)
    assert comparable(resumed) == comparable(report)
    rest = [name for name in MEMBERS if name not in finished]
    # Whole batches of the member that was at work are kept, and what is left of it is made.
    assert list(dict.fromkeys(made)) in (rest, finished[-1:] + rest)


def noting(member: Member, made: list[str]) -> Member:
    def attack(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Outcome:
        made.append(member.name)
        return member.attack(model, images, labels, keys)

    return Member(name=member.name, number=member.number, params=member.params, attack=attack)


def test_by_default_a_thousand_samples_are_attacked_and_the_metric_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {name: find_suite(name).default_limit for name in ("fgsm", "pgd", "autoattack")}
    assert limits == {"fgsm": None, "pgd": None, "autoattack": 1000}
    assert find_suite("torchattacks:CW").default_limit == 1000
    monkeypatch.setattr(suite_module, "LIMIT", 30)
    limited = evaluate(tiny_model(), tiny_images(), [SHORT])
    metric = limited.metric("autoattack.robust_acc")
    assert metric.n == 30
    assert metric.ci_method == "wilson95"
    assert limited.metric("clean.top1").n == 103
    assert limited.content.protocol.limits == {"autoattack": 30}
    assert recompute(limited) == []
    asked = evaluate(tiny_model(), tiny_images(), [SHORT], limit=50)
    assert asked.metric("autoattack.robust_acc").n == 50


def test_what_cannot_be_done_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 4 classes"):
        evaluate(tiny_model(Net(3), 3), tiny_images(classes=3), ["autoattack"], out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_model_without_survivors_costs_nothing() -> None:
    data = tiny_images(30)
    with torch.no_grad():
        wrong = (tiny_model()(pixels(data)).argmax(dim=1) + 1) % 5
    object.__setattr__(data, "labels", wrong)
    report = evaluate(tiny_model(), data, [SHORT])
    found, metrics = details(report), part(report).metrics
    assert [member.tried for member in found.members] == [0, 0, 0, 0]
    assert metrics["robust_acc"].value == 0
    assert metrics["asr"].value is None
    assert found.forwards == 30
