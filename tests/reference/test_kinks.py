"""What ``Kinks`` takes for rounding, and what not."""

import torch
from torch import Tensor

from tests.reference.kinks import Kinks
from tests.reference.tolerances import KINK, largest

UNITS = ((0, 0), (3, 2), (6, 1))


def layer(inputs: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """The weights of 7 x 5 ReLUs, three of which have the inputs given, and a loss of theirs."""
    draws = torch.Generator().manual_seed(0)
    images, weight, factors = (
        torch.randn(size, generator=draws, dtype=torch.float64) for size in ((7, 3), (3, 5), (7, 5))
    )
    offsets = torch.zeros(7, 5, dtype=torch.float64)
    for (row, column), value in zip(UNITS, inputs, strict=True):
        offsets[row, column] = value - images[row] @ weight[:, column]
    weight.requires_grad_()
    return weight, (torch.relu(images @ weight + offsets) * factors).sum()


def gradient(inputs: tuple[float, float, float]) -> Tensor:
    weight, loss = layer(inputs)
    (found,) = torch.autograd.grad(loss, weight)
    return found


def explained(inputs: tuple[float, float, float], want: Tensor) -> Tensor:
    """The gradient at some inputs, by the choices that bring it to the one wanted."""
    with Kinks() as kinks:
        weight, loss = layer(inputs)
    kinks.backward(loss, {"weight": weight}, {"weight": want}, {"weight": 1e-6})
    assert weight.grad is not None
    return weight.grad


def test_the_recorded_choices_are_found_among_all() -> None:
    tiny = KINK / 1000
    ours = (tiny, -tiny, tiny)
    for theirs in ((-tiny, -tiny, tiny), (tiny, tiny, -tiny), (-tiny, tiny, -tiny)):
        want = gradient(theirs)
        assert largest(gradient(ours) - want) > 0.1
        assert largest(explained(ours, want) - want) < 1e-12


def test_what_is_no_rounding_stays_as_it_is() -> None:
    ours, other = (0.1, 0.1, 0.1), (-0.1, 0.1, 0.1)  # signs that rounding does not change
    torch.testing.assert_close(explained(ours, gradient(other)), gradient(ours))
    tiny = KINK / 1000
    wrong = 1.01 * gradient((tiny, tiny, tiny))
    torch.testing.assert_close(explained((tiny, tiny, tiny), wrong), wrong / 1.01)
