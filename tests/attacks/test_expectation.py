"""Several passes for a gradient, where the network draws random numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from robustmix.attacks import CountingModel, apgd, find_attack, mifgsm, pgd
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.expectation import Looks, own_stream
from robustmix.attacks.losses import Goal
from tests.attacks.conftest import Trained
from tests.attacks.problems import SHAPE, SIZE, keys, known

NAMES = ("pgd", "apgd", "mifgsm")
each = pytest.mark.parametrize("name", NAMES)
SHORT: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 4},
    "apgd": {"steps": 6},
    "mifgsm": {"steps": 4},
}


class Noisy:
    """A linear model of three classes, to whose weights it adds noise of torch's own stream."""

    def __init__(self, size: float = 1.0) -> None:
        rng = torch.Generator().manual_seed(0)
        self.weights = torch.randn(3, SIZE, generator=rng)
        self.size = size
        self.drawn: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        noise = self.size * torch.randn(3, SIZE)
        self.drawn.append(self.weights + noise)
        return (images.flatten(1) - 0.5) @ (self.weights + noise).T


def images_of(n: int) -> Tensor:
    return 0.3 + 0.4 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def labels_of(model: Noisy, images: Tensor) -> Tensor:
    return ((images.flatten(1) - 0.5) @ model.weights.T).argmax(dim=1)


def by_hand(drawn: list[Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Average loss, gradient and logits over the weights that were drawn, written out."""
    loss, gradient = torch.zeros(len(images)), torch.zeros(len(images), SIZE)
    logits = torch.zeros(len(images), 3)
    for weights in drawn:
        each = (images.flatten(1) - 0.5) @ weights.T
        p = each.exp() / each.exp().sum(dim=1, keepdim=True)
        loss -= p[torch.arange(len(images)), labels].log() / len(drawn)
        p[torch.arange(len(images)), labels] -= 1
        gradient += p @ weights / len(drawn)
        logits = logits + each / len(drawn)
    return loss, gradient, logits


def test_a_look_is_the_mean_of_its_passes() -> None:
    model, images = Noisy(), images_of(30)
    labels = labels_of(model, images)
    looks, goal = Looks(7, keys(30)), Goal("ce", labels)
    found = looks.slope(model, images, goal, Doubts())
    assert len(model.drawn) == 7
    loss, gradient, logits = by_hand(model.drawn, images, labels)
    torch.testing.assert_close(found.loss, loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.gradient.flatten(1), gradient, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.logits, logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.reached, logits.argmax(dim=1) != labels)
    assert 0 < int(found.reached.sum()) < 30
    model.drawn.clear()
    stood = looks.standing(model, images, goal, Doubts())
    loss, _, logits = by_hand(model.drawn, images, labels)
    torch.testing.assert_close(stood.loss, loss, rtol=1e-5, atol=1e-5)
    assert torch.equal(stood.reached, logits.argmax(dim=1) != labels)


def test_each_look_has_draws_of_its_own_that_follow_from_the_first_key() -> None:
    model, images = Noisy(), images_of(3)
    goal = Goal("ce", labels_of(model, images))

    def drawn(own: Tensor, global_seed: int) -> Tensor:
        looks = Looks(2, own)
        with own_stream(images.device, global_seed):
            before = torch.get_rng_state()
            model.drawn.clear()
            for _ in range(2):
                looks.slope(model, images, goal, Doubts())
            assert torch.equal(torch.get_rng_state(), before)
        return torch.stack(model.drawn)

    first = drawn(keys(3), 0)
    assert torch.equal(first, drawn(keys(3), 1))
    assert torch.equal(first, drawn(keys(1), 0))
    assert not torch.equal(first, drawn(keys(3, trial=1), 0))
    assert len({float(weights[0, 0]) for weights in first}) == 4


def test_one_pass_leaves_the_stream_alone() -> None:
    model, images = Noisy(), images_of(3)
    goal = Goal("ce", labels_of(model, images))
    drawn = []
    for look in (
        lambda: model(images),
        lambda: Looks(1, keys(3)).slope(model, images, goal, Doubts()),
    ):
        with own_stream(images.device, 5):
            model.drawn.clear()
            look()
            drawn.append(model.drawn[0])
    assert torch.equal(*drawn)


@each
def test_of_a_network_that_is_not_random_it_is_the_same_for_so_many_passes(
    name: str, trained: Trained
) -> None:
    x, y = trained.images[:20], trained.labels[:20]
    attack, knobs = find_attack(name), {"eps": 0.1, "keys": keys(20), **SHORT[name]}
    counting = CountingModel(trained.net)
    once, twice = (
        attack.outcome(trained.net, x, y, **knobs),
        attack.outcome(counting, x, y, eot=2, **knobs),
    )
    torch.testing.assert_close(twice.images, once.images, rtol=0, atol=0)
    torch.testing.assert_close(known(twice.loss), known(once.loss), rtol=0, atol=0)
    assert torch.equal(twice.forwards, 2 * once.forwards)
    assert torch.equal(twice.backwards, 2 * once.backwards)
    assert int(twice.forwards.sum()) == counting.forwards
    assert int(twice.backwards.sum()) == counting.backwards


@each
def test_what_a_random_network_draws_follows_from_the_keys(name: str) -> None:
    model, images = Noisy(2.0), images_of(12)
    labels = labels_of(model, images)

    def run(own: Tensor | None, global_seed: int, **more: Any) -> Tensor:
        with own_stream(images.device, global_seed):
            before = torch.get_rng_state()
            found = find_attack(name)(
                model, images, labels, eps=0.05, keys=own, eot=3, **SHORT[name], **more
            )
            assert torch.equal(torch.get_rng_state(), before)
        return found

    assert torch.equal(run(keys(12), 0), run(keys(12), 1))
    assert not torch.equal(run(keys(12), 0), run(keys(12, trial=1), 0))
    assert torch.equal(run(None, 0, seed=3), run(None, 1, seed=3))
    assert not torch.equal(run(None, 0, seed=3), run(None, 0, seed=4))


def test_the_plan_of_targets_draws_from_the_keys_too() -> None:
    model, images = Noisy(2.0), images_of(12)
    labels = labels_of(model, images)
    for attack in (pgd, apgd):
        found = []
        for seed in (0, 1):
            with own_stream(images.device, seed):
                found.append(
                    attack(
                        model, images, labels, eps=0.05, steps=2, targets=1, eot=2, keys=keys(12)
                    )
                )
        assert torch.equal(*found)


def test_more_passes_find_the_direction_that_one_misses() -> None:
    """Of noise twice the weights 200 passes leave a seventh; one hides what it is added to."""
    images, labels, right = torch.full((2, *SHAPE), 0.5), torch.zeros(2, dtype=torch.int64), []
    for eot in (1, 200):
        shares = []
        for seed in range(4):
            model = Noisy(2.0)

            def two(x: Tensor, model: Noisy = model) -> Tensor:
                return model(x)[:, :2]

            found = mifgsm.outcome(two, images, labels, eps=0.1, steps=1, eot=eot, seed=seed)
            moved = (known(found.last) - images).flatten(1).sign()
            toward = (model.weights[1] - model.weights[0]).sign()
            shares.append(float((moved == toward).float().mean()))
        right.append(sum(shares) / 4)
    # Each entry of the difference has standard deviation 1.41, the noise of one pass 2.83.
    assert right[0] < 0.75
    assert right[1] > 0.85


@each
def test_no_pass_is_refused(name: str, trained: Trained) -> None:
    x, y = trained.images[:2], trained.labels[:2]
    with pytest.raises(ValueError, match="expected eot >= 1"):
        find_attack(name)(trained.net, x, y, eps=0.1, eot=0)


def test_pgd_scores_its_last_iterate_by_the_mean_too() -> None:
    model, images = Noisy(2.0), images_of(16)
    labels = labels_of(model, images)
    counting = CountingModel(model)
    found = pgd.outcome(counting, images, labels, eps=0.02, steps=3, eot=5, keys=keys(16))
    assert (counting.forwards, counting.backwards) == (16 * 20, 16 * 15)
    last = known(found.last)
    model.drawn = model.drawn[-5:]  # those of the last look
    _, _, logits = by_hand(model.drawn, last, labels)
    trace = known(found.trace)
    assert torch.equal(trace.last_success, logits.argmax(dim=1) != labels)
    assert torch.equal(trace.reached_at[3], trace.last_success)
