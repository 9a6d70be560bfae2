"""Gradients through ReLUs whose input is nothing but rounding.

The derivative of a ReLU is 0 or 1. Where its input is 0 but for rounding, the order in which sums
were made decides which, and one such choice among the 10^5 of a step moves gradients by up to a
fifth of their largest entry, and all that comes after with them. A tolerance that covered this
would see no bug. So where gradients are not the recorded ones, the choices that rounding made are
tried the other way round: the recorded gradients must follow from some of them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.reference.tolerances import KINK

AIM = 0.1
"""Of the limits: gradients farther off are looked into. A choice whose effect is smaller does not
matter, neither now nor in the steps that follow."""


class Choice(NamedTuple):
    """A ReLU that rounding decided."""

    opened: Tensor
    """The derivatives of its call, 0 or 1."""

    place: int
    """Its own, among these flattened."""

    distance: float
    """Size of its input as a share of the largest of the call."""

    def turn(self) -> None:
        """Take the other derivative from now on."""
        # By ``data``, lest autograd refuse what was changed after it was saved.
        flat = self.opened.data.view(-1)
        flat[self.place] = 1 - flat[self.place]


class Kinks(TorchFunctionMode):
    """While entered, notes of every ReLU with a gradient where rounding decided it."""

    def __init__(self) -> None:
        super().__init__()
        self.choices: list[Choice] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace ``relu`` by a product, whose derivative ``Choice.turn`` can change."""
        rectifies = func in (torch.relu, torch.relu_)
        if not (rectifies and torch.is_grad_enabled() and args[0].requires_grad):
            return func(*args, **(kwargs or {}))
        (x,) = args
        opened = (x > 0).to(x.dtype)
        share = (x.detach() / x.detach().abs().max()).abs().flatten()
        for place in (share <= KINK).nonzero().flatten().tolist():
            self.choices.append(Choice(opened, place, float(share[place])))
        return x * opened

    def backward(
        self,
        loss: Tensor,
        ours: Mapping[str, Tensor],
        want: Mapping[str, Tensor],
        limits: Mapping[str, float],
    ) -> None:
        """Set the gradients of ``ours``, by the choices that bring them to those wanted.

        A choice is turned if that brings the gradients closer, the smallest inputs first, until
        all are within their limits or nothing helps.

        Args:
            loss: made while this was entered.
            ours: all tensors with a gradient, at least.
            want: the recorded gradients.
            limits: how far from them each of ours may be.
        """
        held = [tensor for tensor in ours.values() if tensor.requires_grad]

        def excess() -> Tensor:
            for tensor in held:
                tensor.grad = None
            torch.autograd.backward(loss, retain_graph=True)
            return torch.cat(
                [(_gradient(ours[n]) - w).flatten() / limits[n] for n, w in want.items()]
            )

        best, left = excess(), sorted(self.choices, key=lambda choice: choice.distance)
        turned = True
        while turned and float(best.abs().max()) > AIM:
            turned = False
            for choice in left:
                choice.turn()
                tried = excess()
                if float(tried.norm()) < 0.9 * float(best.norm()):
                    best, turned = tried, True
                    if float(best.abs().max()) <= AIM:
                        return
                else:
                    choice.turn()
        excess()


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad
