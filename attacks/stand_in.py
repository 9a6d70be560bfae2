"""What the package ``torchattacks`` is given as the model to attack."""

from typing import Any

import torch
from torch import Tensor, nn

from robustmix.attacks.doubts import Doubts, not_finite
from robustmix.attacks.losses import no_gradient, nonfinite_logits
from robustmix.types import Model


def _checked(logits: Tensor, images: Tensor, doubts: Doubts) -> Tensor:
    # An attack that takes NaN for a failure would make a broken model look robust. What it makes of
    # NaN pixels of its own is its own affair: its result is checked.
    fault = torch.where(not_finite(images) == 0, not_finite(logits), 0.0)
    doubts.note(fault, nonfinite_logits)
    return logits


class StandIn(nn.Module):
    """What the package sees: it may set modes and clear gradients here as it likes.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K).
        images: whose device and type it has.
        doubts: where it is noted that a logit is not finite; settled by the caller.
    """

    def __init__(self, model: Model, images: Tensor, doubts: Doubts) -> None:
        super().__init__()
        # The package asks the first parameter for its device.
        self.place = nn.Parameter(images.new_zeros(1), requires_grad=False)
        self._call = (model,)  # in a tuple, so that no mode reaches the model
        self._doubts = doubts
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (N, 3, H, W), which are brought into [0, 1] before."""
        if torch.is_grad_enabled() and images.requires_grad:
            logits: Tensor = _ImagesOnly.apply(self._call[0], images, self._doubts)
            return logits
        with torch.no_grad():
            # Cloned because some attacks write into the logits.
            return _checked(self._call[0](images.clamp(0, 1)), images, self._doubts).clone()


class _ImagesOnly(torch.autograd.Function):
    """A model of which only the images get gradients: ``backward()`` leaves its parameters be."""

    @staticmethod
    def forward(ctx: Any, model: Model, images: Tensor, doubts: Doubts) -> Tensor:
        with torch.enable_grad():
            # Outside the graph: clamp may have no gradient at 0 and 1 themselves, where many
            # pixels are.
            ctx.images = images.detach().clamp(0, 1).requires_grad_()
            ctx.logits = _checked(model(ctx.images), images, doubts)
        logits: Tensor = ctx.logits.detach().clone()
        return logits

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> tuple[None, Tensor, None]:
        gradient = None
        if ctx.logits.requires_grad:
            # Some attacks go back through one forward pass several times.
            (gradient,) = torch.autograd.grad(
                ctx.logits, ctx.images, weights, retain_graph=True, allow_unused=True
            )
        if gradient is None:
            raise no_gradient()
        return None, gradient, None
