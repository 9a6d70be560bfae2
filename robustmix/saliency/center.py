"""Nearness to the centre of the image: what a saliency source must beat."""

import torch
from torch import Tensor

from robustmix.saliency.sources import Explained


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
