from typing import Any

import pytest
import torch
from torch import Tensor

from robustmix.attacks import (
    AUTOATTACK,
    CountingModel,
    Norm,
    Outcome,
    Stage,
    apgd,
    autoattack,
    cascade,
    ensemble,
    fab,
)
from robustmix.attacks.autoattack import Member, fork_keys
from robustmix.errors import IncompleteError, UsageError
from tests.attacks.conftest import Trained
from tests.attacks.problems import keys


def test_trap_26_the_parameters_are_the_standard_ones() -> None:
    """Not the lookalike's 10 steps, its clock for a seed, its rescaled Square or 99 targets."""
    assert AUTOATTACK == "autoattack-ta-equivalent"
    members = ensemble(norm="linf", eps=8 / 255, num_classes=100)
    assert [member.name for member in members] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    ce, t, fab, square = (dict(member.params) for member in members)
    ball = {"norm": "linf", "eps": 8 / 255}
    assert ce == ball | {"steps": 100, "restarts": 1, "rho": 0.75, "loss": "ce"}
    assert t == ball | {"steps": 100, "restarts": 1, "rho": 0.75, "loss": "dlr", "targets": 9}
    assert fab == ball | {
        "steps": 100, "restarts": 1, "targets": 9, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9,
    }  # fmt: skip
    assert square == ball | {
        "queries": 5000, "p_init": 0.8, "loss": "margin", "reschedule": False, "restarts": 1,
    }  # fmt: skip


def test_version_plus_has_more_members_and_restarts() -> None:
    members = {m.name: m for m in ensemble(norm="l2", eps=0.5, num_classes=10, version="plus")}
    assert list(members) == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    params = {name: dict(member.params) for name, member in members.items()}
    assert [params[name]["restarts"] for name in members] == [5, 5, 5, 1, 1, 1]
    assert (params["apgd-ce"]["loss"], params["apgd-dlr"]["loss"]) == ("ce", "dlr")
    assert params["fab"]["untargeted"]
    assert "targets" not in params["fab"]
    assert (params["fab-t"]["targets"], params["apgd-t"]["targets"]) == (9, 9)
    # What both versions have is the same, but for restarts, from the same random streams.
    for member in ensemble(norm="l2", eps=0.5, num_classes=10):
        assert member.number == members[member.name].number
        assert params[member.name] == dict(member.params) | (
            {"restarts": 5} if member.name == "apgd-ce" else {}
        )
    assert len({member.number for member in members.values()}) == 6


def test_version_rand_averages_twenty_passes() -> None:
    ce, dlr = ensemble(norm="linf", eps=0.1, num_classes=3, version="rand")
    ball = {"norm": "linf", "eps": 0.1}
    expected = ball | {"steps": 100, "restarts": 1, "rho": 0.75, "eot": 20}
    assert (ce.name, dict(ce.params)) == ("apgd-ce", expected | {"loss": "ce"})
    assert (dlr.name, dict(dlr.params)) == ("apgd-dlr", expected | {"loss": "dlr"})
    for version, least in (("rand", 3), ("plus", 4)):
        with pytest.raises(UsageError, match=f"at least {least} classes"):
            ensemble(norm="linf", eps=0.1, num_classes=least - 1, version=version)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected version standard, plus, rand"):
        ensemble(norm="linf", eps=0.1, num_classes=10, version="quick")  # type: ignore[arg-type]


def test_members_are_called_with_what_is_said_of_them(trained: Trained) -> None:
    x, y = trained.images[:30], trained.labels[:30]
    knobs: dict[str, Any] = {"eps": 0.1, "norm": "linf"}
    plus = {
        m.name: m for m in ensemble(**knobs, num_classes=10, version="plus", steps=4, queries=20)
    }
    own = keys(30)
    one: dict[str, Any] = {"steps": 4, "restarts": 5, "keys": own}
    expected = {
        "apgd-ce": apgd.outcome(trained.net, x, y, **knobs, **one),
        "apgd-dlr": apgd.outcome(trained.net, x, y, loss="dlr", **knobs, **one),
        "fab": fab.outcome(trained.net, x, y, targets=None, stop_early=True, **knobs, **one),
    }
    for name, outcome in expected.items():
        found = plus[name].attack(trained.net, x, y, own)
        assert torch.equal(found.images, outcome.images), name
        assert torch.equal(found.backwards, outcome.backwards), name
    (ce, _) = ensemble(**knobs, num_classes=10, version="rand", steps=2)
    found, plain = (
        ce.attack(trained.net, x, y, own),
        apgd.outcome(trained.net, x, y, steps=2, keys=own, **knobs),
    )
    torch.testing.assert_close(found.images, plain.images, rtol=0, atol=0)
    assert torch.equal(found.backwards, 20 * plain.backwards)


def test_version_rand_draws_from_the_keys() -> None:
    weights = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))

    def noisy(images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ (weights + torch.randn(4, 30)).T

    images = torch.rand(12, 2, 3, 5, generator=torch.Generator().manual_seed(1))
    labels = ((images.flatten(1) - 0.5) @ weights.T).argmax(dim=1)
    found = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(
                autoattack.outcome(
                    noisy, images, labels, eps=0.1, steps=2, version="rand", keys=keys(12)
                )
            )
    assert torch.equal(found[0].images, found[1].images)
    assert torch.equal(found[0].success, found[1].success)
    assert int(found[0].success.sum()) > 0
    assert [stage.member for stage in found[0].stages] == ["apgd-ce", "apgd-dlr"]


@pytest.mark.parametrize(("classes", "targets"), [(4, 3), (9, 8), (10, 9), (11, 9), (1000, 9)])
def test_there_are_nine_targets_or_all_other_classes(classes: int, targets: int) -> None:
    _, t, fab, _ = ensemble(norm="l2", eps=0.5, num_classes=classes)
    assert t.params["targets"] == fab.params["targets"] == targets


def test_fewer_than_four_classes_are_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="at least 4 classes") as caught:
        ensemble(norm="linf", eps=0.1, num_classes=3)
    assert caught.value.code == "E-AUTOATTACK-CLASSES"


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.12), ("l2", 0.5)])
def test_each_member_attacks_survivors_alone(norm: Norm, eps: float, trained: Trained) -> None:
    x, y = trained.images[:60].clone(), trained.labels[:60].clone()
    y[:3] = (y[:3] + 1) % 10  # wrong from the start: never attacked
    counting = CountingModel(trained.net)
    members = ensemble(norm=norm, eps=eps, num_classes=10, steps=12, queries=40)
    stages = list(cascade(counting, x, y, members=members, norm=norm, eps=eps, keys=keys(60)))
    assert [stage.member for stage in stages] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    before = torch.zeros(60, dtype=torch.bool)
    before[:3] = True
    for stage in stages:
        assert torch.equal(stage.tried, ~before)
        assert bool((stage.broken >= before).all())
        before = stage.broken
    last = stages[-1]
    assert 3 < int(last.broken.sum()) < 60
    assert torch.equal(last.images[~last.broken], x[~last.broken])
    assert torch.equal(last.images[:3], x[:3])
    assert torch.equal(trained.net(last.images).argmax(dim=1) != y, last.broken)
    size = (last.images - x).flatten(1)
    size = size.abs().amax(dim=1) if norm == "linf" else size.norm(dim=1)
    assert float(size.amax()) <= eps + 1e-6
    # All passes but the first look at the clean images belong to some member.
    assert sum(int(stage.forwards.sum()) for stage in stages) == counting.forwards - 60
    assert sum(int(stage.backwards.sum()) for stage in stages) == counting.backwards
    for stage in stages:
        assert torch.equal(stage.forwards > 0, stage.tried)
    apart = apgd.outcome(
        trained.net, x[3:], y[3:], eps=eps, norm=norm, steps=12, keys=fork_keys(keys(60)[3:], 0)
    )
    assert torch.equal(stages[0].broken[3:], apart.success)


def test_it_goes_on_after_any_member_as_if_never_stopped(trained: Trained) -> None:
    x, y = trained.images[:60], trained.labels[:60]
    members = ensemble(norm="linf", eps=0.12, num_classes=10, steps=6, queries=60)

    def run(part: tuple[Member, ...], broken: Tensor | None) -> list[Stage]:
        return list(
            cascade(
                trained.net, x, y, members=part, norm="linf", eps=0.12, keys=keys(60),
                broken=broken,
            )
        )  # fmt: skip

    whole = run(members, None)
    for at in (1, 2, 3):
        rest = run(members[at:], whole[at - 1].broken)
        for resumed, plain in zip(rest, whole[at:], strict=True):
            assert torch.equal(resumed.broken, plain.broken)
            new = plain.broken & ~whole[at - 1].broken
            assert torch.equal(resumed.images[new], plain.images[new])


def test_it_does_no_work_before_it_is_asked_and_none_without_survivors() -> None:
    def model(images: Tensor) -> Tensor:
        return images.flatten(1)

    counting = CountingModel(model)
    images, labels = torch.rand(3, 1, 2, 3), torch.zeros(3).long()
    images[:, 0, 0, 1] = 1.0
    images[:, 0, 0, 0] = 0.2  # all wrong as they are
    members = ensemble(norm="linf", eps=0.1, num_classes=6)
    stages = cascade(counting, images, labels, members=members, norm="linf", eps=0.1, keys=keys(3))
    assert counting.forwards == 0
    assert bool(next(stages).broken.all())
    assert counting.forwards == 3
    assert [int(stage.forwards.sum()) for stage in stages] == [0, 0, 0]


def test_a_member_that_cheats_is_caught(trained: Trained) -> None:
    x, y = trained.images[:6], trained.labels[:6]

    def cheat(model: object, images: Tensor, labels: Tensor, own: Tensor) -> Outcome:
        none = torch.zeros(len(images), dtype=torch.int64)
        return Outcome(images=1 - images, success=none > 0, forwards=none, backwards=none)

    member = Member(name="cheat", number=0, params={}, attack=cheat)
    with pytest.raises(IncompleteError, match="left its ball"):
        list(cascade(trained.net, x, y, members=[member], norm="linf", eps=0.1, keys=keys(6)))


def test_the_ensemble_is_at_least_as_strong_as_torchattacks_parts(trained: Trained) -> None:
    """The same parts of the package, run one after another on what is left."""
    torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    x, y, net, eps = trained.images[:80], trained.labels[:80], trained.net, 0.08
    found = autoattack(net, x, y, eps=eps, steps=15, queries=100, keys=keys(80))
    ours = net(found).argmax(dim=1) != y
    left = torch.ones(80, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        for attack in (
            torchattacks.APGD(net, eps=eps, steps=15),
            torchattacks.APGDT(net, eps=eps, steps=15, n_classes=10),
            torchattacks.FAB(net, eps=eps, steps=15, multi_targeted=True, n_classes=10),
            torchattacks.Square(net, eps=eps, n_queries=100, resc_schedule=False),
        ):
            rows = left.nonzero().flatten()
            left[rows] = net(attack(x[rows], y[rows])).argmax(dim=1) == y[rows]
    assert abs(int((~left).sum()) - int(ours.sum())) <= 1
    assert 0 < int((~left).sum()) < 80


def test_members_draw_from_streams_of_their_own() -> None:
    own = keys(500)
    forks = [fork_keys(own, number) for number in range(4)]
    everything = torch.cat([own, *forks]).tolist()
    assert len(set(everything)) == 2500
    assert torch.equal(fork_keys(own[7:9], 2), forks[2][7:9])
    assert 0.4 < float((forks[0] < 0).float().mean()) < 0.6  # the sign bit too


def test_the_outcome_is_the_last_stage_and_charges_those_that_were_attacked(
    trained: Trained,
) -> None:
    x, y = trained.images[:60].clone(), trained.labels[:60].clone()
    y[:3] = (y[:3] + 1) % 10  # wrong from the start: looked at once, never attacked
    counting = CountingModel(trained.net)
    found = autoattack.outcome(counting, x, y, eps=0.12, steps=8, queries=40, keys=keys(60))
    members = ensemble(norm="linf", eps=0.12, num_classes=10, steps=8, queries=40)
    stages = list(cascade(trained.net, x, y, members=members, norm="linf", eps=0.12, keys=keys(60)))
    assert [stage.member for stage in found.stages] == [member.name for member in members]
    assert torch.equal(found.images, stages[-1].images)
    assert torch.equal(found.success, stages[-1].broken)
    assert int(found.forwards.sum()) == counting.forwards
    assert int(found.backwards.sum()) == counting.backwards
    assert found.forwards[:3].tolist() == [1] * 3
    assert found.backwards[:3].tolist() == [0] * 3
    early = stages[0].broken & stages[0].tried
    assert int(found.backwards[early].amax()) <= 9 < int(found.backwards.amax())
