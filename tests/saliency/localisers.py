"""The localisation measures in plain loops, from their definition: slow, and all on one page."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
Pixel = tuple[int, int]

# Clockwise from east; rows grow downwards.
AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
WEST = 4


def pieces(chosen: NDArray[np.bool_], *, corners: bool) -> Iterator[list[Pixel]]:
    """Yield the connected pieces of chosen pixels, in raster order of their first pixels."""
    left = {(int(y), int(x)) for y, x in np.argwhere(chosen)}
    steps = AROUND if corners else AROUND[::2]
    for first in sorted(left):
        if first not in left:
            continue
        left.remove(first)
        found, queue = [first], [first]
        while queue:
            y, x = queue.pop()
            for down, right in steps:
                one = (y + down, x + right)
                if one in left:
                    left.remove(one)
                    found.append(one)
                    queue.append(one)
        yield sorted(found)


def outline(piece: Sequence[Pixel]) -> list[Pixel]:
    """Walk round a piece from its first pixel, keeping what is not of it at one's left hand."""
    inside, start = set(piece), piece[0]
    here, back = start, WEST
    path: list[Pixel] = []
    first: tuple[Pixel, int] | None = None
    while True:
        turn = next(
            (
                (back + k) % 8
                for k in range(1, 9)
                if (here[0] + AROUND[(back + k) % 8][0], here[1] + AROUND[(back + k) % 8][1])
                in inside
            ),
            None,
        )
        if turn is None:
            return [here]
        if (here, turn) == first:
            return path
        first = first or (here, turn)
        path.append(here)
        before = AROUND[(turn - 1) % 8]
        seen = (here[0] + before[0], here[1] + before[1])
        here = (here[0] + AROUND[turn][0], here[1] + AROUND[turn][1])
        back = AROUND.index((seen[0] - here[0], seen[1] - here[1]))


def polygon_area(path: Sequence[Pixel]) -> float:
    """Give the area of a polygon through the centres of pixels."""
    twice = 0
    for (y, x), (next_y, next_x) in zip(path, [*path[1:], path[0]], strict=True):
        twice += x * next_y - next_x * y
    return abs(twice) / 2


def box_of(piece: Sequence[Pixel], shape: tuple[int, int], grow: int = 0) -> Box:
    rows, columns = [y for y, _ in piece], [x for _, x in piece]
    right = min(max(columns) + grow + 1, shape[1] - 1)
    bottom = min(max(rows) + grow + 1, shape[0] - 1)
    return min(columns) - grow, min(rows) - grow, right, bottom


def boxes_above(values: NDArray[np.uint8], level: int) -> tuple[list[Box], Box]:
    """Give the boxes of all contours, and that of the largest one."""
    above = values > level
    shape = (values.shape[0], values.shape[1])
    outer = list(pieces(above, corners=True))
    if not outer:
        return [(0, 0, 0, 0)], (0, 0, 0, 0)
    inner = []
    for piece in pieces(~above, corners=False):
        edge = any(y in (0, shape[0] - 1) or x in (0, shape[1] - 1) for y, x in piece)
        if not edge:
            inner.append(box_of(piece, shape, grow=1))
    areas = [polygon_area(outline(piece)) for piece in outer]
    largest = max(range(len(outer)), key=lambda place: (areas[place], place))
    return [box_of(piece, shape) for piece in outer] + inner, box_of(outer[largest], shape)


def iou(a: Box, b: Box) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0]) + 1
    tall = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = wide * tall if wide > 0 and tall > 0 else 0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return shared / (sum(areas) - shared)


def best_ious(
    values: NDArray[np.uint8], truth: Sequence[Box], thresholds: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Give the best IoU at each threshold, of all contours and of the largest one."""
    every, largest = [], []
    known: dict[int, tuple[list[Box], Box]] = {}
    for threshold in thresholds:
        level = int(threshold * int(values.max()))
        if level not in known:
            known[level] = boxes_above(values, level)
        boxes, big = known[level]
        every.append(max(iou(box, true) for box in boxes for true in truth))
        largest.append(max(iou(big, true) for true in truth))
    return every, largest


def max_box_accuracy(ious: Sequence[Sequence[float]], bounds: Sequence[float]) -> float:
    """Give the mean over bounds of the best share over thresholds; ``ious`` are by image."""
    best = []
    for bound in bounds:
        shares = [sum(one[t] >= bound for one in ious) / len(ious) for t in range(len(ious[0]))]
        best.append(max(shares))
    return sum(best) / len(best)


def pixel_precision(
    scores: Sequence[NDArray[np.float64]],
    inside: Sequence[NDArray[np.bool_]],
    ignored: Sequence[NDArray[np.bool_]],
    step: float,
) -> float:
    edges = [*np.arange(0, 1, step), 1, 2, 3]
    counts = np.zeros((2, len(edges) - 1))
    for score, of, left_out in zip(scores, inside, ignored, strict=True):
        for value, positive, out in zip(score.flat, of.flat, left_out.flat, strict=True):
            if positive or not out:
                place = max(k for k in range(len(edges) - 1) if value >= edges[k])
                counts[0 if positive else 1, place] += 1
    total, area, before, right, wrong = counts[0].sum(), 0.0, 0.0, 0.0, 0.0
    for place in reversed(range(len(edges) - 1)):
        right, wrong = right + counts[0, place], wrong + counts[1, place]
        if right + wrong:
            area += right / (right + wrong) * (right / total - before)
            before = right / total
    return area
