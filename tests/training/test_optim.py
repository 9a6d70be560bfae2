"""Schedules and optimisers by hand; the long curves are in the reference tests."""

import itertools
import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.pretended_gpu import GPU, pretended_gpu
from robustmix.training import learning_rate
from robustmix.training.optim import (
    GENERATOR,
    build_optimizer,
    load_optimizer,
    no_decay,
    update,
)
from robustmix.training.schedules import Schedule
from robustmix.training.state import Means


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


def stepped(device: torch.device, kind: str, left_out: list[int]) -> list[list[float]]:
    """Weights after each of some steps, the gradient of every second one being NaN."""
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
    layer.to(device)
    settings: dict[str, Any] = {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.0}
    optimizer = build_optimizer("sgd" if kind == "sgd" else "adamw", layer, **settings)
    if kind == "unfused":
        optimizer.param_groups[0]["fused"] = False
    seen = []
    for i, count in enumerate(left_out):
        gradient = torch.tensor([[float("nan"), 1.0]] if i % 2 == 0 else [[1.0, 1.0]])
        layer.weight.grad = gradient.to(device)
        update(optimizer, torch.tensor(count).to(device))
        seen.append(layer.weight.detach().cpu().flatten().tolist())
    return seen


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_step_with_a_term_left_out_moves_nothing_if_its_gradient_is_nan(kind: str) -> None:
    here = stepped(torch.device("cpu"), kind, [1, 1, 2, 0])
    assert here[0] == [1, 2]
    assert here[1] == here[2] == ([0.5, 1.5] if kind == "sgd" else here[1])
    if kind == "sgd":  # the momentum is still that of the one gradient, (1, 1)
        assert here[3] == [-0.25, 0.75]
    assert here[1] != here[0]
    with pretended_gpu():
        there = stepped(GPU, kind, [1, 1, 2, 0])
    assert there == [pytest.approx(row) for row in here]


def test_nothing_is_looked_for_where_no_term_was_left_out() -> None:
    with pretended_gpu():
        assert math.isnan(stepped(GPU, "sgd", [0])[0][0])
    assert math.isnan(stepped(torch.device("cpu"), "sgd", [0])[0][0])


def test_an_optimiser_of_other_kernels_makes_a_step_without_a_gradient() -> None:
    with pretended_gpu():
        there = stepped(GPU, "unfused", [1, 1, 1])
    assert there[0] == [1, 2]
    assert all(math.isfinite(value) for row in there for value in row)


def test_a_state_goes_on_by_the_kernels_of_its_own_device() -> None:
    layer = nn.Linear(2, 1)
    settings: dict[str, Any] = {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.0}
    optimizer = build_optimizer("sgd", layer, **settings)
    assert optimizer.param_groups[0]["fused"] is None
    with pretended_gpu():
        there = build_optimizer("sgd", nn.Linear(2, 1).to(GPU), **settings)
    assert there.param_groups[0]["fused"] is True
    state = there.state_dict()
    state["param_groups"][0]["lr"] = 0.25
    load_optimizer(optimizer, state)
    assert optimizer.param_groups[0]["fused"] is None
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_means_leave_out_what_is_not_a_number() -> None:
    means = Means(torch.device("cpu"))
    nan = torch.tensor(float("nan"))
    means.add({"loss": torch.tensor(2.0), "skipped": torch.tensor(0)}, 3)
    means.add({"loss": nan, "late": torch.tensor(5.0, dtype=torch.float64)}, 4)
    means.add({"loss": torch.tensor(5.0), "never": nan}, 1)
    assert means.read() == {"loss": 2.75, "skipped": 0.0, "late": 5.0}
    again = Means(torch.device("cpu"))
    again.unpack(json.loads(json.dumps(means.pack())))
    assert again.read() == means.read()
    assert again.pack() == means.pack()
    assert Means(torch.device("cpu")).read() == {}
