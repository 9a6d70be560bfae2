"""The Mix Blocks and their losses against arithmetic done by hand or by a plain second way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustmix.methods.generators.attention import Upsample
from robustmix.methods.generators.mix_block import (
    MaskLossDecay,
    MixBlock,
    PairGenerator,
    SAMixBlock,
    adjust_masks,
    bent_lam,
    decayed_weight,
    mask_loss,
    within_margin,
)

INDEX = torch.tensor([2, 0, 1])


def maps(seed: int = 0) -> Tensor:
    """Return maps of another height than width."""
    return torch.randn(3, 6, 5, 2, generator=torch.Generator().manual_seed(seed))


def spread(generator: PairGenerator) -> PairGenerator:
    """Draw weights large enough for masks that differ from 1/2."""
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source))
    return generator


def two(first: list[list[list[float]]]) -> Tensor:
    """Return pairs of masks whose first ones are given."""
    own = torch.tensor(first)
    return torch.stack([own, 1 - own], dim=1)


def test_the_mask_loss_by_hand() -> None:
    masks = two([[[0.8, 0.6]], [[0.4, 0.2]]])  # mean 1/2, variance (0.09 + 0.01 + ...) / 4 = 0.05
    for lam, expected in ((0.8, 0.2), (0.2, 0.2), (0.55, 0.0)):
        got = mask_loss(masks, lam, kind="l1", margin=0.1)
        assert float(got) == pytest.approx(expected, abs=1e-7)
        got = mask_loss(masks, lam, kind="l1+variance", margin=0.1)
        assert float(got) == pytest.approx(expected - 0.1, abs=1e-7)


def test_the_mask_loss_pulls_the_mean_towards_lam() -> None:
    second = torch.full((2, 3, 2), 0.3, requires_grad=True)
    masks = torch.stack([1 - second, second], dim=1)
    (gradient,) = torch.autograd.grad(
        mask_loss(masks, 0.4, kind="l1", margin=0.1), second
    )  # the first mean 0.7 is above lam: the second must grow, each pixel by its share
    torch.testing.assert_close(gradient, torch.full_like(gradient, -1 / 12))


def test_masks_are_adjusted_by_hand() -> None:
    masks = two([[[0.2, 0.6]], [[0.2, 0.2]]])
    got = adjust_masks(masks, 0.2)  # the first is halved, the second is right already
    torch.testing.assert_close(got, two([[[0.1, 0.3]], [[0.2, 0.2]]]))
    got = adjust_masks(masks, 0.7)  # seconds .8 .4 times .3/.6, and .8 .8 times .3/.8
    torch.testing.assert_close(got, two([[[0.6, 0.8]], [[0.7, 0.7]]]))


@pytest.mark.parametrize("lam", [0.02, 0.5, 0.93])
def test_adjusted_masks_have_the_mean_and_stay_masks(lam: float) -> None:
    first = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(1))
    first[0], first[1] = 0.0, 1.0
    got = adjust_masks(torch.stack([first, 1 - first], dim=1), lam)
    torch.testing.assert_close(got[:, 0].mean(dim=(1, 2)), torch.full((5,), lam))
    torch.testing.assert_close(got.sum(dim=1), torch.ones(5, 3, 4))
    assert 0 <= float(got.min()) <= float(got.max()) <= 1


def test_the_margin_includes_its_ends() -> None:
    assert all(within_margin(lam, 0.25) for lam in (0.1, 0.25, 0.75, 0.9))
    assert not any(within_margin(lam, 0.25) for lam in (0.26, 0.5, 0.74))
    assert not within_margin(0.001, 0.0)
    assert within_margin(0.0, 0.0)
    assert within_margin(1.0, 0.0)


def test_bent_lam() -> None:
    assert bent_lam(0.25, 1) == pytest.approx((4 / 3 / 64 - 2 / 16 + 0.5) / (4 / 3))
    assert bent_lam(0.25, -1) == 0.25
    at = np.linspace(0, 1, 11)
    for k in (0.0, 0.25, 3.0):
        bent = np.array([bent_lam(lam, k) for lam in at])
        np.testing.assert_allclose(bent[[0, 5, 10]], [0, 0.5, 1], atol=1e-12)
        np.testing.assert_allclose(bent + bent[::-1], 1, atol=1e-12)
        assert (np.diff(bent) > 0).all()


def test_the_weight_of_the_mask_loss_decays_as_it_is_told() -> None:
    total = 7
    product = 0.3
    for t in range(total):
        product *= (1 + math.cos(math.pi * t / total)) / 2
        assert decayed_weight(0.3, "constant", t, total) == 0.3
        assert decayed_weight(0.3, "linear", t, total) == pytest.approx(0.3 * (7 - t) / 7)
        assert decayed_weight(0.3, "compound-cosine", t, total) == pytest.approx(product, rel=1e-12)
    assert decayed_weight(0.3, "linear", total, total) == 0
    assert decayed_weight(0.3, "compound-cosine", total, total) == 0
    decays: tuple[MaskLossDecay, ...] = ("constant", "linear", "compound-cosine")
    assert [decayed_weight(0.3, decay, 5, 0) for decay in decays] == [0.3] * 3


@pytest.mark.parametrize("lam_concat", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_a_mix_block_is_the_plain_formula(lam_concat: bool, norm: bool) -> None:
    block = spread(
        MixBlock(6, factor=2, lam_concat=lam_concat, att_norm="layer" if norm else "none")
    )
    assert isinstance(block, MixBlock)
    feature, lam = maps(), 0.3
    masks = block(feature, INDEX, lam)
    assert (block.query.conv.bias is None) == norm
    for b, partner in enumerate(INDEX.tolist()):
        first, second = (feature[i].flatten(1).T for i in (b, partner))  # (tokens, channels)
        if lam_concat:
            first, second = (
                torch.cat([t, torch.full((10, 1), w)], dim=1)
                for t, w in ((first, lam), (second, 1 - lam))
            )
        weight, bias = block.query.conv.weight.flatten(1), block.query.conv.bias
        query, key = (F.linear(t, weight, bias) for t in (first, second))
        if block.query.ln is not None:
            query, key = (
                (t - t.mean(1, keepdim=True))
                / (t.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
                for t in (query, key)
            )
            query, key = (t * block.query.ln.weight + block.query.ln.bias for t in (query, key))
        value = F.linear(second, block.value.weight.flatten(1), block.value.bias)
        logits = torch.softmax(query @ key.T / math.sqrt(3), dim=1) @ value
        small = torch.sigmoid(logits).view(5, 2)
        large = small.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
        torch.testing.assert_close(masks[b, 1], large, rtol=0, atol=1e-5)
        torch.testing.assert_close(masks[b, 0], 1 - large, rtol=0, atol=1e-5)


def test_parameters_bear_the_released_names() -> None:
    assert sorted(MixBlock(6, factor=2).state_dict()) == [
        "query.conv.bias",
        "query.conv.weight",
        "value.bias",
        "value.weight",
    ]
    assert sorted(MixBlock(6, factor=2, att_norm="layer").state_dict()) == [
        "query.conv.weight",
        "query.ln.bias",
        "query.ln.weight",
        "value.bias",
        "value.weight",
    ]
    assert sorted(SAMixBlock(6, factor=2).state_dict()) == [
        "key.conv.bias",
        "key.conv.weight",
        "query.conv.bias",
        "query.conv.weight",
        "value.conv.0.bn.bias",
        "value.conv.0.bn.num_batches_tracked",
        "value.conv.0.bn.running_mean",
        "value.conv.0.bn.running_var",
        "value.conv.0.bn.weight",
        "value.conv.0.conv.weight",
        "value.conv.1.conv.weight",
    ]


@pytest.mark.parametrize("kind", [MixBlock, SAMixBlock])
def test_initial_weights_are_small_and_of_the_given_source(
    kind: type[MixBlock] | type[SAMixBlock],
) -> None:
    blocks = [kind(64, factor=2, weights=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    states = [block.state_dict() for block in blocks]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=0)
        if name.endswith("conv.weight"):
            assert not torch.equal(value, states[2][name])
        if name.endswith(("query.conv.weight", "key.conv.weight")):
            assert float(value.std()) == pytest.approx(0.01, rel=0.1)  # 5 standard errors of 2048
        if name.endswith("bias"):
            assert not value.any()


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("kind", [MixBlock, SAMixBlock])
def test_masks_sum_to_one_in_every_mode(
    kind: type[MixBlock] | type[SAMixBlock], mode: Upsample
) -> None:
    block = spread(kind(6, factor=3, mode=mode))
    masks = block(maps(), INDEX, 0.4)
    assert masks.shape == (3, 2, 15, 6)
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(3, 15, 6))
    assert float(masks.detach().std()) > 0.05


@pytest.mark.parametrize("kind", [MixBlock, SAMixBlock])
def test_masks_are_float32_under_autocast(kind: type[MixBlock] | type[SAMixBlock]) -> None:
    block = spread(kind(6, factor=2))
    feature = maps().bfloat16()
    plain = block(feature.float(), INDEX, 0.4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masks = block(feature, INDEX, 0.4)
        attention = block.attention(feature, INDEX, 0.4)
    assert masks.dtype == attention.dtype == torch.float32
    torch.testing.assert_close(masks, plain, rtol=0, atol=0)


def test_masks_of_maps_without_bound_are_finite() -> None:
    block = spread(MixBlock(6, factor=2))
    masks = block(maps() * 1e18, INDEX, 0.4)  # logits beyond the largest float32
    assert bool(masks.isfinite().all())


def test_samix_sees_lam_and_counts_every_call() -> None:
    block = spread(SAMixBlock(6, factor=2))
    assert isinstance(block, SAMixBlock)
    low, high = (block(maps(), INDEX, lam) for lam in (0.2, 0.8))
    assert float((low - high).detach().abs().max()) > 0.01
    calls, mean = "value.conv.0.bn.num_batches_tracked", "value.conv.0.bn.running_mean"
    assert int(block.get_buffer(calls)) == 2
    block.eval()
    kept = block.get_buffer(mean).clone()
    block(maps(1), INDEX, 0.5)
    torch.testing.assert_close(block.get_buffer(mean), kept, rtol=0, atol=0)


def test_samix_drops_values_in_training_only() -> None:
    block = spread(SAMixBlock(6, factor=1, value_dropout=0.9))
    torch.manual_seed(0)
    first, second = (block(maps(), INDEX, 0.5) for _ in range(2))
    assert not torch.equal(first, second)
    block.eval()
    first, second = (block(maps(), INDEX, 0.5) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="channels >= 2 and factor >= 1, got 1 and 4"):
        MixBlock(1, factor=4)
    with pytest.raises(ValueError, match="got 8 and 0"):
        SAMixBlock(8, factor=0)
