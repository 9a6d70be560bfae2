"""The step of the published FGSM tool, faults included, for comparison with its tables alone."""

import torch
from torch import Tensor


def paper_fgsm_step(
    images: Tensor, gradient: Tensor, *, eps: float, mean: Tensor, std: Tensor
) -> Tensor:
    """Do to pixels what the published tool does to the normalised tensor.

    The tool adds ``eps`` to the tensor z = (x - mean) / std and clamps z to [0, 1]. In pixels that
    is a step of ``eps * std``, about a fifth of ``eps``, and a clamp to [mean, mean + std], which
    erases whatever is darker than the mean or brighter than one deviation above it.

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
