"""The harness around all attacks: clip, re-check the ball, re-score; trust nothing."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from robustmix.types import Model

Norm = Literal["linf", "l2"]


class Attacked(NamedTuple):
    """What is left of an attack's claim after it was checked."""

    images: Tensor
    """(N, C, H, W), inside the ball and [0, 1]."""

    logits: Tensor
    """(N, K), scored by the harness."""

    linf: Tensor
    """(N,) largest absolute change of a value, in [0, 1] pixel units."""

    l2: Tensor
    """(N,) Euclidean length of the change, in [0, 1] pixel units."""

    overshoot: float
    """How far the attack had left the ball or [0, 1] before it was clipped; 0 for a correct one."""


def rescore(
    model: Model, images: Tensor, adversarial: Tensor, *, norm: Norm, eps: float
) -> Attacked:
    """Project an attack's result into the ball and [0, 1] and score it.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        adversarial: what the attack returned, same shape.
        norm: the norm of the ball.
        eps: its radius, in [0, 1] pixel units.

    Raises:
        ValueError: the attack changed the shape or returned NaN.
    """
    if adversarial.shape != images.shape:
        raise ValueError(f"an attack keeps the shape: {images.shape} became {adversarial.shape}")
    if not bool(torch.isfinite(adversarial).all()):
        raise ValueError("an attack returned NaN or infinite pixels")
    change = (adversarial - images).detach()
    size = _length(change, norm)
    outside = torch.maximum(-adversarial, adversarial - 1).amax()
    overshoot = max(0.0, float((size - eps).amax()), float(outside))
    if norm == "linf":
        change = change.clamp(-eps, eps)
    else:
        change = change * (eps / size.clamp_min(1e-12)).clamp(max=1).view(-1, 1, 1, 1)
    # Where nothing was outside, the attack's own values are kept: image + (adv - image) may round.
    inside = adversarial.detach() if overshoot == 0 else (images + change).clamp(0, 1)
    with torch.no_grad():
        logits = model(inside)
    moved = inside - images
    return Attacked(inside, logits, _length(moved, "linf"), _length(moved, "l2"), overshoot)


def _length(change: Tensor, norm: Norm) -> Tensor:
    flat = change.flatten(1)
    return flat.abs().amax(dim=1) if norm == "linf" else flat.norm(dim=1)
