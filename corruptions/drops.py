"""The image processing behind drops of water: edges, distances to them, equalised histograms.

Batched whole-number arithmetic that gives what OpenCV's Canny, distance transform (5x5 chamfer) and
histogram equalisation give.
"""

import torch
from torch import Tensor

from robustmix.corruptions.filters import pad

TAN_22 = 13573
"""tan 22.5 degrees in units of 2^-15; tan 67.5 degrees is this plus two units of 1."""

FIXED = 1 << 16
STRAIGHT, DIAGONAL, KNIGHT = FIXED, round(1.4 * FIXED), round(2.1969 * FIXED)
"""Lengths of the chamfer steps, in units of 2^-16 pixels."""

FAR = 1 << 28


def _around(maps: Tensor, down: int, right: int, fill: int) -> Tensor:
    """Return maps (N, H, W) whose every pixel is that ``down`` rows and ``right`` columns away."""
    height, width = maps.shape[1:]
    reach = max(abs(down), abs(right))
    padded = torch.nn.functional.pad(maps, (reach,) * 4, value=fill)
    top, left = reach + down, reach + right
    return padded[:, top : top + height, left : left + width]


def edges(levels: Tensor, *, low: int, high: int) -> Tensor:
    """Return Canny's edges of grey levels (N, H, W), bool.

    Gradients by 3x3 Sobel with repeated borders, their size as the sum of both components; local
    maxima across the edge above ``low`` that touch, from pixel to pixel, one above ``high``.

    Args:
        levels: int64, 0 to 255.
        low: threshold that an edge must exceed.
        high: threshold that it must exceed somewhere.
    """
    padded = pad(pad(levels, 1, "edge", dim=1), 1, "edge", dim=2)
    smooth = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    gx = smooth[:, :, 2:] - smooth[:, :, :-2]
    smooth = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    gy = smooth[:, 2:] - smooth[:, :-2]
    size = gx.abs() + gy.abs()

    across = gy.abs() << 15
    flat = gx.abs() * TAN_22
    steep = flat + (gx.abs() << 16)
    level = across < flat  # nearly horizontal gradient
    upright = across > steep
    left, right = _around(size, 0, -1, 0), _around(size, 0, 1, 0)
    up, down = _around(size, -1, 0, 0), _around(size, 1, 0, 0)
    same = (gx ^ gy) >= 0
    before = torch.where(same, _around(size, -1, -1, 0), _around(size, -1, 1, 0))
    after = torch.where(same, _around(size, 1, 1, 0), _around(size, 1, -1, 0))
    peak = torch.where(
        level,
        (size > left) & (size >= right),
        torch.where(upright, (size > up) & (size >= down), (size > before) & (size > after)),
    )
    weak = peak & (size > low)
    found = weak & (size > high)
    while True:
        grown = torch.nn.functional.max_pool2d(found.to(torch.float32), 3, stride=1, padding=1)
        grown = (grown > 0) & weak
        if bool((grown == found).all()):
            return found
        found = grown


def nearest_edge(found: Tensor) -> Tensor:
    """Return the chamfer distance of every pixel to the nearest edge, float64 (N, H, W), in pixels.

    Steps of 1 along rows and columns, 1.4 along diagonals and 2.1969 for a knight's move, in one
    sweep down and one up; without any edge all distances are large.

    Args:
        found: bool (N, H, W).
    """
    start = torch.where(found, 0, FAR)
    down = _sweep(start)
    both = _sweep(down.flip((1, 2))).flip((1, 2))
    return both.to(torch.float64) / FIXED


def _sweep(distance: Tensor) -> Tensor:
    """Return distances shortened by steps from above and from the left, row after row."""
    n, height, width = distance.shape
    places = torch.arange(width, device=distance.device) * STRAIGHT
    border = distance.new_full((n, width + 4), FAR)
    rows = [border, border]
    for y in range(height):
        one, two = rows[-1], rows[-2]
        best = distance[:, y]
        for line, shift, step in (
            (one, 0, STRAIGHT),
            (one, -1, DIAGONAL),
            (one, 1, DIAGONAL),
            (one, -2, KNIGHT),
            (one, 2, KNIGHT),
            (two, -1, KNIGHT),
            (two, 1, KNIGHT),
        ):
            best = torch.minimum(best, line[:, 2 + shift : 2 + shift + width] + step)
        best = (best - places).cummin(dim=1).values + places
        rows.append(torch.nn.functional.pad(best, (2, 2), value=FAR))
    return torch.stack(rows[2:], dim=1)[:, :, 2:-2]


def equalised(levels: Tensor) -> Tensor:
    """Return grey levels whose histogram is as level as can be, image by image, int64 (N, H, W).

    Args:
        levels: int64 (N, H, W), 0 to 255; an image of one level stays as it is.
    """
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


def weighted_mean(
    maps: Tensor, kernel: tuple[tuple[int, ...], ...], *, divide: bool = True
) -> Tensor:
    """Correlate maps (N, H, W) with a 3x3 kernel of whole numbers; borders mirror.

    Args:
        maps: float64.
        kernel: three rows of three.
        divide: by nine.
    """
    height, width = maps.shape[1:]
    padded = pad(pad(maps, 1, "mirror", dim=1), 1, "mirror", dim=2)
    total = torch.zeros_like(maps)
    for i, row in enumerate(kernel):
        for j, weight in enumerate(row):
            if weight:
                total += weight * padded[:, i : i + height, j : j + width]
    return total * (1 / 9) if divide else total
