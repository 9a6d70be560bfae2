"""Glass blur: pixels are displaced at random, between two Gaussian blurs."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.gaussian_blur import blur
from robustmix.corruptions.names import Profile
from robustmix.rng import philox

SIGMA_REACH_ROUNDS: Severities[tuple[float, int, int]] = {
    "cifar": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "tiny": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    "imagenet": ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
}
"""Deviation of both blurs, farthest displacement in pixels, rounds of displacing."""


class GlassBlur(NamedTuple):
    """What glass blur draws; the border pixels, which stay, have displacement 0."""

    down: Tensor  # (N, rounds, H, W) int32 in [-reach, reach), rows to the pixel that is copied
    right: Tensor  # (N, rounds, H, W) int32, columns to it


def written(height: int, width: int, reach: int) -> tuple[slice, slice]:
    """Return the rows and columns that are written: reach + 1 to side - reach, both included."""
    return slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1)


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> GlassBlur:
    """Draw a displacement for every pixel but the border, in every round."""
    _, reach, rounds = SIGMA_REACH_ROUNDS[profile][severity - 1]
    n, (height, width) = len(images), images.shape[2:]
    count = rounds * height * width
    words = philox(keys, count)
    # Two numbers below 2 reach of one 32-bit word; 2^16 is a multiple of 2 reach or nearly so.
    halves = ((words >> 16).to(torch.int32), (words & 0xFFFF).to(torch.int32))
    down, right = (half.mul_(2 * reach).bitwise_right_shift_(16).sub_(reach) for half in halves)
    inside = torch.zeros(height, width, dtype=torch.int32, device=images.device)
    inside[written(height, width, reach)] = 1
    shape = (n, rounds, height, width)
    return GlassBlur(down.view(shape).mul_(inside), right.view(shape).mul_(inside))


def sources(draws: GlassBlur, round_: int, reach: int) -> Tensor:
    """Return where every pixel's value comes from after one round, flat, int64 (N, H W).

    The benchmark walks from the lower right corner to the upper left one and copies as it goes, so
    a pixel that copies from below or from its right copies what was put there in this round. Such
    chains are followed to their ends, doubling the pace.
    """
    height, width = draws.down.shape[2:]
    device = draws.down.device
    place = torch.arange(height * width, device=device)
    shift = draws.down[:, round_] * width + draws.right[:, round_]
    source = place + shift.flatten(1)
    if reach == 1:  # displacements of -1 and 0 only: nothing that is read was written before
        return source
    inside = torch.zeros(height, width, dtype=torch.bool, device=device)
    inside[written(height, width, reach)] = True
    chained = (source > place) & inside.flatten()[source]
    if device.type == "cpu":
        return torch.from_numpy(_ends(source.numpy(), chained.numpy()))
    for _ in range((height * width).bit_length()):  # a chain passes each pixel once
        onward = source.gather(1, source)
        still = chained & chained.gather(1, source)
        source = torch.where(chained, onward, source)
        chained = still
    return source


def _ends(source: NDArray[np.int64], chained: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Follow chains (N, H W) to their ends; a CPU sees cheaply which of them go on."""
    first = len(source[0]) * np.arange(len(source))[:, None]
    ends, goes_on = (source + first).ravel(), chained.ravel()
    open_ = np.flatnonzero(goes_on)
    while open_.size:
        onward = ends.take(open_)
        further, still = ends.take(onward), goes_on.take(onward)
        ends[open_], goes_on[open_] = further, still
        open_ = open_[still]
    return ends.reshape(source.shape) - first


def apply(images: Tensor, draws: GlassBlur, severity: int, profile: Profile) -> Tensor:
    """Blur, displace, blur again.

    Args:
        images: uint8 (N, 3, H, W).
        draws: the displacements.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2. Meant there is an exchange of
        two pixels; the released files were made with a copy.
    """
    sigma, reach, rounds = SIGMA_REACH_ROUNDS[profile][severity - 1]
    blurred = blur(images, sigma).flatten(2)
    for round_ in range(rounds):
        index = sources(draws, round_, reach).unsqueeze(1).expand(blurred.shape)
        blurred = blurred.gather(2, index)
    return blur(blurred.view(images.shape), sigma)


CORRUPTION = Corruption(name="glass_blur", constants=SIGMA_REACH_ROUNDS, apply=apply, draw=draw)
