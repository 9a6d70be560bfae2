"""Cuts and swap moves against all labellings of tiny grids, and against scipy's flows."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from robustmix.methods.graph_cut import min_cut, swap_labels

Array = NDArray[Any]


def energy(labels: Array, unary: Array, down: Array, right: Array, distance: Array) -> int:
    total: Any = 0
    height, width = labels.shape
    for i, j in np.ndindex(height, width):
        total += unary[i, j, labels[i, j]]
        if i + 1 < height:
            total += down[i, j] * distance[labels[i, j], labels[i + 1, j]]
        if j + 1 < width:
            total += right[i, j] * distance[labels[i, j], labels[i, j + 1]]
    return int(total)


def slow_swaps(unary: Array, down: Array, right: Array, distance: Array) -> Array:
    """All ways to share two labels' cells are tried; of equals, the fewest with the second."""
    count = unary.shape[2]
    labels = np.zeros(unary.shape[:2], dtype=int)
    before, after = np.inf, energy(labels, unary, down, right, distance)
    while after < before:
        before = after
        for first in range(count):
            for second in range(count - 1, first, -1):
                cells = np.argwhere((labels == first) | (labels == second))
                best: tuple[int, int] | None = None
                kept = labels
                for chosen in itertools.product((first, second), repeat=len(cells)):
                    trial = labels.copy()
                    trial[tuple(cells.T)] = chosen
                    key = energy(trial, unary, down, right, distance), chosen.count(second)
                    if best is None or key < best:
                        best, kept = key, trial
                labels = kept
        after = energy(labels, unary, down, right, distance)
    return labels


def problem(
    seed: int, batch: int, height: int, width: int, count: int
) -> tuple[Array, Array, Array, Array]:
    """Small integers, so that ties abound; distances need not be a metric."""
    rng = np.random.default_rng(seed)
    distance = np.triu(rng.integers(0, 5, (count, count)), 1)
    return (
        rng.integers(-6, 7, (batch, height, width, count)),
        rng.integers(0, 4, (batch, height - 1, width)),
        rng.integers(0, 4, (batch, height, width - 1)),
        distance + distance.T,
    )


@pytest.mark.parametrize(
    ("height", "width", "count"), [(1, 1, 3), (1, 5, 3), (4, 1, 2), (2, 3, 4), (3, 2, 3), (3, 3, 2)]
)
def test_swaps_against_every_labelling(height: int, width: int, count: int) -> None:
    unary, down, right, distance = problem(height * 7 + width, 30, height, width, count)
    got = swap_labels(unary, down, right, distance)
    for b in range(len(unary)):
        want = slow_swaps(unary[b], down[b], right[b], distance)
        assert got[b].tolist() == want.tolist(), b


def test_two_labels_are_cut_at_the_least_energy_of_all() -> None:
    unary, down, right, distance = problem(3, 8, 3, 4, 2)
    got = swap_labels(unary, down, right, distance)
    for b in range(len(unary)):
        args = unary[b], down[b], right[b], distance
        every = itertools.product((0, 1), repeat=12)
        least = min(energy(np.array(one).reshape(3, 4), *args) for one in every)
        assert energy(got[b], *args) == least


def test_grids_do_not_depend_on_each_other() -> None:
    unary, down, right, distance = problem(5, 9, 5, 7, 4)
    together = swap_labels(unary, down, right, distance)
    order = np.random.default_rng(0).permutation(9)
    shuffled = swap_labels(unary[order], down[order], right[order], distance)
    assert (shuffled == together[order]).all()
    for b in range(9):
        alone = swap_labels(unary[b : b + 1], down[b : b + 1], right[b : b + 1], distance)
        assert (alone[0] == together[b]).all()


def test_narrow_integers_give_the_same_and_inputs_are_left_alone() -> None:
    wide = problem(6, 4, 6, 5, 3)
    before = [array.copy() for array in wide]
    labels = swap_labels(*wide)
    assert all((a == b).all() for a, b in zip(wide, before, strict=True))
    unary, down, right, distance = (array.astype(np.int32) for array in wide)
    assert (swap_labels(unary, down, right, distance) == labels).all()


def test_a_cut_wraps_in_its_integers() -> None:
    """What the one costs more than the other is past 2^31, which makes it look cheaper."""
    unary = np.array([[[[-(2**31) + 1, 2**31 - 1]]]])
    edges: Array = np.zeros((1, 0, 1), dtype=int)
    args = edges, edges.reshape(1, 1, 0), 1 - np.eye(2, dtype=int)
    assert swap_labels(unary, *args).item() == 0
    assert swap_labels(unary.astype(np.int32), *args).item() == 1


@pytest.mark.parametrize("scale", [3, 40, 500])
@pytest.mark.parametrize("quiet", [0.0, 0.9])
def test_cuts_are_as_small_as_scipy_s_flows_are_large(scale: int, quiet: float) -> None:
    """Large grids, with edges from weak to far stronger than what the cells want.

    Where most cells want nothing, flows are long and have to give way to each other.
    """
    rng = np.random.default_rng(scale)
    batch, height, width = 5, 13, 11
    size = height * width
    excess = rng.integers(-100, 101, (batch, height, width))
    excess[rng.random(excess.shape) < quiet] = 0
    down = rng.integers(0, scale, (batch, height, width))
    right = rng.integers(0, scale, (batch, height, width))
    down[:, -1] = 0
    right[:, :, -1] = 0
    bordered = [
        np.pad(array, ((0, 0), (1, 1), (1, 1))).reshape(batch, -1)
        for array in (excess, down, right)
    ]
    side = min_cut(bordered[0], (bordered[1], bordered[2]), (width + 2, 1))
    side = side.reshape(batch, height + 2, width + 2)[:, 1:-1, 1:-1]
    for b in range(batch):
        cut = excess[b][side[b] & (excess[b] > 0)].sum()
        cut -= excess[b][~side[b] & (excess[b] < 0)].sum()
        cut += down[b, :-1][side[b, :-1] != side[b, 1:]].sum()
        cut += right[b, :, :-1][side[b, :, :-1] != side[b, :, 1:]].sum()
        cells = np.arange(size).reshape(height, width)
        ends = [
            (cells[:-1], cells[1:], down[b, :-1]),
            (cells[1:], cells[:-1], down[b, :-1]),
            (cells[:, :-1], cells[:, 1:], right[b, :, :-1]),
            (cells[:, 1:], cells[:, :-1], right[b, :, :-1]),
            (np.full_like(cells, size), cells, np.maximum(excess[b], 0)),
            (cells, np.full_like(cells, size + 1), np.maximum(-excess[b], 0)),
        ]
        start, end, capacity = (np.concatenate([e[k].ravel() for e in ends]) for k in range(3))
        graph = coo_array((capacity, (start, end)), shape=(size + 2, size + 2)).tocsr()
        assert cut == maximum_flow(graph.astype(np.int32), size, size + 1).flow_value
