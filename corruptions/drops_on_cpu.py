"""The image processing of ``drops`` in NumPy's smallest whole numbers, which a CPU takes fastest.

Maps are (N, H, W) everywhere; what the functions do is said in ``drops``.
"""

import functools
from typing import NamedTuple, TypeVar

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Int32 = NDArray[np.int32]
Maps = TypeVar("Maps", NDArray[np.int16], NDArray[np.int32], NDArray[np.int64])

TAN_22 = 13573
"""tan 22.5 degrees in units of 2^-15; tan 67.5 degrees is this plus two units of 1."""

FARTHEST = 20
"""Distances up to here have fewer than 256 different lengths."""


def bordered(maps: Maps, *, mirror: bool) -> Maps:
    """Return maps with a border of one pixel: the outermost ones, or if ``mirror`` the next."""
    n, height, width = maps.shape
    # Of one row or column there is no next.
    row, column = int(mirror and height > 1), int(mirror and width > 1)
    grown = np.empty((n, height + 2, width + 2), maps.dtype)
    grown[:, 1:-1, 1:-1] = maps
    grown[:, 0, 1:-1], grown[:, -1, 1:-1] = maps[:, row], maps[:, height - 1 - row]
    grown[:, :, 0], grown[:, :, -1] = grown[:, :, 1 + column], grown[:, :, width - column]
    return grown


def edges(levels: Bytes, low: int, high: int) -> Bools:
    """Return Canny's edges; gradients are at most 4 x 255, their sizes twice that."""
    n, height, width = levels.shape
    padded = bordered(levels.astype(np.int16), mirror=False)
    smooth = _twice_the_middle(padded[:, :-2], padded[:, 1:-1], padded[:, 2:])
    gx = smooth[:, :, 2:] - smooth[:, :, :-2]
    smooth = _twice_the_middle(padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:])
    gy = smooth[:, 2:] - smooth[:, :-2]
    across, down = np.abs(gx), np.abs(gy)
    around = np.zeros((n, height + 2, width + 2), np.int16)
    size = around[:, 1:-1, 1:-1]
    np.add(across, down, out=size)

    def beside(below: int, right: int) -> NDArray[np.int16]:
        return around[:, 1 + below : 1 + below + height, 1 + right : 1 + right + width]

    wide, deep = across.astype(np.int32), down.astype(np.int32)
    deep <<= 15
    level = deep < wide * TAN_22  # nearly horizontal gradient
    upright = deep > wide * (TAN_22 + (2 << 15))
    # A local maximum across the edge: along whichever of four directions the gradient is nearest.
    peak = (size > beside(-1, 1)) & (size > beside(1, -1))
    _choose(peak, (size > beside(-1, -1)) & (size > beside(1, 1)), where=(gx ^ gy) >= 0)
    _choose(peak, (size > beside(-1, 0)) & (size >= beside(1, 0)), where=upright)
    _choose(peak, (size > beside(0, -1)) & (size >= beside(0, 1)), where=level)
    peak &= size > low
    return touching(peak, peak & (size > high))


def _twice_the_middle(
    before: NDArray[np.int16], middle: NDArray[np.int16], after: NDArray[np.int16]
) -> NDArray[np.int16]:
    total = before + after
    total += middle
    total += middle
    return total


def _choose(chosen: Bools, other: Bools, *, where: Bools) -> None:
    """Take ``other`` where it is said; bits are much faster than a choice between arrays."""
    other ^= chosen
    other &= where
    chosen ^= other


def touching(weak: Bools, strong: Bools) -> Bools:
    """Return the pieces of ``weak`` that hold something ``strong``."""
    within = np.zeros((3, 3, 3), bool)
    within[1] = True  # neighbours are of the same image
    pieces, count = scipy.ndimage.label(weak, within)
    kept = np.zeros(count + 1, bool)
    kept[pieces[strong]] = True
    return kept.take(pieces)


def nearest_edge(found: Bools, lengths: Int32) -> Int32:
    """Return the chamfer distance of every pixel to the nearest edge.

    Args:
        found: the edges.
        lengths: of ways over so many rows and columns, (farthest, farthest + 1).
    """
    farthest = len(lengths)
    n, height, width = found.shape
    rows = np.full((n, height + 2 * farthest, width), farthest, np.uint8)
    nearest = rows[:, farthest:-farthest]
    nearest[found] = 0
    # Every distance is a sum of different powers of two, each of which is one step or none.
    step = 1
    while step < min(farthest, width):
        right, left = nearest[:, :, step:], nearest[:, :, :-step]
        np.minimum(right, left + np.uint8(step), out=right)
        np.minimum(left, right + np.uint8(step), out=left)
        step *= 2
    # Lengths are told apart by their rank, a byte: one table look-up of bytes is very fast.
    known, ranks, nearer = _ranks(lengths.tobytes(), farthest)
    best = np.full(found.shape, len(known) - 1, np.uint8)
    for away, rank in enumerate(ranks):
        first, last = farthest - away, farthest + away
        columns = np.minimum(rows[:, first : first + height], rows[:, last : last + height])
        ranked = columns.tobytes().translate(rank)
        np.minimum(best, np.frombuffer(ranked, np.uint8).reshape(best.shape), out=best)
        if best.max() <= nearer[away]:
            break  # no row farther away has a shorter way
    return known.take(best)


class _Ranks(NamedTuple):
    known: Int32  # all lengths, rising
    ranks: tuple[bytes, ...]  # for each number of rows those of its lengths, by columns
    nearer: tuple[int, ...]  # for each number of rows the last rank that no row beyond is below


@functools.lru_cache(maxsize=4)
def _ranks(lengths: bytes, farthest: int) -> _Ranks:
    table = np.frombuffer(lengths, np.int32).reshape(farthest, farthest + 1)
    known = np.unique(table)
    ranks = np.searchsorted(known, table).astype(np.uint8)
    nearer = [*(int(rank) for rank in ranks[1:, 0]), len(known) - 1]
    return _Ranks(known, tuple(row.tobytes().ljust(256, b"\0") for row in ranks), tuple(nearer))


def equalised(levels: NDArray[np.int64]) -> NDArray[np.int16]:
    """Return grey levels whose histogram is as level as can be, image by image."""
    n, size = len(levels), levels[0].size
    told_apart = levels.reshape(n, size) + 256 * np.arange(n)[:, None]
    counts = np.bincount(told_apart.ravel(), minlength=256 * n).reshape(n, 256)
    lowest = counts[np.arange(n), (counts > 0).argmax(axis=1)][:, None]
    after = np.maximum(counts.cumsum(axis=1) - lowest, 0)
    rest = size - lowest
    scale = np.float32(255) / np.maximum(rest, 1).astype(np.float32)
    table = np.rint(after.astype(np.float32) * scale).astype(np.int16)
    table = np.where(rest > 0, table, np.arange(256, dtype=np.int16))
    return table.ravel().take(told_apart).reshape(levels.shape)


def correlated(maps: Maps, kernel: tuple[tuple[int, ...], ...]) -> Maps:
    """Correlate with a 3x3 kernel of whole numbers; borders mirror."""
    height, width = maps.shape[1:]
    padded = bordered(maps, mirror=True)
    total = np.zeros_like(maps)
    for i, row in enumerate(kernel):
        for j, weight in enumerate(row):
            if weight:
                window = padded[:, i : i + height, j : j + width]
                total += window if weight == 1 else window * maps.dtype.type(weight)
    return total


def box_sum(maps: Maps) -> Maps:
    """Return the sums of 3x3 pixels; borders mirror."""
    padded = bordered(maps, mirror=True)
    rows = padded[:, :, :-2] + padded[:, :, 1:-1]
    rows += padded[:, :, 2:]
    total = rows[:, :-2] + rows[:, 1:-1]
    total += rows[:, 2:]
    return total
