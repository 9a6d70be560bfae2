"""Gaussian blur."""

import functools

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.filters import gaussian_filter, gaussian_nearly, gaussian_taps
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import settled, to_grey_levels_, to_unit

SIGMA: Severities[float] = {
    "cifar": (0.4, 0.6, 0.7, 0.8, 1.0),
    "tiny": (0.5, 0.75, 1.0, 1.25, 1.5),
    "imagenet": (1.0, 2.0, 3.0, 4.0, 6.0),
}
"""Standard deviation of the kernel, in pixels."""


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Blur every channel with a Gaussian; the border pixels repeat outwards.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B.
    """
    return blur(images, SIGMA[profile][severity - 1])


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur grey levels, uint8 (N, C, H, W), with a Gaussian and truncate the unit interval's."""
    nearly = gaussian_nearly(images, sigma)
    if nearly is None:
        return to_grey_levels_(gaussian_filter(to_unit(images), sigma))
    levels, error = nearly
    blurred, open_ = settled(levels, 255 * error)
    places = open_.flatten().nonzero().squeeze(1)
    if len(places):
        # Of one colour all around, a pixel keeps it but for the last bit, which decides.
        flat = _flat_around(images, places, len(gaussian_taps(sigma)) - 1)
        table, pixels = _flat_levels(sigma), blurred.flatten()
        pixels[places[flat]] = table[images.flatten()[places[flat]].long()]
        planes = torch.unique(places[~flat] // images[0, 0].numel())
        exact = gaussian_filter(to_unit(images.flatten(0, 1)[planes]), sigma)
        blurred.flatten(0, 1)[planes] = to_grey_levels_(exact)
    return blurred


def _flat_around(images: Tensor, places: Tensor, reach: int) -> Tensor:
    """Return whether all pixels up to ``reach`` away along rows and columns are equal, bool (M,).

    Args:
        images: (N, C, H, W).
        places: int64 (M,), among the values of ``images``.
        reach: in pixels.
    """
    height, width = images.shape[2:]
    plane, place = places // (height * width), places % (height * width)
    row, column = place // width, place % width
    top, left = (row - reach).clamp_min(0), (column - reach).clamp_min(0)
    bottom = (row + reach + 1).clamp_max(height)
    right = (column + reach + 1).clamp_max(width)

    def changes(differ: Tensor, top: Tensor, left: Tensor) -> Tensor:
        before = torch.zeros(*images.shape[:2], height + 1, width + 1, dtype=torch.int64)
        before[:, :, height + 1 - differ.shape[2] :, width + 1 - differ.shape[3] :] = differ
        before = before.cumsum_(2).cumsum_(3).flatten(0, 1)
        inside = before[plane, bottom, right] - before[plane, top, right]
        return inside - before[plane, bottom, left] + before[plane, top, left]

    down, across = images[:, :, 1:] != images[:, :, :-1], images[..., 1:] != images[..., :-1]
    return changes(down, top + 1, left) + changes(across, top, left + 1) == 0


@functools.lru_cache(maxsize=16)
def _flat_levels(sigma: float) -> Tensor:
    """Return what each grey level becomes where an image has no other, uint8 (256,)."""
    levels = to_unit(torch.arange(256, dtype=torch.uint8)).view(256, 1, 1)
    return to_grey_levels_(gaussian_filter(levels, sigma)).flatten()


CORRUPTION = Corruption(name="gaussian_blur", constants=SIGMA, apply=apply)
