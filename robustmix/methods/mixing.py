"""What the mixing methods share: a batch after mixing, its soft targets, its loss, its pixels.

A method that mixes images has, beside ``training_step``, a method
``mix(batch, *, lam=None, perm=None) -> Blend``: it draws from the method's generator, then puts
``lam`` and ``perm`` in place of what was drawn if they are given. The preview of all methods and
the benchmark of their cost call it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.losses import BinaryLoss, binary_cross_entropy, full_precision
from robustmix.methods.method import Setup, require
from robustmix.models.resnet import ResNet
from robustmix.models.taps import in_eval_mode
from robustmix.models.wide_resnet import WideResNet


class Blend(NamedTuple):
    """A mixed batch: what the network is shown, and how much of which image it is.

    N images are shown; each is made of S images of the batch, the first of which is its own.
    """

    images: Tensor
    """(N, C, H, W), a new tensor unless nothing was mixed."""

    sources: Tensor
    """int64 (S, N), places in the batch; where a source repeats, its weights add up."""

    weights: Tensor
    """float32 (S, N), weight of each source's label; the columns sum to 1 as a rule."""


@runtime_checkable
class Mixer(Protocol):
    """A method that can show what it makes of a batch."""

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Mix a batch of normalised images; ``lam`` and ``perm`` replace what is drawn."""
        ...


def image_size(images: Tensor) -> tuple[int, int]:
    """Return height and width of images (N, C, H, W)."""
    return images.shape[2], images.shape[3]


def given(**values: float | Tensor | None) -> dict[str, Any]:
    """Return what is not None, to ``_replace`` draws with.

    Example:
        >>> given(lam=0.5, perm=None)
        {'lam': 0.5}
    """
    return {name: value for name, value in values.items() if value is not None}


def may_look(tensor: Tensor) -> bool:
    """Return whether the processor can ask for a tensor's numbers without waiting for a device."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def blend_alone(images: Tensor) -> Blend:
    """Return images as they are, each its own only source."""
    n = len(images)
    return Blend(
        images,
        torch.arange(n, device=images.device)[None],
        torch.ones(1, n, device=images.device),
    )


def blend_pairs(
    images: Tensor, perm: Tensor, own: float | Tensor, other: float | Tensor | None = None
) -> Blend:
    """Return the blend of images with one partner each.

    Args:
        images: the mixed images, (N, C, H, W).
        perm: int64 (N,), whom each image was mixed with.
        own: weight of each image's own label, a number or (N,).
        other: weight of the partner's label, likewise; 1 - ``own`` if None.
    """
    n = len(perm)
    own = torch.as_tensor(own, dtype=torch.float32, device=images.device).expand(n)
    if other is None:
        other = 1 - own
    other = torch.as_tensor(other, dtype=torch.float32, device=images.device).expand(n)
    identity = torch.arange(n, device=images.device)
    return Blend(images, torch.stack([identity, perm.to(images.device)]), torch.stack([own, other]))


def soft_targets(blend: Blend, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mixed labels, float32 (N, K); each row sums to its weights' sum.

    Example:
        >>> blend = blend_pairs(torch.zeros(2, 3, 1, 1), torch.tensor([1, 0]), 0.75)
        >>> soft_targets(blend, torch.tensor([0, 2]), 3)
        tensor([[0.7500, 0.0000, 0.2500],
                [0.2500, 0.0000, 0.7500]])
    """
    n = blend.sources.shape[1]
    targets = torch.zeros(n, num_classes, device=labels.device)
    return targets.scatter_add_(1, labels[blend.sources].T, blend.weights.T.to(labels.device))


def blend_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    blend: Blend,
    *,
    smoothing: float = 0.0,
    batch_mean_lambda: bool = False,
) -> Tensor:
    """Return the mean over the batch of sum_s weight[s] CE(logits, label of source s).

    Args:
        logits: of the blended images, (N, K).
        labels: of the batch, int64 (N,).
        blend: sources and weights.
        smoothing: label smoothing of every label, as in ``cross_entropy``.
        batch_mean_lambda: give every image the batch's mean weights, as some published code does.

    Returns:
        A float32 scalar.
    """
    logits = full_precision(logits)
    weights = blend.weights
    if batch_mean_lambda:
        weights = weights.mean(dim=1, keepdim=True)
    terms = [
        weight * F.cross_entropy(logits, labels[row], reduction="none", label_smoothing=smoothing)
        for weight, row in zip(weights, blend.sources, strict=True)
    ]
    return torch.stack(terms).sum(dim=0).mean()


def blend_binary_loss(
    logits: Tensor,
    labels: Tensor,
    blend: Blend,
    how: BinaryLoss,
    *,
    smoothing: float = 0.0,
    batch_mean_lambda: bool = False,
) -> Tensor:
    """Return the binary cross-entropy of a batch to its mixed labels; see ``blend_cross_entropy``.

    Args:
        logits: of the blended images, (N, K).
        labels: of the batch, int64 (N,).
        blend: sources and weights.
        how: threshold, and sum or mean over the classes.
        smoothing: label smoothing, before the threshold.
        batch_mean_lambda: give every image the batch's mean weights.
    """
    if batch_mean_lambda:
        mean = blend.weights.mean(dim=1, keepdim=True)
        blend = blend._replace(weights=mean.expand_as(blend.weights))
    targets = soft_targets(blend, labels, logits.shape[1])
    return binary_cross_entropy(logits, targets, how, smoothing=smoothing)


def last_map(network: nn.Module, images: Tensor) -> Tensor:
    """Return the map that a network averages before its last layer, (N, F, h, w).

    Args:
        network: one that passed ``require_last_map``.
        images: normalised for it, (N, 3, H, W).
    """
    if isinstance(network, ResNet | WideResNet):
        return network.forward_features(images)[-1]
    maps: Tensor = network.forward_features(images)  # type: ignore[operator]  # timm's
    # timm's hierarchical transformers have the channels last.
    return maps.permute(0, 3, 1, 2) if type(network).__name__.startswith("Swin") else maps


def require_last_map(network: nn.Module, input_size: tuple[int, int, int], name: str) -> None:
    """Raise UsageError unless a network ends in a map; runs it on one image, in eval mode."""
    if isinstance(network, ResNet | WideResNet):
        return
    found: Tensor | None = None
    if hasattr(network, "forward_features"):
        parameter = next(network.parameters())
        images = torch.zeros(1, *input_size, device=parameter.device, dtype=parameter.dtype)
        with in_eval_mode(network), torch.no_grad():
            found = network.forward_features(images)  # type: ignore[operator]  # timm's
    if found is None or found.ndim != 4:
        raise UsageError(
            f"{name or type(network).__name__} does not end in a map to look at",
            "use a built-in architecture or a convolutional one of timm",
            code="E-NO-MAP",
        )


Channels: TypeAlias = Sequence[float] | Tensor
"""A number a channel; or a tensor (C, 1, 1) that is on the images' device already."""


def register_scale(method: nn.Module, setup: Setup) -> None:
    """Let a method have ``shift`` and ``scale``, mean and std of its images, on its device.

    They are float32 (3, 1, 1) and no part of its state.
    """
    for name, values in (("shift", setup.mean), ("scale", setup.std)):
        method.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)


def to_pixels(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Return normalised images (N, C, H, W) in [0, 1] pixel units, not clamped."""
    shift, scale = (
        values if isinstance(values, Tensor) else images.new_tensor(list(values))[:, None, None]
        for values in (mean, std)
    )
    return images * scale + shift


def to_levels(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Return the grey levels, uint8 (N, C, H, W), that normalised images were made from."""
    return (255 * to_pixels(images, mean, std)).round().clamp(0, 255).to(torch.uint8)


def check_alpha(alpha: float, name: str = "alpha") -> None:
    """Raise ValueError unless a Beta distribution has this parameter."""
    require(0 < alpha < float("inf"), f"a finite {name} > 0", alpha)
