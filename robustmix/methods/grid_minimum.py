"""Labels of the least energy on small grids: hopeless labels are struck off, the rest is exact.

Cells are taken row after row. What follows depends on the last W cells only, W being the width,
so a table holds the least energy so far for every labelling of those. Grids that are asked for
together do not change each other's labels.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.signedinteger[Any]]
Bools: TypeAlias = NDArray[np.bool_]


def least_labels(unary: Floats, weight: float, distance: Floats, *, limit: int = 2**17) -> Indices:
    """Return a labelling of least energy for each grid, or -1 if that takes too large a table.

    The energy is the sum of ``unary`` at each cell's label and of ``weight`` times ``distance`` of
    the labels of every two cells side by side or one above the other.

    Args:
        unary: cost of every label, (B, H, W, L); infinite if a cell cannot have it.
        weight: of the edges, all of them, >= 0.
        distance: symmetric, (B, L, L), >= 0, 0 on the diagonal; its largest entry is that between
            most labels.
        limit: entries that a grid's table may have: one for each labelling of W cells by the
            labels that ``candidates`` leaves anywhere.

    Returns:
        int64 (B, H, W) in [0, L), or -1 everywhere.

    Example:
        >>> unary = np.array([0.0, 9, 9, 0, 3, 2]).reshape(1, 1, 3, 2)
        >>> least_labels(unary, 2.0, 1 - np.eye(2)[None])
        array([[[0, 1, 1]]])
    """
    width = unary.shape[2]
    labels = np.full(unary.shape[:3], -1)
    kept: Bools = np.any(candidates(unary, weight, distance), axis=(1, 2))
    fits = np.flatnonzero(kept.sum(axis=1) <= limit ** (1 / width))
    if len(fits):
        names, costs, steps = _only(kept[fits], unary[fits], weight * distance[fits])
        found = _least(costs, steps)
        labels[fits] = names[np.arange(len(fits))[:, None, None], found]
    return labels


def candidates(unary: Floats, weight: float, distance: Floats) -> Bools:
    """Return the labels that a cell may have in a labelling of least energy, (B, H, W, L).

    A label is struck off a cell if another is cheaper there whatever labels, of those that are
    left, the neighbours have; until none is.
    """
    sides = np.full(unary.shape[1:3], 4)
    for edge in (sides[0], sides[-1], sides[:, 0], sides[:, -1]):
        edge -= 1
    most = weight * distance.max(axis=(1, 2))[:, None, None] * sides
    left: Bools = unary <= (unary.min(axis=3) + most)[..., None]
    anywhere: Bools = np.any(left, axis=(1, 2))
    names, costs, steps = _only(anywhere, unary, weight * distance)
    some = np.take_along_axis(left, names[:, None, None], axis=3) & np.isfinite(costs)
    # [a, b, l]: what a label a in place of b may add to the edge to a neighbour with label l.
    more = (steps[:, :, None] - steps[:, None])[:, None, None]
    finite = np.where(np.isfinite(costs), costs, 0)
    gain = np.where(some[..., None], finite[..., None], np.inf) - finite[..., None, :]
    while True:
        worst = np.where(some[..., None, None, :], more, -np.inf).max(axis=5)
        total = gain.copy()
        total[:, 1:] += worst[:, :-1]
        total[:, :-1] += worst[:, 1:]
        total[:, :, 1:] += worst[:, :, :-1]
        total[:, :, :-1] += worst[:, :, 1:]
        kept: Bools = some & ~np.any(total < 0, axis=3)
        if (kept == some).all():
            break
        some = kept
    found = np.zeros(unary.shape, dtype=np.bool_)
    np.put_along_axis(found, np.broadcast_to(names[:, None, None], some.shape), some, axis=3)
    return found


def _only(kept: Bools, unary: Floats, steps: Floats) -> tuple[Indices, Floats, Floats]:
    """Return the labels (B, M) that are kept in each grid, their costs and distances.

    Where a grid keeps fewer than M, others fill the rest, at an infinite cost.
    """
    count = int(kept.sum(axis=1).max())
    names = np.argsort(~kept, axis=1, kind="stable")[:, :count]
    costs = np.take_along_axis(unary, names[:, None, None], axis=3)
    real = np.take_along_axis(kept, names, axis=1)
    costs = np.where(real[:, None, None], costs, np.inf)
    rows = np.arange(len(names))[:, None, None]
    return names, costs, steps[rows, names[:, :, None], names[:, None, :]]


def _least(costs: Floats, steps: Floats) -> Indices:
    """Return a labelling of least energy, (B, H, W); ``steps`` are distances times the weight."""
    batch, height, width, count = costs.shape
    cells = height * width
    near = _near(steps)
    table: Floats = np.zeros((batch, 1))
    tables = []
    for i in range(cells):
        if i < width:
            reached = np.repeat(table[:, None], count, axis=1)
        else:
            tables.append(table.reshape(batch, count, -1))
            reached = _below(tables[-1], steps, near)
        added = costs[:, i // width, i % width, :, None, None]
        if i % width:
            added = added + steps[:, :, None]  # to the cell at the left, the last of the others
        reached = reached.reshape(batch, count, -1, added.shape[3]) + added
        # The oldest cell comes first, the one that was just taken last.
        table = reached.reshape(batch, count, -1).swapaxes(1, 2).reshape(batch, -1)
    labels = np.empty((batch, cells), dtype=np.int64)
    best = table.argmin(axis=1)
    labels[:, cells - width :] = np.stack(np.unravel_index(best, (count,) * width), axis=1)
    grids, place = np.arange(batch), count ** np.arange(width - 1)[::-1]
    for i in range(cells - 1, width - 1, -1):
        others = labels[:, i - width + 1 : i] @ place
        above = tables[i - width][grids, :, others] + steps[grids, labels[:, i]]
        labels[:, i - width] = above.argmin(axis=1)
    return labels.reshape(batch, height, width)


def _near(steps: Floats) -> list[tuple[Indices, Floats]]:
    """Return, time and again, one more label near each label and how near, (B, L) each.

    Near are unlike labels that cost less than the most; where a label has no more of them, the
    label itself stands in.
    """
    far = steps.max(axis=(1, 2), keepdims=True)
    unlike = ~np.eye(steps.shape[1], dtype=np.bool_)
    order = np.argsort(np.where(unlike & (steps < far), steps, np.inf), axis=1, kind="stable")
    most = int(((steps < far) & unlike).sum(axis=1).max())
    cost = np.take_along_axis(np.where(unlike & (steps < far), steps, np.inf), order, axis=1)
    return [(order[:, k], cost[:, k]) for k in range(most)]


def _below(table: Floats, steps: Floats, near: list[tuple[Indices, Floats]]) -> Floats:
    """Return the least energy for each label of a cell, in place of that of the cell above.

    Args:
        table: (B, labels above, labellings of the cells between).
        steps: what two labels cost, (B, L, L).
        near: as ``_near`` finds them.
    """
    jump = table.min(axis=1) + steps.max(axis=(1, 2))[:, None]
    least: Floats = np.minimum(table, jump[:, None])
    grids = np.arange(len(table))[:, None]
    for above, cost in near:
        np.minimum(least, table[grids, above] + cost[:, :, None], out=least)
    return least
