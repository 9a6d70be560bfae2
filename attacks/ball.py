"""The geometry of a threat: lengths, projections, ascent directions and random starts."""

from typing import Literal, TypeAlias

from robustmix.attacks.doubts import Doubts, doubt
from robustmix.later import Tensor, nn, torch
from robustmix.rng import normal, uniform
from robustmix.types import Model

Norm: TypeAlias = Literal["linf", "l2"]

_TINY = 1e-12


def lengths(change: Tensor, *, norm: Norm) -> Tensor:
    """Measure each sample's change, (N,)."""
    flat = change.flatten(1)
    return flat.abs().amax(dim=1) if norm == "linf" else flat.norm(dim=1)


def per_sample(values: Tensor) -> Tensor:
    """Shape one value a sample, (N,), so that it spreads over images: (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def project(images: Tensor, adversarial: Tensor, *, norm: Norm, eps: float) -> Tensor:
    """Move images into the ball around ``images`` and then into [0, 1].

    The second move only shortens the change, so the result is in both.

    Args:
        images: centres, (N, C, H, W) in [0, 1].
        adversarial: what is to be projected, same shape.
        norm: norm of the ball.
        eps: its radius, in [0, 1] pixel units.

    Example:
        >>> centre = torch.full((1, 1, 1, 2), 0.5)
        >>> project(centre, centre + torch.tensor([0.3, 0.4]), norm="l2", eps=0.25).flatten()
        tensor([0.6500, 0.7000])
    """
    change = adversarial - images
    if norm == "linf":
        change = change.clamp(-eps, eps)
    else:
        scale = (eps / lengths(change, norm="l2").clamp_min(_TINY)).clamp(max=1)
        change = change * per_sample(scale)
    return (images + change).clamp(0, 1)


def ascent_direction(gradient: Tensor, *, norm: Norm) -> Tensor:
    """Find each sample's step of length 1 that raises a linear loss most.

    A gradient of zero gives no step, never NaN. The l2 direction is scaled by the largest entry
    first, so that squares of tiny or huge gradients neither vanish nor overflow.
    """
    if norm == "linf":
        return gradient.sign()
    largest = per_sample(lengths(gradient, norm="linf"))
    scaled = torch.where(largest > 0, gradient / largest, 0.0)
    return scaled / per_sample(lengths(scaled, norm="l2").clamp_min(_TINY))


def start_in_ball(images: Tensor, keys: Tensor, *, norm: Norm, eps: float, stream: int) -> Tensor:
    """Draw a uniformly random point of each sample's ball, clipped to [0, 1].

    Args:
        images: (N, C, H, W) in [0, 1].
        keys: one 64-bit key a sample, int64 (N,); the point depends on nothing else.
        norm: norm of the ball.
        eps: its radius, in [0, 1] pixel units.
        stream: number of the attempt; every one has its own draws.
    """
    keys = keys.to(images.device)
    count = images[0].numel()
    if norm == "linf":
        change = eps * (2 * uniform(keys, count, counter_high=2 * stream) - 1)
    else:
        direction = normal(keys, count, counter_high=2 * stream)
        # A radius with this power of a uniform makes the point uniform in the ball.
        radius = eps * uniform(keys, 1, counter_high=2 * stream + 1) ** (1 / count)
        change = direction * (radius / direction.norm(dim=1, keepdim=True))
    return (images + change.view_as(images).to(images.dtype)).clamp(0, 1)


def check_eval(model: Model) -> None:
    """Raise unless every module of the model is in eval mode.

    Raises:
        ValueError: the gradient or the score of a sample would depend on its batch.
    """
    inner = getattr(model, "model", model)
    for module in (model, inner):
        if isinstance(module, nn.Module):
            training = [name or "the model" for name, m in module.named_modules() if m.training]
            if training:
                raise ValueError(f"attacks need eval mode: {training[0]} is in train mode")


def check_problem(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    eps: float,
    keys: Tensor | None,
    doubts: Doubts | None = None,
) -> None:
    """Refuse an invalid problem.

    Whether pixels are outside [0, 1] is left to ``doubts``, if there are some.

    Raises:
        ValueError: wrong shapes or types, pixels outside [0, 1], an impossible radius, train mode.
    """
    check_eval(model)
    if norm not in ("linf", "l2"):
        raise ValueError(f"expected norm linf or l2, got {norm!r}")
    if not 0 <= eps < float("inf") or (norm == "linf" and eps > 1):
        raise ValueError(f"eps is in [0, 1] pixel units: expected 0 <= eps <= 1, got {eps}")
    if images.ndim != 4 or not images.is_floating_point():
        hint = "; divide uint8 by 255" if images.dtype == torch.uint8 else ""
        got = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"expected float images (N, C, H, W), got {got}{hint}")
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        got = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"expected int64 labels ({len(images)},), got {got}")
    if len(images):
        low, high = images.detach().aminmax()

        def out_of_range() -> ValueError:
            bounds = f"[{float(low):.6g}, {float(high):.6g}]"
            return ValueError(f"expected images in [0, 1], got values in {bounds}")

        doubt(~((low >= 0) & (high <= 1)), out_of_range, doubts)  # also true for NaN
    if keys is not None and (keys.shape != (len(images),) or keys.dtype != torch.int64):
        raise ValueError(f"expected one int64 key a sample ({len(images)},)")
