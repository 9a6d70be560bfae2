import pytest
import torch
from torch import Tensor, nn

from robustmix.attacks import CountingModel, Goal, rescore, slope, standing, verify
from robustmix.errors import IncompleteError
from tests.attacks.problems import problem


def test_verify_scores_targeted_and_untargeted_by_itself() -> None:
    def model(images: Tensor) -> Tensor:
        return images.flatten(1)

    images = torch.tensor([[0.5, 0.4, 0.3], [0.5, 0.4, 0.3], [0.5, 0.4, 0.3]]).view(3, 1, 1, 3)
    moved = images.clone()
    moved[1, 0, 0, 1] = 0.55  # predicts 1
    moved[2, 0, 0, 2] = 0.45  # stays
    labels, targets = torch.zeros(3).long(), torch.tensor([1, 2, 2])
    free = verify(model, images, labels, moved, norm="linf", eps=0.15)
    assert free.success.tolist() == [False, True, False]
    bound = verify(model, images, labels, moved, norm="linf", eps=0.15, targets=targets)
    assert bound.success.tolist() == [False, False, False]
    hit = torch.tensor([1, 1, 2])
    assert verify(
        model, images, labels, moved, norm="linf", eps=0.15, targets=hit
    ).success.tolist() == [False, True, False]
    assert torch.equal(free.attacked.images, moved)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_verify_refuses_what_left_the_ball_or_the_range(norm: str) -> None:
    _, images, model, labels = problem(3)
    size = 0.1 if norm == "linf" else 0.1 * 30**0.5
    far = images + 0.1
    verify(model, images, labels, far, norm=norm, eps=size)  # type: ignore[arg-type]
    for eps, moved in ((size - 1e-3, far), (1.0 if norm == "linf" else 9.0, images + 0.7)):
        with pytest.raises(IncompleteError, match="left its ball"):
            verify(model, images, labels, moved, norm=norm, eps=eps)  # type: ignore[arg-type]


def test_verify_allows_the_rounding_of_a_sum_and_clips_it() -> None:
    _, images, model, labels = problem(3)
    edge = images.round()
    checked = verify(model, edge, labels, edge + 5e-7, norm="linf", eps=0.0)
    assert float(checked.attacked.images.amax()) == 1.0
    with pytest.raises(IncompleteError, match="left its ball"):
        verify(model, edge, labels, edge + 1e-5, norm="linf", eps=0.1)


def test_rescore_takes_a_nan_for_broken_not_for_outside() -> None:
    _, images, model, labels = problem(2)
    with pytest.raises(ValueError, match="NaN"):
        verify(model, images, labels, images * torch.nan, norm="linf", eps=0.1)
    with pytest.raises(ValueError, match="keeps the shape"):
        rescore(model, images, images[:1], norm="linf", eps=0.1)


def test_counter_counts_images_forward_and_back() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(30, 4)).eval()
    counting = CountingModel(net)
    images, goal = torch.rand(5, 2, 3, 5), Goal("ce", torch.zeros(5).long())
    assert torch.equal(standing(counting, images, goal).loss, standing(net, images, goal).loss)
    assert (counting.forwards, counting.backwards) == (5, 0)
    for _ in range(2):
        slope(counting, images, goal)
    assert (counting.forwards, counting.backwards) == (15, 10)
    probe = images.clone().requires_grad_()
    logits = counting(probe)
    for _ in range(3):  # three times back through one forward pass
        torch.autograd.grad(logits.sum(), probe, retain_graph=True)
    assert (counting.forwards, counting.backwards) == (20, 25)
