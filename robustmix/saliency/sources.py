"""What a saliency source is given, and the checks on what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from robustmix.errors import IncompleteError, UsageError
from robustmix.models.robust_model import RobustModel
from robustmix.saliency.from_file import SaliencyFile
from robustmix.types import Model


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

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return int(self.images.shape[2]), int(self.images.shape[3])


Source: TypeAlias = Callable[[Explained], Tensor]
"""Returns maps (N, H, W), not negative; larger is more salient."""


def saliency_maps(source: Source, explained: Explained) -> Tensor:
    """Return the maps of a source, checked: finite, not negative, (N, H, W), detached.

    Raises:
        IncompleteError: a map holds NaN or infinity; its samples are named.
        UsageError: the source does not suit the model.
    """
    maps = source(explained).detach()
    n, size = len(explained.images), explained.size
    assert maps.shape == (n, *size), f"maps {tuple(maps.shape)} for {n} images of {size}"
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
