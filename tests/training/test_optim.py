"""Schedules and optimisers by hand; the long curves are in the reference tests."""

import itertools

import pytest
import torch
from torch import nn

from robustmix.training import learning_rate
from robustmix.training.optim import GENERATOR, build_optimizer, no_decay
from robustmix.training.schedules import Schedule


def curve(schedule: Schedule, iterations: int, **settings: object) -> list[float]:
    common: dict[str, object] = {"base": 0.8, "minimum": 0.2, "epochs": 4, "iters_per_epoch": 2}
    arguments = {**common, **settings}
    return [learning_rate(schedule, i, **arguments) for i in range(iterations)]  # type: ignore[arg-type]


def test_the_cosine_is_constant_inside_an_epoch() -> None:
    # 0.2 + 0.3 (1 + cos(pi e / 4)) for e = 0, 1, 2, 3
    high, low = 0.5 + 0.3 * 0.5**0.5, 0.5 - 0.3 * 0.5**0.5
    assert curve("cosine", 8) == pytest.approx([0.8, 0.8, high, high, 0.5, 0.5, low, low])


def test_the_other_cosine_moves_every_iteration() -> None:
    got = curve("cosine-iter", 8)
    assert got[0] == pytest.approx(0.8)
    assert got[4] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(got))
    assert got[2] == pytest.approx(0.5 + 0.3 * 0.5**0.5)


def test_constant_and_step() -> None:
    assert curve("constant", 8) == [0.8] * 8
    got = curve("step", 8, milestones=(1, 3), gamma=0.5, minimum=0.0)
    assert got == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2])
    assert min(curve("step", 8, milestones=(1, 3), gamma=0.1)) == 0.2


def test_the_warm_up_rises_linearly_and_scales_the_rule() -> None:
    got = curve("constant", 6, warmup_epochs=2)
    # 1 - (1 - t/4)(1 - 1e-5)
    want = [0.8 * (1 - (1 - t / 4) * (1 - 1e-5)) for t in range(4)]
    assert got == pytest.approx([*want, 0.8, 0.8])
    assert curve("cosine", 4, warmup_epochs=1)[1] == pytest.approx(0.8 * (1 - 0.5 * (1 - 1e-5)))


def two_steps(optimizer: torch.optim.Optimizer, weight: torch.Tensor) -> float:
    for grad in (1.0, 1.0):
        weight.grad = torch.full_like(weight, grad)
        optimizer.step()
    return float(weight.detach())


def test_sgd_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    # v1 = 1 + .1*2 = 1.2, w1 = 2 - .5*1.2 = 1.4; v2 = .9*1.2 + 1 + .1*1.4 = 2.22, w2 = .29
    got = two_steps(build_optimizer("sgd", net, lr=0.5, momentum=0.9, weight_decay=0.1), net.weight)
    assert got == pytest.approx(0.29)


def test_adamw_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    # A constant gradient makes both corrected moments 1: each step is w (1 - lr wd) - lr.
    got = two_steps(
        build_optimizer("adamw", net, lr=0.5, momentum=0.0, weight_decay=0.1), net.weight
    )
    assert got == pytest.approx((2 * 0.95 - 0.5) * 0.95 - 0.5)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.layer = nn.LayerNorm(4)
        self.group = nn.GroupNorm(2, 4)
        self.fc = nn.Linear(4, 2)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4))
        self.gamma = nn.Parameter(torch.zeros(4))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)


def test_adamw_spares_norms_biases_and_embeddings() -> None:
    net = Net()
    optimizer = build_optimizer("adamw", net, lr=0.1, momentum=0.9, weight_decay=0.05)
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(net.conv.weight), id(net.fc.weight)}
    assert len(spared["params"]) == 2 + 2 * 3 + 2
    assert not {id(net.frozen)} & ({id(p) for g in optimizer.param_groups for p in g["params"]})
    assert id(net.gamma) in no_decay(net)


def test_sgd_decays_everything() -> None:
    net = Net()
    optimizer = build_optimizer("sgd", net, lr=0.1, momentum=0.8, weight_decay=0.05)
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (0.05, 0.8, False)
    assert len(group["params"]) == len(list(net.parameters())) - 1


def test_a_generator_has_groups_of_its_own() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 1, 1))
    generator = net[1]
    optimizer = build_optimizer(
        "sgd",
        net,
        lr=0.1,
        momentum=0.9,
        weight_decay=0.05,
        generator=generator,
        generator_momentum=0.0,
    )
    outer, own = optimizer.param_groups
    assert [id(p) for p in own["params"]] == [id(p) for p in generator.parameters()]
    assert [id(p) for p in outer["params"]] == [id(p) for p in net[0].parameters()]
    assert (outer["momentum"], own["momentum"], own["weight_decay"]) == (0.9, 0.0, 0.05)
    assert (outer.get("part"), own["part"]) == (None, GENERATOR)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}
    inherited = build_optimizer("sgd", net, generator=generator, **settings)
    assert inherited.param_groups[1]["momentum"] == 0.9
    groups = build_optimizer("adamw", net, generator=generator, **settings).param_groups
    assert [(g["weight_decay"], g.get("part")) for g in groups] == [
        (0.05, None),
        (0.0, None),
        (0.05, GENERATOR),
        (0.0, GENERATOR),
    ]
    assert [[tuple(p.shape) for p in g["params"]] for g in groups] == [
        [(3, 2)],
        [(3,)],
        [(1, 1, 1, 1)],
        [(1,)],
    ]
