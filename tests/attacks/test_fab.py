"""FAB: closed forms on linear models, and torchattacks' own beside it."""

import builtins
import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustmix.attacks import CountingModel, Norm, autoattack, fab
from robustmix.attacks.ball import lengths
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suite import Scene
from robustmix.types import Model
from tests.attacks.conftest import Trained
from tests.attacks.problems import SHAPE, SIZE, keys
from tests.attacks.test_hyperplane import least_l2, least_linf
from tests.evaluation.attacks import attack
from tests.evaluation.tiny import tiny_images, tiny_model

both = pytest.mark.parametrize("norm", ["linf", "l2"])


def several(classes: int, seed: int) -> tuple[Model, Tensor, Tensor]:
    """Return the weights and biases of a linear model, its rows (classes, SIZE), as float64."""
    rng = torch.Generator().manual_seed(seed)
    weights = torch.randn(classes, SIZE, generator=rng, dtype=torch.float64)
    biases = torch.randn(classes, generator=rng, dtype=torch.float64)
    return lambda images: images.flatten(1) @ weights.T + biases, weights, biases


def at_the_ends(n: int, seed: int) -> Tensor:
    """Return images many of whose values cannot go one way."""
    rng = torch.Generator().manual_seed(seed)
    return (1.6 * torch.rand(n, *SHAPE, generator=rng, dtype=torch.float64) - 0.3).clamp(0, 1)


@pytest.mark.parametrize("targets", [9, None])
@both
def test_a_linear_model_s_smallest_change_within_the_box_is_found(
    norm: Norm, targets: int | None
) -> None:
    """Beside the solvers' least distance to any class; a step beyond the plane adds about .5 %."""
    model, weights, biases = several(4, seed=1)
    images = at_the_ends(6, seed=2)
    logits = model(images)
    labels, solver = logits.argmax(dim=1), least_linf if norm == "linf" else least_l2
    best = []
    for image, label in zip(images.flatten(1), labels.tolist(), strict=True):
        lead = [
            (weights[k] - weights[label], float(biases[k] - biases[label]))
            for k in range(4)
            if k != label
        ]
        best.append(
            min(solver(image.numpy(), w.numpy(), -float(w @ image) - shift) for w, shift in lead)
        )
    found = fab.outcome(
        model, images, labels, eps=1.0 if norm == "linf" else 9.0, norm=norm, steps=60,
        # Those found in the ball by one target go to no other: the nearest has to be asked for.
        targets=None if targets is None else _nearest(model, images, labels, norm),
    )  # fmt: skip
    assert bool(found.success.all())
    size = lengths(found.images - images, norm=norm)
    least = torch.tensor(best, dtype=torch.float64)
    assert bool((size >= least * (1 - 1e-9)).all())
    assert bool((size <= least * 1.01).all())


def _nearest(model: Model, images: Tensor, labels: Tensor, norm: Norm) -> Tensor:
    eps = 1.0 if norm == "linf" else 9.0
    each = []
    for other in range(4):
        target = torch.where(labels == other, (other + 1) % 4, other)
        found = fab.outcome(model, images, labels, eps=eps, norm=norm, steps=60, targets=target)
        size = lengths(found.images - images, norm=norm)
        each.append(torch.where(found.success & (labels != other), size, torch.inf))
    return torch.stack(each).argmin(dim=0)


@both
def test_what_is_found_outside_the_ball_is_no_success(norm: Norm, trained: Trained) -> None:
    x, y = trained.images[:40], trained.labels[:40]
    free = fab.outcome(trained.net, x, y, eps=1.0, norm=norm, steps=20, targets=2)
    size = lengths(free.images - x, norm=norm)
    eps = float(size.median())
    held = fab.outcome(trained.net, x, y, eps=eps, norm=norm, steps=20, targets=2)
    assert torch.equal(held.images[~held.success], x[~held.success])
    kept = lengths(held.images - x, norm=norm)
    assert float(kept.amax()) <= eps
    within = free.success & (size <= eps)
    assert bool(held.success[within].all())
    torch.testing.assert_close(kept[within], size[within], rtol=0, atol=0)
    assert 0 < int(held.success.sum()) < 40


@both
def test_stopping_early_reaches_the_same_samples_for_less(norm: Norm, trained: Trained) -> None:
    x, y = trained.images[:50], trained.labels[:50]
    eps = 0.07 if norm == "linf" else 0.4
    knobs: dict[str, Any] = {"eps": eps, "norm": norm, "steps": 15, "targets": 3}
    whole = fab.outcome(trained.net, x, y, **knobs)
    early = fab.outcome(trained.net, x, y, stop_early=True, **knobs)
    assert torch.equal(whole.success, early.success)
    assert 5 < int(whole.success.sum()) < 45
    assert int(early.forwards.sum()) < int(whole.forwards.sum())
    near, far = (lengths(o.images - x, norm=norm) for o in (whole, early))
    assert bool((near <= far).all())
    assert float(near.sum()) < float(far.sum())


@both
def test_a_restart_begins_elsewhere_and_loses_nothing(norm: Norm, trained: Trained) -> None:
    x, y = trained.images[:50], trained.labels[:50]
    eps = 0.07 if norm == "linf" else 0.4
    knobs: dict[str, Any] = {"eps": eps, "norm": norm, "steps": 3, "targets": 1}
    once = fab.outcome(trained.net, x, y, **knobs)
    starts: list[Tensor] = []

    def watched(images: Tensor) -> Tensor:
        starts.append(images.detach())
        logits: Tensor = trained.net(images)
        return logits

    thrice = fab.outcome(watched, x, y, restarts=3, keys=keys(50), **knobs)
    assert bool((thrice.success >= once.success).all())
    assert torch.equal(thrice.images[once.success], once.images[once.success])
    second = starts[7]  # after the plan and three steps of two passes
    left = x[~once.success]
    assert len(second) == len(left)
    change = lengths(second - left, norm=norm)
    assert bool(((change > 0) & (change <= eps / 2 + 1e-6)).all())


def test_the_untargeted_search_pays_for_every_class_and_no_more() -> None:
    model, _, _ = several(4, seed=3)
    images = at_the_ends(3, seed=4)
    counting = CountingModel(model)
    found = fab.outcome(
        counting, images, model(images).argmax(dim=1), eps=0.0, steps=5, targets=None
    )
    assert found.forwards.tolist() == [10] * 3
    assert found.backwards.tolist() == [20] * 3
    assert (counting.forwards, counting.backwards) == (30, 60)


def test_a_suite_of_it_can_be_untargeted() -> None:
    suite = attack("fab", eps=(Fraction(3, 255),), steps=3, untargeted=True, masking="off")
    prepared = suite.prepare(Scene(robust=tiny_model(), data=tiny_images(20), folder=Path()))
    assert prepared.params["options"] == {"steps": 3, "restarts": 1, "targets": None}
    foretold = prepared.passes(20)
    assert foretold.backwards is None
    report = evaluate(tiny_model(), tiny_images(20), [suite])
    details, right = report.content.suites["fab"].details, report.metric("clean.top1").value or 0
    # Five classes a step; what is wrong already is known to be after the first.
    assert details["backwards"] == round(20 * right * (3 * 5 + 1) + 20 * (1 - right) * (5 + 1))
    assert details["forwards"] <= (foretold.forwards or 0)
    with pytest.raises(UsageError, match="has no targets"):
        attack("fab", untargeted=True, targets=3)


def test_what_is_wrong_already_is_left_as_it_is(trained: Trained) -> None:
    x, y = trained.images[:6], (trained.labels[:6] + 1) % 10
    found = fab.outcome(trained.net, x, y, eps=0.1, steps=20)
    assert torch.equal(found.images, x)
    assert bool(found.success.all())
    assert found.backwards.tolist() == [1] * 6


@both
def test_fab_agrees_with_torchattacks(norm: Norm, trained: Trained) -> None:
    """The same robust set at eps, and changes that are as small or smaller."""
    torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    x, y, net = trained.images[:60], trained.labels[:60], trained.net
    eps = 0.07 if norm == "linf" else 0.4
    with torch.random.fork_rng(devices=[]):
        theirs = torchattacks.FAB(
            net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=30, multi_targeted=True,
            n_classes=10,
        )(x, y)  # fmt: skip
    ours = fab.outcome(net, x, y, eps=eps, norm=norm, steps=30)
    size, other = (lengths(images - x, norm=norm) for images in (ours.images, theirs))
    broken = (net(theirs).argmax(dim=1) != y) & (other <= eps)
    assert 5 < int(broken.sum()) < 55
    assert bool((ours.success >= broken).all())
    assert int(ours.success.sum()) - int(broken.sum()) <= 1
    assert float(size[broken].mean()) <= float(other[broken].mean()) * (1 + 1e-4)
    torch.testing.assert_close(size[broken], other[broken], rtol=0.02, atol=0)


def test_neither_it_nor_autoattack_imports_torchattacks(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        assert name.partition(".")[0] not in ("torchattacks", "requests"), name
        return plain(name, *rest, **more)

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchattacks"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    x, y = trained.images[:4], trained.labels[:4]
    assert fab(trained.net, x, y, eps=0.1, steps=2).shape == x.shape
    assert len(autoattack.outcome(trained.net, x, y, eps=0.1, steps=2, queries=3).stages) == 4
    assert "torchattacks" not in sys.modules
