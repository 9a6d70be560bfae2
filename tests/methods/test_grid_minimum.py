"""Exact labels against all labellings of tiny grids."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustmix.methods.grid_minimum import candidates, least_labels

Array = NDArray[Any]


def energy(labels: Array, unary: Array, weight: float, distance: Array) -> float:
    rows, cols = np.indices(labels.shape)
    total = unary[rows, cols, labels].sum()
    total += weight * distance[labels[:-1], labels[1:]].sum()
    return float(total + weight * distance[labels[:, :-1], labels[:, 1:]].sum())


def every_labelling(height: int, width: int, count: int) -> list[Array]:
    every = itertools.product(range(count), repeat=height * width)
    return [np.array(one).reshape(height, width) for one in every]


def distances(rng: np.random.Generator, batch: int, count: int, kind: str) -> Array:
    far = 1 - np.eye(count)
    if kind == "random":
        upper = np.triu(rng.random((batch, count, count)), 1)
        return np.asarray(upper + upper.swapaxes(1, 2))
    near = np.triu(rng.random((batch, count, count)) < 0.4, 1)
    near = near | near.swapaxes(1, 2)
    return np.where(near, 0.25 * far, far)


@pytest.mark.parametrize("kind", ["random", "near and far"])
@pytest.mark.parametrize(
    ("height", "width", "count"), [(1, 1, 4), (1, 4, 3), (5, 1, 3), (2, 3, 3), (3, 2, 3), (3, 3, 2)]
)
def test_no_labelling_has_a_lower_energy(height: int, width: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(height * 5 + width)
    batch = 8
    distance = distances(rng, batch, count, kind)
    every = every_labelling(height, width, count)
    for weight in (0.0, 0.2, 1.0):
        unary = rng.normal(size=(batch, height, width, count))
        unary[0, :, :, -1] = np.inf  # a label that the first grid does not have
        got = least_labels(unary, weight, distance)
        possible = candidates(unary, weight, distance)
        for b in range(batch):
            energies = [energy(one, unary[b], weight, distance[b]) for one in every]
            assert energy(got[b], unary[b], weight, distance[b]) == pytest.approx(min(energies))
            best = every[int(np.argmin(energies))]
            rows, cols = np.indices(best.shape)
            assert possible[b][rows, cols, best].all()


def test_grids_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(1)
    unary = rng.normal(size=(5, 4, 4, 6)) * np.array([0.1, 0.3, 1, 3, 10])[:, None, None, None]
    distance = distances(rng, 5, 6, "near and far")
    together = least_labels(unary, 0.5, distance)
    for b in range(5):
        alone = least_labels(unary[b : b + 1], 0.5, distance[b : b + 1])
        assert (alone[0] == together[b]).all()


def test_hopeless_labels_are_struck_off() -> None:
    """In the middle the second label costs less than four edges, the third costs more."""
    unary = np.zeros((1, 3, 3, 3))
    unary[..., 2] = 4.1
    unary[0, 1, 1, 1] = 3.9
    found = candidates(unary, 1.0, 1 - np.eye(3)[None])
    assert found[..., :2].all()
    assert not found[..., 2].any()


def test_what_is_struck_off_is_struck_off_the_neighbours() -> None:
    """A corner cannot keep 3.9 for two edges; then neither can the cells beside it, and so on."""
    unary = np.zeros((1, 3, 3, 2))
    unary[..., 1] = 3.9
    assert not candidates(unary, 1.0, 1 - np.eye(2)[None])[..., 1].any()


def test_too_large_a_table_is_refused() -> None:
    rng = np.random.default_rng(2)
    unary = rng.normal(size=(2, 3, 3, 5))
    unary[1, :, :, 2:] += 100
    distance = np.tile(1 - np.eye(5), (2, 1, 1))
    found = least_labels(unary, 2.0, distance, limit=8)
    assert (found[0] == -1).all()
    assert (found[1] == least_labels(unary, 2.0, distance)[1]).all()
    assert (found[1] >= 0).all()
