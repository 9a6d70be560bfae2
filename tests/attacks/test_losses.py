from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robustmix.attacks import Goal, Loss, slope, standing, top_targets
from robustmix.attacks.losses import (
    cross_entropy,
    dlr,
    margin,
    targeted_cross_entropy,
    targeted_dlr,
    targeted_margin,
)
from robustmix.errors import IncompleteError
from tests.attacks.problems import Curved, curved_images

LOGITS = torch.tensor([[1.0, 4.0, 2.0, 3.5], [9.0, -1.0, 0.0, 5.0]])
LABELS = torch.tensor([1, 3])  # the first is right, the second is wrong
TARGETS = torch.tensor([0, 2])


def test_losses_by_hand() -> None:
    torch.testing.assert_close(margin(LOGITS, LABELS), torch.tensor([3.5 - 4, 9.0 - 5]))
    torch.testing.assert_close(dlr(LOGITS, LABELS), torch.tensor([-0.5 / (4 - 2), 4 / (9 - 0)]))
    torch.testing.assert_close(
        targeted_dlr(LOGITS, LABELS, TARGETS),
        torch.tensor([(1 - 4.0) / (4 - 1.5), (0 - 5.0) / (9 + 0.5)]),
    )
    torch.testing.assert_close(targeted_margin(LOGITS, TARGETS), torch.tensor([1 - 4.0, 0 - 9.0]))
    p = LOGITS.double().exp()
    p = p / p.sum(dim=1, keepdim=True)
    ce = -torch.stack([p[0, 1], p[1, 3]]).log()
    torch.testing.assert_close(cross_entropy(LOGITS, LABELS).double(), ce, rtol=1e-5, atol=1e-6)
    towards = torch.stack([p[0, 0], p[1, 2]]).log()
    got = targeted_cross_entropy(LOGITS, TARGETS).double()
    torch.testing.assert_close(got, towards, rtol=1e-5, atol=1e-6)


UNTARGETED: list[Loss] = ["ce", "margin", "dlr"]


@pytest.mark.parametrize("loss", UNTARGETED)
@pytest.mark.parametrize("targeted", [False, True])
def test_every_loss_rises_towards_the_attackers_end(loss: Loss, targeted: bool) -> None:
    """Moving logit mass from the label to the other class never lowers a loss."""
    goal = Goal(loss, torch.zeros(1).long(), torch.ones(1).long() if targeted else None)
    values = [
        float(goal.values(torch.tensor([[4.0 - t, t, 0.5, -1.0]]))) for t in (0.6, 1.2, 1.9, 2.6)
    ]
    assert values == sorted(values)
    assert len(set(values)) == 4
    if loss != "ce":  # the sign tells on which side of the decision it is
        assert values[2] < 0 < values[3]


@pytest.mark.parametrize("function", [dlr, lambda z, y: targeted_dlr(z, y, TARGETS)])
def test_dlr_ignores_scale_and_shift(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    want = function(LOGITS, LABELS)
    torch.testing.assert_close(function(1000 * LOGITS + 77, LABELS), want)


def test_dlr_keeps_a_gradient_where_cross_entropy_has_lost_it() -> None:
    def model(images: Tensor) -> Tensor:
        return 1e4 * images.flatten(1)

    images = torch.tensor([[0.1, 0.9, 0.2, 0.3]]).view(1, 1, 2, 2)
    labels = torch.ones(1).long()
    assert not slope(model, images, Goal("ce", labels)).gradient.any()
    assert bool(slope(model, images, Goal("dlr", labels)).gradient.any())


@pytest.mark.parametrize(
    ("loss", "targeted", "least"),
    [("margin", False, 2), ("dlr", False, 3), ("dlr", True, 4)],
)
def test_losses_refuse_too_few_classes(loss: Loss, targeted: bool, least: int) -> None:
    labels = torch.zeros(2).long()
    goal = Goal(loss, labels, labels + 1 if targeted else None)
    with pytest.raises(ValueError, match=f"at least {least} classes, got {least - 1}"):
        goal.values(torch.randn(2, least - 1))
    assert goal.values(torch.randn(2, least)).shape == (2,)


def test_top_targets_leave_the_label_out_and_break_ties_by_index() -> None:
    logits = torch.tensor([[1.0, 1.0, 5.0, 1.0], [0.0, 3.0, 2.0, 9.0]])
    got = top_targets(logits, torch.tensor([2, 1]), 3)
    assert got.tolist() == [[0, 1, 3], [3, 2, 0]]
    with pytest.raises(ValueError, match="1 to 3 targets"):
        top_targets(logits, torch.tensor([2, 1]), 4)


@pytest.mark.parametrize("loss", UNTARGETED)
@pytest.mark.parametrize("targeted", [False, True])
def test_slope_is_the_finite_difference(loss: Loss, targeted: bool) -> None:
    model = Curved(classes=5, seed=1)
    images = curved_images(2)
    labels = model(images).argmax(dim=1)
    goal = Goal(loss, labels, (labels + 1) % 5 if targeted else None)
    got = slope(model, images, goal)
    torch.testing.assert_close(got.loss, standing(model, images, goal).loss)
    step = 1e-6
    for at in [(0, 0, 0, 0), (1, 1, 2, 4), (1, 0, 1, 3)]:
        up, down = images.clone(), images.clone()
        up[at] += step
        down[at] -= step
        difference = standing(model, up, goal).loss - standing(model, down, goal).loss
        want = float(difference.sum()) / (2 * step)
        assert float(got.gradient[at]) == pytest.approx(want, rel=1e-5, abs=1e-7)


def test_gradient_of_a_sample_does_not_shrink_with_the_batch() -> None:
    model = Curved(classes=5, seed=1)
    images = curved_images(3)
    labels = model(images).argmax(dim=1)
    whole = slope(model, images, Goal("ce", labels)).gradient
    single = slope(model, images[:1], Goal("ce", labels[:1])).gradient
    torch.testing.assert_close(whole[:1], single)


@torch.no_grad()
def _without_grad(x: Tensor) -> Tensor:
    return x.flatten(1) * 2


BLIND: dict[str, Callable[[Tensor], Tensor]] = {
    "cast": lambda x: (x * 255).to(torch.uint8).float().flatten(1),
    "detach": lambda x: x.flatten(1).detach(),
    "no-grad": _without_grad,
    "other-path": lambda x: torch.ones(len(x), 4, requires_grad=True) * 1.0,
}


@pytest.mark.parametrize("cut", BLIND)
def test_where_no_gradient_flows_an_attack_cannot_begin(cut: str) -> None:
    """A uint8 cast or a detach cuts the graph."""
    goal, images = Goal("ce", torch.zeros(2).long()), torch.rand(2, 1, 2, 2)
    with pytest.raises(IncompleteError, match="no gradient") as caught:
        slope(BLIND[cut], images, goal)
    assert caught.value.code == "E-NO-GRADIENT"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_trap_23_broken_logits_are_an_error(bad: float) -> None:
    def model(images: Tensor) -> Tensor:
        return torch.cat([images.flatten(1), torch.full((len(images), 1), bad)], dim=1)

    images, goal = torch.rand(2, 1, 2, 2), Goal("ce", torch.zeros(2).long())
    for score in (slope, standing):
        with pytest.raises(IncompleteError, match="NaN or infinite logits") as caught:
            score(model, images, goal)
        assert caught.value.code == "E-NONFINITE"


def test_goal_knows_when_it_is_reached() -> None:
    untargeted = Goal("ce", LABELS)
    assert untargeted.reached(LOGITS).tolist() == [False, True]
    towards = Goal("ce", LABELS, torch.tensor([0, 2]))
    assert towards.reached(LOGITS).tolist() == [False, True]
    exact = Goal("ce", LABELS, torch.tensor([0, 0]), reach=True)
    assert exact.reached(LOGITS).tolist() == [False, True]
    assert Goal("ce", LABELS, torch.tensor([0, 2]), reach=True).reached(LOGITS).tolist() == [
        False,
        False,
    ]
    tied = Goal("ce", torch.tensor([1]))
    assert tied.reached(torch.tensor([[2.0, 2.0, 1.0]])).tolist() == [True]
    with pytest.raises(ValueError, match="expected loss ce, margin or dlr"):
        Goal("hinge", LABELS)  # type: ignore[arg-type]
