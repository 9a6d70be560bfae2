"""Boxes of all contours of a score map at every level, without a contour being followed.

Above a level a map falls into 8-connected components, and between them into holes that are
4-connected. A component has one outer contour, whose box is the component's own, and a contour for
each of its holes, which runs along the pixels around the hole: its box is the hole's, grown by one
pixel. So boxes are extents of components, and most of these are alike from one level to the next:
between two levels at which no peak of the map parts from another nor vanishes, each component stays
one, and its extents at all of them follow from the largest values of its rows and columns.

Reference:
    Suzuki and Abe 1985, "Topological structural analysis of digitized binary images by border
    following", for what a contour and a hole are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustmix.later import ndimage

LEVELS = 255
"""Levels of an 8-bit map: a pixel is above level L, from 0 to 254, if it is L + 1 or more."""

Map = NDArray[np.uint8]
Ints = NDArray[np.int64]
Labels = NDArray[np.int32]

_EIGHT = np.ones((3, 3), dtype=bool)
_FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


@dataclass(frozen=True, eq=False)
class LevelContours:
    """The contours of a map at every level."""

    level: Ints
    """(K,), from 0 to 254."""

    boxes: Ints
    """(K, 4): left, top, right, bottom, the latter one past the last pixel but for those at the
    map's edge, which end in its last pixel. (0, 0, 0, 0) at a level that nothing is above."""

    largest: Ints
    """(255, 4): at each level the box of the contour whose polygon has the largest area."""


def level_contours(values: Map) -> LevelContours:
    """Find the boxes of all contours of the pixels above each level.

    The polygon of a contour runs through the centres of its pixels, so that a pixel or a line has
    no area, and a block of 4x4 has 9. Of equal areas the one counts whose first pixel, row by row,
    comes last, which is the first that OpenCV lists.

    Args:
        values: 8-bit map, uint8 (H, W).

    Example:
        >>> block = np.zeros((5, 6), dtype=np.uint8)
        >>> block[1:3, 1:4] = 9
        >>> found = level_contours(block)
        >>> found.largest[8].tolist(), found.largest[9].tolist()
        ([1, 1, 4, 3], [0, 0, 0, 0])
    """
    outer = _joined(_traced(values, _EIGHT), areas=True)
    around = np.pad(255 - values, 1, constant_values=255)
    holes = _joined(_traced(around, _FOUR, framed=True), areas=False)
    # Complement and frame turned round: what is above L' there is at most 254 - L' here.
    grown = holes.extents + np.array([-2, -2, 0, 0])
    holes = _Extents(LEVELS - 1 - holes.level, grown, holes.area)
    empty = np.setdiff1d(np.arange(LEVELS), outer.level)
    boxes = np.concatenate([_boxes(outer, values), _boxes(holes, values)])
    return LevelContours(
        level=np.concatenate([outer.level, holes.level, empty]),
        boxes=np.concatenate([boxes, np.zeros((len(empty), 4), dtype=np.int64)]),
        largest=_largest(values, outer, holes),
    )


class _Extents(NamedTuple):
    """Components, each at a level."""

    level: Ints
    extents: Ints
    """(K, 4): first column and row, last column and row."""

    area: Ints
    """Twice the area of the polygon around each, less its holes; empty where nobody asks."""


class _Region(NamedTuple):
    """A component that stays one from one level to another."""

    start: int
    stop: int
    """From ``start`` on, below ``stop``."""

    corner: tuple[int, int]
    """Row and column of ``values`` in the map."""

    values: Map
    """Of the component, 0 around it."""


def _boxes(found: _Extents, values: Map) -> Ints:
    height, width = values.shape
    ends = np.minimum(found.extents[:, 2:] + 1, (width - 1, height - 1))
    return np.concatenate([found.extents[:, :2], ends], axis=1)


def _joined(regions: Iterator[_Region], *, areas: bool) -> _Extents:
    parts = [_extents(region, areas=areas) for region in regions]
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return _Extents(nothing, nothing.reshape(0, 4), nothing)
    return _Extents(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _extents(region: _Region, *, areas: bool) -> _Extents:
    """Give the extents of a component at each of its levels."""
    levels = np.arange(region.start, region.stop)
    (top, left), values = region.corner, region.values
    first_x, last_x = _ends(values.max(axis=0), levels)
    first_y, last_y = _ends(values.max(axis=1), levels)
    extents = np.stack([first_x + left, first_y + top, last_x + left, last_y + top], axis=1)
    return _Extents(levels, extents, _twice_area(values, levels) if areas else levels[:0])


def _ends(profile: Map, levels: Ints) -> tuple[Ints, Ints]:
    """Give the first and last places of a profile that are above each level."""
    first = np.searchsorted(np.maximum.accumulate(profile), levels, side="right")
    last = np.searchsorted(np.maximum.accumulate(profile[::-1]), levels, side="right")
    return first, len(profile) - 1 - last


def _twice_area(values: Map, levels: Ints) -> Ints:
    """Give twice the area of the polygon around a component without holes, at each level.

    Between four centres it has 1 where all pixels are the component's, a half where three are, and
    nothing else: two are at most a line.
    """
    if min(values.shape) < 2:
        return np.zeros(len(levels), dtype=np.int64)
    a, b, c, d = values[:-1, :-1], values[:-1, 1:], values[1:, :-1], values[1:, 1:]
    low, other = np.minimum(a, b), np.minimum(c, d)
    least = np.minimum(low, other)
    second = np.minimum(np.maximum(low, other), np.minimum(np.maximum(a, b), np.maximum(c, d)))
    counts = sum(np.bincount(one.ravel(), minlength=LEVELS + 1) for one in (least, second))
    above = np.cumsum(np.asarray(counts)[::-1])[::-1]
    return np.asarray(above[levels + 1], dtype=np.int64)


def _traced(
    values: Map, structure: NDArray[np.bool_], *, framed: bool = False
) -> Iterator[_Region]:
    """Yield the components above each level, those that stay one for several levels as one.

    Args:
        values: the map.
        structure: which pixels are neighbours.
        framed: whether the map has a frame that no level reaches; the component that holds it is
            then left out.
    """
    peaks = _peaks(values, structure)
    rest, level = values, 0
    known: dict[int, Labels] = {}
    while len(peaks):
        labels = known[level] if level in known else _labels(rest, level, structure)
        of_peak = labels[peaks[:, 0], peaks[:, 1]]
        peaks, of_peak = peaks[of_peak > 0], of_peak[of_peak > 0]
        if not len(peaks):
            return
        frame = int(labels[0, 0]) if framed else 0
        places = ndimage.find_objects(labels)
        count = np.bincount(of_peak, minlength=len(places) + 1)
        alone = count == 1
        for label in np.flatnonzero(alone):
            if label != frame:
                region = _region(rest, labels, int(label), places[label - 1])
                yield _Region(level, int(region.values.max()), *region[2:])
        # What has one peak never falls apart, and is done with.
        keep = ~alone[of_peak]
        peaks, of_peak = peaks[keep], of_peak[keep]
        if not len(peaks):
            return
        rest = np.where(alone[labels], 0, rest).astype(np.uint8)
        known = {}
        stop = _next_change(rest, level, peaks, of_peak, structure, known)
        for label in np.flatnonzero(count > 1):
            if label != frame:
                region = _region(rest, labels, int(label), places[label - 1])
                yield _Region(level, stop, *region[2:])
        level = stop


def _labels(values: Map, level: int, structure: NDArray[np.bool_]) -> Labels:
    return np.asarray(ndimage.label(values > level, structure)[0], dtype=np.int32)


def _region(values: Map, labels: Labels, label: int, place: tuple[slice, ...]) -> _Region:
    own = np.where(labels[place] == label, values[place], 0).astype(np.uint8)
    return _Region(0, 0, (place[0].start, place[1].start), own)


def _next_change(
    rest: Map,
    level: int,
    peaks: Ints,
    of_peak: Labels,
    structure: NDArray[np.bool_],
    known: dict[int, Labels],
) -> int:
    """Find the lowest level at which a peak has vanished, or has parted from another.

    Neither is undone further up, so it is searched for by halves; near by first, because of noise
    every level has a change.

    Args:
        rest: the components that are looked at.
        level: where they are those of ``of_peak``.
        peaks: row and column of each, (P, 2).
        of_peak: component of each, (P,).
        structure: which pixels are neighbours.
        known: takes the components at the level that is found.
    """
    # At the height of the lowest peak there is none of it.
    same, changed = level, int(rest[peaks[:, 0], peaks[:, 1]].min())
    together = len(np.unique(of_peak))
    step = 1
    while changed - same > 1:
        middle = min(same + step, (same + changed) // 2)
        step *= 2
        labels = _labels(rest, middle, structure)
        if len(np.unique(labels[peaks[:, 0], peaks[:, 1]])) == together:
            same = middle
        else:
            changed = middle
            known.clear()
            known[middle] = labels
    return changed


def _peaks(values: Map, structure: NDArray[np.bool_]) -> Ints:
    """Give a pixel of each flat part that is higher than all around it, row and column (P, 2)."""
    around = _highest_around(values, structure)
    top = (values >= around) & (values > 0)
    labels, count = ndimage.label(top, structure)
    # A flat part of which some pixel touches a higher one is a slope.
    beside = _highest_around(np.where(top, 0, values).astype(np.uint8), structure)
    slopes = np.zeros(count + 1, dtype=bool)
    slopes[labels[top & (beside == values)]] = True
    slopes[0] = True
    _, first = np.unique(labels, return_index=True)
    kept = first[~slopes[np.unique(labels)]]
    return np.stack(np.unravel_index(kept, values.shape), axis=1).astype(np.int64)


def _highest_around(values: Map, structure: NDArray[np.bool_]) -> Map:
    """Give the largest of each pixel and its neighbours."""
    padded = np.pad(values, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    if structure[0, 0]:
        found = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    else:
        across = np.maximum(padded[1:-1, :-2], padded[1:-1, 2:])
        found = np.maximum(rows[:, 1:-1], across)
    return np.asarray(found, dtype=np.uint8)


def _largest(values: Map, outer: _Extents, holes: _Extents) -> Ints:
    """Give the box of the largest polygon at each level, (255, 4).

    No hole's polygon is larger than the one around it, so outer ones are asked alone; where holes
    may decide between two of them, or areas are equal, the components themselves are looked at.
    """
    found = np.zeros((LEVELS, 4), dtype=np.int64)
    boxes = _boxes(outer, values)
    order = np.lexsort((outer.area, outer.level))
    level, area = outer.level[order], outer.area[order]
    last = np.flatnonzero(np.append(level[1:] != level[:-1], True)) if len(level) else level
    found[level[last]] = boxes[order[last]]
    sides = holes.extents[:, 2:] - holes.extents[:, :2]
    # A hole's polygon fits into its box.
    most = np.bincount(holes.level, 2 * sides.prod(axis=1), minlength=LEVELS)
    for place in last:
        if place and level[place - 1] == level[place]:
            at = int(level[place])
            if area[place - 1] + most[at] >= area[place]:
                found[at] = _largest_at(values, at)
    return found


def _largest_at(values: Map, level: int) -> Ints:
    """Give the box of the largest polygon at one level, by filling every component's holes."""
    labels = _labels(values, level, _EIGHT)
    found, best = np.zeros(4, dtype=np.int64), -1
    height, width = values.shape
    for label, place in enumerate(ndimage.find_objects(labels), 1):
        rows, columns = place
        tall, wide = rows.stop - rows.start, columns.stop - columns.start
        if 2 * (tall - 1) * (wide - 1) < best:
            continue
        filled = ndimage.binary_fill_holes(labels[place] == label)
        area = int(_twice_area(filled.astype(np.uint8), np.zeros(1, dtype=np.int64))[0])
        if area >= best:  # labels rise with their first pixels
            ends = min(columns.stop, width - 1), min(rows.stop, height - 1)
            found, best = np.array([columns.start, rows.start, *ends]), area
    return found
