"""The step onto a hyperplane, beside solvers that share nothing with it."""

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from benchmarks.pretended_gpu import GPU, pretended_gpu
from robustmix.attacks import Norm
from robustmix.attacks.hyperplane import step_onto_hyperplane
from tests.attacks.problems import Array

N, D = 40, 7
BOTH: tuple[Norm, Norm] = ("linf", "l2")
both = pytest.mark.parametrize("norm", BOTH)


def problems(share: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return points, normals and offsets, these a share of what the box allows on either side."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.rand(N, D, generator=rng, dtype=torch.float64)
    points = torch.where(torch.rand(N, D, generator=rng) < 0.2, points.round(), points)
    normals = torch.randn(N, D, generator=rng, dtype=torch.float64) ** 3
    normals[torch.rand(N, D, generator=rng) < 0.1] = 0
    side = torch.where(torch.rand(N, generator=rng) < 0.5, -1.0, 1.0).double()
    room = torch.where(side[:, None] * normals > 0, 1 - points, points)
    return points, normals, side * share * (normals.abs() * room).sum(dim=1)


def least_linf(point: Array, normal: Array, offset: float) -> float:
    """Return the smallest largest change, by linear programming."""
    d = len(point)
    bound = np.hstack([np.vstack([np.eye(d), -np.eye(d)]), -np.ones((2 * d, 1))])
    done = linprog(
        np.append(np.zeros(d), 1), A_ub=bound, b_ub=np.zeros(2 * d),
        A_eq=np.append(normal, 0)[None], b_eq=[offset],
        bounds=[*zip(-point, 1 - point, strict=True), (0, None)],
    )  # fmt: skip
    assert done.success
    return float(cast(float, done.fun))


def least_l2(point: Array, normal: Array, offset: float) -> float:
    """Return the shortest change's length, by sequential quadratic programming."""
    done = cast(Any, minimize)(
        lambda d: d @ d, np.zeros(len(point)), jac=lambda d: 2 * d, method="SLSQP",
        constraints={"type": "eq", "fun": lambda d: normal @ d - offset, "jac": lambda d: normal},
        bounds=[*zip(-point, 1 - point, strict=True)], options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert done.success
    return math.sqrt(done.fun)


@pytest.mark.parametrize("share", [0.01, 0.4, 0.9])
@both
def test_it_is_the_smallest_step_onto_the_plane_in_the_box(norm: Norm, share: float) -> None:
    points, normals, offsets = problems(share)
    steps = step_onto_hyperplane(points, normals, offsets, norm=norm)
    torch.testing.assert_close((normals * steps).sum(dim=1), offsets, rtol=1e-12, atol=1e-12)
    assert float((points + steps).amin()) >= 0
    assert float((points + steps).amax()) <= 1 + 1e-15
    size = steps.abs().amax(dim=1) if norm == "linf" else steps.norm(dim=1)
    solver = least_linf if norm == "linf" else least_l2
    best = [
        solver(*row) for row in zip(points.numpy(), normals.numpy(), offsets.tolist(), strict=True)
    ]
    np.testing.assert_allclose(size.numpy(), best, rtol=2e-6, atol=1e-9)


@both
def test_a_plane_that_no_image_reaches_is_come_as_near_to_as_can_be(norm: Norm) -> None:
    points, normals, offsets = problems(1.5)
    steps = step_onto_hyperplane(points, normals, offsets, norm=norm)
    torch.testing.assert_close((normals * steps).sum(dim=1), offsets / 1.5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@both
def test_the_normal_s_length_does_not_matter_in_float32(norm: Norm, scale: float) -> None:
    points, normals, offsets = (each.float() for each in problems(0.4))
    plain = step_onto_hyperplane(*(each.double() for each in (points, normals, offsets)), norm=norm)
    steps = step_onto_hyperplane(points, normals * scale, offsets * scale, norm=norm)
    torch.testing.assert_close(steps, plain.float(), rtol=1e-4, atol=1e-6)


@both
def test_no_normal_or_no_offset_is_no_step(norm: Norm) -> None:
    points, normals, offsets = problems(0.4)
    none = torch.zeros_like(points)
    assert torch.equal(step_onto_hyperplane(points, none, offsets, norm=norm), none)
    assert not step_onto_hyperplane(points, normals, 0 * offsets, norm=norm).any()
    assert not step_onto_hyperplane(points, none, 0 * offsets, norm=norm).any()


@both
def test_an_accelerator_is_asked_nothing_and_finds_the_same(norm: Norm) -> None:
    given = problems(0.9)
    here = step_onto_hyperplane(*given, norm=norm)
    with pretended_gpu() as count:
        sent = [each.to(GPU) for each in given]
        count.clear()
        there = step_onto_hyperplane(*sent, norm=norm)
        assert not count.waits
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=0)
