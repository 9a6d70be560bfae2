"""AdAutoMix beyond the recorded steps: draws, signs, exactness of the saved passes, refusals."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods import AdAutoMix, AdAutoMixConfig, Setup, draw_adautomix
from robustmix.methods.adautomix import within_margin
from robustmix.methods.generators.adaptive_mask import AdaptiveMask, load_generator
from robustmix.models.registry import build_model
from robustmix.models.wide_resnet import WideResNet

CLASSES, SIZE = 5, (3, 16, 16)


def network_of(name: str = "resnet8") -> nn.Module:
    net = (
        WideResNet(CLASSES, depth=10, widen=1)
        if name == "wide"
        else build_model("resnet8", num_classes=CLASSES, input_size=SIZE)
    )
    weights = torch.Generator().manual_seed(2)
    for parameter in net.parameters():  # no branch may be at its zero start
        nn.init.normal_(parameter, std=0.2, generator=weights)
    return net


def method_of(network: nn.Module | None = None, *, seed: int = 0, **options: Any) -> AdAutoMix:
    setup = Setup(rng=np.random.default_rng(seed), input_size=SIZE, label_smoothing=0.1)
    method = AdAutoMix(network or network_of(), AdAutoMixConfig(**options), setup)
    weights = torch.Generator().manual_seed(3)
    for parameter in method.generator.parameters():
        nn.init.normal_(parameter, std=1.0, generator=weights)
    return method.train()


def batch_of(n: int = 7, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(n, *SIZE, generator=generator),
        torch.randint(CLASSES, (n,), generator=generator),
        torch.arange(n),
    )


def in_double(batch: Batch) -> Batch:
    return batch._replace(images=batch.images.double())


def state_after(method: AdAutoMix, batches: Iterable[Batch]) -> dict[str, Tensor]:
    parameters = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3)
    for number, batch in enumerate(batches):
        result = method.training_step(batch)
        optimizer.zero_grad()
        torch.autograd.backward(result.loss)
        optimizer.step()
        method.after_step(number, 3)
    return {key: value.clone() for key, value in method.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet8", "wide"])
@pytest.mark.parametrize(
    "options",
    [
        {"mix_samples": 3},
        {"mix_samples": 2, "lam_concat": True, "upsample": "nearest"},
        {"mix_samples": 4, "random_samples": True, "lam_concat": True, "att_norm": True},
        {"mix_samples": 3, "switch_off": 0.5, "adv_mode": "always", "ema": 0.5},
        {"mix_samples": 3, "gen_loss_net": "student", "reduction": 4},
    ],
    ids=str,
)
def test_the_fast_step_is_the_plain_step(name: str, options: dict[str, Any]) -> None:
    """Three steps in float64, where no rounding can flip a ReLU: every number to 1e-10."""
    batches = [in_double(batch_of(seed=seed)) for seed in range(3)]
    plain = method_of(network_of(name), passes="plain", **options).double()
    fast = method_of(network_of(name), **options).double()
    assert fast.plain_because is None
    want, got = state_after(plain, batches), state_after(fast, batches)
    assert got.keys() == want.keys()
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=1e-9, atol=1e-10, msg=key)


def count(calls: dict[str, int], key: str) -> Callable[..., None]:
    def hook(*_: object) -> None:
        calls[key] += 1

    return hook


@pytest.mark.parametrize(("samples", "plain", "fast"), [(2, 11, 9), (3, 15, 12)])
def test_the_passes_are_those_that_are_promised(samples: int, plain: int, fast: int) -> None:
    for passes, want in (("plain", plain), ("auto", fast)):
        method = method_of(mix_samples=samples, passes=passes)
        assert method.passes().startswith(f"{want} F a step")
        calls = {"q": 0, "k": 0}
        pair = method.pair
        for key, network in (("q", pair.network_q), ("k", pair.network_k)):
            stem = network.get_submodule("conv1")
            stem.register_forward_hook(count(calls, key))
        method.training_step(batch_of())
        forwards = calls["q"] + calls["k"]
        backward = 2 * calls["q"] + 1  # and one through the teacher to the mixtures
        assert forwards + backward == want


def test_random_forward_passes_are_all_made() -> None:
    network = network_of()
    network.add_module("dropout", nn.Dropout(0.1))
    method = method_of(network)
    assert method.plain_because is not None
    assert "dropout" in method.passes()
    assert method.passes().startswith("15 F a step instead of 12: ")


def test_draws_of_two_are_one_pair_a_branch() -> None:
    draws = draw_adautomix(9, AdAutoMixConfig(mix_samples=2), np.random.default_rng(0))
    assert draws.lam_mb != draws.lam_bb
    assert draws.lam_mb[0] + draws.lam_mb[1] == 1
    for index in (draws.index_mb, draws.index_bb):
        assert index[0].tolist() == list(range(9))
        assert sorted(index[1].tolist()) == list(range(9))
    assert not torch.equal(draws.index_mb, draws.index_bb)


def test_draws_of_more_share_their_weights_but_no_permutation() -> None:
    config = AdAutoMixConfig(mix_samples=4)
    draws = draw_adautomix(30, config, np.random.default_rng(0))
    assert draws.lam_mb == draws.lam_bb
    assert sum(draws.lam_mb) == pytest.approx(1)
    rows = [*draws.index_mb.tolist(), *draws.index_bb.tolist()]
    assert all(sorted(row) == list(range(30)) for row in rows)
    assert len({tuple(row) for row in [*rows, list(range(30))]}) == 9


def test_the_distribution_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    config = AdAutoMixConfig(mix_samples=3, random_samples=True, switch_off=0.8, alpha=2.0)
    drawn = [draw_adautomix(3, config, rng) for _ in range(4000)]
    share = np.mean([len(d.lam_mb) == 2 for d in drawn])
    assert abs(share - 0.5) < 4 * 0.5 / 4000**0.5
    skipped = np.mean([d.skip for d in drawn])
    assert abs(skipped - 0.2) < 4 * 0.4 / 4000**0.5
    first = np.array([d.lam_mb[0] for d in drawn if len(d.lam_mb) == 2])
    # Beta(2, 2): mean 1/2, variance 1/20
    assert abs(first.mean() - 0.5) < 4 * (0.05 / len(first)) ** 0.5
    assert first.var() == pytest.approx(0.05, rel=0.12)
    never = AdAutoMixConfig(switch_off=0.0)
    assert not any(draw_adautomix(3, never, rng).skip for _ in range(50))


def test_no_repeat_leaves_no_image_in_its_place() -> None:
    config = AdAutoMixConfig(no_repeat=True)
    rng = np.random.default_rng(0)
    fixed = [
        (draw_adautomix(20, config, rng).index_mb == torch.arange(20)).any().item()
        for _ in range(200)
    ]
    assert np.mean(fixed) < 0.1  # (1 - 1/e)^10 a permutation, three of them; without it 95 %


@pytest.mark.parametrize(
    ("lam", "margin", "want"),
    [
        ((0.03125, 0.96875), 0.03125, True),
        ((0.96875, 0.03125), 0.03125, True),
        ((0.9375, 0.0625), 0.03125, False),
        ((0.25, 0.75), 0.25, True),
        ((0.75, 0.25), 0.25, True),
        ((0.75, 0.2, 0.05), 0.25, False),  # strict for three
        ((0.25, 0.5, 0.25), 0.25, True),
        ((0.8, 0.1, 0.1), 0.25, True),
        ((0.0, 1.0), 0.0, True),
        ((0.5, 0.5), 0.0, False),
    ],
)
def test_the_margin(lam: tuple[float, ...], margin: float, want: bool) -> None:
    assert within_margin(lam, margin) is want


def test_any_number_of_samples_falls_back_to_the_plain_mixture() -> None:
    method = method_of(mix_samples=4, lam_margin=0.9)
    batch = batch_of()
    draws = draw_adautomix(7, method.config, np.random.default_rng(0))
    terms = method.step(batch.images, batch.labels, draws)
    want = sum(
        weight * batch.images[row] for weight, row in zip(draws.lam_bb, draws.index_bb, strict=True)
    )
    torch.testing.assert_close(terms.mixed_bb, want)
    assert terms.mixed_mb is not None
    plain = sum(
        weight * batch.images[row] for weight, row in zip(draws.lam_mb, draws.index_mb, strict=True)
    )
    assert float((terms.mixed_mb.detach() - plain).abs().max()) > 0.1  # the generator's is not


def gradient(method: AdAutoMix, part: nn.Module) -> Tensor:
    grads = [p.grad for p in part.parameters() if p.requires_grad]
    return torch.cat([torch.zeros(1) if g is None else g.flatten() for g in grads])


def generator_gradient(**options: Any) -> Tensor:
    method = method_of(**options)
    batch = batch_of()
    draws = draw_adautomix(7, method.config, np.random.default_rng(5))
    torch.autograd.backward(method.step(batch.images, batch.labels, draws).loss)
    return gradient(method, method.generator)


def test_signs_of_the_adversarial_terms() -> None:
    """The gradient is linear in both weights: -beta CE + (1 - beta) cosine."""
    lower = generator_gradient(adv_mode="off")
    raise_it = generator_gradient(adv_mode="always", w_adv=1.0, w_cos=0.0)
    torch.testing.assert_close(raise_it, -lower, rtol=1e-4, atol=1e-7)
    cosine = generator_gradient(adv_mode="always", w_adv=0.0, w_cos=1.0)
    both = generator_gradient(adv_mode="always", beta=0.3)
    torch.testing.assert_close(both, 0.3 * raise_it + 0.7 * cosine, rtol=1e-4, atol=1e-6)
    assert float(lower.norm()) > 1e-4
    assert float(cosine.norm()) > 1e-5


def test_every_second_step_is_adversarial_and_the_count_is_saved() -> None:
    method = method_of()
    batch = batch_of()
    draws = draw_adautomix(7, method.config, np.random.default_rng(0))
    seen = [method.step(batch.images, batch.labels, draws).adversarial for _ in range(3)]
    assert seen == [True, False, True]
    other = method_of()
    other.load_state_dict(method.state_dict())
    assert other.step(batch.images, batch.labels, draws).adversarial is False
    third = AdAutoMixConfig(adv_interval=3)
    assert [third.adversarial(i) for i in range(5)] == [True, False, False, True, False]
    assert [replace(third, adv_mode="always").adversarial(i) for i in range(3)] == [True] * 3
    assert [replace(third, adv_mode="off").adversarial(i) for i in range(3)] == [False] * 3


@pytest.mark.parametrize("net", ["teacher", "student"])
def test_the_students_gradient_owes_nothing_to_the_generator(net: str) -> None:
    batch = batch_of()
    grads = []
    for skip in (False, True):
        method = method_of(gen_loss_net=net)
        draws = draw_adautomix(7, method.config, np.random.default_rng(0))._replace(skip=skip)
        terms = method.step(batch.images, batch.labels, draws)
        torch.autograd.backward(terms.loss)
        assert (terms.generator is None) == skip
        grads.append(gradient(method, method.pair))
        assert (float(gradient(method, method.generator).abs().max()) > 0) != skip
        assert all(p.grad is None for p in method.pair.network_k.parameters())
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-7)


def test_masks_share_every_pixel_and_start_equal() -> None:
    setup = Setup(rng=np.random.default_rng(0), input_size=SIZE)
    method = AdAutoMix(network_of(), AdAutoMixConfig(), setup).train()
    batch = batch_of()
    draws = draw_adautomix(7, method.config, np.random.default_rng(0))
    terms = method.step(batch.images, batch.labels, draws)
    torch.testing.assert_close(
        terms.mask_bb, torch.full_like(terms.mask_bb, 1 / 3), atol=0.01, rtol=0
    )
    trained = method_of()
    terms = trained.step(batch.images, batch.labels, draws)
    torch.testing.assert_close(terms.mask_bb.sum(dim=1), torch.ones(7, 16, 16))
    assert float(terms.mask_bb.std()) > 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masks_are_float32_under_autocast(dtype: torch.dtype) -> None:
    generator = method_of(lam_concat=True, att_norm=True).generator
    feature = 30 * torch.randn(4, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0], [2, 0, 3, 1]])
    lam = (0.5, 0.3, 0.2)
    want = generator.masks(generator.project(feature), index, lam)
    with torch.autocast("cpu", dtype):
        got = generator.masks(generator.project(feature), index, lam)
        plain = generator([feature[row] for row in index], lam)
    assert got.dtype == plain.dtype == torch.float32
    assert torch.equal(got, want)
    torch.testing.assert_close(plain, want, rtol=0, atol=1e-5)


def test_the_guard_mends_masks_that_are_not_numbers() -> None:
    maps = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[1, 0, 0, 0] = float("nan")
    index = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    plain = AdaptiveMask(8, factor=2)
    assert bool(plain.masks(plain.project(maps), index, (0.5, 0.5)).isnan().any())
    guarded = AdaptiveMask(8, factor=2, guard=True)
    masks = guarded.masks(guarded.project(maps), index, (0.5, 0.5))
    assert bool(masks.isfinite().all())
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(4, 8, 8))


def test_a_preview_is_always_the_same_and_changes_nothing() -> None:
    method = method_of()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    rng = str(method.rng.bit_generator.state)
    images = batch_of().images
    one, two = method.preview(images), method.preview(images)
    assert torch.equal(one.mixed, two.mixed)
    assert method.training
    assert method.pair.network_k.training
    assert str(method.rng.bit_generator.state) == rng
    for key, value in method.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert one.sources.shape == (7, 3, 3, 16, 16)
    want = (one.masks[:, :, None] * one.sources).sum(dim=1)
    torch.testing.assert_close(one.mixed, want)
    assert sum(one.lam) == pytest.approx(1)


def test_logs_are_means_and_name_the_terms() -> None:
    method = method_of(switch_off=0.5, seed=1)
    names = [frozenset(method.training_step(batch_of()).logs) for _ in range(8)]
    full = {
        "loss", "loss_one_q", "loss_linear_q", "loss_mix_q", "loss_mix_k", "loss_gen", "cosine",
        "top1", "acc_mix_q", "acc_mix_k", "skipped",
    }  # fmt: skip
    generator = {"loss_gen", "loss_mix_k", "cosine", "acc_mix_k"}
    assert set(names) == {frozenset(full), frozenset(full - generator)}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mix_samples": 1}, "expected mix_samples >= 2, got 1"),
        ({"lam_margin": 1.5}, "expected 0 <= lam_margin < 1, got 1.5"),
        ({"beta": -0.1}, "beta in"),
        ({"alpha": 0.0}, "alpha > 0"),
        ({"upsample": "cubic"}, "upsample: one of bilinear, nearest, bicubic"),
        ({"adv_mode": "never"}, "adv_mode: one of alternate, always, off"),
        ({"ema": 0.9999, "ema_end": 0.999}, "ema <= ema_end"),
        ({"ema_start": 1.5}, "ema_start in"),
        ({"adv_interval": 0}, "adv_interval >= 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("[", r"\[")):
        AdAutoMixConfig(**options)


def test_a_network_without_taps_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, CLASSES))
    with pytest.raises(UsageError) as error:
        method_of(network)
    assert error.value.code == "E-NO-TAP"


def test_a_generator_of_another_kind_is_refused() -> None:
    without = AdaptiveMask(8, factor=2)
    with_lam = AdaptiveMask(8, factor=2, lam_concat=True)
    with pytest.raises(UsageError, match=r"lam_concat=true, but .* was trained without the lam"):
        load_generator(with_lam, without.state_dict())
    with pytest.raises(UsageError, match=r"lam_concat=false, but .* was trained with the lam"):
        load_generator(without, with_lam.state_dict())
    with pytest.raises(UsageError, match="does not fit"):
        load_generator(AdaptiveMask(16, factor=2), without.state_dict())
    with pytest.raises(UsageError, match="no AdaptiveMask"):
        load_generator(without, {})
    other = AdaptiveMask(8, factor=2, weights=torch.Generator().manual_seed(9))
    load_generator(other, without.state_dict())
    assert torch.equal(other.conv_v.weight, without.conv_v.weight)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    method = method_of(linear_ratio=0.25, adv_mode="off")
    batch = batch_of()
    draws = draw_adautomix(7, method.config, np.random.default_rng(0))
    terms = method.step(batch.images, batch.labels, draws)
    student, generator = terms.student, terms.generator
    assert generator is not None
    assert student.loss_linear is not None
    want = 0.75 * student.loss_one + 0.25 * student.loss_linear + student.loss_mix + generator.loss
    torch.testing.assert_close(terms.loss, want)
    assert float((student.loss_one - student.loss_linear).detach().abs()) > 1e-3
    two = method_of(mix_samples=2, linear_ratio=0.25, adv_mode="off")
    draws = draw_adautomix(7, two.config, np.random.default_rng(0))
    terms = two.step(batch.images, batch.labels, draws)
    assert terms.generator is not None
    assert terms.student.loss_linear is None
    want = terms.student.loss_one + terms.student.loss_mix + terms.generator.loss
    torch.testing.assert_close(terms.loss, want)


def test_every_label_is_smoothed() -> None:
    """Each loss from its own logits, with torch's soft-target cross-entropy as a second way."""
    method = method_of()
    batch = batch_of()
    draws = draw_adautomix(7, method.config, np.random.default_rng(0))
    terms = method.step(batch.images, batch.labels, draws)
    student, generator = terms.student, terms.generator
    assert generator is not None
    assert student.logits_linear is not None
    onehot = 0.9 * torch.eye(CLASSES)[batch.labels] + 0.1 / CLASSES

    def soft(logits: Tensor, index: Tensor | None) -> Tensor:
        target = onehot
        if index is not None:
            parts = [w * onehot[row] for w, row in zip(draws.lam_mb, index, strict=True)]
            target = torch.stack(parts).sum(dim=0)
        return nn.functional.cross_entropy(logits, target)

    torch.testing.assert_close(student.loss_one, soft(student.logits_one, None))
    torch.testing.assert_close(student.loss_linear, soft(student.logits_linear, draws.index_bb))
    torch.testing.assert_close(student.loss_mix, soft(student.logits_mix, draws.index_bb))
    torch.testing.assert_close(generator.loss_mix, soft(generator.logits_mix, draws.index_mb))
