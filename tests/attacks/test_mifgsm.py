"""MI-FGSM: linear models, two steps by hand, and torchattacks' beside it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from robustmix.attacks import fgsm, mifgsm
from tests.attacks.conftest import Trained
from tests.attacks.problems import known, problem


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_of_a_linear_model_it_is_fgsm_whatever_the_decay(decay: float) -> None:
    _, images, model, labels = problem(5)
    found = mifgsm.outcome(model, images, labels, eps=0.03, decay=decay)
    one = fgsm(model, images, labels, eps=0.03)
    torch.testing.assert_close(known(found.last), one, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.images, one, rtol=0, atol=1e-6)


def bent(images: Tensor) -> Tensor:
    """Two classes; where both values are .5 the lead rises by (3, 1), at .6 by (-100, 100)."""
    x, y = (images - 0.5).flatten(1).unbind(1)
    lead = 3 * x + y + (-1030 * x**2 + 990 * y**2) / 2
    return torch.stack([torch.zeros_like(lead), lead], dim=1)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        # (.75, .25) and then (-.5, .5), each of mass one: 1 x .75 - .5 > 0, so both go on. Without
        # the division by the mass the second would outweigh the first, 3 - 100 < 0.
        (1.0, [0.7, 0.7]),
        (0.7, [0.7, 0.7]),  # .525 - .5 > 0
        (0.6, [0.5, 0.7]),  # .45 - .5 < 0: the first value goes back
        (0.0, [0.5, 0.7]),
    ],
)
def test_two_steps_by_hand(decay: float, expected: list[float]) -> None:
    images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    for scale in (1.0, 1e-3):  # whatever the size of the gradients

        def scaled(x: Tensor, scale: float = scale) -> Tensor:
            return scale * bent(x)

        found = mifgsm.outcome(scaled, images, labels, eps=0.2, steps=2, decay=decay)
        assert known(found.last).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_steps_of_a_given_length_stay_in_the_ball() -> None:
    images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    knobs: dict[str, Any] = {"eps": 0.15, "steps": 2, "step_size": 0.1}
    found = mifgsm.outcome(bent, images, labels, **knobs)
    assert known(found.last).flatten().tolist() == pytest.approx([0.65, 0.65], abs=1e-6)


def test_an_iterate_that_won_is_given_though_the_last_does_not() -> None:
    """The first step ends on the top, where the other class leads; the momentum goes on."""

    def hill(images: Tensor) -> Tensor:
        x = images.flatten(1)[:, 0]
        return torch.stack([torch.zeros_like(x), 0.2 - 100 * (x - 0.6) ** 2], dim=1)

    images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    found = mifgsm.outcome(hill, images, labels, eps=0.2, steps=2)
    assert found.success.tolist() == [True]
    assert float(found.images[0, 0, 0, 0]) == pytest.approx(0.6)
    assert float(known(found.last)[0, 0, 0, 0]) == pytest.approx(0.7)


def test_the_best_iterate_is_given_and_the_last_is_known(trained: Trained) -> None:
    x, y = trained.images, trained.labels
    found = mifgsm.outcome(trained.net, x, y, eps=0.15, steps=5)
    last = known(found.last)
    lost = trained.net(last).argmax(dim=1) != y
    assert bool((found.success >= lost).all())
    assert 30 < int(lost.sum()) < 150
    assert torch.equal(found.success, trained.net(found.images).argmax(dim=1) != y)
    for images in (last, found.images):
        assert float((images - x).abs().amax()) <= 0.15 + 1e-6
    assert (int(found.forwards[0]), int(found.backwards[0])) == (6, 5)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_tiny_and_huge_gradients_are_as_good_as_others(factor: float) -> None:
    def scaled(images: Tensor) -> Tensor:
        # The cross-entropy's gradient is the lead's, times nearly one once the label is behind.
        lead = images.flatten(1) @ torch.tensor([1.0, -1.0])
        return torch.stack([torch.zeros_like(lead), factor * lead], dim=1)

    images = torch.tensor([0.6, 0.5]).view(1, 1, 1, 2)
    found = mifgsm.outcome(scaled, images, torch.tensor([0]), eps=0.1, steps=2)
    assert known(found.last).flatten().tolist() == pytest.approx([0.7, 0.4], abs=1e-6)


@pytest.mark.parametrize("knobs", [{"steps": 0}, {"step_size": 0.0}, {"decay": -1.0}])
def test_invalid_options_are_refused(knobs: dict[str, Any], trained: Trained) -> None:
    with pytest.raises(ValueError, match="expected steps >= 1"):
        mifgsm(trained.net, trained.images[:1], trained.labels[:1], eps=0.1, **knobs)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_mifgsm_agrees_with_torchattacks(decay: float, trained: Trained) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    x, y, net = trained.images, trained.labels, trained.net
    theirs = torchattacks.MIFGSM(net, eps=0.15, alpha=0.03, steps=5, decay=decay)(x, y)
    last = known(mifgsm.outcome(net, x, y, eps=0.15, steps=5, decay=decay).last)
    # Where a sum is zero but for rounding, its sign is anybody's.
    assert float(((last - theirs).abs() < 1e-6).float().mean()) > 0.995
