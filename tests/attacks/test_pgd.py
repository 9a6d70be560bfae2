import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.attacks import CountingModel, Loss, Norm, Outcome, pgd
from robustmix.attacks.ball import start_in_ball
from tests.attacks.conftest import Trained
from tests.attacks.problems import (
    Array,
    Curved,
    curved_images,
    keys,
    known,
    linear,
    numpy_direction,
    numpy_project,
    problem,
)

NORMS: list[Norm] = ["linf", "l2"]
RADIUS = {"linf": 0.07, "l2": 0.4}


def slow_pgd(
    model: Curved, image: Array, label: int, start: Array, norm: Norm, eps: float, steps: int
) -> list[Array]:
    """Return all iterates for one flat image, in numpy, with the gradient derived by hand."""
    path = [start]
    for _ in range(steps):
        _, gradient = model.cross_entropy(path[-1], label)
        stepped = path[-1] + 0.3 * eps * numpy_direction(gradient, norm)
        path.append(numpy_project(image, stepped, norm, eps))
    return path


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lift", [0.0, 60.0])
def test_pgd_is_the_slow_loop_on_a_curved_model(norm: Norm, lift: float) -> None:
    """With a lifted class nothing is reached and the highest loss decides what is best."""
    n, steps, eps = 7, 9, RADIUS[norm]
    model = Curved(classes=4, seed=2, lift=lift)
    images = curved_images(n)
    labels = model(images).argmax(dim=1)
    found = pgd.outcome(
        model, images, labels, eps=eps, step_size=0.3 * eps, steps=steps, norm=norm, keys=keys(n)
    )
    starts = start_in_ball(images, keys(n), norm=norm, eps=eps, stream=0)
    for i in range(n):
        image, start = images[i].numpy().ravel(), starts[i].numpy().ravel()
        label = int(labels[i])
        path = slow_pgd(model, image, label, start, norm, eps, steps)
        losses = [model.cross_entropy(point, label)[0] for point in path]
        wrong = [int(model.logits(point).argmax()) != label for point in path]
        np.testing.assert_allclose(known(found.last)[i].numpy().ravel(), path[-1], atol=1e-9)
        np.testing.assert_allclose(known(found.trace).loss_at[:, i].numpy(), losses, atol=1e-9)
        assert known(found.trace).reached_at[:, i].tolist() == wrong
        at = max(range(steps + 1), key=lambda t: (wrong[t], losses[t]))
        np.testing.assert_allclose(found.images[i].numpy().ravel(), path[at], atol=1e-9)
        assert bool(found.success[i]) == any(wrong)
        assert bool(known(found.trace).last_success[i]) == wrong[-1]
        assert int(known(found.first_step)[i]) == (wrong.index(True) if any(wrong) else -1)
    assert bool(found.success.any()) == (lift == 0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("n", [1, 3, 7])
def test_last_iterate_reaches_the_linear_optimum(norm: Norm, loss: Loss, n: int) -> None:
    weight, images, model, labels = problem(n)
    eps = 8 / 255 if norm == "linf" else 0.2
    found = pgd.outcome(
        model, images, labels, eps=eps, step_size=eps / 4, steps=40, norm=norm, loss=loss,
        keys=keys(n),
    )  # fmt: skip
    toward = torch.where(labels == 0, -1.0, 1.0)
    dual = weight.abs().sum() if norm == "linf" else weight.norm()
    best = images.flatten(1) @ weight + toward * eps * dual
    torch.testing.assert_close(known(found.last).flatten(1) @ weight, best, rtol=1e-5, atol=1e-5)


def test_linear_optimum_where_the_range_cuts_the_ball() -> None:
    """In linf the best point is known there too: each value at the end of its own interval."""
    weight, _, model, _ = problem(5)
    images = torch.rand(5, 2, 3, 5, generator=torch.Generator().manual_seed(2))
    labels = model(images).argmax(dim=1)
    eps = 0.3
    found = pgd.outcome(model, images, labels, eps=eps, step_size=0.1, steps=12, keys=keys(5))
    toward = torch.where(labels == 0, -1.0, 1.0).view(-1, 1) * weight.sign()
    best = (images.flatten(1) + eps * toward).clamp(0, 1)
    torch.testing.assert_close(known(found.last).flatten(1), best)


def test_k_steps_go_k_times_as_far_as_one() -> None:
    _, images, model, labels = problem(3)
    for steps in (1, 3):
        found = pgd.outcome(
            model, images, labels, eps=0.2, step_size=0.01, steps=steps, random_start=False
        )
        moved = (known(found.last) - images).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 0.01 * steps))


def crossing() -> tuple[nn.Module, Tensor, Tensor]:
    """A one-pixel model that is wrong only between 0.6 and 0.7, its loss rising beyond."""

    class Model(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            x = images.flatten(1)[:, 0]
            inside = ((x > 0.6) & (x < 0.7)).to(x.dtype) * 9
            return torch.stack([3 - x, torch.zeros_like(x) + inside.detach()], dim=1)

    return Model().eval(), torch.full((1, 1, 1, 1), 0.5), torch.zeros(1).long()


def test_best_remembers_a_step_that_the_last_one_has_passed() -> None:
    model, image, label = crossing()
    found = pgd.outcome(model, image, label, eps=0.4, step_size=0.05, steps=8, random_start=False)
    assert (found.success.item(), known(found.trace).last_success.item()) == (True, False)
    assert 0.6 < float(found.images) < 0.7
    assert float(known(found.last)) == pytest.approx(0.9)
    # Wrong after 3 steps (0.65) and, by the rounding of 0.05, at neither 0.6 nor 0.7.
    assert known(found.trace).reached_at[:, 0].nonzero().flatten().tolist() == [3]
    assert float(known(found.trace).last_loss) == pytest.approx(
        float(known(found.trace).loss_at[8, 0])
    )


@pytest.mark.parametrize("norm", NORMS)
def test_more_restarts_never_find_less(norm: Norm, trained: Trained) -> None:
    x, y = trained.images, trained.labels
    eps = 0.06 if norm == "linf" else 0.4
    runs: list[Outcome] = []
    for restarts in (1, 2, 5):
        counting = CountingModel(trained.net)
        found = pgd.outcome(
            counting, x, y, eps=eps, step_size=eps / 2, steps=1, norm=norm, restarts=restarts,
            keys=keys(len(x)),
        )  # fmt: skip
        assert int(found.forwards.sum()) == counting.forwards
        assert int(found.backwards.sum()) == counting.backwards
        runs.append(found)
    for fewer, more in itertools.pairwise(runs):
        assert bool((more.success >= fewer.success).all())
        assert bool((known(more.trace).last_success >= known(fewer.trace).last_success).all())
        assert bool((known(more.trace).reached_at >= known(fewer.trace).reached_at).all())
        # What has been reached is left alone: no work, same image.
        done = fewer.success
        assert torch.equal(more.images[done], fewer.images[done])
        assert torch.equal(more.forwards[done], fewer.forwards[done])
        assert bool((more.forwards[~done] > fewer.forwards[~done]).all())
        alike = ~more.success
        assert bool((known(more.loss)[alike] >= known(fewer.loss)[alike]).all())
    assert int(runs[2].success.sum()) > int(runs[0].success.sum())
    assert 0 < int(runs[0].success.sum()) < len(x)


def test_costs_are_those_of_the_cost_model() -> None:
    _, images, _, labels = problem(3)
    flat = linear(torch.zeros(30), bias=1.0)  # never reached
    found = pgd.outcome(
        flat, images, 0 * labels, eps=0.1, step_size=0.1, steps=5, restarts=4, keys=keys(3)
    )
    assert found.forwards.tolist() == [4 * 6] * 3
    assert found.backwards.tolist() == [4 * 5] * 3


def test_zero_gradient_leaves_the_start() -> None:
    _, images, _, labels = problem(3)
    flat = linear(torch.zeros(30), bias=1.0)
    for norm in NORMS:
        found = pgd.outcome(
            flat, images, 0 * labels, eps=0.1, step_size=0.1, steps=5, norm=norm,
            random_start=False,
        )  # fmt: skip
        assert torch.equal(known(found.last), images)


def five(images: Tensor) -> Tensor:
    """Five classes, each the brightness of one pixel; class 4 is out of reach."""
    return images.flatten(1)[:, :5] + torch.tensor([0.0, 0.0, 0.0, 0.0, -5.0])


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_a_target_is_reached_or_it_is_no_success(loss: Loss) -> None:
    images = torch.full((4, 1, 1, 7), 0.5)
    images[:, 0, 0, 0] = 0.6
    labels = torch.zeros(4).long()
    targets = torch.tensor([1, 2, 3, 4])
    found = pgd.outcome(
        five, images, labels, eps=0.1, step_size=0.03, steps=10, loss=loss, targets=targets,
        keys=keys(4),
    )  # fmt: skip
    assert found.success.tolist() == [True, True, True, False]
    assert five(found.images).argmax(dim=1)[:3].tolist() == [1, 2, 3]
    assert five(known(found.last)).argmax(dim=1)[:3].tolist() == [1, 2, 3]


def test_targets_by_number_try_each_high_class_on_the_survivors() -> None:
    """Class 1 is highest but immovable; only the second target leads to an error."""

    def model(images: Tensor) -> Tensor:
        x = images.flatten(1)[:, :4]
        fixed = torch.full((len(x), 1), 0.55)
        return torch.cat([x[:, :1], fixed, x[:, 1:3], x[:, 3:] - 2], dim=1)

    images = torch.full((2, 1, 1, 5), 0.5)
    images[0, 0, 0, 0] = 0.7
    images[1, 0, 0, 0] = 0.9
    labels = torch.zeros(2).long()
    counting = CountingModel(model)
    found = pgd.outcome(
        counting, images, labels, eps=0.11, step_size=0.02, steps=12, loss="margin", targets=9,
        keys=keys(2),
    )  # fmt: skip
    # The first target, 1, ends at 0.59 against 0.55; the next, 2, lifts its pixel to 0.61.
    assert found.success.tolist() == [True, False]
    assert model(found.images).argmax(dim=1).tolist() == [2, 0]
    assert found.backwards.tolist() == [2 * 12, 4 * 12]  # min(9, K - 1) targets at most
    assert found.forwards.tolist() == [1 + 2 * 13, 1 + 4 * 13]
    assert int(found.forwards.sum()) == counting.forwards


@pytest.mark.parametrize(
    ("classes", "loss", "targets"), [(2, "dlr", None), (3, "dlr", 1), (3, "dlr", "own")]
)
def test_dlr_needs_its_classes(classes: int, loss: Loss, targets: int | str | None) -> None:
    images, labels = torch.full((2, 1, 1, 7), 0.5), torch.zeros(2).long()
    toward = labels + 1 if targets == "own" else None if targets is None else 1
    with pytest.raises(ValueError, match=r"needs at least [34] classes"):
        pgd.outcome(
            lambda x: x.flatten(1)[:, :classes], images, labels, eps=0.1, step_size=0.1, steps=1,
            loss=loss, targets=toward, keys=keys(2),
        )  # fmt: skip


def test_contradictions_are_refused() -> None:
    _, images, model, labels = problem(3)

    def refused(**changes: object) -> str:
        plain = {"eps": 0.1, "step_size": 0.1, "steps": 2, "keys": keys(3)}
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller checks the text
            pgd.outcome(model, images, labels, **(plain | changes))  # type: ignore[arg-type]
        return str(caught.value)

    assert "repeat the same search" in refused(random_start=False, restarts=2)
    assert "steps >= 0" in refused(steps=-1)
    assert "step_size > 0" in refused(step_size=0.0)
    assert "restarts >= 1" in refused(restarts=0)
    assert "other than its label" in refused(targets=labels)
    assert "norm linf or l2" in refused(norm="l1")
    assert "expected loss" in refused(loss="hinge")
    assert "1 to 1 targets, got 0" in refused(targets=0)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_agrees_with_torchattacks(norm: Norm, trained: Trained) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    x, y = trained.images, trained.labels
    if norm == "linf":
        theirs = torchattacks.PGD(trained.net, eps=0.1, alpha=0.03, steps=7, random_start=False)
        ours = pgd.outcome(trained.net, x, y, eps=0.1, step_size=0.03, steps=7, random_start=False)
        tolerance = 1e-6
    else:
        theirs = torchattacks.PGDL2(trained.net, eps=0.7, alpha=0.2, steps=7, random_start=False)
        ours = pgd.outcome(
            trained.net, x, y, eps=0.7, step_size=0.2, steps=7, norm="l2", random_start=False
        )
        tolerance = 1e-4
    same = (theirs(x, y) - known(ours.last)).abs().flatten(1).amax(dim=1) < tolerance
    assert float(same.float().mean()) >= 0.99


def test_stopping_early_reaches_the_same_samples_after_the_same_steps(trained: Trained) -> None:
    x, y = trained.images[:60], trained.labels[:60]
    counting = CountingModel(trained.net)
    asked: dict[str, Any] = {"eps": 0.1, "step_size": 0.02, "steps": 9, "restarts": 2}
    whole = pgd.outcome(trained.net, x, y, keys=keys(60), **asked)
    early = pgd.outcome(counting, x, y, keys=keys(60), stop_early=True, **asked)
    assert 5 < int(whole.success.sum()) < 55
    assert torch.equal(early.success, whole.success)
    first = known(whole.first_step)
    assert torch.equal(known(early.first_step), first)
    assert int(known(early.trace).reached_at.sum()) == int(early.success.sum())
    assert torch.equal(trained.net(early.images).argmax(dim=1) != y, whole.success)
    left = ~whole.success
    assert torch.equal(early.images[left], whole.images[left])
    assert torch.equal(known(early.last)[left], known(whole.last)[left])
    assert torch.equal(known(early.last)[~left], early.images[~left])
    assert int(early.forwards.sum()) == counting.forwards
    assert int(early.backwards.sum()) == counting.backwards
    once = early.forwards[early.success & (whole.forwards == 10)]
    assert torch.equal(once, first[early.success & (whole.forwards == 10)] + 1)


def test_the_share_of_zero_gradients_is_that_of_the_first_start() -> None:
    def half(images: Tensor) -> Tensor:
        kept = images[:, :, :, 2:].flatten(1).sum(dim=1)
        return torch.stack([kept, torch.zeros_like(kept)], dim=1)

    images, labels = torch.full((3, 2, 3, 5), 0.5), torch.zeros(3).long()
    found = pgd.outcome(half, images, labels, eps=0.1, step_size=0.05, steps=2, random_start=False)
    torch.testing.assert_close(known(found.zero_gradient), torch.full((3,), 2 / 5))
    none = pgd.outcome(half, images, labels, eps=0.1, step_size=0.05, steps=0, random_start=False)
    assert known(none.zero_gradient).tolist() == [1, 1, 1]
