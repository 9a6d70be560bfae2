"""Multi-label graph cuts on small grids by swap moves, exact integers, a whole batch at once.

A swap move takes two labels and re-divides the cells that have either of them at the least energy;
that is a minimum cut, found here by a push-relabel method whose every operation runs over all
grids of the batch. Labels, ties included, are those of the gco library's ``swap``: moves in the
same order, and of all minimum cuts the one with the fewest cells on the second label's side.

Reference:
    Boykov, Veksler and Zabih 2001, "Fast Approximate Energy Minimization via Graph Cuts",
    section 3; Goldberg and Tarjan 1988, "A New Approach to the Maximum-Flow Problem".
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.signedinteger[Any]]
Bools: TypeAlias = NDArray[np.bool_]

UNREACHED = np.iinfo(np.int16).max
"""Distance of a cell from which no flow can go anywhere."""


def swap_labels(unary: Ints, down: Ints, right: Ints, distance: Ints) -> Ints:
    """Return labels of a low energy, one grid independent of the others.

    The energy is the sum of ``unary`` at each cell's label and of edge weight times ``distance``
    of the labels at its ends. All start at label 0; then rounds of swaps, the first label with the
    others from the last on, then the second, and so on, until one lowers the energy no more.

    Args:
        unary: cost of every label, integers (B, H, W, L). A cut is computed in their type, and
            wraps as it does; int32 is faster than int64.
        down: weights >= 0 of the edges between a cell and the one below, (B, H-1, W).
        right: weights >= 0 of the edges between a cell and the one to the right, (B, H, W-1).
        distance: symmetric (L, L), >= 0, 0 on the diagonal; need not be a metric.

    Returns:
        int64 (B, H, W) in [0, L). No swap of two labels has a lower energy.

    Example:
        >>> unary = np.array([[0, 9], [9, 0], [3, 2]]).reshape(1, 1, 3, 2)
        >>> down, right = np.zeros((1, 0, 3), int), np.full((1, 1, 2), 2)
        >>> swap_labels(unary, down, right, 1 - np.eye(2, dtype=int))
        array([[[0, 1, 1]]])
    """
    down, right, distance = (a.astype(unary.dtype) for a in (down, right, distance))
    batch, height, width, count = unary.shape
    assert (distance == distance.T).all()
    assert not distance.diagonal().any()
    grid = _Grid.padded(unary, down, right)
    labels = np.zeros((batch, grid.size), dtype=np.int64)
    open_ = np.arange(batch)
    energy = grid.energy(labels, distance)
    while len(open_):
        part, chosen = grid.only(open_), labels[open_]
        for first in range(count):
            for second in reversed(range(first + 1, count)):
                _swap(part, chosen, distance, first, second)
        labels[open_] = chosen
        after = part.energy(chosen, distance)
        lower = after < energy[open_]
        energy[open_] = after
        open_ = open_[lower]
    return labels.reshape(batch, height + 2, width + 2)[:, 1:-1, 1:-1]


@dataclass(frozen=True, slots=True)
class _Grid:
    """B grids with a border of one cell, each flattened; edges at or beyond the border weigh 0."""

    unary: Ints
    """(L, B, P)."""

    weights: tuple[Ints, Ints]
    """(B, P) each: of the edge from a cell to the one ``steps[i]`` further."""

    steps: tuple[int, int]
    """How much further the cell below and the cell to the right are."""

    inner: Bools
    """(P,), False at the border."""

    @property
    def size(self) -> int:
        return len(self.inner)

    @classmethod
    def padded(cls, unary: Ints, down: Ints, right: Ints) -> "_Grid":
        batch, height, width, count = unary.shape
        shape = (batch, height + 2, width + 2)
        costs = np.zeros((count, *shape), dtype=unary.dtype)
        costs[:, :, 1:-1, 1:-1] = np.moveaxis(unary, 3, 0)
        below, beside = np.zeros(shape, dtype=unary.dtype), np.zeros(shape, dtype=unary.dtype)
        below[:, 1:-2, 1:-1] = down
        beside[:, 1:-1, 1:-2] = right
        inner = np.zeros(shape[1:], dtype=np.bool_)
        inner[1:-1, 1:-1] = True
        return cls(
            unary=costs.reshape(count, batch, -1),
            weights=(below.reshape(batch, -1), beside.reshape(batch, -1)),
            steps=(width + 2, 1),
            inner=inner.reshape(-1),
        )

    def only(self, index: NDArray[np.intp]) -> "_Grid":
        """Return some of the grids."""
        below, beside = self.weights
        weights = below[index], beside[index]
        return _Grid(self.unary[:, index], weights, self.steps, self.inner)

    def energy(self, labels: Ints, distance: Ints) -> Ints:
        """Return the energy of each grid, int64 (B,)."""
        chosen = np.take_along_axis(self.unary, labels[None], axis=0)[0]
        total: Ints = chosen.sum(axis=1, dtype=np.int64)
        for step, weight in zip(self.steps, self.weights, strict=True):
            apart = distance[labels[:, :-step], labels[:, step:]]
            total += (weight[:, :-step] * apart).sum(axis=1, dtype=np.int64)
        return total


def _swap(grid: _Grid, labels: Ints, distance: Ints, first: int, second: int) -> None:
    """Divide the cells of two labels between them at the least energy, in place."""
    taking = ((labels == first) | (labels == second)) & grid.inner
    rows = taking.any(axis=1).nonzero()[0]
    if not len(rows):
        return
    part, taking = grid.only(rows), taking[rows]
    # What the second label costs more than the first, neighbours that stay included.
    excess = (part.unary[second] - part.unary[first]) * taking
    extra = (distance[second] - distance[first])[labels[rows]] * ~taking
    capacities = []
    for step, weight in zip(part.steps, part.weights, strict=True):
        here, there = slice(None, -step), slice(step, None)
        excess[:, here] += weight[:, here] * extra[:, there] * taking[:, here]
        excess[:, there] += weight[:, here] * extra[:, here] * taking[:, there]
        joined = np.zeros_like(taking)
        joined[:, here] = taking[:, here] & taking[:, there]
        capacities.append(weight * joined * distance[first, second])
    side = min_cut(excess, (capacities[0], capacities[1]), part.steps)
    labels[rows] = np.where(taking, np.where(side, second, first), labels[rows])


def min_cut(excess: Ints, capacities: tuple[Ints, Ints], steps: tuple[int, int]) -> Bools:
    """Return the second side of a minimum cut of each of B graphs, the smallest such side.

    The cut costs ``excess`` where it is positive and the cell is on the second side, its absolute
    value where it is negative and the cell is on the first side, and the capacity of every edge
    between the sides.

    Args:
        excess: integers (B, P), 0 at a border of one step at either end.
        capacities: for each of ``steps``, integers >= 0 (B, P): of the edge between a cell and
            the one that much further, 0 if there is none.
        steps: distances between neighbours in the second axis.

    Returns:
        (B, P), True on the second side.
    """
    flow = _Flow(excess, capacities, steps)
    side = np.zeros(excess.shape, dtype=np.bool_)
    going: Bools = np.ones(len(excess), dtype=np.bool_)
    while going.any():
        layers = flow.layers(going)
        reached = flow.near.reshape(excess.shape) < UNREACHED
        still: Bools = np.any(reached & (flow.excess.reshape(excess.shape) > 0), axis=1)
        done = going & ~still
        side[done] = reached[done]
        going = still
        flow.push(layers)
    return side


class _Flow:
    """Flows under way: what cells have too much (or too little) of, and what edges can take."""

    def __init__(self, excess: Ints, capacities: tuple[Ints, Ints], steps: tuple[int, int]) -> None:
        self.graphs, self.size = excess.shape
        self.excess = excess.flatten()
        self.near = np.empty(len(self.excess), dtype=np.int16)
        """How many edges a cell is from one that lacks something."""
        self.edges: list[tuple[int, Ints, Ints]] = []
        """For each direction how much further it leads, what can go there, and what back again."""
        for step, capacity in zip(steps, capacities, strict=True):
            forth = capacity.flatten()
            back = np.zeros_like(forth)
            back[step:] = forth[:-step]
            self.edges += [(step, forth, back), (-step, back, forth)]

    def layers(self, going: Bools) -> list[NDArray[np.intp]]:
        """Find how near each cell of some graphs is, and return the cells at each distance."""
        self.near.fill(UNREACHED)
        lacking = (self.excess < 0).reshape(self.graphs, self.size) & going[:, None]
        cells = lacking.reshape(-1).nonzero()[0]
        layers: list[NDArray[np.intp]] = []
        while len(cells):
            self.near[cells] = len(layers)
            layers.append(cells)
            found = []
            for step, _, back in self.edges:
                ahead = cells + step
                new = ahead[(back[ahead] > 0) & (self.near[ahead] == UNREACHED)]
                self.near[new] = len(layers)
                found.append(new)
            cells = np.concatenate(found)
        return layers

    def push(self, layers: list[NDArray[np.intp]]) -> None:
        """Move what can be moved from the furthest layer to the next, and so on to the nearest."""
        for distance in range(len(layers) - 1, 0, -1):
            cells = layers[distance]
            cells = cells[self.excess[cells] > 0]
            for step, forth, back in self.edges:
                ahead = cells + step
                amount = np.minimum(self.excess[cells], forth[cells])
                amount[self.near[ahead] != distance - 1] = 0
                self.excess[cells] -= amount
                self.excess[ahead] += amount
                forth[cells] -= amount
                back[ahead] += amount
