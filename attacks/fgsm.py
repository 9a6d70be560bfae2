"""The fast gradient sign method."""

from torch import Tensor

from robustmix.attacks.ball import Norm, ascent_direction, check_eval
from robustmix.attacks.losses import Goal, slope
from robustmix.types import Model


def input_gradient(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy with respect to the images.

    The loss is summed, not averaged, over the batch: a mean would scale small gradients towards
    zero as the batch grows, and their sign with them.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: (N, C, H, W) in [0, 1].
        labels: class indices, (N,).

    Returns:
        (N, C, H, W), detached.

    Raises:
        ValueError: a module of the model is in train mode.
        IncompleteError: the model returned NaN or infinite logits.
    """
    check_eval(model)
    return slope(model, images, Goal("ce", labels)).gradient


def fgsm_step(images: Tensor, gradient: Tensor, *, eps: float, norm: Norm = "linf") -> Tensor:
    """Make the step of length ``eps`` that raises a linear loss most and clip to [0, 1].

    In linf that moves every value by ``eps`` along the sign of the gradient. A gradient of exactly
    zero moves nothing.
    """
    return (images + eps * ascent_direction(gradient, norm=norm)).clamp(0, 1)


def fgsm(
    model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: Norm = "linf"
) -> Tensor:
    """Raise the cross-entropy by one gradient step inside the ball, a signed one in linf.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true class indices, (N,).
        eps: length of the step in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.

    Returns:
        Images in the ball and in [0, 1], same shape as ``images``, detached.

    Raises:
        ValueError: eps outside [0, 1]; in l2, negative.

    Reference:
        Goodfellow et al. 2015, arXiv:1412.6572, section 4.

    Example:
        >>> import torch
        >>> images = torch.full((1, 1, 1, 2), 0.5)
        >>> toward = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1)
        >>> fgsm(toward, images, torch.tensor([0]), eps=0.25).flatten().tolist()
        [0.25, 0.75]
    """
    if not 0 <= eps <= (1 if norm == "linf" else float("inf")):
        raise ValueError(f"eps is in [0, 1] pixel units: expected 0 <= eps <= 1, got {eps}")
    return fgsm_step(images, input_gradient(model, images, labels), eps=eps, norm=norm)
