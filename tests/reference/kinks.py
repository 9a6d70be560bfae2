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

TRIES = 4
"""Choices that are tried before it is given up that any helps; they come best first."""

PROBES = 8
"""Random sums by which the effect of every choice is measured, to a quarter or so."""


class Call(NamedTuple):
    """One call of a ReLU."""

    opened: Tensor
    """Its derivatives, 0 or 1."""

    near: Tensor
    """int64, the places (of the flattened input) that rounding decided."""

    def turn(self, place: int) -> None:
        """Take the other derivative at one of them."""
        # By ``data``, lest autograd refuse what was changed after it was saved.
        flat = self.opened.data.view(-1)
        flat[place] = 1 - flat[place]


class Kinks(TorchFunctionMode):
    """While entered, keeps of every ReLU with a gradient where rounding decided it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace ``relu`` by a product, so that its derivative is a factor that can be changed."""
        rectifies = func in (torch.relu, torch.relu_)
        if not (rectifies and torch.is_grad_enabled() and args[0].requires_grad):
            return func(*args, **(kwargs or {}))
        (x,) = args
        size = x.detach().abs().flatten()
        near = (size <= KINK * size.max()).nonzero().flatten()
        call = Call((x.detach() > 0).to(x.dtype).requires_grad_(), near)
        self.calls.append(call)
        return x * call.opened

    def backward(
        self,
        loss: Tensor,
        ours: Mapping[str, Tensor],
        want: Mapping[str, Tensor],
        limits: Mapping[str, float],
    ) -> None:
        """Set the gradients of ``ours``, by the choices that bring them to those wanted.

        A choice is turned if that brings the gradients closer, until they are well within their
        limits or nothing helps.

        Args:
            loss: made while this was entered.
            ours: all tensors with a gradient, at least.
            want: the recorded gradients.
            limits: how far from them each of ours may be.
        """
        held = {name: tensor for name, tensor in ours.items() if tensor.requires_grad}

        def gradients(*, differentiable: bool = False) -> dict[str, Tensor]:
            found = torch.autograd.grad(
                loss, list(held.values()), retain_graph=True, create_graph=differentiable
            )
            return dict(zip(held, found, strict=True))

        def excess(got: Mapping[str, Tensor]) -> Tensor:
            return torch.cat([(got[n] - w).flatten() / limits[n] for n, w in want.items()])

        off = excess(gradients())
        helped = True
        while helped and float(off.abs().max()) > AIM:
            helped = False
            for call, place in self._likely(excess(gradients(differentiable=True))):
                call.turn(place)
                tried = excess(gradients())
                if helped := float(tried.norm()) < 0.9 * float(off.norm()):
                    off = tried
                    break
                call.turn(place)
        for name, gradient in gradients().items():
            held[name].grad = gradient

    def _likely(self, off: Tensor) -> list[tuple[Call, int]]:
        """The choices whose effect is most nearly opposite to ``off``, the best first."""
        choices = [(call, place) for call in self.calls for place in call.near.tolist()]
        if not choices:
            return []
        # A choice's effect is that of turning it on one number, a sum of what is off by weights. By
        # random weights its square is on average that of the effect's length.
        draws = torch.Generator().manual_seed(0)
        probes = torch.randn(PROBES, len(off), generator=draws).to(off.dtype)
        lengths = torch.stack([self._effects(off @ probe) for probe in probes]).norm(dim=0)
        against = -self._effects(off @ off.detach())
        best = (against / lengths.clamp_min(1e-30)).argsort(descending=True)
        return [choices[i] for i in best[:TRIES].tolist()]

    def _effects(self, number: Tensor) -> Tensor:
        """How a number would change by each choice, if all effects were small."""
        slopes = torch.autograd.grad(
            number,
            [call.opened for call in self.calls],
            retain_graph=True,
            materialize_grads=True,
        )
        turns = ((1 - 2 * c.opened) * slope for c, slope in zip(self.calls, slopes, strict=True))
        return torch.cat(
            [turn.detach().flatten()[c.near] for c, turn in zip(self.calls, turns, strict=True)]
        )
