import math

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.attacks import CountingModel, Loss, Norm, square
from robustmix.attacks.square import patch_share
from robustmix.rng import uniform
from tests.attacks.conftest import Trained
from tests.attacks.problems import SHAPE, Array, Curved, curved_images, keys, known, linear, problem

NORMS: list[Norm] = ["linf", "l2"]


def published_share(at: int, p_init: float) -> float:
    """The piecewise constant schedule of section 4, for 10,000 queries."""
    for end, divisor in [
        (10, 1), (50, 2), (200, 4), (500, 8), (1000, 16), (2000, 32), (4000, 64), (6000, 128),
        (8000, 256),
    ]:  # fmt: skip
        if at <= end:
            return p_init / divisor
    return p_init / 512


def test_schedule_is_the_published_one_and_rescales_on_demand() -> None:
    for at in [0, 10, 11, 50, 51, 200, 201, 501, 1000, 1001, 2001, 4001, 6001, 8000, 8001, 9999]:
        assert patch_share(at, p_init=0.8) == published_share(at, 0.8)
    for at in (0, 2, 3, 99, 100):  # 100 queries run through it a hundred times as fast
        assert patch_share(at, p_init=0.3, of=100) == published_share(at * 100, 0.3)


def plain_hill(rows: int, columns: int) -> Array:
    """Square rings around the middle: each square of half-width j adds 1 / (j + 1)^2."""
    hill = np.zeros((rows, columns))
    for j in range(max(rows // 2, columns // 2) + 1):
        for r in range(rows):
            for c in range(columns):
                if abs(r - rows // 2) <= j and abs(c - columns // 2) <= j:
                    hill[r, c] += 1 / (j + 1) ** 2
    return hill


def plain_pattern(side: int, turned: bool) -> Array:
    halves = [plain_hill(side // 2, side), -plain_hill(side - side // 2, side)]
    both: Array = np.concatenate([h / np.sqrt((h**2).sum()) if h.size else h for h in halves])
    both = both / np.sqrt((both**2).sum())
    return both.T if turned else both


class Draws:
    """The uniforms of one sample, in the order in which proposals take them."""

    def __init__(self, key: Tensor, channels: int) -> None:
        self.key, self.channels = key, channels

    def start(self, count: int) -> Array:
        out: Array = uniform(self.key, count)[0].numpy()
        return out

    def proposal(self, at: int) -> Array:
        width = 5 + self.channels
        block = uniform(self.key, 64 * width, counter_high=1 + at // 64)[0].numpy()
        out: Array = block[(at % 64) * width :][:width]
        return out


def sign(u: float) -> float:
    return -1.0 if u < 0.5 else 1.0


def slow_start(image: Array, draws: Draws, norm: Norm, eps: float) -> Array:
    c, h, w = image.shape
    change = np.zeros_like(image)
    if norm == "linf":
        u = draws.start(c * w).reshape(c, w)
        for i in range(c):
            for column in range(w):
                change[i, :, column] = eps * sign(u[i, column])
        return np.clip(image + change, 0, 1)
    side = max(min(h, w) // 5, 1)
    down, across = h // side, w // side
    grid = draws.start(down * across * (c + 1)).reshape(down, across, c + 1)
    top, left = (h - down * side) // 2, (w - across * side) // 2
    for a in range(down):
        for b in range(across):
            tile = plain_pattern(side, bool(grid[a, b, c] < 0.5))
            for i in range(c):
                y, x = top + a * side, left + b * side
                change[i, y : y + side, x : x + side] = tile * sign(grid[a, b, i])
    out: Array = np.clip(image + eps * change / np.sqrt((change**2).sum()), 0, 1)
    return out


def slow_proposal(
    image: Array, adv: Array, u: Array, share: float, norm: Norm, eps: float
) -> Array:
    c, h, w = image.shape
    if norm == "linf":
        side = min(max(round(math.sqrt(share * h * w)), 1), h, w)
        y, x = int(u[0] * (h - side + 1)), int(u[1] * (w - side + 1))
        new = adv.copy()
        for i in range(c):  # moved by twice eps and projected, as the paper writes it
            patch = new[i, y : y + side, x : x + side] + 2 * eps * sign(u[5 + i])
            centre = image[i, y : y + side, x : x + side]
            new[i, y : y + side, x : x + side] = np.clip(patch, centre - eps, centre + eps)
        return np.clip(new, 0, 1)
    side = max(round(math.sqrt(share * h * w)), 3)
    side = min(side + 1 if side % 2 == 0 else side, h, w)
    y1, x1 = int(u[0] * (h - side + 1)), int(u[1] * (w - side + 1))
    y2, x2 = int(u[2] * (h - side + 1)), int(u[3] * (w - side + 1))
    change = adv - image
    union = np.zeros((h, w), dtype=bool)
    union[y1 : y1 + side, x1 : x1 + side] = True
    union[y2 : y2 + side, x2 : x2 + side] = True
    unused = max(eps**2 - (change**2).sum(), 0)
    new = change.copy()
    new[:, y2 : y2 + side, x2 : x2 + side] = 0
    for i in range(c):
        old = change[i, y1 : y1 + side, x1 : x1 + side]
        length = np.sqrt((old**2).sum())
        eta = plain_pattern(side, bool(u[4] < 0.5)) * sign(u[5 + i])
        eta = eta + (old / length if length > 0 else 0)
        budget = np.sqrt((change[i][union] ** 2).sum() + unused / c)
        new[i, y1 : y1 + side, x1 : x1 + side] = eta / np.sqrt((eta**2).sum()) * budget
    out: Array = np.clip(image + eps * new / np.sqrt((new**2).sum()), 0, 1)
    return out


def margin(logits: Array, label: int) -> float:
    return float(np.delete(logits, label).max() - logits[label])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lift", [0.0, 60.0])
@pytest.mark.parametrize("reschedule", [False, True])
def test_square_is_the_slow_search(norm: Norm, lift: float, reschedule: bool) -> None:
    """The same uniforms, but loops in numpy over samples, channels and pixels."""
    n, queries, eps = 5, 150, 0.06 if norm == "linf" else 0.4
    model = Curved(classes=4, seed=2, lift=lift)
    images = curved_images(n)
    labels = model(images).argmax(dim=1)
    found = square.outcome(
        model, images, labels, eps=eps, norm=norm, queries=queries, reschedule=reschedule,
        keys=keys(n),
    )  # fmt: skip
    for i in range(n):
        image, label, draws = images[i].numpy(), int(labels[i]), Draws(keys(n)[i : i + 1], 2)
        adv = slow_start(image, draws, norm, eps)
        loss, used = margin(model.logits(adv.ravel()), label), 1
        while loss < 0 and used < queries:
            at = used - 1
            share = published_share(at * 10_000 // queries if reschedule else at, 0.8)
            tried = slow_proposal(image, adv, draws.proposal(at), share, norm, eps)
            new = margin(model.logits(tried.ravel()), label)
            if new > loss:
                adv, loss = tried, new
            used += 1
        np.testing.assert_allclose(found.images[i].numpy(), adv, atol=1e-9)
        assert int(found.forwards[i]) == used
        assert bool(found.success[i]) == (loss >= 0)
    assert bool(found.success.any()) == (lift == 0)
    assert bool(found.success.all()) is False


@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_linf_search_ends_at_the_linear_optimum(loss: Loss) -> None:
    weight, images, _, _ = problem(3)
    model = linear(weight, bias=2.0 - float((images.flatten(1) @ weight).amin()))
    labels = torch.zeros(3).long()
    found = square.outcome(
        model, images, labels, eps=8 / 255, queries=1500, loss=loss, keys=keys(3)
    )
    best = images.flatten(1) @ weight - 8 / 255 * weight.abs().sum()
    torch.testing.assert_close(found.images.flatten(1) @ weight, best, rtol=1e-5, atol=1e-5)


def test_l2_search_comes_near_the_linear_optimum_on_the_sphere() -> None:
    weight, images, _, _ = problem(3)
    model = linear(weight, bias=4.0 - float((images.flatten(1) @ weight).amin()))
    found = square.outcome(
        model, images, torch.zeros(3).long(), eps=0.2, norm="l2", queries=1500, keys=keys(3)
    )
    change = (found.images - images).flatten(1)
    torch.testing.assert_close(change.norm(dim=1), torch.full((3,), 0.2), rtol=1e-5, atol=0)
    share = -(change @ weight) / (0.2 * weight.norm())
    assert float(share.amin()) > 0.5, share  # windows of 3 x 3 are coarse on 3 x 5 pixels


@pytest.mark.parametrize("norm", NORMS)
def test_queries_are_a_budget_and_success_ends_the_search(norm: Norm, trained: Trained) -> None:
    x, y = trained.images, trained.labels
    eps = 0.2 if norm == "linf" else 1.5
    earlier = None
    for queries in (1, 30, 70):
        counting = CountingModel(trained.net)
        found = square.outcome(
            counting, x, y, eps=eps, norm=norm, queries=queries, keys=keys(len(x))
        )
        assert int(found.forwards.sum()) == counting.forwards
        assert counting.backwards == 0
        assert not found.backwards.any()
        assert bool((found.forwards[~found.success] == queries).all())
        assert int(found.forwards.amax()) <= queries
        if earlier is not None:  # a longer search goes the same way first
            assert bool((found.success >= earlier.success).all())
            assert bool((known(found.loss) >= known(earlier.loss)).all())
            assert torch.equal(found.images[earlier.success], earlier.images[earlier.success])
        earlier = found
    assert earlier is not None
    assert 0 < int(earlier.success.sum()) < len(x)


def test_square_needs_no_gradient() -> None:
    _, images, _, labels = problem(3)

    def model(x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        total = x.numpy().sum(axis=(1, 2, 3))
        return torch.from_numpy(np.stack([total, np.full(len(x), 10.0)], axis=1))

    found = square.outcome(model, images, 0 * labels, eps=0.05, queries=400, keys=keys(3))
    torch.testing.assert_close(found.images, images - 0.05)


def test_square_reaches_a_target() -> None:
    def model(x: Tensor) -> Tensor:
        return x.flatten(2).mean(dim=2) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])

    images = torch.full((2, *SHAPE), 0.5)
    images[:, 0] = 0.55
    labels, targets = torch.zeros(2).long(), torch.tensor([2, 1])
    found = square.outcome(
        model, images, labels, eps=0.1, queries=100, targets=targets, keys=keys(2)
    )
    assert found.success.tolist() == [True, False]  # class 1 is never ahead of both others


def test_square_agrees_with_torchattacks(trained: Trained) -> None:
    """Another random stream and one place a batch there: shares of broken samples are alike."""
    torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    x, y = trained.images, trained.labels
    cases: list[tuple[Norm, float]] = [("linf", 0.15), ("l2", 1.2)]
    for norm, eps in cases:
        ours = square.outcome(trained.net, x, y, eps=eps, norm=norm, queries=150, keys=keys(len(x)))
        with torch.random.fork_rng(devices=[]):
            theirs = torchattacks.Square(
                trained.net, norm=norm.capitalize(), eps=eps, n_queries=150, resc_schedule=False
            )(x, y)
        broken = trained.net(theirs).argmax(dim=1) != y
        assert abs(float(broken.float().mean()) - float(ours.success.float().mean())) < 0.12


def test_contradictions_are_refused() -> None:
    _, images, model, labels = problem(2)
    with pytest.raises(ValueError, match="queries >= 1"):
        square.outcome(model, images, labels, eps=0.1, queries=0, keys=keys(2))
    for p_init in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"p_init in \(0, 1\]"):
            square.outcome(model, images, labels, eps=0.1, p_init=p_init, keys=keys(2))
