"""Carlini and Wagner's attack: linear models, a plain loop in numpy, and foolbox beside it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.attacks import cw
from robustmix.attacks.ball import lengths
from tests.attacks.conftest import Trained
from tests.attacks.foreign import foolbox_images
from tests.attacks.problems import SHAPE, SIZE, Array, Curved, curved_images
from tests.attacks.test_fab import several
from tests.attacks.test_hyperplane import least_l2


def test_a_linear_model_s_smallest_change_within_the_box_is_found() -> None:
    """Beside the solver's least distance to any class."""
    model, weights, biases = several(4, seed=1)
    rng = torch.Generator().manual_seed(2)
    images = 0.05 + 0.9 * torch.rand(4, *SHAPE, generator=rng, dtype=torch.float64)
    labels = model(images).argmax(dim=1)
    best = []
    for image, label in zip(images.flatten(1), labels.tolist(), strict=True):
        lead = [(weights[k] - weights[label], float(biases[k] - biases[label])) for k in range(4)]
        best.append(
            min(
                least_l2(image.numpy(), w.numpy(), -float(w @ image) - shift)
                for k, (w, shift) in enumerate(lead)
                if k != label
            )
        )
    found = cw.outcome(model, images, labels, eps=9.0, steps=250, binary_search_steps=8)
    assert bool(found.success.all())
    size, least = lengths(found.images - images, norm="l2"), torch.tensor(best).double()
    assert bool((size >= least * (1 - 1e-9)).all())
    assert bool((size <= least * 1.02).all())


def one_way(lead: float) -> tuple[Any, Tensor, Tensor]:
    """Return a model whose label 0 leads by so much at .5, and loses 2 for 1 along one value."""

    def model(images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return torch.stack([torch.zeros_like(flat[:, 0]), 2 * (flat[:, 0] - 0.5) - lead], dim=1)

    return model, torch.full((1, *SHAPE), 0.5, dtype=torch.float64), torch.tensor([0])


def test_the_constant_weighs_the_lead_against_the_squared_length() -> None:
    """Of d^2 + c (lead - 2 d) the minimum is at d = c, short of lead / 2 = .1 where c is less."""
    model, images, labels = one_way(0.2)
    knobs: dict[str, Any] = {"eps": 1.0, "steps": 400, "binary_search_steps": 1}
    knobs["learning_rate"] = 2e-3
    low, high = (
        cw.outcome(model, images, labels, initial_const=const, **knobs) for const in (0.095, 0.105)
    )
    assert (low.success.tolist(), high.success.tolist()) == ([False], [True])
    assert float(lengths(high.images - images, norm="l2")) == pytest.approx(0.1, abs=2e-3)
    # The seen images of the search that is too weak end where the sum is least.
    seen: list[float] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(float(x.detach().flatten(1)[0, 0]))
        logits: Tensor = model(x)
        return logits

    cw(watched, images, labels, initial_const=0.05, **knobs)
    assert seen[-1] == pytest.approx(0.55, abs=1e-3)


def test_a_constant_too_small_is_taken_ten_times_as_often_as_needed() -> None:
    """From .0009 the fourth search is the first with more than .1."""
    model, images, labels = one_way(0.2)
    knobs: dict[str, Any] = {"eps": 1.0, "steps": 400, "initial_const": 9e-4}
    knobs["learning_rate"] = 2e-3
    found = [
        bool(cw.outcome(model, images, labels, binary_search_steps=n, **knobs).success)
        for n in (1, 2, 3, 4)
    ]
    assert found == [False, False, False, True]


def by_loop(
    model: Curved, image: Array, label: int, searches: int, steps: int, first: float, rate: float
) -> tuple[list[Array], Array]:
    """Search one flat image, written apart: all images that are seen, and the nearest that won."""
    seen, best, nearest = [], image, np.inf
    low, high, const = 0.0, np.inf, first
    for _ in range(searches):
        w = np.arctanh((1 - 1e-6) * (2 * image - 1))
        m, v, won, before, least = np.zeros(SIZE), np.zeros(SIZE), False, np.inf, np.inf
        for step in range(1, steps + 1):
            x = (np.tanh(w) + 1) / 2
            seen.append(x)
            logits = model.logits(x)
            other = int(np.where(np.arange(len(logits)) == label, -np.inf, logits).argmax())
            short = max(logits[label] - logits[other], 0.0)
            hidden = np.tanh(model.inner @ (x - 0.5))
            jacobian = (model.outer * (1 - hidden**2)) @ model.inner
            slope = (jacobian[label] - jacobian[other]) * (short > 0)
            length = np.sqrt(((x - image) ** 2).sum())
            if logits.argmax() != label:
                won = True
                if length < nearest:
                    best, nearest = x, length
            total = length**2 + const * short
            least = min(least, total)
            if step > 1 and (step - 1) % max(steps // 10, 1) == 0:
                if not least <= 0.9999 * before:
                    break
                before = least
            g = (2 * (x - image) + const * slope) * (1 - np.tanh(w) ** 2) / 2
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            w = w - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        low, high = (low, const) if won else (const, high)
        const = (low + high) / 2 if high < np.inf else 10 * const
    return seen, best


def test_it_does_what_a_plain_loop_does() -> None:
    model, images = Curved(5, seed=3), curved_images(4)
    labels = model(images).argmax(dim=1)
    ended = set()
    for i, image in enumerate(images.flatten(1).numpy()):
        seen: list[Tensor] = []

        def watched(x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x.detach().flatten())
            return model(x)

        found = cw.outcome(
            watched, images[i : i + 1], labels[i : i + 1], eps=9.0, steps=40,
            binary_search_steps=5, initial_const=0.01, learning_rate=0.1,
        )  # fmt: skip
        expected, best = by_loop(model, image, int(labels[i]), 5, 40, 0.01, 0.1)
        assert len(seen) == 1 + len(expected) == int(found.forwards)
        ended.add(len(expected))
        np.testing.assert_allclose(torch.stack(seen[1:]).numpy(), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.images.flatten().numpy(), best, rtol=0, atol=1e-6)
    assert min(ended) < 200  # some search ended early


def test_what_is_found_outside_the_ball_is_no_success(trained: Trained) -> None:
    x, y = trained.images[:30], trained.labels[:30]
    knobs: dict[str, Any] = {"steps": 60, "binary_search_steps": 4, "initial_const": 0.1}
    free = cw.outcome(trained.net, x, y, eps=9.0, learning_rate=0.1, **knobs)
    assert bool(free.success.all())
    size = lengths(free.images - x, norm="l2")
    eps = float(size.median())
    held = cw.outcome(trained.net, x, y, eps=eps, learning_rate=0.1, **knobs)
    assert torch.equal(held.success, size <= eps)
    wide = held.success[:, None, None, None]
    assert torch.equal(held.images, torch.where(wide, free.images, x))


def test_what_is_wrong_already_is_left_as_it_is(trained: Trained) -> None:
    x, y = trained.images[:6], (trained.labels[:6] + 1) % 10
    found = cw.outcome(trained.net, x, y, eps=0.1, steps=20)
    assert torch.equal(found.images, x)
    assert bool(found.success.all())
    assert (found.forwards.tolist(), found.backwards.tolist()) == ([1] * 6, [0] * 6)


def test_confidence_and_targets_are_reached(trained: Trained) -> None:
    x, y, net = trained.images[:20], trained.labels[:20], trained.net
    knobs: dict[str, Any] = {"eps": 9.0, "steps": 60, "binary_search_steps": 4, "initial_const": 1}
    plain = cw.outcome(net, x, y, learning_rate=0.1, **knobs)
    sure = cw.outcome(net, x, y, learning_rate=0.1, confidence=3.0, **knobs)
    logits = net(sure.images)
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    assert bool(sure.success.all())
    assert float((others - own).amin()) >= 3.0
    near, far = (float(lengths(o.images - x, norm="l2").mean()) for o in (plain, sure))
    assert near < far
    targets = (y + 1) % 10
    towards = cw.outcome(net, x, y, learning_rate=0.1, targets=targets, **knobs)
    assert bool(towards.success.all())
    assert torch.equal(net(towards.images).argmax(dim=1), targets)


@pytest.mark.parametrize(
    "knobs",
    [
        {"steps": 0}, {"binary_search_steps": 0}, {"initial_const": 0.0}, {"learning_rate": 0.0},
        {"confidence": -1.0},
    ],
)  # fmt: skip
def test_invalid_options_are_refused(knobs: dict[str, Any], trained: Trained) -> None:
    with pytest.raises(ValueError, match="expected"):
        cw(trained.net, trained.images[:1], trained.labels[:1], eps=0.1, **knobs)


def test_cw_agrees_with_foolbox(trained: Trained) -> None:
    x, y, net = trained.images[:40], trained.labels[:40], trained.net
    theirs = foolbox_images(
        "L2CarliniWagnerAttack", net, x, y, steps=100, binary_search_steps=5, initial_const=0.1,
        stepsize=0.05,
    )  # fmt: skip
    ours = cw.outcome(
        net, x, y, eps=9.0, steps=100, binary_search_steps=5, initial_const=0.1,
        learning_rate=0.05,
    )  # fmt: skip
    assert torch.equal(ours.success, net(theirs).argmax(dim=1) != y)
    size, other = (lengths(images - x, norm="l2") for images in (ours.images, theirs))
    assert float(size.median()) == pytest.approx(float(other.median()), rel=0.02)
    assert float(size.mean()) == pytest.approx(float(other.mean()), rel=0.02)
