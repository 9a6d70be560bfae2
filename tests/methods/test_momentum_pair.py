"""Student, teacher and replayed batch statistics, by closed forms and by making the passes."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.pretended_gpu import GPU, pretended_gpu
from robustmix.methods import Setup
from robustmix.methods.momentum_pair import (
    BatchNormReplay,
    MomentumPair,
    ema_momentum,
    sum_of_finite,
    without_gradients,
)
from robustmix.models.registry import build_model
from robustmix.models.taps import classifier_layer
from robustmix.models.wide_resnet import WideResNet

SIZE = (3, 16, 16)


def pair_of(seed: int = 0) -> MomentumPair:
    network = build_model("resnet8", num_classes=5, input_size=SIZE)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.running_mean, 3.0)  # type: ignore[arg-type]
    weights = torch.Generator().manual_seed(seed)
    return MomentumPair(
        network, Setup(rng=np.random.default_rng(0), input_size=SIZE, weights=weights)
    )


def batch(n: int = 7) -> Tensor:
    return torch.randn(n, *SIZE, generator=torch.Generator().manual_seed(1))


def test_the_teacher_begins_with_the_students_parameters_and_fresh_statistics() -> None:
    pair = pair_of()
    student, teacher = pair.network_q.state_dict(), pair.network_k.state_dict()
    for name, value in student.items():
        if name.endswith("running_mean"):
            assert bool((value == 3).all())
            assert bool((teacher[name] == 0).all())
        elif name.endswith("running_var"):
            assert bool((teacher[name] == 1).all())
        else:
            assert torch.equal(value, teacher[name]), name
    assert not any(p.requires_grad for p in pair.network_k.parameters())
    assert not any(p.requires_grad for p in pair.head_mix_k.parameters())
    assert torch.equal(pair.head_mix_q.weight, pair.head_mix_k.weight)


def test_heads_are_small_and_independent() -> None:
    pair = pair_of()
    one, mix = classifier_layer(pair.network_q), pair.head_mix_q
    for head in (one, mix):
        assert bool((head.bias == 0).all())
        assert float(head.weight.detach().std()) == pytest.approx(0.01, rel=0.15)
    correlation = torch.corrcoef(torch.stack([one.weight.flatten(), mix.weight.flatten()]))[0, 1]
    assert abs(float(correlation.detach())) < 0.2
    assert torch.equal(pair_of().head_mix_q.weight, mix.weight)
    assert not torch.equal(pair_of(1).head_mix_q.weight, mix.weight)


def test_update_moves_every_parameter_and_no_statistic() -> None:
    pair = pair_of()
    with torch.no_grad():
        for parameter in pair.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    pair.update(0.75)
    after = pair.state_dict()
    for name, value in before.items():
        twin = name.replace("network_k", "network_q").replace("head_mix_k", "head_mix_q")
        moved = "_k." in name and "running" not in name and "num_batches" not in name
        want = 0.75 * value + 0.25 * before[twin] if moved else value
        torch.testing.assert_close(after[name], want, rtol=0, atol=1e-7)
    assert not torch.equal(after["network_k.fc.bias"], before["network_k.fc.bias"])


def test_four_heads_on_two_networks() -> None:
    pair = pair_of().eval()
    with torch.no_grad():
        pair.network_k.get_parameter("conv1.weight").add_(0.1)
        pair.head_mix_k.bias.add_(1.0)
        heads = pair.heads_logits(batch())
        assert torch.equal(heads["one_k"], pair.network_k(batch()))
        assert torch.equal(heads["one_q"], pair.network_q(batch()))
        pooled = pair.network_k.forward_features(batch())[-1].mean(dim=(2, 3))  # type: ignore[operator]
        assert torch.equal(heads["mix_k"], pair.head_mix_k(pooled))
        pooled = pair.network_q.forward_features(batch())[-1].mean(dim=(2, 3))  # type: ignore[operator]
        assert torch.equal(heads["mix_q"], pair.head_mix_q(pooled))


@pytest.mark.parametrize(
    ("iteration", "want"), [(0, 0.9), (9, 0.9), (10, 0.9 + 0.05 * (1 - np.cos(np.pi / 10)))]
)
def test_the_momentum_is_flat_and_then_jumps_to_the_cosine(iteration: int, want: float) -> None:
    got = ema_momentum(iteration, 100, base=0.9, end=1.0, start=0.1)
    assert got == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", ["resnet8", "wide"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_replayed_statistics_are_those_of_the_passes(name: str, times: int) -> None:
    def network() -> nn.Module:
        net = (
            WideResNet(5, depth=10, widen=1)
            if name == "wide"
            else build_model("resnet8", num_classes=5, input_size=SIZE)
        )
        weights = torch.Generator().manual_seed(0)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3, generator=weights)
        return net.double().train()

    plain, fast = network(), network()
    images = batch().double()
    replay = BatchNormReplay(fast)
    assert replay.possible()
    other = batch(5).double().flip(2)
    with torch.no_grad():
        plain(images)
        plain(other)
        for i in range(times):
            plain(images.roll(i + 1, dims=0))
        with replay.recorded():
            fast(images)
        fast(other)
        replay.replay(times)
    for (key, want), got in zip(plain.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14, msg=key)
    with torch.no_grad():
        replay.replay(times)  # nothing is noted any more
    for want, got in zip(plain.buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_a_cumulative_norm_cannot_be_replayed() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=None))
    assert not BatchNormReplay(network).possible()


def test_a_nan_term_is_left_out_and_counted() -> None:
    nan, weight = torch.tensor(float("nan")), torch.tensor(2.0, requires_grad=True)
    loss, skipped = sum_of_finite([(0.5, 3 * weight), (1.0, nan), (2.0, weight)])
    assert float(loss.detach()) == 7.0
    assert skipped == 1
    torch.autograd.backward(loss)
    assert weight.grad is not None
    assert float(weight.grad) == 3.5
    loss, skipped = sum_of_finite([(1.0, nan), (1.0, nan)])
    assert bool(loss.isnan())
    assert skipped == 2


def test_a_nan_term_is_left_out_on_a_gpu_and_nobody_reads_which() -> None:
    with pretended_gpu() as count:
        nan = torch.full((), float("nan"), device=GPU)
        weight = torch.full((), 2.0, device=GPU).requires_grad_()
        count.clear()
        loss, skipped = sum_of_finite([(0.5, 3 * weight), (1.0, nan * weight), (2.0, weight)])
        torch.autograd.backward(loss)
        lost, all_skipped = sum_of_finite([(1.0, nan), (1.0, nan)])
        assert not count.waits
        assert (float(loss.detach()), int(skipped)) == (7.0, 1)
        assert weight.grad is not None
        assert bool(weight.grad.isnan())  # 0 x NaN: why ``update`` looks at the gradient
        assert bool(lost.isnan())
        assert int(all_skipped) == 2


def test_without_gradients_only_the_input_learns() -> None:
    layer = nn.Linear(3, 2)
    frozen = nn.Linear(2, 2).requires_grad_(False)
    value = torch.ones(1, 3, requires_grad=True)
    with without_gradients(layer, frozen):
        out = frozen(layer(value)).sum()
    torch.autograd.backward(out)
    assert layer.weight.grad is None
    assert value.grad is not None
    assert [p.requires_grad for p in (layer.weight, frozen.weight)] == [True, False]
