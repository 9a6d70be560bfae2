"""What a saliency source is given, the checks on its maps, and those that take a few lines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from robustmix.errors import IncompleteError, UsageError
from robustmix.later import RobustModel, Tensor, torch
from robustmix.rng import normal, sample_keys
from robustmix.saliency.from_file import SaliencyFile
from robustmix.types import Model

COPIES = 16
"""Noisy copies of an image that SmoothGrad takes the mean of."""

SIGMA = 0.1
"""Standard deviation of their noise, in [0, 1] pixel units."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Clean images whose saliency is wanted, and the model that looks at them."""

    robust: RobustModel
    model: Model
    """The same model, such that its answers do not depend on the batch."""

    images: Tensor
    """Clean, float32 (N, 3, H, W) in [0, 1]."""

    labels: Tensor | None
    """The classes to explain, int64 (N,); None: those that the model predicts."""

    sample_ids: tuple[str, ...]
    seed: int
    maps: SaliencyFile | None = None
    """What the source ``file`` reads."""

    attention_head: int | None = None
    """Which head the source ``attention`` takes, from 0; None: the mean of all."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return int(self.images.shape[2]), int(self.images.shape[3])


Source: TypeAlias = Callable[[Explained], Tensor]
"""Returns maps (N, H, W), not negative; larger is more salient."""


def saliency_maps(source: Source, explained: Explained, *, of_pixels: bool = True) -> Tensor:
    """Return the maps of a source, checked: finite, not negative, (N, H, W), detached.

    Args:
        source: what makes them.
        explained: of what.
        of_pixels: whether there is a value for every pixel, or one for each patch.

    Raises:
        IncompleteError: a map holds NaN or infinity; its samples are named.
        UsageError: the source does not suit the model.
    """
    maps = source(explained).detach()
    n, size = len(explained.images), explained.size
    assert maps.shape == (n, *size) or not of_pixels, (
        f"maps {tuple(maps.shape)} for {n} images of {size}"
    )
    bad = (~torch.isfinite(maps)).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if bad:
        shown = ", ".join(explained.sample_ids[i] for i in bad[:10])
        raise IncompleteError(
            f"the saliency of {len(bad)} samples is not finite: {shown}",
            "choose another --saliency",
            code="E-NONFINITE",
        )
    assert bool((maps >= 0).all()), "saliency is not negative"
    return maps


def gradxinput(explained: Explained) -> Tensor:
    """Return |x * dz/dx| summed over channels: x is the pixel in [0, 1], z the class's logit.

    Returns:
        (N, H, W), not negative.

    Reference:
        Shrikumar et al. 2016, arXiv:1605.01713.
    """
    gradient, _ = score_gradient(explained.model, explained.images, explained.labels)
    return (explained.images * gradient).abs().sum(dim=1)


def smoothgrad(explained: Explained, *, copies: int = COPIES, sigma: float = SIGMA) -> Tensor:
    """Return |mean over noisy copies of dz/dx| summed over channels.

    Each copy's noise belongs to the sample, whatever its batch is; noisy pixels are clipped to
    [0, 1]. The class is the one that the model gives the image without noise.

    Returns:
        (N, H, W), not negative.

    Reference:
        Smilkov et al. 2017, arXiv:1706.03825.
    """
    images, classes = explained.images, explained.labels
    if classes is None:
        with torch.no_grad():
            classes = explained.model(images).argmax(dim=1)
    keys = sample_keys(explained.seed, "occlusion", "smoothgrad", 0, explained.sample_ids)
    if images.device.type != "mps":  # it has no float64
        keys = keys.to(images.device)
    total = torch.zeros_like(images)
    for copy in range(copies):
        noise = normal(keys, images[0].numel(), counter_high=copy).to(images).view_as(images)
        noisy = (images + sigma * noise).clamp(0, 1)
        total += score_gradient(explained.model, noisy, classes)[0]
    return (total / copies).abs().sum(dim=1)


def center(explained: Explained) -> Tensor:
    """Return 1 minus the distance of each pixel from the centre over that of a corner, (N, H, W).

    Distances are in units of the image's height and width, so that the prior fits any shape.
    """
    (height, width), device = explained.size, explained.images.device
    y = (torch.arange(height, device=device) + 0.5) / height - 0.5
    x = (torch.arange(width, device=device) + 0.5) / width - 0.5
    far = (0.5 - 0.5 / height) ** 2 + (0.5 - 0.5 / width) ** 2
    distance = (y.square().unsqueeze(1) + x.square()).sqrt() / max(far**0.5, 1e-9)
    nearness: Tensor = (1 - distance).clamp_min(0)
    return nearness.expand(len(explained.images), height, width)


def file(explained: Explained) -> Tensor:
    """Return the maps of the file that was given, (N, H, W)."""
    assert explained.maps is not None, "the suite opens the file"
    return explained.maps.take(explained.sample_ids, explained.size).to(explained.images)


def score_gradient(model: Model, images: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the gradient of each image's class score, and the classes.

    Args:
        model: images (N, 3, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: (N, 3, H, W) in [0, 1].
        classes: whose logit to take, int64 (N,); None takes the largest.

    Returns:
        Gradient (N, 3, H, W) and classes (N,), detached.

    Raises:
        UsageError: the scores have no gradient.
    """
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        logits = model(x)
        if not logits.requires_grad:
            raise no_gradient()
        if classes is None:
            classes = logits.detach().argmax(dim=1)
        (gradient,) = torch.autograd.grad(class_scores(logits, classes), x)
    return gradient, classes


def class_scores(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the sum over the images of the logit of each one's class: rows do not interact."""
    return logits.gather(1, classes.unsqueeze(1)).sum()


def no_gradient() -> UsageError:
    """Return the error for a model whose scores do not depend on the image differentiably."""
    return UsageError(
        "the model's scores have no gradient",
        "choose --saliency center or file",
        code="E-SALIENCY",
    )
