import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.attacks import CountingModel, Loss, Norm, apgd
from robustmix.attacks.apgd import checkpoints
from robustmix.attacks.ball import start_in_ball
from tests.attacks.conftest import Trained
from tests.attacks.problems import (
    Array,
    Curved,
    curved_images,
    keys,
    numpy_direction,
    numpy_project,
)

NORMS: list[Norm] = ["linf", "l2"]
RADIUS = {"linf": 0.07, "l2": 0.4}


def paper_checkpoints(steps: int) -> list[int]:
    """w_j = ceil(p_j N), p_0 = 0, p_1 = .22, p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06)."""
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    return sorted({math.ceil(share * steps) for share in p[1:-1]})


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 37, 50, 100, 1000])
def test_checkpoints_are_the_papers(steps: int) -> None:
    assert list(checkpoints(steps)) == paper_checkpoints(steps)


def slow_apgd(
    model: Curved, image: Array, label: int, start: Array, norm: Norm, eps: float, steps: int
) -> tuple[Array, list[float]]:
    """Algorithm 1 for one flat image: the best point, and the step sizes it went through.

    A search that has found a wrong prediction ends there.
    """

    def project(point: Array) -> Array:
        return numpy_project(image, point, norm, eps)

    def wrong(point: Array) -> bool:
        return int(model.logits(point).argmax()) != label

    x: list[Array] = [start]
    f = [model.cross_entropy(start, label)[0]]
    eta = [2 * eps]
    if wrong(start):
        return start, eta
    f_max, x_max = f[0], start
    marks = [0, *paper_checkpoints(steps)]
    f_max_at = {0: f_max}
    eta_at = {0: eta[0]}
    rises = 0
    for k in range(1, steps + 1):
        _, gradient = model.cross_entropy(x[-1], label)
        z = project(x[-1] + eta[-1] * numpy_direction(gradient, norm))
        if k > 1:
            z = project(x[-1] + 0.75 * (z - x[-1]) + 0.25 * (x[-1] - x[-2]))
        value, _ = model.cross_entropy(z, label)
        rises += value > f[-1]
        x.append(z)
        f.append(value)
        if wrong(z):
            return z, eta
        if value > f_max:
            f_max, x_max = value, z
        if k in marks:
            before = marks[marks.index(k) - 1]
            stalled = rises < 0.75 * (k - before)
            stuck = eta_at[before] == eta[-1] and f_max_at[before] == f_max
            # The size in use from the last checkpoint on was set there, so it is compared with
            # the one in use before it.
            eta_at[k], f_max_at[k] = eta[-1], f_max
            if stalled or stuck:
                eta.append(eta[-1] / 2)
                x[-1], f[-1] = x_max, f_max
            rises = 0
    return x_max, eta


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lift", [0.0, 60.0])
@pytest.mark.parametrize("steps", [12, 50])
def test_apgd_is_the_slow_loop_on_a_curved_model(norm: Norm, lift: float, steps: int) -> None:
    n, eps = 7, RADIUS[norm]
    model = Curved(classes=4, seed=2, lift=lift)
    images = curved_images(n)
    labels = model(images).argmax(dim=1)
    counting = CountingModel(model)
    found = apgd.outcome(counting, images, labels, eps=eps, steps=steps, norm=norm, keys=keys(n))
    starts = start_in_ball(images, keys(n), norm=norm, eps=eps, stream=0)
    halvings = 0
    for i in range(n):
        best, sizes = slow_apgd(
            model, images[i].numpy().ravel(), int(labels[i]), starts[i].numpy().ravel(), norm, eps,
            steps,
        )  # fmt: skip
        halvings += len(sizes) - 1
        np.testing.assert_allclose(found.images[i].numpy().ravel(), best, atol=1e-8)
        reached = int(model.logits(best).argmax()) != int(labels[i])
        assert bool(found.success[i]) == reached
    assert counting.forwards == int(found.forwards.sum())
    assert counting.backwards == int(found.backwards.sum())
    if lift:
        assert halvings >= 2 * n
        assert found.forwards.tolist() == [steps + 1] * n
    else:
        assert bool(found.success.any())
        assert bool((found.forwards[found.success] < steps + 1).any())


def test_a_step_that_overshoots_is_halved_until_it_fits() -> None:
    """A parabola with its top inside the ball: fixed steps of 2 eps only swing around it."""

    def model(images: Tensor) -> Tensor:
        x = images.flatten(1)[:, 0]
        return torch.stack([5 + (x - 0.531).square() * 40, torch.zeros_like(x)], dim=1)

    images = torch.full((1, 1, 1, 1), 0.5)
    found = apgd.outcome(
        model, images, torch.zeros(1).long(), eps=0.1, steps=100, loss="margin", keys=keys(1)
    )
    assert float(found.images) == pytest.approx(0.531, abs=1e-3)


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_restarts_and_targets_work_on_survivors_alone(loss: Loss, trained: Trained) -> None:
    x, y = trained.images, trained.labels
    counting = CountingModel(trained.net)

    def run(restarts: int, targets: int | None = None) -> Tensor:
        counting.forwards = counting.backwards = 0
        found = apgd.outcome(
            counting, x, y, eps=0.05, steps=4, restarts=restarts, loss=loss, targets=targets,
            keys=keys(len(x)),
        )  # fmt: skip
        assert int(found.forwards.sum()) == counting.forwards
        assert int(found.backwards.sum()) == counting.backwards
        longest = restarts * (targets or 1) * 5
        assert bool((found.backwards[~found.success] == longest).all())
        assert bool((found.backwards[found.success] <= longest).all())
        return found.success

    one, three, nine = run(1), run(3), run(1, targets=9)
    assert bool((three >= one).all())
    assert 0 < int(one.sum()) < len(x)
    assert int(nine.sum()) >= int(one.sum()) - 1


@pytest.mark.parametrize(
    ("norm", "eps"), [("linf", 0.04), ("linf", 0.08), ("l2", 0.3), ("l2", 0.6)]
)
def test_apgd_agrees_with_torchattacks(norm: Norm, eps: float, trained: Trained) -> None:
    """Per sample; the starts differ, and details of the review (see the docstring)."""
    torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    x, y, name = trained.images, trained.labels, {"linf": "Linf", "l2": "L2"}[norm]
    ours = apgd.outcome(trained.net, x, y, eps=eps, norm=norm, steps=30, keys=keys(len(x))).success
    with torch.random.fork_rng(devices=[]):
        theirs = torchattacks.APGD(trained.net, norm=name, eps=eps, steps=30)(x, y)
    broken = trained.net(theirs).argmax(dim=1) != y
    assert float((broken != ours).float().mean()) <= 0.02
    targeted = apgd.outcome(
        trained.net, x, y, eps=eps, norm=norm, steps=30, loss="dlr", targets=9, keys=keys(len(x))
    ).success
    with torch.random.fork_rng(devices=[]):
        theirs = torchattacks.APGDT(trained.net, norm=name, eps=eps, steps=30, n_classes=10)(x, y)
    broken = trained.net(theirs).argmax(dim=1) != y
    assert float((broken != targeted).float().mean()) <= 0.02
    assert 0 < int(ours.sum()) < len(x)


def test_contradictions_are_refused() -> None:
    images, labels = torch.full((2, 1, 1, 4), 0.5), torch.zeros(2).long()

    def model(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    with pytest.raises(ValueError, match="steps >= 1"):
        apgd.outcome(model, images, labels, eps=0.1, steps=0, keys=keys(2))
    with pytest.raises(ValueError, match=r"rho in \[0, 1\]"):
        apgd.outcome(model, images, labels, eps=0.1, rho=1.5, keys=keys(2))
    with pytest.raises(ValueError, match="restarts >= 1"):
        apgd.outcome(model, images, labels, eps=0.1, restarts=0, keys=keys(2))
    with pytest.raises(ValueError, match="at least 4 classes, got 3"):
        apgd.outcome(model, images, labels, eps=0.1, loss="dlr", targets=2, keys=keys(2))
