"""Zoom blur: the mean of the image and of itself at several magnifications."""

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_unit
from robustmix.corruptions.zoom import Grid, zoom, zoom_factors, zoom_grid

_SMALL = ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01))

ZOOMS: Severities[tuple[int, float]] = {
    "cifar": _SMALL,
    "tiny": _SMALL,
    "imagenet": ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
}
"""How many magnifications from 1 on, and the step between them."""


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Average the image with its magnifications, in float32.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    factors = zoom_factors(*ZOOMS[profile][severity - 1])
    single = to_unit(images).to(torch.float32)
    turned = single.transpose(2, 3).contiguous()
    total = torch.zeros_like(single)
    grid: list[Grid] = []
    zoomed = single
    for factor in factors:
        wanted = [zoom_grid(side, factor) for side in images.shape[2:]]
        if wanted != grid:  # neighbouring magnifications often give the same pixels
            grid, zoomed = wanted, zoom(single, factor, turned=turned).to(torch.float32)
        total += zoomed
    mean = total.add_(single).div_(len(factors) + 1)
    return mean.clamp_(0, 1).mul_(255).to(torch.uint8)


CORRUPTION = Corruption(name="zoom_blur", constants=ZOOMS, apply=apply)
