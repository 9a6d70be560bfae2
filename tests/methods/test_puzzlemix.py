"""PuzzleMix and its transport against slow loops, and cases worked by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods import Setup
from robustmix.methods.losses import cross_entropy
from robustmix.methods.puzzlemix import (
    PuzzleMix,
    PuzzleMixConfig,
    PuzzleMixDraws,
    block_saliency,
    draw_puzzlemix,
    energies,
    input_saliency,
    puzzlemix,
)
from robustmix.methods.transport import move_blocks, transport_plan

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def batch(n: int, side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images in [0, 1], smooth enough to have edges, and a peaky saliency."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(n, 3, side // 4, side // 4, generator=generator)
    images = nn.functional.interpolate(small, size=side, mode="bilinear", align_corners=False)
    return images, torch.rand(n, side, side, generator=generator) ** 4


def slow_energies(
    pixels: Tensor, saliency: Tensor, perm: list[int], lam: float, blocks: int, c: PuzzleMixConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every cost of every block and edge, one after the other, in float64."""
    n, _, side, _ = pixels.shape
    block = side // blocks
    m = min(c.border, block)
    beta = c.beta / blocks / 16
    img, sal = pixels.double().numpy(), saliency.double().numpy()
    small = img.reshape(n, 3, side // m, m, side // m, m).mean(axis=(3, 5))
    share = sal.reshape(n, blocks, block, blocks, block).mean(axis=(2, 4))
    share /= share.sum(axis=(1, 2), keepdims=True)
    unary = np.zeros((n, blocks, blocks, 3))
    down, right = np.zeros((n, blocks - 1, blocks)), np.zeros((n, blocks, blocks - 1))
    fine = block // m

    def jump(a: np.ndarray, b: np.ndarray, cell: tuple[int, int], axis: int) -> float:
        """From the last row (column) of a's block to the first of b's next one."""
        steps = []
        for k in range(fine):
            here = [cell[0] * fine + k, cell[1] * fine + k]
            here[axis] = (cell[axis] + 1) * fine - 1
            there = list(here)
            there[axis] += 1
            steps.append(np.abs(a[:, here[0], here[1]] - b[:, there[0], there[1]]).mean())
        return beta * c.gamma * float(np.mean(steps))

    prior = (
        c.eta / blocks**2 * -np.log(np.array([lam**2, 2 * lam * (1 - lam), (1 - lam) ** 2]) + 1e-8)
    )
    for i in range(n):
        lost = {1: share[i].copy(), 2: share[perm[i]].copy()}
        pair = {1: small[i], 2: small[perm[i]]}
        for axis, edges in ((0, down), (1, right)):
            for cell in np.ndindex(*edges.shape[1:]):
                after = (cell[0] + (axis == 0), cell[1] + (axis == 1))
                p = {(a, b): jump(pair[a], pair[b], cell, axis) for a in (1, 2) for b in (1, 2)}
                lost[2][cell] += (p[1, 2] + p[1, 1]) / 2
                lost[1][cell] += (p[2, 1] + p[2, 2]) / 2
                lost[2][after] += (p[2, 1] + p[1, 1]) / 2
                lost[1][after] += (p[1, 2] + p[2, 2]) / 2
                edges[i][cell] = (p[1, 2] + p[2, 1] - p[1, 1] - p[2, 2]) / 2 + beta
        for k, label in enumerate((0, 0.5, 1)):
            unary[i, :, :, k] = (1 - label) * lost[2] + label * lost[1] + prior[k]
    scale = 1000 * blocks**2
    return scale * unary, scale * down, scale * right


@pytest.mark.parametrize(("side", "blocks"), [(32, 2), (32, 4), (16, 8), (16, 16)])
def test_costs_against_a_loop(side: int, blocks: int) -> None:
    images, saliency = batch(3, side)
    perm = torch.tensor([1, 2, 0])
    config = PuzzleMixConfig(beta=3.0, gamma=0.7, eta=0.3)
    got = energies(images, saliency, PuzzleMixDraws(0.3, blocks, perm), config)
    want = slow_energies(images, saliency, perm.tolist(), 0.3, blocks, config)
    for integers, exact in zip(got, want, strict=True):
        # Cut off to integers, after rounding in float32.
        assert (integers <= exact + 0.01).all()
        assert (integers > exact - 1.01).all()


def slow_plan(saliency: np.ndarray, mask: np.ndarray, epsilon: float) -> np.ndarray:
    """The rule of the released code for one image, cell by cell, in float32 as there."""
    side = len(saliency)
    count = side * side
    cost = np.zeros((count, count), dtype=np.float32)
    for a, c in np.ndindex(count, count):
        rows, cols = a // side - c // side, a % side - c % side
        apart = np.float32(np.float32(rows**2 + cols**2) / np.float32((side - 1) ** 2))
        shown = np.float32(mask.flat[c] > 0)
        cost[a, c] = np.float32(epsilon) * apart - saliency.flat[a] * shown
    for _ in range(side):
        wish = cost.argmin(axis=1)
        plan = np.full(count, -1)
        losers = []
        for c in range(count):
            asking = [a for a in range(count) if wish[a] == c]
            # Who does not ask counts with a cost of 0, as in a product with the choices.
            fight = [(cost[a, c] if a in asking else np.float32(0), a) for a in range(count)]
            winner = min(fight)[1]
            if winner in asking:
                plan[c] = winner
            losers += [(a, c) for a in asking if a != winner]
        for a, c in losers:
            cost[a, c] += 1
    return plan


@pytest.mark.parametrize("side", [2, 4, 5])
@pytest.mark.parametrize("epsilon", [0.02, 0.8])
def test_plans_against_a_loop(side: int, epsilon: float) -> None:
    rng = np.random.default_rng(side)
    for seed in range(6):
        saliency = (rng.random((2, side, side)) ** (1 + seed)).astype(np.float32)
        saliency /= saliency.sum(axis=(1, 2), keepdims=True)
        mask = rng.choice([0.0, 0.5, 1.0], size=(2, side, side)).astype(np.float32)
        got = transport_plan(torch.from_numpy(saliency), torch.from_numpy(mask), epsilon=epsilon)
        for b in range(2):
            want = slow_plan(saliency[b], mask[b], epsilon)
            shown = mask[b].ravel() > 0
            assert got[b].numpy()[shown].tolist() == want[shown].tolist()
            assert (want[shown] >= 0).all()


def test_of_equal_blocks_the_first_has_the_place() -> None:
    saliency = torch.tensor([[[0.0, 0.25, 0.0], [0.25, 0.0, 0.25], [0.0, 0.25, 0.0]]])
    mask = torch.zeros(1, 3, 3)
    mask[0, 1, 1] = 1
    plan = transport_plan(saliency, mask, epsilon=0.1)
    assert plan.tolist() == [[0, 1, 2, 3, 1, 5, 6, 7, 8]]


def test_without_saliency_blocks_stay() -> None:
    """Even where they are shown; the released code would leave them black."""
    saliency = torch.zeros(1, 3, 3)
    saliency[0, 0, 0] = 1
    plan = transport_plan(saliency, torch.ones(1, 3, 3), epsilon=0.8)
    assert plan.tolist() == [list(range(9))]


def test_blocks_are_moved_whole() -> None:
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    plan = torch.tensor([[3, 0, 1, 2], [2, 1, 1, 0]])
    moved = move_blocks(images, plan)
    for b, c in np.ndindex(2, 4):
        rows, cols = slice(c // 2 * 2, c // 2 * 2 + 2), slice(c % 2 * 3, c % 2 * 3 + 3)
        a = int(plan[b, c])
        source = images[b, :, a // 2 * 2 : a // 2 * 2 + 2, a % 2 * 3 : a % 2 * 3 + 3]
        assert torch.equal(moved[b, :, rows, cols], source)


def halves(side: int) -> tuple[Tensor, Tensor]:
    """Two grey images; the left half of the one is salient, and the right half of the other."""
    images = torch.stack([torch.full((3, side, side), value) for value in (0.2, 0.9)])
    saliency = torch.full((2, side, side), 0.01)
    saliency[0, :, : side // 2] = 1
    saliency[1, :, side // 2 :] = 1
    return images, saliency


def test_each_half_shows_whom_it_is_salient_in() -> None:
    images, saliency = halves(8)
    perm = torch.tensor([1, 0])
    config = PuzzleMixConfig(transport=False, beta=0.1)
    got = puzzlemix(images, saliency, PuzzleMixDraws(0.5, 4, perm), config, **PLAIN)
    assert torch.equal(got.images[0, :, :, :4], images[0, :, :, :4])
    assert torch.equal(got.images[0, :, :, 4:], images[1, :, :, 4:])
    assert torch.equal(got.images[1], got.images[0])
    assert got.lam.tolist() == [0.5, 0.5]
    assert got.labels[0].tolist() == [[1, 1, 0, 0]] * 4


def test_transport_fetches_what_is_salient_elsewhere() -> None:
    """The partner is shown at the right, where nothing of it is salient; its top left block is."""
    images, saliency = torch.rand(2, 3, 8, 8), torch.full((2, 8, 8), 1e-4)
    saliency[0, :, :4] = 1
    saliency[1, :4, :4] = 0.45
    saliency[1, :, 4:] = 0.25
    perm = torch.tensor([1, 0])
    draws = PuzzleMixDraws(0.5, 2, perm)
    config = PuzzleMixConfig(beta=0.01, eta=0.0, transport_epsilon=0.1)
    got = puzzlemix(images, saliency, draws, config, **PLAIN)
    assert got.labels[0].tolist() == [[1, 0], [1, 0]]
    assert torch.equal(got.images[0, :, :, :4], images[0, :, :, :4])
    assert torch.equal(got.images[0, :, :4, 4:], images[1, :, :4, :4])
    assert torch.equal(got.images[0, :, 4:, 4:], images[1, :, 4:, 4:])


@pytest.mark.parametrize("transport", [True, False])
def test_the_prior_draws_to_one_of_the_two(transport: bool) -> None:
    images, _ = batch(4, 16)
    saliency = torch.ones(4, 16, 16)
    perm = torch.tensor([2, 3, 1, 0])
    config = PuzzleMixConfig(transport=transport)
    for lam, want in ((1.0, images), (0.0, images[perm])):
        got = puzzlemix(images, saliency, PuzzleMixDraws(lam, 4, perm), config, **PLAIN)
        assert torch.equal(got.images, want)
        assert got.lam.tolist() == [lam] * 4


def test_a_flat_saliency_is_shared_equally() -> None:
    assert block_saliency(torch.zeros(1, 4, 4), 2).tolist() == [[[0.25, 0.25], [0.25, 0.25]]]
    saliency = torch.tensor([[[1.0, 3.0], [0.0, 4.0]]])
    assert block_saliency(saliency, 2).tolist() == [[[0.125, 0.375], [0.0, 0.5]]]


class Gate(nn.Module):
    """Logits with a known gradient, of a kind in train mode and of another in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight[:, None, None]).flatten(1).sum(dim=1)
        return torch.stack([score, torch.zeros_like(score)], dim=1) * (3 if self.training else 1)


def test_saliency_is_the_root_mean_square_gradient_in_eval_mode() -> None:
    network = Gate().train()
    images, labels = torch.zeros(2, 3, 2, 5), torch.tensor([0, 1])
    got = input_saliency(network, images, labels)
    # d CE / d score is -1/2 for class 0 and +1/2 for class 1.
    want = 0.5 * (5.25 / 3) ** 0.5
    torch.testing.assert_close(got, torch.full((2, 2, 5), want))
    assert network.training
    assert network.weight.requires_grad
    assert network.weight.grad is None
    assert not images.requires_grad


def test_draws() -> None:
    config = PuzzleMixConfig(alpha=0.5, max_blocks=8)
    rng = np.random.default_rng(0)
    draws = [draw_puzzlemix(5, config, rng) for _ in range(300)]
    counts = {blocks: sum(d.blocks == blocks for d in draws) for blocks in (2, 4, 8)}
    assert sum(counts.values()) == 300
    assert min(counts.values()) > 70  # 100 expected, 8 the standard deviation
    lam = np.array([d.lam for d in draws])
    assert abs(lam.mean() - 0.5) < 5 * (1 / 8 / 300) ** 0.5
    assert all(sorted(d.perm.tolist()) == list(range(5)) for d in draws)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(784, 5))


@pytest.mark.parametrize("quirk", [False, True])
def test_a_step_weighs_labels_by_each_mask(quirk: bool) -> None:
    images, _ = batch(6, 16)
    data = Batch(images, torch.tensor([0, 1, 2, 3, 4, 0]), torch.arange(6))
    net = network()
    config = PuzzleMixConfig(max_blocks=4, beta=0.05, eta=0.0, batch_mean_lambda=quirk)
    setup = Setup(rng=np.random.default_rng(4), input_size=(3, 16, 16), label_smoothing=0.1)
    result = PuzzleMix(net, config, setup).training_step(data)

    draws = draw_puzzlemix(6, config, np.random.default_rng(4))
    saliency = input_saliency(net, images, data.labels)
    mixed = puzzlemix(images, saliency, draws, config, **PLAIN)
    logits = net(mixed.images)
    lam = mixed.lam.mean().expand(6) if quirk else mixed.lam
    assert len(set(mixed.lam.tolist())) > 1
    want = torch.stack(
        [
            lam[i] * cross_entropy(logits[i : i + 1], data.labels[i : i + 1], smoothing=0.1)
            + (1 - lam[i])
            * cross_entropy(logits[i : i + 1], data.labels[draws.perm[i : i + 1]], smoothing=0.1)
            for i in range(6)
        ]
    ).mean()
    assert float(result.loss.detach()) == pytest.approx(float(want.detach()), rel=1e-5)


def test_impossible_images_and_options_are_refused() -> None:
    for size in ((3, 16, 24), (3, 24, 24)):
        with pytest.raises(UsageError, match="16x16 blocks") as error:
            PuzzleMix(
                network(), PuzzleMixConfig(), Setup(rng=np.random.default_rng(0), input_size=size)
            )
        assert error.value.code == "E-INPUT-SIZE"
    for options in ({"alpha": 0.0}, {"max_blocks": 6}, {"max_blocks": 1}, {"gamma": 1.5}):
        with pytest.raises(ValueError, match=next(iter(options))):
            PuzzleMixConfig(**options)
    for options in ({"beta": -1.0}, {"border": 0}, {"transport_size": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            PuzzleMixConfig(**options)
