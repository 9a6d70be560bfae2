"""AlignMix and Sinkhorn's iteration against slow loops in float64 and closed forms."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods import Setup, mixed_cross_entropy
from robustmix.methods.alignmix import (
    AlignMix,
    AlignMixConfig,
    AlignMixDraws,
    alignmix,
    draw_alignmix,
    map_logits,
)
from robustmix.methods.manifoldmix import ManifoldMixDraws, manifoldmix_logits
from robustmix.methods.mixing import last_map
from robustmix.methods.sinkhorn import sinkhorn_plan
from robustmix.models.registry import build_model
from robustmix.models.wide_resnet import WideResNet


def slow_plan(cost: np.ndarray, epsilon: float, iterations: int, tolerance: float) -> np.ndarray:
    """Scale rows and columns of exp(-cost / epsilon), one after the other, in float64."""
    kernel = np.exp(-cost / epsilon)
    rows, columns = cost.shape
    a, b = np.ones(rows), np.ones(columns)
    for _ in range(iterations):
        before = a.copy()
        for i in range(rows):
            a[i] = (1 / rows + 1e-8) / (kernel[i] @ b)
        for j in range(columns):
            b[j] = (1 / columns + 1e-8) / (kernel[:, j] @ a)
        if epsilon * np.abs(np.log(a) - np.log(before)).sum() < tolerance:
            break
    return np.asarray(a[:, None] * kernel * b)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
@pytest.mark.parametrize("iterations", [1, 2, 100])
def test_plans_against_a_loop(epsilon: float, iterations: int) -> None:
    generator = torch.Generator().manual_seed(0)
    cost = 2 * torch.rand(5, 4, 7, generator=generator) * torch.arange(1, 6)[:, None, None]
    got = sinkhorn_plan(cost, epsilon=epsilon, iterations=iterations, tolerance=1e-3)
    for b in range(5):
        want = slow_plan(cost[b].double().numpy(), epsilon, iterations, 1e-3)
        np.testing.assert_allclose(got[b].numpy(), want, rtol=2e-4, atol=1e-9)


def test_a_long_iteration_gives_both_marginals() -> None:
    cost = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(1))
    plan = sinkhorn_plan(cost, epsilon=0.1, iterations=2000, tolerance=1e-6)
    torch.testing.assert_close(plan.sum(dim=2), torch.full((3, 6), 1 / 6), rtol=1e-4, atol=0)
    torch.testing.assert_close(plan.sum(dim=1), torch.full((3, 5), 1 / 5), rtol=1e-4, atol=0)


def test_two_by_two_in_closed_form() -> None:
    """With equal marginals the off-diagonal share is 1 / (1 + exp(d / epsilon)) of a row."""
    d, epsilon = 0.3, 0.2
    cost = torch.tensor([[[0.0, d], [d, 0.0]]])
    plan = sinkhorn_plan(cost, epsilon=epsilon, iterations=50, tolerance=1e-7)
    off = 0.5 / (1 + math.exp(d / epsilon))
    want = torch.tensor([[[0.5 - off, off], [off, 0.5 - off]]])
    torch.testing.assert_close(plan, want, rtol=1e-5, atol=1e-7)


def test_images_stop_alone_or_together() -> None:
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(2, 4, 4, generator=generator) * torch.tensor([0.01, 9.0])[:, None, None]
    options = {"epsilon": 0.1, "iterations": 60, "tolerance": 0.02}
    alone = torch.cat([sinkhorn_plan(c[None], **options) for c in cost])  # type: ignore[arg-type]
    assert torch.equal(sinkhorn_plan(cost, **options), alone)  # type: ignore[arg-type]
    together = sinkhorn_plan(cost, **options, stop_together=True)  # type: ignore[arg-type]
    assert not torch.equal(together[0], alone[0])


def draws(perm: list[int], lam: float, *, own_moves: bool = False) -> AlignMixDraws:
    return AlignMixDraws(True, lam, own_moves, 0, torch.tensor(perm))


def cells(n: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, 5, 2, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("own_moves", [False, True])
def test_maps_against_a_loop(own_moves: bool) -> None:
    maps, perm, lam = 0.2 * cells(), [1, 2, 0], 0.3
    config = AlignMixConfig(tolerance=1e-3)
    got, weight = alignmix(maps, draws(perm, lam, own_moves=own_moves), config)
    assert weight == lam
    own = maps.double().flatten(2).numpy()
    for i in range(3):
        a, b = own[i], own[perm[i]]
        cost = ((a[:, :, None] - b[:, None, :]) ** 2).sum(axis=0)
        share = 6 * slow_plan(cost, 0.1, 100, 1e-3)
        want = lam * (a @ share) + (1 - lam) * b if own_moves else lam * a + (1 - lam) * b @ share.T
        np.testing.assert_allclose(got[i].flatten(1).numpy(), want, rtol=0, atol=2e-5)


def test_cells_that_only_changed_places_are_found() -> None:
    """The partner is the image with its cells shuffled; aligned to it, it is the image."""
    maps = 10 * cells(1)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = maps.flatten(2)[:, :, order].view_as(maps)
    both = torch.cat([maps, shuffled])
    config = AlignMixConfig(iterations=500, tolerance=1e-4)
    got, _ = alignmix(both, draws([1, 0], 0.4), config)
    torch.testing.assert_close(got, both, rtol=1e-4, atol=1e-4)
    moved, _ = alignmix(both, draws([1, 0], 0.4, own_moves=True), config)
    torch.testing.assert_close(moved, both.flip(0), rtol=1e-4, atol=1e-4)


def test_lam_one_is_the_image_and_lam_zero_its_aligned_partner() -> None:
    maps = cells()
    config = AlignMixConfig()
    assert torch.equal(alignmix(maps, draws([1, 2, 0], 1.0), config).images, maps)
    partners = maps[torch.tensor([1, 2, 0])]
    got = alignmix(maps, draws([1, 2, 0], 0.0, own_moves=True), config).images
    assert torch.equal(got, partners)


def test_gradients_flow_through_the_maps_but_not_the_plan() -> None:
    maps = cells().requires_grad_()
    got, _ = alignmix(maps, draws([1, 2, 0], 0.25, own_moves=True), AlignMixConfig())
    share = torch.autograd.grad(got.sum(), maps)[0]
    # Column sums of the share are 1: all of the partner's gradient is 1 - lam.
    with torch.no_grad():
        again, _ = alignmix(maps, draws([1, 2, 0], 0.25, own_moves=True), AlignMixConfig())
    assert torch.equal(got.detach(), again)
    torch.testing.assert_close(share.sum(), torch.tensor(float(maps.numel())), rtol=1e-4, atol=0)


def small_swin() -> nn.Module:
    swin: nn.Module = SwinTransformer(
        img_size=32, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=4
    )
    return swin


@pytest.mark.parametrize(
    "make",
    [
        lambda: build_model("resnet8", num_classes=4, input_size=(3, 32, 32), generator=None),
        lambda: WideResNet(4, depth=10, widen=1),
        lambda: ConvNeXt(depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=4),
        small_swin,
    ],
    ids=["resnet", "wide", "convnext", "swin"],
)
def test_the_head_takes_the_last_map(make: Callable[[], nn.Module]) -> None:
    network = make().eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = map_logits(network, last_map(network, images))
        torch.testing.assert_close(got, network(images))


def method(config: AlignMixConfig, seed: int = 0) -> AlignMix:
    generator = torch.Generator().manual_seed(0)
    network = build_model("resnet8", num_classes=4, input_size=(3, 16, 16), generator=generator)
    setup = Setup(rng=np.random.default_rng(seed), input_size=(3, 16, 16), label_smoothing=0.1)
    return AlignMix(network, config, setup)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_step_is_of_the_one_way_or_the_other(share: float) -> None:
    config = AlignMixConfig(manifold_share=share)
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    batch = Batch(images, torch.tensor([0, 1, 2, 3, 0, 1]), torch.arange(6))
    one = method(config, seed=3).eval()
    result = one.training_step(batch)
    drawn = draw_alignmix(6, config, np.random.default_rng(3))
    assert drawn.align == (share == 0)
    if drawn.align:
        maps, _ = alignmix(one.network.forward_features(images)[-1], drawn, config)  # type: ignore[operator]
        weight, bias = one.network.fc.weight, one.network.fc.bias  # type: ignore[union-attr]
        logits = F.linear(maps.mean(dim=(2, 3)), weight, bias)  # type: ignore[arg-type]
    else:
        places = ManifoldMixDraws(drawn.layer, drawn.lam, drawn.perm)
        logits = manifoldmix_logits(one.network, one.places, images, places)
    partners = batch.labels[drawn.perm]
    want = mixed_cross_entropy(logits, batch.labels, partners, drawn.lam, smoothing=0.1)
    assert float(result.loss.detach()) == pytest.approx(float(want.detach()), rel=1e-5)


def test_draws() -> None:
    config = AlignMixConfig(manifold_share=0.25)
    rng = np.random.default_rng(0)
    drawn = [draw_alignmix(3, config, rng) for _ in range(400)]
    assert 255 < sum(d.align for d in drawn) < 345  # 300 expected, five standard deviations
    assert 150 < sum(d.own_moves for d in drawn) < 250
    assert {d.layer for d in drawn} == {0, 1, 2}
    variance = np.var([d.lam for d in drawn])
    assert abs(variance - 1 / 20) < 0.015  # Beta(2, 2)


def test_impossible_networks_and_options_are_refused() -> None:
    network = build_model("timm:test_vit", num_classes=4, input_size=(3, 32, 32), generator=None)
    with pytest.raises(UsageError):
        AlignMix(network, AlignMixConfig(), Setup(rng=np.random.default_rng(0)))
    for options in ({"alpha": 0.0}, {"epsilon": 0.0}, {"manifold_share": 2.0}, {"iterations": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            AlignMixConfig(**options)
