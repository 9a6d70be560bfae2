"""Occlusion masks: which patches of which image are hidden, and with what."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustmix.errors import UsageError
from robustmix.rng import normal, permutations

Fill = Literal["mean", "black", "image_mean", "noise", "blur"]
FILLS: tuple[Fill, ...] = ("mean", "black", "image_mean", "noise", "blur")


def mask_count(ratio: Fraction, patches: int) -> int:
    """Return how many patches a ratio hides: floor(ratio * patches + 1/2), exactly.

    Rounding is half up on rational numbers: neither banker's rounding nor a float's last bit
    decides (evaluation specification, 7.1).

    Example:
        >>> [mask_count(Fraction(k, 10), 64) for k in range(1, 10)]
        [6, 13, 19, 26, 32, 38, 45, 51, 58]
    """
    return math.floor(ratio * patches + Fraction(1, 2))


def patch_size(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width of a patch.

    Raises:
        UsageError: the grid does not divide the image; nothing is cropped silently.
    """
    (height, width), (rows, columns) = size, grid
    if rows < 1 or columns < 1 or height % rows or width % columns:
        raise UsageError(
            f"a grid of {rows}x{columns} does not divide images of {height}x{width}",
            "choose --grid so that it divides the image",
            code="E-GRID",
        )
    return height // rows, width // columns


def nested_masks(
    keys: Tensor, counts: Sequence[int], size: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Return which pixels are hidden, bool (len(counts), N, 1, H, W).

    Every sample has one permutation of its patches; a count hides the first of it, so a larger
    count hides a superset.

    Args:
        keys: one per-sample key a mask, int64 (N,).
        counts: patches to hide.
        size: height and width of the images.
        grid: rows and columns of patches.
    """
    patch = patch_size(size, grid)
    patches = grid[0] * grid[1]
    order = permutations(keys, patches)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(patches, device=keys.device).expand_as(order)
    )
    hidden = torch.stack([rank < count for count in counts])
    grids = hidden.view(len(counts), len(keys), 1, *grid)
    return grids.repeat_interleave(patch[0], dim=3).repeat_interleave(patch[1], dim=4)


def filling(
    images: Tensor,
    fill: Fill,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    patch: tuple[int, int],
    keys: Tensor,
) -> Tensor:
    """Return what hidden pixels show, broadcastable to ``images``, in [0, 1].

    Args:
        images: float32 (N, 3, H, W) in [0, 1].
        fill: ``mean`` is the mean colour of the data set (zero after normalisation), ``black`` is 0
            before normalisation, ``image_mean`` the image's own mean colour, ``noise`` is
            N(mean, std) per pixel and channel, clipped, ``blur`` a Gaussian blur of the image whose
            sigma is the patch height.
        mean: mean of the data set a channel.
        std: standard deviation a channel.
        patch: height and width of a patch.
        keys: per-sample keys of the noise, int64 (N,).
    """
    colour = torch.tensor(mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    if fill == "mean":
        return colour
    if fill == "black":
        return torch.zeros_like(colour)
    if fill == "image_mean":
        return images.mean(dim=(2, 3), keepdim=True)
    if fill == "noise":
        spread = torch.tensor(std, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        draws = normal(keys, images[0].numel()).to(images)
        return (colour + spread * draws.view_as(images)).clamp(0, 1)
    return _blur(images, float(patch[0]))


def _blur(images: Tensor, sigma: float) -> Tensor:
    for axis in (2, 3):
        reach = min(math.ceil(3 * sigma), images.shape[axis] - 1)
        steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        taps = torch.exp(-(steps**2) / (2 * sigma**2))
        shape = [1, 1, 1, 1]
        shape[axis] = len(taps)
        kernel = (taps / taps.sum()).view(shape).repeat(3, 1, 1, 1)
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        images = F.conv2d(F.pad(images, pad, mode="reflect"), kernel, groups=3)
    return images.clamp(0, 1)
