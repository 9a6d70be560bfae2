"""The forecast of a run's cost against the passes that the network really makes."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.forecast import (
    Cost,
    Forecast,
    forecast,
    forecast_lines,
    forecast_table,
)
from robustmix.evaluation.plan import Planned
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.suite import Suite
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.clean import Clean
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.fgsm import PaperFgsm
from robustmix.evaluation.suites.masking import Masking
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.registry import name_of
from robustmix.evaluation.suites.shuffle import Shuffle
from robustmix.progress import show_duration
from tests.evaluation.tiny import Net, tiny_images, tiny_model

N = 40  # a multiple of eight, so that no batch is padded


class Counter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return super().forward(x)


def passes(suites: list[Suite]) -> int:
    """Return how many images went through the network."""
    net = Counter()
    evaluate(tiny_model(net), tiny_images(N), suites, batch_size=8)
    return net.images


@pytest.mark.parametrize(
    "suite",
    [
        Corruption(corruptions="fog,contrast", severity=(1, 2, 5)),
        Attack(attack="fgsm", masking="off"),
        Attack(attack="fgsm", masking="off", sweep=()),
        PaperFgsm(),
        Occlusion(trials=2),
        Occlusion(trials=3, fill="noise", mode=("random", "salient")),
        Occlusion(ratios=(Fraction(1, 2),), mode=("nonsalient",), saliency="smoothgrad"),
        Shuffle(trials=2),
    ],
    ids=name_of,
)
def test_passes_that_can_be_foretold_are_exact(suite: Suite) -> None:
    whole = prepare(tiny_model(), tiny_images(N), [suite])
    cost = forecast(whole, batch_size=8, seconds=0.0).suites[-1]
    assert not cost.most
    assert cost.key == name_of(suite)
    made = passes([suite]) - passes([Clean()])
    assert cost.forwards == made


@pytest.mark.parametrize(
    "suite",
    [
        Attack(attack="pgd", masking="off", own={"steps": 4}),
        Attack(
            attack="pgd",
            masking="off",
            own={"steps": 3, "restarts": 2, "targeted": True, "loss": "margin"},
        ),
        Masking(masking_samples=20),
        Masking(masking_samples=20, masking_design="full"),
        Attack(attack="autoattack", masking="off", own={"steps": 3, "queries": 20}),
    ],
    ids=["pgd", "pgd-targeted", "masking", "masking-full", "autoattack"],
)
def test_bounds_hold(suite: Suite) -> None:
    whole = prepare(tiny_model(), tiny_images(N), [suite])
    cost = forecast(whole, batch_size=8, seconds=0.0).suites[-1]
    part = evaluate(tiny_model(), tiny_images(N), [suite]).content.suites[name_of(suite)]
    assert part.status == "ok"
    assert cost.most
    assert cost.forwards is not None
    assert cost.backwards is not None
    assert 0 < part.details["forwards"] <= cost.forwards
    assert 0 < part.details["backwards"] <= cost.backwards


def test_what_cannot_be_broken_costs_nearly_the_bound() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5] * 0 + torch.arange(5.0)

    data = tiny_images(N)
    whole = prepare(
        tiny_model(Constant()), data, [Attack(attack="pgd", masking="off", own={"steps": 10})]
    )
    cost = forecast(whole, batch_size=8, seconds=0.0).suites[-1]
    report = evaluate(
        tiny_model(Constant()), data, [Attack(attack="pgd", masking="off", own={"steps": 10})]
    )
    assert cost.forwards is not None
    right = report.metric("clean.top1").value
    assert right is not None
    assert report.content.suites["pgd"].details["forwards"] > 0.8 * right * cost.forwards


def test_a_part_costs_its_samples_and_time_is_passes_times_the_probe() -> None:
    part = Planned(suite=Attack(attack="fgsm", masking="off"), limit=16)
    found = forecast(prepare(tiny_model(), tiny_images(N), [part]), batch_size=8, seconds=0.0)
    cost = found.suites[-1]
    assert (cost.n, cost.forwards, cost.backwards) == (16, 16 * 10, 16)
    assert found.backward_s is not None
    assert cost.seconds == pytest.approx(16 * (10 * found.forward_s + found.backward_s))
    assert found.seconds == pytest.approx(sum(c.seconds or 0 for c in found.suites))
    assert found.forward_s > 0


def test_a_backward_pass_that_no_suite_makes_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> Tensor:
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr("robustmix.evaluation.forecast.input_gradient", refused)
    whole = prepare(tiny_model(), tiny_images(N), ["clean", "shuffle"])
    found = forecast(whole, batch_size=8, seconds=0.0)
    assert found.backward_s is None
    assert all(cost.seconds is not None and cost.seconds > 0 for cost in found.suites)
    assert "images/s forward, on cpu" in forecast_lines(whole, found)[-1]


def test_what_hangs_on_the_model_has_a_usual_cost_and_a_bound() -> None:
    """The sequential checks have both; by hand: 20 images of one, 2 + 3 passes of 1 s each."""
    whole = prepare(tiny_model(), tiny_images(N), [Masking(masking_samples=20)])
    cost = forecast(whole, batch_size=8, seconds=0.0).suites[-1]
    assert cost.usual is not None
    assert cost.forwards is not None
    assert cost.backwards is not None
    assert 0 < cost.usual[0] < cost.forwards / 10
    assert 0 < cost.usual[1] < cost.backwards / 10
    found = Forecast(
        suites=(
            Cost(key="clean", conditions=1, n=20, forwards=20, backwards=0, seconds=20.0),
            Cost(
                key="masking", conditions=9, n=20, forwards=4000, backwards=2000, most=True,
                seconds=6000.0, usual=(40, 60), usual_s=100.0,
            ),
        ),
        forward_s=1.0,
        backward_s=1.0,
    )  # fmt: skip
    assert (found.usual_s, found.seconds) == (120.0, 6020.0)
    cells = [list(column.cells) for column in forecast_table(found).columns]
    assert [column[1] for column in cells[3:5]] == ["40 (<4,000)", "60 (<2,000)"]
    duration = [show_duration(seconds) for seconds in (100.0, 6000.0, 120.0, 6020.0)]
    assert cells[5][1] == f"{duration[0]} (<{duration[1]})"
    (line,) = (one for one in forecast_lines(whole, found) if " in all" in one)
    assert line.startswith(f"about {duration[2]} (<{duration[3]}) in all; measured")
