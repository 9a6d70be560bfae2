import numpy as np
import pytest
import torch
from torch import nn

from robustmix.attacks import CountingModel, Norm
from robustmix.attacks.ball import (
    ascent_direction,
    check_eval,
    lengths,
    project,
    start_in_ball,
)
from tests.attacks.problems import SHAPE, SIZE, keys, numpy_direction, numpy_project

NORMS: list[Norm] = ["linf", "l2"]


def rows(n: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [0.001, 0.3])
def test_projection_is_the_one_written_in_numpy(norm: Norm, scale: float) -> None:
    images = rows(7).abs().clamp(0, 1)
    moved = images + rows(7, scale, seed=1)
    got = project(images, moved, norm=norm, eps=0.2)
    want = [
        numpy_project(a.numpy().ravel(), b.numpy().ravel(), norm, 0.2)
        for a, b in zip(images, moved, strict=True)
    ]
    np.testing.assert_allclose(got.flatten(1).numpy(), np.stack(want), atol=1e-12)
    assert float(lengths(got - images, norm=norm).amax()) <= 0.2 + 1e-12
    torch.testing.assert_close(project(images, got, norm=norm, eps=0.2), got)  # idempotent


@pytest.mark.parametrize("norm", NORMS)
def test_direction_is_the_steepest(norm: Norm) -> None:
    gradient = rows(5)
    got = ascent_direction(gradient, norm=norm)
    want = np.stack([numpy_direction(g.numpy().ravel(), norm) for g in gradient])
    np.testing.assert_allclose(got.flatten(1).numpy(), want, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_zero_gradient_gives_no_step(norm: Norm) -> None:
    gradient = torch.zeros(2, *SHAPE)
    gradient[1, 0, 0, 0] = -3.0
    got = ascent_direction(gradient, norm=norm)
    assert not got[0].any()
    assert got[1].sum() == -1


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e30])
def test_l2_direction_survives_tiny_and_huge_gradients(scale: float) -> None:
    """Their squares leave float32, a plain norm would be 0 or infinite."""
    gradient = torch.full((1, *SHAPE), scale)
    torch.testing.assert_close(
        ascent_direction(gradient, norm="l2"), torch.full((1, *SHAPE), SIZE**-0.5)
    )


@pytest.mark.parametrize("norm", NORMS)
def test_starts_are_uniform_in_the_ball(norm: Norm) -> None:
    n, eps = 4000, 0.25
    images = torch.full((n, *SHAPE), 0.5)
    change = start_in_ball(images, keys(n), norm=norm, eps=eps, stream=0) - images
    flat = change.flatten(1).double()
    shares = (flat / eps + 1) / 2 if norm == "linf" else (flat.norm(dim=1) / eps) ** SIZE
    sample = np.sort(shares.numpy().ravel())
    grid = (np.arange(len(sample)) + 0.5) / len(sample)
    # Kolmogorov-Smirnov at a level of 1e-6; the rounding of float32 is far below it.
    assert np.abs(sample - grid).max() < 2.7 / np.sqrt(len(sample))
    assert float(flat.mean(dim=0).abs().max()) < 6 * eps / np.sqrt(n)


@pytest.mark.parametrize("norm", NORMS)
def test_starts_depend_on_key_and_stream_alone(norm: Norm) -> None:
    images = torch.full((7, *SHAPE), 0.5)
    first = start_in_ball(images, keys(7), norm=norm, eps=0.1, stream=0)
    alone = start_in_ball(images[4:5], keys(7)[4:5], norm=norm, eps=0.1, stream=0)
    assert torch.equal(first[4:5], alone)
    other = start_in_ball(images, keys(7), norm=norm, eps=0.1, stream=1)
    assert bool((other != first).flatten(1).any(dim=1).all())
    assert len({tuple(row.flatten().tolist()) for row in first}) == 7


def test_eval_mode_is_asserted_through_the_counter() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout())
    model.eval()
    check_eval(model)
    model[1].train()
    for wrapped in (model, CountingModel(model)):
        with pytest.raises(ValueError, match="1 is in train mode"):
            check_eval(wrapped)
