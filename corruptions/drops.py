"""The image processing behind drops of water: edges, distances to them, equalised histograms.

Batched whole-number arithmetic that gives what OpenCV's Canny, distance transform (5x5 chamfer) and
histogram equalisation give.
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.corruptions import drops_on_cpu
from robustmix.corruptions.drops_on_cpu import TAN_22
from robustmix.corruptions.filters import pad

FIXED = 1 << 16
STRAIGHT, DIAGONAL, KNIGHT = FIXED, round(1.4 * FIXED), round(2.1969 * FIXED)
"""Lengths of the chamfer steps, in units of 2^-16 pixels."""


def edges(levels: Tensor, *, low: int, high: int) -> Tensor:
    """Return Canny's edges of grey levels (N, H, W), bool.

    Gradients by 3x3 Sobel with repeated borders, their size as the sum of both components; local
    maxima across the edge above ``low`` that touch, from pixel to pixel, one above ``high``.

    Args:
        levels: whole numbers, 0 to 255.
        low: threshold that an edge must exceed.
        high: threshold that it must exceed somewhere.
    """
    if levels.device.type == "cpu":
        return torch.from_numpy(drops_on_cpu.edges(levels.numpy().astype(np.uint8), low, high))
    # No number exceeds 2^27: gradients are at most 4 x 255.
    padded = pad(pad(levels.to(torch.int32), 1, "edge", dim=1), 1, "edge", dim=2)
    smooth = padded[:, :-2] + padded[:, 2:] + 2 * padded[:, 1:-1]
    gx = smooth[:, :, 2:] - smooth[:, :, :-2]
    smooth = padded[:, :, :-2] + padded[:, :, 2:] + 2 * padded[:, :, 1:-1]
    gy = smooth[:, 2:] - smooth[:, :-2]
    width, depth = gx.abs(), gy.abs()
    size = width + depth

    across = depth << 15
    flat = width * TAN_22
    level = across < flat  # nearly horizontal gradient
    upright = across > flat.add_(width << 16)
    around = torch.nn.functional.pad(size, (1, 1, 1, 1))
    rows, columns = size.shape[1:]

    def beside(down: int, right: int) -> Tensor:
        return around[:, 1 + down : 1 + down + rows, 1 + right : 1 + right + columns]

    same = (gx ^ gy) >= 0
    before = torch.where(same, beside(-1, -1), beside(-1, 1))
    after = torch.where(same, beside(1, 1), beside(1, -1))
    peak = torch.where(
        level,
        (size > beside(0, -1)) & (size >= beside(0, 1)),
        torch.where(
            upright,
            (size > beside(-1, 0)) & (size >= beside(1, 0)),
            (size > before) & (size > after),
        ),
    )
    weak = peak & (size > low)
    return touching(weak, weak & (size > high))


ROUNDS = 16
"""Steps from pixel to pixel between two looks whether any is left to take; a look is a wait."""


def touching(weak: Tensor, strong: Tensor) -> Tensor:
    """Return the pieces of ``weak`` (N, H, W), bool, that hold something ``strong``.

    Pixels that touch at a side or a corner are of one piece.
    """
    if weak.device.type == "cpu":
        return torch.from_numpy(drops_on_cpu.touching(weak.numpy(), strong.numpy()))
    found = strong
    while True:
        grown = found
        for _ in range(ROUNDS):
            spread = torch.nn.functional.max_pool2d(grown.to(torch.float32), 3, 1, 1)
            grown = (spread > 0) & weak
        if bool((grown == found).all()):
            return found
        found = grown


def nearest_edge(found: Tensor, farthest: int) -> Tensor:
    """Return the chamfer distance of every pixel to the nearest edge, int32 (N, H, W), times 2^16.

    Steps of 1 along rows and columns, 1.4 along diagonals and 2.1969 for a knight's move. What is
    farther than ``farthest`` pixels, or has no edge at all, is that far.

    Args:
        found: bool (N, H, W).
        farthest: in pixels, at least 1.
    """
    if found.device.type == "cpu" and farthest <= drops_on_cpu.FARTHEST:
        known = chamfer_lengths(farthest)
        return torch.from_numpy(drops_on_cpu.nearest_edge(found.numpy(), known))
    n, height, width = found.shape
    places = torch.arange(width, dtype=torch.int32, device=found.device)
    far = width + farthest
    left = torch.where(found, places, -far).cummax(dim=2).values
    right = torch.where(found, places, far + far).flip(2).cummin(dim=2).values.flip(2)
    beside = torch.minimum(places - left, right - places).clamp_max_(farthest)
    # Of a row's edges the nearest along the row is the nearest of all.
    rows = torch.nn.functional.pad(beside, (0, 0, farthest, farthest), value=farthest)
    best = torch.full_like(beside, farthest * STRAIGHT)
    for away, lengths in enumerate(_lengths(farthest, found.device)):
        up, down = (rows[:, i : i + height] for i in (farthest - away, farthest + away))
        nearer = torch.minimum(up, down).flatten()
        best = torch.minimum(best, lengths.index_select(0, nearer).view(n, height, width))
    return best


@functools.lru_cache(maxsize=4)
def chamfer_lengths(farthest: int) -> NDArray[np.int32]:
    """Return the lengths of the ways over so many rows and columns, times 2^16.

    Those of (farthest, farthest + 1): fewer than ``farthest`` rows, and up to as many columns.
    """
    table = [[_length(max(a, b), min(a, b)) for b in range(farthest + 1)] for a in range(farthest)]
    return np.minimum(np.array(table, np.int32), farthest * STRAIGHT)


@functools.lru_cache(maxsize=4)
def _lengths(farthest: int, device: torch.device) -> tuple[Tensor, ...]:
    return torch.from_numpy(chamfer_lengths(farthest)).to(device).unbind(0)


def _length(longer: int, shorter: int) -> int:
    """Return the length of the shortest way over so many pixels along both axes, times 2^16."""
    if 2 * shorter <= longer:
        return (longer - 2 * shorter) * STRAIGHT + shorter * KNIGHT
    return (2 * shorter - longer) * DIAGONAL + (longer - shorter) * KNIGHT


def equalised(levels: Tensor) -> Tensor:
    """Return grey levels whose histogram is as level as can be, image by image, int64 (N, H, W).

    Args:
        levels: int64 (N, H, W), 0 to 255; an image of one level stays as it is.
    """
    if levels.device.type == "cpu":
        return torch.from_numpy(drops_on_cpu.equalised(levels.numpy())).to(torch.int64)
    flat = levels.flatten(1)
    counts = torch.zeros(len(flat), 256, dtype=torch.int64, device=levels.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    first = (counts > 0).to(torch.int64).argmax(dim=1, keepdim=True)
    lowest = counts.gather(1, first)
    after = (counts.cumsum(dim=1) - lowest).clamp_min(0)
    rest = flat.shape[1] - lowest
    scale = 255 / rest.clamp_min(1).to(torch.float32)
    table = (after.to(torch.float32) * scale).round().to(torch.int64)
    table = torch.where(rest > 0, table, torch.arange(256, device=levels.device))
    return table.gather(1, flat).view(levels.shape)


def correlated(maps: Tensor, kernel: tuple[tuple[int, ...], ...]) -> Tensor:
    """Correlate maps (N, H, W) of whole numbers with a 3x3 kernel of such; borders mirror."""
    if maps.device.type == "cpu":
        return torch.from_numpy(drops_on_cpu.correlated(maps.numpy(), kernel))
    height, width = maps.shape[1:]
    padded = pad(pad(maps, 1, "mirror", dim=1), 1, "mirror", dim=2)
    total = torch.zeros_like(maps)
    for i, row in enumerate(kernel):
        for j, weight in enumerate(row):
            if weight:
                total.add_(padded[:, i : i + height, j : j + width], alpha=weight)
    return total


def box_sum(maps: Tensor) -> Tensor:
    """Return the sums of 3x3 pixels of maps (N, H, W) of whole numbers; borders mirror."""
    if maps.device.type == "cpu":
        return torch.from_numpy(drops_on_cpu.box_sum(maps.numpy()))
    wide = pad(maps, 1, "mirror", dim=2)
    rows = (wide[..., :-2] + wide[..., 1:-1]).add_(wide[..., 2:])
    tall = pad(rows, 1, "mirror", dim=1)
    return (tall[:, :-2] + tall[:, 1:-1]).add_(tall[:, 2:])
