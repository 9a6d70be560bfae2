"""MixUp, CutMix and their losses against arithmetic done by hand or by a plain second way."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods import (
    CutMixConfig,
    Method,
    MixupConfig,
    Setup,
    cross_entropy,
    cutmix,
    draw_cutmix,
    draw_mixup,
    mixed_cross_entropy,
    mixup,
)
from robustmix.methods.cutmix import CutMixDraws, cut_box, draw_partners
from robustmix.methods.mixup import MixupDraws
from robustmix.methods.registry import build_method

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.25, 0.0]])


def soft_cross_entropy(logits: Tensor, target: Tensor) -> float:
    """Minus the mean over the batch of target . log softmax, in float64 numpy."""
    z = logits.double().numpy()
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-(target.double().numpy() * log_p).sum(axis=1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_is_that_of_the_smoothed_one_hot(smoothing: float) -> None:
    labels = torch.tensor([2, 0])
    target = (1 - smoothing) * torch.eye(3)[labels] + smoothing / 3
    got = float(cross_entropy(LOGITS, labels, smoothing=smoothing))
    assert got == pytest.approx(soft_cross_entropy(LOGITS, target), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_mixed_cross_entropy_is_that_of_the_mixed_target(lam: float, smoothing: float) -> None:
    own, partner = torch.tensor([2, 0]), torch.tensor([0, 1])
    mixed = lam * torch.eye(3)[own] + (1 - lam) * torch.eye(3)[partner]
    target = (1 - smoothing) * mixed + smoothing / 3
    got = float(mixed_cross_entropy(LOGITS, own, partner, lam, smoothing=smoothing))
    assert got == pytest.approx(soft_cross_entropy(LOGITS, target), rel=1e-6)


def test_the_loss_is_float32_whatever_the_logits_are() -> None:
    loss = cross_entropy(LOGITS.bfloat16(), torch.tensor([0, 1]))
    assert loss.dtype == torch.float32


def test_mixup_by_hand() -> None:
    images = torch.tensor([[0.0, 4.0], [1.0, -1.0], [2.0, 8.0]]).view(3, 1, 1, 2)
    got = mixup(images, MixupDraws(lam=0.25, perm=torch.tensor([1, 2, 0])))
    want = [[0.75, 0.25], [1.75, 5.75], [0.5, 5.0]]
    assert got.images.flatten(1).tolist() == want
    assert got.lam == 0.25


@pytest.mark.parametrize(
    ("lam", "row", "col", "rows", "cols"),
    [
        # Sides int(7 s) and int(11 s), s = sqrt(1 - lam), reaching side // 2 to either side.
        (0.75, 3, 5, range(2, 4), range(3, 7)),  # 3 and 5
        (0.75, 0, 10, range(0, 1), range(8, 11)),  # clipped above and at the right
        (0.51, 6, 0, range(4, 7), range(0, 3)),  # 4 and 7, clipped below and at the left
        (0.0, 3, 5, range(0, 6), range(0, 10)),  # an odd side loses a pixel
        (1.0, 3, 5, range(0), range(0)),
        (0.99, 3, 5, range(0), range(0)),  # sides 0 and 1: nothing is pasted
    ],
)
def test_cutmix_by_hand(lam: float, row: int, col: int, rows: range, cols: range) -> None:
    images = torch.arange(2 * 3 * 7 * 11, dtype=torch.float32).view(2, 3, 7, 11)
    before = images.clone()
    got = cutmix(images, CutMixDraws(lam=lam, row=row, col=col, perm=torch.tensor([1, 0])))
    for y in range(7):
        for x in range(11):
            inside = y in rows and x in cols
            want = images.flip(0)[:, :, y, x] if inside else images[:, :, y, x]
            assert torch.equal(got.images[:, :, y, x], want), (y, x)
    assert got.lam == 1 - len(rows) * len(cols) / 77
    assert torch.equal(images, before)


@pytest.mark.parametrize("lam", [0.2, 0.6])
def test_the_box_lies_in_the_image_wherever_its_centre_is(lam: float) -> None:
    for row in range(5):
        for col in range(13):
            box = cut_box(lam, row, col, (5, 13))
            assert 0 <= box.top <= box.bottom <= 5
            assert 0 <= box.left <= box.right <= 13


def test_mixing_with_lam_one_is_the_identity() -> None:
    images = torch.randn(3, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    perm = torch.tensor([2, 0, 1])
    assert torch.equal(mixup(images, MixupDraws(1.0, perm)).images, images)
    assert torch.equal(cutmix(images, CutMixDraws(1.0, 2, 2, perm)).images, images)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_weights_are_beta_distributed(alpha: float) -> None:
    rng = np.random.default_rng(0)
    n = 3000
    mix = np.array([draw_mixup(1, alpha, rng).lam for _ in range(n)])
    cut = np.array([draw_cutmix(1, (5, 7), alpha, rng).lam for _ in range(n)])
    variance = 1 / (4 * (2 * alpha + 1))
    # Beta(a, a): kurtosis 3 - 6 / (2a + 3); five standard errors of mean and variance.
    spread = variance * ((2 - 6 / (2 * alpha + 3)) / n) ** 0.5
    for lam in (mix, cut):
        assert abs(lam.mean() - 0.5) < 5 * (variance / n) ** 0.5
        assert abs(((lam - 0.5) ** 2).mean() - variance) < 5 * spread


def test_centres_cover_the_image_and_rows_come_first() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_cutmix(2, (3, 7), 1.0, rng) for _ in range(300)]
    assert {d.row for d in draws} == set(range(3))
    assert {d.col for d in draws} == set(range(7))


def test_partners_are_others_unless_ten_draws_fail() -> None:
    rng = np.random.default_rng(0)
    fixed = 0
    for _ in range(2000):
        perm = draw_partners(7, rng)
        assert sorted(perm.tolist()) == list(range(7))
        fixed += bool((perm == torch.arange(7)).any())
    # (1 - 1/e)^10 = 1.02 % of draws keep a fixed point: 20 expected, five standard deviations.
    assert 1 <= fixed <= 43
    assert draw_partners(1, rng).tolist() == [0]


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("config", [MixupConfig, CutMixConfig])
def test_impossible_alpha_is_refused(config: type, alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        config(alpha=alpha)


class Flat(nn.Module):
    """A linear network that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 5 * 7, 4)
        self.seen = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        logits: Tensor = self.fc(images.flatten(1))
        return logits


@pytest.mark.parametrize("name", ["vanilla", "mixup", "cutmix"])
def test_a_step_is_the_mixed_loss_of_the_mixed_batch(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 5, 7, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    network = Flat()
    setup = Setup(rng=np.random.default_rng(3), label_smoothing=0.1)
    method = build_method(name, network, {}, setup)

    result = cast(Method, method).training_step(Batch(images, labels, torch.arange(6)))

    rng = np.random.default_rng(3)
    if name == "vanilla":
        mixed, lam, partners = images, 1.0, labels
    elif name == "mixup":
        draws = draw_mixup(6, 1.0, rng)
        (mixed, lam), partners = mixup(images, draws), labels[draws.perm]
    else:
        cut = draw_cutmix(6, (5, 7), 0.2, rng)
        (mixed, lam), partners = cutmix(images, cut), labels[cut.perm]
    assert torch.equal(network.seen, mixed)
    logits = network(mixed)
    want = mixed_cross_entropy(logits, labels, partners, lam, smoothing=0.1)
    assert torch.equal(result.loss.detach(), want.detach())  # to the bit, as runs were made
    assert float(result.logs["top1"]) == pytest.approx(
        float((logits.argmax(1) == labels).float().mean())
    )
    result.loss.backward()  # type: ignore[no-untyped-call]
    assert network.fc.weight.grad is not None
    assert not any(value.requires_grad for value in result.logs.values())
