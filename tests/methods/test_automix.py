"""AutoMix and SAMix beyond the vectors: draws, branches, schedules, resuming, refusals."""

import io
import math
from dataclasses import asdict, replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.automix import (
    AutoMix,
    AutoMixConfig,
    SAMix,
    SAMixConfig,
)
from robustmix.methods.cutmix import CutMixDraws, cutmix
from robustmix.methods.generators.attention import constant_masks, mix_sources
from robustmix.methods.generators.mix_block import MixBlock, adjust_masks
from robustmix.methods.losses import cross_entropy, mixed_cross_entropy
from robustmix.methods.method import Setup
from robustmix.methods.mixup import MixupDraws, mixup
from robustmix.methods.momentum_pair import ema_momentum
from robustmix.methods.pair_masks import AutoMixDraws, draw_automix
from robustmix.models.resnet import ResNet

CLASSES, SIDE = 7, 16
LABELS = torch.tensor([0, 3, 6, 2, 3])
MB, BB = torch.tensor([4, 0, 1, 2, 3]), torch.tensor([2, 3, 0, 4, 1])
DRAWS = AutoMixDraws(0.4, 0.7, MB, BB)

Method = AutoMix | SAMix
Config = AutoMixConfig | SAMixConfig


def network() -> ResNet:
    torch.manual_seed(0)
    return ResNet(CLASSES, block="basic", depths=(1, 1, 1, 1), stem="cifar", width=4)


def method(config: Config | None = None, *, smoothing: float = 0.0, seed: int = 0) -> Method:
    setup = Setup(
        rng=np.random.default_rng(seed),
        label_smoothing=smoothing,
        input_size=(3, SIDE, SIDE),
        weights=torch.Generator().manual_seed(1),
    )
    config = config or AutoMixConfig()
    made = (
        AutoMix(network(), config, setup)
        if isinstance(config, AutoMixConfig)
        else SAMix(network(), config, setup)
    )
    return made.train()


def batch(seed: int = 0) -> Batch:
    images = torch.randn(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return Batch(images, LABELS, torch.arange(5))


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize("config", [AutoMixConfig(), SAMixConfig()])
def test_the_first_losses_are_those_of_a_guess(config: Config) -> None:
    terms = method(config).step(batch(), DRAWS)
    guess = math.log(CLASSES)
    assert terms.loss_one_q is not None
    assert terms.loss_mix_k is not None
    assert terms.loss_mask is not None
    for term in (terms.loss_one_q, terms.loss_mix_q, terms.loss_mix_k):
        assert float(term.detach()) == pytest.approx(guess, abs=0.2)
    torch.testing.assert_close(terms.mask_mb, torch.full_like(terms.mask_mb, 0.5), rtol=0, atol=0.1)
    parts = terms.loss_one_q + terms.loss_mix_q + terms.loss_mix_k + terms.loss_mask
    torch.testing.assert_close(terms.loss, parts)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_loss_is_that_of_its_logits(smoothing: float) -> None:
    terms = method(smoothing=smoothing).step(batch(), DRAWS)
    assert terms.logits_one_q is not None
    assert terms.logits_mix_k is not None
    expected = (
        cross_entropy(terms.logits_one_q, LABELS, smoothing=smoothing),
        mixed_cross_entropy(terms.logits_mix_q, LABELS, LABELS[BB], 0.7, smoothing=smoothing),
        mixed_cross_entropy(terms.logits_mix_k, LABELS, LABELS[MB], 0.4, smoothing=smoothing),
    )
    for got, want in zip(
        (terms.loss_one_q, terms.loss_mix_q, terms.loss_mix_k), expected, strict=True
    ):
        assert got is not None
        torch.testing.assert_close(got, want)


def test_the_teacher_learns_nothing_and_the_student_nothing_of_the_generator() -> None:
    trained = method()
    terms = trained.step(batch(), DRAWS)
    assert terms.loss_one_q is not None
    assert terms.loss_mix_k is not None
    assert terms.loss_mask is not None
    backward(terms.loss_mix_k + terms.loss_mask)
    assert not gradients(trained.pair)
    assert len(gradients(trained.generator)) == len(list(trained.generator.parameters()))
    backward(terms.loss_mix_q + terms.loss_one_q)
    assert not gradients(trained.pair.network_k)
    assert gradients(trained.pair.network_q)
    assert not terms.mixed_bb.requires_grad


def test_near_the_ends_of_lam_the_student_sees_a_plain_mixture() -> None:
    for lam, plain in ((0.08, True), (0.081, False), (0.919, False), (0.92, True)):
        terms = method().step(batch(), DRAWS._replace(lam_bb=lam))
        images = batch().images
        mixture = lam * images + (1 - lam) * images[BB]
        assert torch.allclose(terms.mixed_bb, mixture, atol=1e-6) == plain
        assert not torch.allclose(terms.mask_bb, constant_masks(terms.mask_bb, (lam, 1 - lam)))


def test_adjusted_masks_take_the_other_branchs_weight() -> None:
    terms = method().step(batch(), DRAWS._replace(adjust=True))
    index = torch.stack([torch.arange(5), BB])
    expected = mix_sources(batch().images, index, adjust_masks(terms.mask_bb, 0.4))
    torch.testing.assert_close(terms.mixed_bb, expected)
    plain = method().step(batch(), DRAWS)
    assert not torch.allclose(terms.mixed_bb, plain.mixed_bb)
    torch.testing.assert_close(terms.mixed_mb, plain.mixed_mb, rtol=0, atol=0)


def test_a_step_without_the_teachers_judgement_still_shapes_the_masks() -> None:
    trained = method(replace(AutoMixConfig(), mask_loss_margin=0.0))
    terms = trained.step(batch(), DRAWS._replace(skip=True))
    assert terms.loss_mix_k is None
    assert terms.logits_mix_k is None
    counts = {
        int(m.num_batches_tracked)
        for m in trained.pair.network_k.modules()
        if isinstance(m, nn.BatchNorm2d) and m.num_batches_tracked is not None
    }
    assert counts == {1}
    backward(terms.loss)
    assert any(g.any() for g in gradients(trained.generator))
    logs = terms.result().logs
    assert "loss_mix_k" not in logs
    assert "acc_mix_k" not in logs
    assert float(logs["skipped"]) == 0


def test_without_weight_and_judgement_the_generator_rests() -> None:
    trained = method(AutoMixConfig(mask_loss_weight=0.0))
    terms = trained.step(batch(), DRAWS._replace(skip=True))
    assert terms.loss_mask is None
    backward(terms.loss)
    assert not gradients(trained.generator)


ONE_PERM = torch.tensor([1, 2, 3, 4, 0])


@pytest.mark.parametrize(
    "one",
    [MixupDraws(lam=0.8, perm=ONE_PERM), CutMixDraws(lam=0.6, row=5, col=9, perm=ONE_PERM)],
)
def test_the_clean_head_may_see_mixtures(one: MixupDraws | CutMixDraws) -> None:
    images = batch().images
    mixed = mixup(images, one) if isinstance(one, MixupDraws) else cutmix(images, one)
    terms = method().step(batch(), DRAWS._replace(one=one))
    logits = method().pair.network_q(mixed.images)
    torch.testing.assert_close(terms.logits_one_q, logits)
    expected = mixed_cross_entropy(logits, LABELS, LABELS[ONE_PERM], mixed.lam)
    torch.testing.assert_close(terms.loss_one_q, expected)
    plain = method().step(batch(), DRAWS)
    torch.testing.assert_close(terms.loss_mix_q, plain.loss_mix_q)


def test_draws_have_the_distribution() -> None:
    rng = np.random.default_rng(0)
    config = AutoMixConfig(mask_adjust=0.25, switch_off=0.8, head_one_mix=True)
    drawn = [draw_automix(11, (SIDE, SIDE), config, rng) for _ in range(4000)]
    mb, bb = (np.array([getattr(d, name) for d in drawn]) for name in ("lam_mb", "lam_bb"))
    for lam in (mb, bb):  # Beta(2, 2): mean 1/2, variance 1/20; 4.5 standard errors
        assert lam.mean() == pytest.approx(0.5, abs=0.016)
        assert lam.var() == pytest.approx(0.05, abs=0.0035)
    assert abs(np.corrcoef(mb, bb)[0, 1]) < 0.07
    for share, probability in (
        ([d.adjust for d in drawn], 0.25),
        ([d.skip for d in drawn], 0.2),
        ([isinstance(d.one, MixupDraws) for d in drawn], 0.5),
        ([bool((d.index_mb == torch.arange(11)).any()) for d in drawn], 1 - 1 / math.e),
        ([bool((d.index_mb == d.index_bb).any()) for d in drawn], 1 - 1 / math.e),
    ):
        assert np.mean(share) == pytest.approx(probability, abs=4.5 * 0.5 / math.sqrt(4000))
    for d in drawn[:50]:
        assert sorted(d.index_mb.tolist()) == sorted(d.index_bb.tolist()) == list(range(11))
    mixups = [d.one.lam for d in drawn if isinstance(d.one, MixupDraws)]
    cuts = [d.one.lam for d in drawn if isinstance(d.one, CutMixDraws)]
    assert np.var(mixups) == pytest.approx(1 / 4 / 2.6, abs=0.008)  # Beta(0.8, 0.8)
    assert np.var(cuts) == pytest.approx(1 / 12, abs=0.008)


def test_by_default_nothing_is_skipped_adjusted_or_mixed_twice() -> None:
    rng = np.random.default_rng(0)
    for config in (AutoMixConfig(), AutoMixConfig(switch_off=1.0)):
        for _ in range(200):
            draws = draw_automix(5, (SIDE, SIDE), config, rng)
            assert (draws.adjust, draws.skip, draws.one) == (False, False, None)


def test_draws_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    config = AutoMixConfig(no_repeat=True, head_one_mix=True)
    first, second = (
        draw_automix(9, (SIDE, SIDE), config, np.random.default_rng(3)) for _ in range(2)
    )
    assert (first.lam_mb, first.lam_bb) == (second.lam_mb, second.lam_bb)
    assert torch.equal(first.index_mb, second.index_mb)
    assert torch.equal(first.index_bb, second.index_bb)
    assert torch.equal(before, torch.get_rng_state())


class Stuck:
    """A generator whose permutations are all the identity."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.beta, self.random, self.integers = self.rng.beta, self.rng.random, self.rng.integers

    def permutation(self, n: int) -> np.ndarray:
        return np.arange(n)


def test_partners_differ_from_the_image_with_no_repeat() -> None:
    config = AutoMixConfig(no_repeat=True)
    stuck = cast(np.random.Generator, Stuck())
    for n in (2, 3, 8):
        draws = draw_automix(n, (SIDE, SIDE), config, stuck)
        assert not (draws.index_mb == torch.arange(n)).any()
        assert sorted(draws.index_mb.tolist()) == list(range(n))
        assert draws.index_bb.tolist() == list(range(n))  # the student's keeps its last draw
    assert draw_automix(1, (SIDE, SIDE), config, stuck).index_mb.tolist() == [0]
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert not (draw_automix(6, (4, 4), config, rng).index_mb == torch.arange(6)).any()


@pytest.mark.parametrize("config", [AutoMixConfig(), SAMixConfig()])
def test_a_loss_that_is_nan_is_left_out_and_counted(config: Config) -> None:
    trained = method(config)
    with torch.no_grad():
        trained.pair.head_mix_k.weight.fill_(float("nan"))
    terms = trained.step(batch(), DRAWS)
    assert terms.skipped == 1
    assert terms.loss_one_q is not None
    assert terms.loss_mask is not None
    kept = terms.loss_one_q + terms.loss_mix_q + terms.loss_mask
    torch.testing.assert_close(terms.loss, kept)
    backward(terms.loss)
    assert all(bool(g.isfinite().all()) for g in gradients(trained))
    logs = terms.result().logs
    assert float(logs["skipped"]) == 1
    assert "loss_mix_k" not in logs
    assert all(bool(value.isfinite()) for value in logs.values())


def test_if_every_loss_is_nan_so_is_the_sum() -> None:
    trained = method(AutoMixConfig(mask_loss_weight=0.0))
    with torch.no_grad():
        for parameter in trained.pair.parameters():
            parameter.fill_(float("nan"))
    result = trained.training_step(batch())
    assert bool(result.loss.isnan())
    assert float(result.logs["skipped"]) == 3


def test_what_a_step_logs() -> None:
    result = method().training_step(batch())
    assert set(result.logs) == {
        "loss",
        "loss_one_q",
        "loss_mix_q",
        "loss_mix_k",
        "loss_mask",
        "acc_one_q",
        "acc_mix_q",
        "acc_mix_k",
        "top1",
        "skipped",
    }
    assert all(value.ndim == 0 and not value.requires_grad for value in result.logs.values())
    assert torch.equal(result.logs["top1"], result.logs["acc_one_q"])


@pytest.mark.parametrize("config", [AutoMixConfig(), SAMixConfig()])
def test_the_teacher_averages_parameters_and_not_statistics(config: Config) -> None:
    trained = method(replace(config, ema=0.9, ema_end=0.99, ema_start=0.2))
    trained.training_step(batch())
    with torch.no_grad():
        for parameter in trained.pair.network_q.parameters():
            parameter.add_(1.0)
    old = {k: v.clone() for k, v in trained.pair.network_k.state_dict().items()}
    trained.after_step(6, 10)
    momentum = ema_momentum(6, 10, base=0.9, end=0.99, start=0.2)
    assert 0.9 < momentum < 0.99
    student = trained.pair.network_q.state_dict()
    names = dict(trained.pair.network_k.named_parameters())
    for name, value in trained.pair.network_k.state_dict().items():
        if name in names:
            expected = momentum * old[name] + (1 - momentum) * student[name]
            torch.testing.assert_close(value, expected)
        else:
            torch.testing.assert_close(value, old[name], rtol=0, atol=0)


@pytest.mark.parametrize("kind", [AutoMixConfig, SAMixConfig])
def test_the_mask_loss_follows_its_schedule(
    kind: type[AutoMixConfig] | type[SAMixConfig],
) -> None:
    decaying = method(kind(mask_loss_decay="linear", mask_loss_margin=0.0))
    constant = method(kind(mask_loss_margin=0.0))
    for iteration in (0, 3, 9):
        decaying.before_step(iteration, 10)
        constant.before_step(iteration, 10)
        got = decaying.step(batch(), DRAWS).loss_mask
        full = constant.step(batch(), DRAWS).loss_mask
        assert got is not None
        assert full is not None
        torch.testing.assert_close(got, full * (1 - iteration / 10))
    decaying.after_step(4, 10)
    after = decaying.step(batch(), DRAWS).loss_mask
    full = constant.step(batch(), DRAWS).loss_mask
    assert after is not None
    assert full is not None
    torch.testing.assert_close(after, full * 0.5)


def train(trained: Method, start: int, stop: int) -> None:
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    for i in range(start, stop):
        trained.before_step(i, 6)
        loss = trained.training_step(batch(i)).loss
        optimizer.zero_grad()
        backward(loss)
        optimizer.step()
        trained.after_step(i, 6)


@pytest.mark.parametrize("kind", [AutoMixConfig, SAMixConfig])
def test_a_resumed_run_goes_on_with_the_same_bits(
    kind: type[AutoMixConfig] | type[SAMixConfig],
) -> None:
    config = kind(mask_loss_decay="compound-cosine", mask_loss_margin=0.0, ema_start=0.0)
    whole, half = method(config), method(config)
    train(whole, 0, 5)
    train(half, 0, 3)
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    resumed = method(config, seed=99)
    state = torch.load(file, weights_only=True)
    assert state["_extra_state"].dtype == torch.int64
    assert state["_extra_state"].device.type == "cpu"
    resumed.load_state_dict(state)
    resumed.rng.bit_generator.state = half.rng.bit_generator.state
    assert (resumed.iteration, resumed.total) == (3, 6)
    train(resumed, 3, 5)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("config", [AutoMixConfig(lam_concat=True), SAMixConfig()])
def test_a_preview_is_a_mixture_and_changes_nothing(config: Config) -> None:
    trained = method(config)
    state = {k: v.clone() for k, v in trained.state_dict().items()}
    rng = str(trained.rng.bit_generator.state)
    torch_state = torch.get_rng_state()
    images = batch().images
    shown, again = trained.preview(images), trained.preview(images)
    assert torch.equal(shown.masks, again.masks)
    assert shown.sources.shape == (5, 2, 3, SIDE, SIDE)
    assert torch.equal(shown.sources[:, 0], images)
    assert torch.equal(shown.sources[:, 1], images.roll(-1, dims=0))
    torch.testing.assert_close(shown.masks.sum(dim=1), torch.ones(5, SIDE, SIDE))
    mixture = (shown.masks[:, :, None] * shown.sources).sum(dim=1)
    torch.testing.assert_close(shown.mixed, mixture)
    assert sum(shown.lam) == 1
    assert all(module.training for module in trained.modules())
    assert rng == str(trained.rng.bit_generator.state)
    assert torch.equal(torch_state, torch.get_rng_state())
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    trained.eval()
    teacher = trained.pair.features_k(images).feat
    expected = trained.generator(teacher, torch.arange(5).roll(-1), 0.5)
    torch.testing.assert_close(shown.masks, expected)


@pytest.mark.parametrize("config", [AutoMixConfig(), SAMixConfig()])
def test_masks_and_losses_are_float32_in_half_precision(config: Config) -> None:
    trained = method(config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = trained.step(batch(), DRAWS)
    masks = method(config).generator(terms.feature.float(), MB, DRAWS.lam_mb)
    torch.testing.assert_close(terms.mask_mb, masks, rtol=0, atol=0)
    for value in (terms.mask_mb, terms.mixed_mb, terms.mixed_bb, terms.loss):
        assert value.dtype == torch.float32
    backward(terms.loss)
    assert all(bool(g.isfinite().all()) for g in gradients(trained))


def test_what_is_deployed_and_what_it_costs() -> None:
    for trained in (method(), method(SAMixConfig())):
        assert trained.classifier() is trained.pair.network_k
        assert trained.passes() == "9 F a step: 4 forward, 5 backward; nothing to save"


@pytest.mark.parametrize("kind", [AutoMixConfig, SAMixConfig])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("alpha", 0.0, "a finite alpha > 0, got 0"),
        ("alpha", float("nan"), "alpha"),
        ("lam_margin", 1.5, "0 <= lam_margin < 1, got 1.5"),
        ("lam_margin", -0.1, "lam_margin"),
        ("upsample", "cubic", "upsample: one of bilinear, nearest, bicubic, got cubic"),
        ("mask_loss", "l2", "mask_loss: one of l1, l1.variance, got l2"),
        ("mask_loss_weight", -1.0, "mask_loss_weight >= 0"),
        ("mask_loss_weight", float("inf"), "mask_loss_weight >= 0"),
        ("mask_loss_margin", 1.1, "mask_loss_margin in .0, 1., got 1.1"),
        ("mask_loss_decay", "cosine", "mask_loss_decay: one of constant, linear, compound-cosine"),
        ("switch_off", 2.0, "switch_off"),
        ("mask_adjust", -0.1, "mask_adjust"),
        ("feature_stage", -2, "feature_stage >= -1"),
        ("ema", 1.1, "ema"),
        ("ema_start", 1.1, "ema_start"),
    ],
)
def test_impossible_options_are_refused(
    kind: type[AutoMixConfig] | type[SAMixConfig], option: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{option: value})  # type: ignore[arg-type]


def test_options_of_one_method_are_refused_too() -> None:
    with pytest.raises(ValueError, match="att_norm: one of none, layer, got batch"):
        AutoMixConfig(att_norm="batch")  # type: ignore[arg-type]
    for k in (-2.0, 11.0):
        with pytest.raises(ValueError, match="lam_mul_k = -1 or in"):
            SAMixConfig(lam_mul_k=k)
    with pytest.raises(ValueError, match="value_dropout in"):
        SAMixConfig(value_dropout=1.0)


def test_samix_has_automix_options_but_for_the_generator_s() -> None:
    automix, samix = asdict(AutoMixConfig()), asdict(SAMixConfig())
    assert automix.keys() - samix.keys() == {
        "lam_concat",
        "head_one_mix",
        "att_norm",
        "mask_source",
    }
    assert samix.keys() - automix.keys() == {"lam_mul_k", "value_dropout"}
    assert {k: samix[k] for k in samix.keys() & automix.keys() if samix[k] != automix[k]} == {
        "upsample": "bilinear",
        "mask_loss": "l1+variance",
        "mask_adjust": 0.25,
    }


def test_options_reach_the_generator() -> None:
    automix = method(AutoMixConfig(upsample="bicubic", lam_concat=True, att_norm="layer"))
    assert isinstance(automix, AutoMix)
    block = automix.generator
    assert isinstance(block, MixBlock)
    assert (block.mode, block.lam_concat, block.factor) == ("bicubic", True, 4)
    assert block.query.ln is not None
    samix = method(SAMixConfig(upsample="nearest", lam_mul_k=-1.0, value_dropout=0.1))
    assert isinstance(samix, SAMix)
    assert (samix.generator.mode, samix.generator.lam_mul_k) == ("nearest", -1.0)
    assert samix.generator.value.dropout.p == 0.1
    early = method(AutoMixConfig(feature_stage=1))
    assert (early.generator.channels, early.generator.factor) == (8, 2)


@pytest.mark.parametrize("kind", [AutoMix, SAMix])
def test_a_network_without_a_map_is_refused(kind: type[AutoMix] | type[SAMix]) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES))
    setup = Setup(rng=np.random.default_rng(0), input_size=(3, SIDE, SIDE), arch="plain")
    config = AutoMixConfig() if kind is AutoMix else SAMixConfig()
    with pytest.raises(UsageError):
        kind(plain, config, setup)
