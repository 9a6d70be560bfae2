"""The fast gradient sign method, and the step that a published tool takes for it."""

from robustmix.attacks.attack import attack_of
from robustmix.attacks.ball import Norm, ascent_direction, check_eval, check_problem
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.losses import Goal, slope
from robustmix.later import Tensor, torch
from robustmix.types import Model


def input_gradient(
    model: Model, images: Tensor, labels: Tensor, doubts: Doubts | None = None
) -> Tensor:
    """Take the gradient of the cross-entropy with respect to the images.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: (N, C, H, W) in [0, 1].
        labels: class indices, (N,).
        doubts: what the caller settles; None: whether logits are finite is looked at here.

    Returns:
        (N, C, H, W), detached; of each sample's own loss, whatever the batch.

    Raises:
        ValueError: a module of the model is in train mode.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.
    """
    check_eval(model)
    return slope(model, images, Goal("ce", labels), doubts).gradient


def fgsm_step(images: Tensor, gradient: Tensor, *, eps: float, norm: Norm = "linf") -> Tensor:
    """Make the step of length ``eps`` that raises a linear loss most and clip to [0, 1].

    In linf that moves every value by ``eps`` along the sign of the gradient. A gradient of exactly
    zero moves nothing.
    """
    return (images + eps * ascent_direction(gradient, norm=norm)).clamp(0, 1)


@attack_of
def fgsm(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    keys: Tensor | None = None,
) -> Tensor:
    """Raise the cross-entropy by one gradient step inside the ball, a signed one in linf.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true class indices, int64 (N,).
        eps: length of the step in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.
        seed: without effect, for nothing is random here.
        keys: likewise.

    Returns:
        Images in the ball and in [0, 1], same shape as ``images``, detached.

    Raises:
        ValueError: an argument is invalid, such as an eps outside [0, 1].
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Goodfellow et al. 2015, arXiv:1412.6572, section 4.

    Example:
        >>> images = torch.full((1, 1, 1, 2), 0.5)
        >>> toward = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1)
        >>> fgsm(toward, images, torch.tensor([0]), eps=0.25).flatten().tolist()
        [0.25, 0.75]
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    gradient = input_gradient(model, images, labels, doubts)
    doubts.settle()
    return fgsm_step(images, gradient, eps=eps, norm=norm)


def paper_fgsm_step(
    images: Tensor, gradient: Tensor, *, eps: float, mean: Tensor, std: Tensor
) -> Tensor:
    """Do to pixels what the published tool does to the normalised tensor, faults included.

    It is there for comparison with that tool's tables alone. The tool adds ``eps`` to the tensor
    z = (x - mean) / std and clamps z to [0, 1]. In pixels that is a step of ``eps * std``, about a
    fifth of ``eps``, and a clamp to [mean, mean + std], which erases whatever is darker than the
    mean or brighter than one deviation above it.

    Args:
        images: clean images, (N, C, H, W) in [0, 1].
        gradient: of the loss with respect to the images; its sign is that in normalised space.
        eps: what the tool adds to the normalised tensor; 0 leaves the clamp alone.
        mean: of the normalisation, (C, 1, 1), in [0, 1] pixel units.
        std: likewise, positive.

    Returns:
        Images (N, C, H, W), far outside the ball of radius ``eps`` around the clean ones.

    Reference:
        The analysis scripts of Qin et al. 2024, arXiv:2312.11954.

    Example:
        >>> images = torch.tensor([0.2, 0.5, 0.9]).view(1, 1, 1, 3)
        >>> half, fifth = torch.full((1, 1, 1), 0.4), torch.full((1, 1, 1), 0.2)
        >>> step = paper_fgsm_step(images, torch.ones_like(images), eps=0.1, mean=half, std=fifth)
        >>> [round(value, 4) for value in step.flatten().tolist()]
        [0.4, 0.52, 0.6]
    """
    moved = images + eps * std * gradient.sign()
    return torch.minimum(torch.maximum(moved, mean), mean + std)
