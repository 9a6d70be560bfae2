"""The forecast of a run's cost against the passes that the network really makes."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from robustmix.evaluation.engine import Suite
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.forecast import forecast
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.suites.autoattack import AutoAttackSuite
from robustmix.evaluation.suites.clean import CleanSuite
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.masking import MaskingSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.paper_fgsm import PaperFgsmSuite
from robustmix.evaluation.suites.pgd import PgdSuite
from robustmix.evaluation.suites.shuffle import ShuffleSuite
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
        CorruptionSuite(corruptions="fog,contrast", severities=(1, 2, 5)),
        FgsmSuite(masking=False),
        FgsmSuite(masking=False, sweep=()),
        PaperFgsmSuite(),
        OcclusionSuite(trials=2),
        OcclusionSuite(trials=3, fill="noise", modes=("random", "salient")),
        OcclusionSuite(ratios=(Fraction(1, 2),), modes=("nonsalient",), saliency="smoothgrad"),
        ShuffleSuite(trials=2),
    ],
    ids=lambda suite: suite.name,
)
def test_passes_that_can_be_foretold_are_exact(suite: Suite) -> None:
    job = prepare(tiny_model(), tiny_images(N), [suite])
    cost = forecast(job, batch_size=8, seconds=0.0).suites[-1]
    assert not cost.most
    assert cost.key == suite.name
    made = passes([suite]) - passes([CleanSuite()])
    assert cost.forwards == made


@pytest.mark.parametrize(
    "suite",
    [
        PgdSuite(steps=4, masking=False),
        PgdSuite(steps=3, restarts=2, targeted=True, loss="margin", masking=False),
        MaskingSuite(samples=20),
        AutoAttackSuite(steps=3, queries=20, masking=False),
    ],
    ids=["pgd", "pgd-targeted", "masking", "autoattack"],
)
def test_bounds_hold(suite: Suite) -> None:
    job = prepare(tiny_model(), tiny_images(N), [suite])
    cost = forecast(job, batch_size=8, seconds=0.0).suites[-1]
    part = evaluate(tiny_model(), tiny_images(N), [suite]).content.suites[suite.name]
    assert part.status == "ok"
    assert cost.most
    assert cost.forwards is not None
    assert cost.backwards is not None
    assert 0 < part.forwards <= cost.forwards  # type: ignore[union-attr]
    assert 0 < part.backwards <= cost.backwards  # type: ignore[union-attr]


def test_what_cannot_be_broken_costs_nearly_the_bound() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5] * 0 + torch.arange(5.0)

    data = tiny_images(N)
    whole = prepare(tiny_model(Constant()), data, [PgdSuite(steps=10, masking=False)])
    cost = forecast(whole, batch_size=8, seconds=0.0).suites[-1]
    report = evaluate(tiny_model(Constant()), data, [PgdSuite(steps=10, masking=False)])
    assert cost.forwards is not None
    right = report.metric("clean.top1").value
    assert right is not None
    assert report.content.suites["pgd"].forwards > 0.8 * right * cost.forwards  # type: ignore[union-attr]


def test_a_part_costs_its_samples_and_time_is_passes_times_the_probe() -> None:
    part = Planned(suite=FgsmSuite(masking=False), limit=16)
    found = forecast(prepare(tiny_model(), tiny_images(N), [part]), batch_size=8, seconds=0.0)
    cost = found.suites[-1]
    assert (cost.n, cost.forwards, cost.backwards) == (16, 16 * 11, 16)
    assert cost.seconds == pytest.approx(16 * (11 * found.forward_s + found.backward_s))
    assert found.seconds == pytest.approx(sum(c.seconds or 0 for c in found.suites))
    assert found.forward_s > 0
