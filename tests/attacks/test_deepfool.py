"""DeepFool: closed forms on linear models, a plain loop in numpy, and foolbox beside it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.attacks import CountingModel, Norm, deepfool
from robustmix.attacks.ball import lengths
from tests.attacks.conftest import Trained
from tests.attacks.foreign import foolbox_images
from tests.attacks.problems import (
    SHAPE,
    SIZE,
    Array,
    Curved,
    curved_images,
    numpy_direction,
)

both = pytest.mark.parametrize("norm", ["linf", "l2"])
WIDE: dict[Norm, float] = {"linf": 1.0, "l2": 9.0}


def inside(n: int, seed: int) -> Tensor:
    """Return images from which a near boundary is passed before the ends of the range."""
    rng = torch.Generator().manual_seed(seed)
    return 0.45 + 0.1 * torch.rand(n, *SHAPE, generator=rng, dtype=torch.float64)


@both
@pytest.mark.parametrize("candidates", [1, 9])
def test_a_linear_model_s_boundary_is_passed_by_the_overshoot(norm: Norm, candidates: int) -> None:
    """One step to the nearest plane of the candidates: its distance and direction are known."""
    rng = torch.Generator().manual_seed(1)
    weights = torch.randn(5, SIZE, generator=rng, dtype=torch.float64)
    weights[4] *= 4  # its boundary is near even where its logit is low
    biases = 0.2 * torch.randn(5, generator=rng, dtype=torch.float64) - weights.sum(dim=1) / 2
    images = inside(40, seed=2)

    def model(x: Tensor) -> Tensor:
        return x.flatten(1) @ weights.T + biases

    logits = model(images)
    labels, order = logits.argmax(dim=1), logits.argsort(dim=1, descending=True)
    counting = CountingModel(model)
    found = deepfool.outcome(
        counting, images, labels, eps=WIDE[norm], norm=norm, candidates=candidates, overshoot=0.1
    )
    nearest = 0
    for i, image in enumerate(images.flatten(1).numpy()):
        own = int(labels[i])
        planes = []
        for other in order[i, 1 : 1 + candidates].tolist():
            w = (weights[other] - weights[own]).numpy()
            lead = abs(float(w @ image) + float(biases[other] - biases[own]))
            dual = np.abs(w).sum() if norm == "linf" else np.sqrt((w**2).sum())
            planes.append((lead / dual, other, numpy_direction(w, norm)))
        distance, other, direction = min(planes, key=lambda plane: plane[0])
        nearest += other != int(order[i, 1])
        best = image + 1.1 * distance * direction
        np.testing.assert_allclose(found.images[i].flatten().numpy(), best, rtol=0, atol=1e-12)
    assert bool(found.success.all())
    assert nearest > 5 or candidates == 1  # the highest other class is often not the nearest
    count = min(candidates, 4)
    assert found.forwards.tolist() == [2] * 40
    assert found.backwards.tolist() == [2 * count] * 40
    assert (counting.forwards, counting.backwards) == (80, 2 * 40 * count)


def by_loop(
    model: Curved, image: Array, label: int, norm: str, steps: int, overshoot: float, few: int
) -> tuple[Array, bool]:
    """Search one flat image, written apart from the code under test."""
    change, at = np.zeros(SIZE), image
    first = model.logits(image)
    classes = [k for k in np.argsort(-first, kind="stable") if k != label][:few]
    for _ in range(steps):
        logits = model.logits(at)
        if logits.argmax() != label:
            return at, True
        hidden = np.tanh(model.inner @ (at - 0.5))
        jacobian = (model.outer * (1 - hidden**2)) @ model.inner
        least, step = np.inf, np.zeros(SIZE)
        for k in classes:
            w, f = jacobian[k] - jacobian[label], abs(logits[k] - logits[label])
            size = np.abs(w).sum() if norm == "linf" else np.sqrt((w**2).sum())
            if f / size < least:
                least = f / size
                step = max(least, 1e-6) * numpy_direction(w, norm)
        change = change + step
        at = np.clip(image + (1 + overshoot) * change, 0, 1)
    return at, bool(model.logits(at).argmax() != label)


@both
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_it_does_what_a_plain_loop_does(norm: Norm, steps: int) -> None:
    model, images = Curved(6, seed=3), curved_images(12)
    labels = model(images).argmax(dim=1)
    found = deepfool.outcome(
        model, images, labels, eps=WIDE[norm], norm=norm, steps=steps, candidates=3
    )
    won = []
    for i, image in enumerate(images.flatten(1).numpy()):
        at, success = by_loop(model, image, int(labels[i]), norm, steps, 0.02, 3)
        won.append(success)
        expected = at if success else image
        np.testing.assert_allclose(found.images[i].flatten().numpy(), expected, rtol=0, atol=1e-9)
    assert found.success.tolist() == won
    assert any(won) if steps == 3 else all(won) == (steps == 40)


@both
def test_what_is_found_outside_the_ball_is_no_success(norm: Norm, trained: Trained) -> None:
    x, y = trained.images[:60], trained.labels[:60]
    free = deepfool.outcome(trained.net, x, y, eps=WIDE[norm], norm=norm)
    assert bool(free.success.all())
    size = lengths(free.images - x, norm=norm)
    eps = float(size.median())
    held = deepfool.outcome(trained.net, x, y, eps=eps, norm=norm)
    assert torch.equal(held.success, size <= eps)
    wide = held.success[:, None, None, None]
    assert torch.equal(held.images, torch.where(wide, free.images, x))


def test_what_is_wrong_already_is_left_as_it_is(trained: Trained) -> None:
    x, y = trained.images[:6], (trained.labels[:6] + 1) % 10
    found = deepfool.outcome(trained.net, x, y, eps=0.1)
    assert torch.equal(found.images, x)
    assert bool(found.success.all())
    assert found.forwards.tolist() == [1] * 6


def test_a_tie_is_left() -> None:
    """On the boundary itself, where the lower index is predicted, a step of no length is none."""

    def level(images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return torch.stack([flat[:, 0] - flat[:, 1], flat[:, 1] - flat[:, 0]], dim=1)

    images = torch.full((2, *SHAPE), 0.5)
    found = deepfool.outcome(level, images, torch.zeros(2).long(), eps=0.1)
    assert bool(found.success.all())
    assert float((found.images - images).abs().amax()) < 1e-5


@pytest.mark.parametrize("knobs", [{"steps": 0}, {"candidates": 0}, {"overshoot": -0.1}])
def test_invalid_options_are_refused(knobs: dict[str, Any], trained: Trained) -> None:
    with pytest.raises(ValueError, match="expected steps >= 1"):
        deepfool(trained.net, trained.images[:1], trained.labels[:1], eps=0.1, **knobs)


@both
def test_deepfool_agrees_with_foolbox(norm: Norm, trained: Trained) -> None:
    """Changes as small; foolbox adds 1e-4 to each step, and so is a little farther."""
    x, y, net = trained.images, trained.labels, trained.net
    kind = {"linf": "LinfDeepFoolAttack", "l2": "L2DeepFoolAttack"}[norm]
    theirs = foolbox_images(kind, net, x, y, steps=50, candidates=10, overshoot=0.02)
    ours = deepfool.outcome(net, x, y, eps=WIDE[norm], norm=norm)
    assert torch.equal(ours.success, net(theirs).argmax(dim=1) != y)
    size, other = (lengths(images - x, norm=norm) for images in (ours.images, theirs))
    assert float(size.median()) == pytest.approx(float(other.median()), rel=0.01)
    assert float(size.mean()) == pytest.approx(float(other.mean()), rel=0.01)
    assert float(((size - other).abs() < 0.01 * other).float().mean()) > 0.9
