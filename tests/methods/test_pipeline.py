"""AutoMix's momentum pipeline as an option, and masks from random grids: Tables 9 and 10.

Most is held against a second implementation in plain torch: two networks, their passes in order,
and averages folded by hand.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.methods.automix import AutoMix, AutoMixConfig, SAMix, SAMixConfig
from robustmix.methods.cutmix import CutMix, CutMixConfig, in_boxes
from robustmix.methods.generators.random_grids import RandomGrids, draw_grid
from robustmix.methods.method import Setup
from robustmix.methods.mixup import Mixup, MixupConfig, MixupDraws
from robustmix.methods.momentum_mixing import MomentumMixing
from robustmix.methods.momentum_pair import ema_momentum
from robustmix.methods.pair_masks import AutoMixDraws, PairMasks, draw_automix
from robustmix.methods.registry import method_config, options_without_effect
from robustmix.models import load_model
from robustmix.models.checkpoint import read_checkpoint, save_checkpoint
from robustmix.models.resnet import ResNet
from robustmix.models.taps import classifier_layer
from robustmix.training.resolve import resolve_recipe
from tests.training.runs import assert_same_run, log, small_train, stop_after

CLASSES, SIDE, N = 7, 16, 5
LABELS = torch.tensor([0, 3, 6, 2, 3])
MB, BB = torch.tensor([4, 0, 1, 2, 3]), torch.tensor([2, 3, 0, 4, 1])


def network() -> ResNet:
    torch.manual_seed(0)
    return ResNet(CLASSES, block="basic", depths=(1, 1, 1, 1), stem="cifar", width=4)


def setup(seed: int = 0, smoothing: float = 0.0) -> Setup:
    return Setup(
        rng=np.random.default_rng(seed),
        label_smoothing=smoothing,
        input_size=(3, SIDE, SIDE),
        weights=torch.Generator().manual_seed(1),
    )


def batch(seed: int = 0) -> Batch:
    images = torch.randn(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return Batch(images, LABELS, torch.arange(N))


def backward(loss: Tensor) -> None:
    torch.autograd.backward(loss)


def mixed_loss(logits: Tensor, partners: Tensor, lam: float) -> Tensor:
    return lam * F.cross_entropy(logits, LABELS) + (1 - lam) * F.cross_entropy(logits, partners)


class Hand:
    """Student, teacher and heads of plain torch, with the initial weights of a method's pair."""

    def __init__(self, method: MomentumMixing | PairMasks) -> None:
        assert method.pair is not None
        pair = method.pair
        self.q = copy.deepcopy(pair.network_q)
        self.k = copy.deepcopy(pair.network_k)
        self.two = pair.two_heads
        self.mix_q, self.mix_k = (copy.deepcopy(h) for h in (pair.head_mix_q, pair.head_mix_k))
        both = [*self.q.parameters(), *(self.mix_q.parameters() if self.two else ())]
        self.optimizer = torch.optim.SGD(both, lr=0.2, momentum=0.9)

    def pooled(self, net: nn.Module, images: Tensor) -> Tensor:
        assert isinstance(net, ResNet)
        return net.forward_features(images)[-1].mean(dim=(2, 3))

    def mix_logits(self, images: Tensor) -> Tensor:
        pooled = self.pooled(self.q, images)
        logits: Tensor = (self.mix_q if self.two else classifier_layer(self.q))(pooled)
        return logits

    def descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        backward(loss)
        self.optimizer.step()

    def average(self, momentum: float) -> None:
        pairs = [(self.k, self.q), *([(self.mix_k, self.mix_q)] if self.two else [])]
        with torch.no_grad():
            for teacher, student in pairs:
                for k, q in zip(teacher.parameters(), student.parameters(), strict=True):
                    k.copy_(k * momentum + q * (1 - momentum))


def mixes(config: MixupConfig | CutMixConfig) -> MomentumMixing:
    if isinstance(config, MixupConfig):
        return Mixup(network(), config, setup()).train()
    return CutMix(network(), config, setup()).train()


def by_hand(images: Tensor, draws: Any) -> tuple[Tensor, float]:
    """Mix once more: MixUp as a sum, CutMix pixel by pixel."""
    partners = images[draws.perm]
    if isinstance(draws, MixupDraws):
        return draws.lam * images + (1 - draws.lam) * partners, draws.lam
    top, bottom, left, right = draws.box.tolist()
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
    assert int(in_boxes(draws.box, (SIDE, SIDE)).sum()) == (bottom - top) * (right - left)
    return mixed, 1 - (bottom - top) * (right - left) / SIDE**2


@pytest.mark.parametrize("pipeline", ["mp", "mp+ce"])
@pytest.mark.parametrize("config", [MixupConfig(), CutMixConfig(alpha=1.0)], ids=repr)
def test_steps_of_mixing_with_a_pipeline_are_those_by_hand(
    config: MixupConfig | CutMixConfig, pipeline: Any
) -> None:
    """Four steps: losses, the student, the teacher's weights and its statistics, to the bit."""
    config = replace(config, pipeline=pipeline, ema=0.5, ema_end=0.75, ema_start=0.5)
    method, total = mixes(config), 4
    hand = Hand(method)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.2, momentum=0.9)
    for step in range(total):
        images = batch(step).images
        draws = method.draw(batch(step))
        loss, logs = method.compute(batch(step), draws)
        with torch.no_grad():
            hand.k(images)
        want = torch.zeros(())
        if pipeline == "mp+ce":
            clean = F.cross_entropy(hand.q(images), LABELS)
            torch.testing.assert_close(logs["loss_one_q"], clean.detach(), rtol=1e-6, atol=0)
            want = want + clean
        mixed, lam = by_hand(images, draws)
        logits = hand.mix_logits(mixed)
        mix = mixed_loss(logits, LABELS[draws.perm], lam)
        torch.testing.assert_close(logs["loss_mix_q"], mix.detach(), rtol=1e-6, atol=0)
        want = want + mix
        torch.testing.assert_close(loss, want, rtol=1e-6, atol=0)
        assert float(logs["acc_mix_q"]) == float((logits.argmax(1) == LABELS).float().mean())
        optimizer.zero_grad()
        backward(loss)
        optimizer.step()
        method.before_step(step, total)
        method.after_step(step, total)
        hand.descend(want)
        hand.average(ema_momentum(step, total, base=0.5, end=0.75, start=0.5))
        assert method.pair is not None
        for ours, theirs in ((method.pair.network_q, hand.q), (method.pair.network_k, hand.k)):
            for name, value in theirs.state_dict().items():
                torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert method.classifier() is method.pair.network_k  # type: ignore[union-attr]


def test_without_a_pipeline_there_is_one_network() -> None:
    method = mixes(MixupConfig())
    assert method.pair is None
    assert method.classifier() is method.network
    assert {name.partition(".")[0] for name in method.state_dict()} == {"network"}
    paired = mixes(MixupConfig(pipeline="mp"))
    assert {name.partition(".")[0] for name in paired.state_dict()} == {"pair"}
    assert len(list(paired.parameters())) == 2 * len(list(method.parameters()))


def test_a_network_without_batch_norm_saves_the_teachers_pass() -> None:
    from robustmix.models.registry import build_model

    vit = build_model("timm:test_vit", num_classes=CLASSES, input_size=(3, 32, 32))
    method = Mixup(vit, MixupConfig(pipeline="mp"), replace(setup(), input_size=(3, 32, 32)))
    assert method.step_cost() == 3
    assert mixes(MixupConfig(pipeline="mp")).step_cost() == 4


def count_passes(method: nn.Module, networks: list[nn.Module]) -> Callable[[], float]:
    made = 0.0

    def add(module: Any, inputs: Any, output: Any) -> None:
        nonlocal made
        made += len(output) / N

    for net in networks:
        next(m for m in net.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(add)
    return lambda: made


@pytest.mark.parametrize(
    ("pipeline", "forward", "cost"), [("none", 1, 3), ("mp", 2, 4), ("mp+ce", 3, 7)]
)
def test_what_a_step_of_mixup_costs(pipeline: Any, forward: int, cost: int) -> None:
    method = mixes(MixupConfig(pipeline=pipeline))
    pair = method.pair
    passes = count_passes(
        method, [method.network] if pair is None else [pair.network_q, pair.network_k]
    )
    method.training_step(batch())
    assert passes() == forward
    assert method.step_cost() == method.config.least_cost() == cost
    assert f"{cost} F a step" in method.passes()


# AutoMix.


def pairs(config: AutoMixConfig | SAMixConfig) -> AutoMix | SAMix:
    made = AutoMix if isinstance(config, AutoMixConfig) else SAMix
    return made(network(), config, setup()).train()


DRAWS = AutoMixDraws(0.4, 0.7, MB, BB)


def test_with_mp_alone_the_student_learns_mixtures_by_the_deployed_head() -> None:
    method = pairs(AutoMixConfig(pipeline="mp"))
    hand = Hand(method)
    terms = method.step(batch(), DRAWS)
    assert terms.loss_one_q is None
    assert terms.acc_one_q is None
    assert terms.loss_mix_k is not None
    assert terms.loss_mask is not None
    torch.testing.assert_close(terms.loss, terms.loss_mix_q + terms.loss_mix_k + terms.loss_mask)
    loss = mixed_loss(hand.mix_logits(terms.mixed_bb), LABELS[BB], 0.7)
    torch.testing.assert_close(terms.loss_mix_q, loss)
    with torch.no_grad():
        hand.k(batch().images)
        teacher = mixed_loss(hand.k(terms.mixed_mb), LABELS[MB], 0.4)
    torch.testing.assert_close(terms.loss_mix_k, teacher)
    backward(terms.loss)
    assert method.pair.network_q.fc.weight.grad is not None  # type: ignore[union-attr]
    assert method.pair.head_mix_q is method.pair.network_q.fc
    assert set(method.pair.heads_logits(batch().images)) == {"one_k", "one_q"}
    logs = terms.result().logs
    assert "loss_one_q" not in logs
    assert logs["top1"] == terms.acc_mix_q


@pytest.mark.parametrize("make", [AutoMixConfig, SAMixConfig])
@pytest.mark.parametrize("pipeline", ["mp", "mp+ce"])
def test_with_m_0_the_teacher_is_the_student_after_every_step(make: Any, pipeline: str) -> None:
    method = pairs(make(ema=0.0, ema_end=0.0, pipeline=pipeline))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.2, momentum=0.9)
    for step in range(3):
        before = [p.clone() for p in method.pair.network_q.parameters()]
        optimizer.zero_grad()
        backward(method.training_step(batch(step)).loss)
        optimizer.step()
        method.after_step(step, 3)
        pair = method.pair
        for k, q in zip(pair.network_k.parameters(), pair.network_q.parameters(), strict=True):
            assert torch.equal(k, q)
        assert torch.equal(pair.head_mix_k.weight, pair.head_mix_q.weight)
        assert not all(
            torch.equal(old, q) for old, q in zip(before, pair.network_q.parameters(), strict=True)
        )


@pytest.mark.parametrize("make", [AutoMixConfig, SAMixConfig])
def test_without_a_pipeline_one_loss_trains_network_and_generator(make: Any) -> None:
    method = pairs(make(pipeline="none"))
    pair, generator = method.pair, method.generator
    assert pair.network_k is pair.network_q
    twin, block = copy.deepcopy(pair.network_q), copy.deepcopy(generator)
    assert isinstance(twin, ResNet)
    terms = method.step(batch(), DRAWS)
    images = batch().images
    feature = twin.forward_features(images)[pair.tap.stage]
    masks = block(feature, BB, 0.7)
    mixed = masks[:, :1] * images + masks[:, 1:] * images[BB]
    loss = mixed_loss(twin(mixed), LABELS[BB], 0.7)
    assert terms.loss_mask is not None
    torch.testing.assert_close(terms.loss_mix_q, loss)
    torch.testing.assert_close(terms.loss, terms.loss_mix_q + terms.loss_mask)
    assert terms.loss_mix_k is None
    backward(terms.loss_mix_q)
    backward(loss)
    for ours, theirs in ((pair.network_q, twin), (generator, block)):
        others = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            assert parameter.grad is not None, name
            torch.testing.assert_close(parameter.grad, others[name].grad)
    statistics = {str(k): v for k, v in twin.state_dict().items() if "running" in k}
    for name, value in statistics.items():
        torch.testing.assert_close(pair.network_q.state_dict()[name], value)
    before = [p.clone() for p in pair.network_q.parameters()]
    method.after_step(0, 10)
    assert all(map(torch.equal, before, pair.network_q.parameters()))
    assert set(pair.heads_logits(images)) == {"one_k"}


def test_without_a_pipeline_masks_are_adjusted_to_their_own_weight() -> None:
    method = pairs(AutoMixConfig(pipeline="none"))
    terms = method.step(batch(), DRAWS._replace(adjust=True, lam_bb=0.25))
    images = batch().images
    shown = (terms.mixed_bb.detach() - images[BB]) / (
        images - images[BB]
    )  # the first mask, pixel by pixel
    assert float(shown.median()) == pytest.approx(0.25, abs=0.05)  # they start near 1/2
    plain = method.step(batch(), DRAWS._replace(lam_bb=0.05))
    torch.testing.assert_close(plain.mixed_bb, 0.05 * images + 0.95 * images[BB])


# Random grids.


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_a_grid_shows_the_second_sample_its_share(lam: float) -> None:
    size = (3, 5)
    grids = [draw_grid(size, lam, np.random.default_rng(seed)) for seed in range(300)]
    for grid in grids:
        assert grid.shape == size
        assert grid.dtype == torch.float32
        assert set(grid.flatten().tolist()) <= {0.0, 1.0}
        assert int(grid.sum()) == round((1 - lam) * 15)
    # All cells are as likely: 5 standard errors of 300 draws.
    p = round((1 - lam) * 15) / 15
    error = 5 * (p * (1 - p) / 300) ** 0.5
    assert float((torch.stack(grids).mean(dim=0) - p).abs().max()) <= error


def test_masks_of_a_grid_are_its_cells_enlarged() -> None:
    grid = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    masks = RandomGrids((2, 3), factor=2).masks(torch.empty(0), torch.tensor([1, 0]), grid)
    assert masks.shape == (2, 2, 4, 6)
    for row in range(4):
        for col in range(6):
            assert masks[0, 1, row, col] == grid[row // 2, col // 2]
            assert masks[1, 0, row, col] == 1 - grid[row // 2, col // 2]


def test_a_step_by_random_grids() -> None:
    method = pairs(AutoMixConfig(mask_source="grids"))
    hand = Hand(method)
    assert not list(method.generator.parameters())
    step = method.draw(batch())
    draws = step.draws
    assert draws.grid_mb is not None
    assert draws.grid_bb is not None
    assert draws.grid_bb.shape == method.pair.tap.size == (4, 4)
    terms = method.step(batch(), draws)
    images = batch().images
    large = F.interpolate(draws.grid_bb[None, None], scale_factor=4, mode="nearest")
    want = torch.where(large > 0, images[draws.index_bb], images)
    if not step.plain:
        torch.testing.assert_close(terms.mixed_bb, want, rtol=0, atol=0)
    one = F.cross_entropy(hand.q(images), LABELS)
    mix = mixed_loss(hand.mix_logits(terms.mixed_bb), LABELS[draws.index_bb], draws.lam_bb)
    torch.testing.assert_close(terms.loss, one + mix)
    assert terms.loss_mask is None
    assert terms.loss_mix_k is not None  # for the log; nothing learns of it
    assert not terms.loss_mix_k.requires_grad
    counts = {
        int(m.num_batches_tracked)
        for m in method.pair.network_k.modules()
        if isinstance(m, nn.BatchNorm2d) and m.num_batches_tracked is not None
    }
    assert counts == {2}


def test_grids_are_drawn_after_all_else_and_for_themselves_alone() -> None:
    config = AutoMixConfig(mask_source="grids", no_repeat=True)
    with_grids = draw_automix(N, (SIDE, SIDE), config, np.random.default_rng(3), (4, 4))
    without = draw_automix(N, (SIDE, SIDE), config, np.random.default_rng(3))
    assert without.grid_bb is None
    assert with_grids.lam_bb == without.lam_bb
    assert torch.equal(with_grids.index_mb, without.index_mb)
    assert with_grids.grid_mb is not None
    assert with_grids.grid_bb is not None
    for grid, lam in ((with_grids.grid_mb, without.lam_mb), (with_grids.grid_bb, without.lam_bb)):
        assert int(grid.sum()) == round((1 - lam) * 16)


@pytest.mark.parametrize(
    ("options", "forward", "cost"),
    [
        ({}, 4, 9),
        ({"pipeline": "mp"}, 3, 6),
        ({"pipeline": "none"}, 2, 6),
        ({"mask_source": "grids"}, 4, 8),
        ({"mask_source": "grids", "pipeline": "mp"}, 3, 5),
    ],
)
def test_what_a_step_of_automix_costs(options: dict[str, Any], forward: int, cost: int) -> None:
    method = pairs(AutoMixConfig(**options))
    networks = {id(net): net for net in (method.pair.network_q, method.pair.network_k)}
    passes = count_passes(method, list(networks.values()))
    method.training_step(batch())
    assert passes() == forward
    assert method.step_cost() == method.config.least_cost() == cost
    assert f"{cost} F a step: {forward} forward" in method.passes()


# Options.


@pytest.mark.parametrize(
    ("name", "options", "idle"),
    [
        ("mixup", {}, "ema ema_end ema_start"),
        ("cutmix", {"pipeline": "mp"}, ""),
        ("automix", {"pipeline": "none"}, "ema ema_end ema_start switch_off head_one_mix"),
        ("automix", {"pipeline": "mp"}, "head_one_mix"),
        ("samix", {"pipeline": "none"}, "ema ema_end ema_start switch_off"),
        (
            "automix",
            {"mask_source": "grids"},
            "lam_concat att_norm upsample mask_loss mask_loss_weight mask_loss_margin"
            " mask_loss_decay",
        ),
    ],
)
def test_options_that_do_nothing_under_a_pipeline(
    name: str, options: dict[str, Any], idle: str
) -> None:
    assert set(options_without_effect(name, options)) == set(idle.split())
    for key in idle.split():
        without = resolve_recipe(f"digits-resnet8-{name}").method_options
        default = without.get(key, getattr(method_config(name, {}), key))
        with pytest.raises(UsageError, match=f"method.{key} of given has no effect"):
            resolve_recipe(
                f"digits-resnet8-{name}",
                overrides={
                    **{f"method.{k}": v for k, v in options.items()},
                    f"method.{key}": default,
                },
            )


def test_grids_have_no_learning_rate_and_want_a_pipeline() -> None:
    grids = {"method.mask_source": "grids"}
    recipe = resolve_recipe("tiny-imagenet-resnet18-automix", overrides=grids)
    assert resolve_recipe("tiny-imagenet-resnet18-automix").generator_lr is not None
    assert recipe.generator_lr is None
    with pytest.raises(UsageError, match="generator_lr of given has no effect"):
        resolve_recipe("tiny-imagenet-resnet18-automix", overrides={**grids, "generator_lr": 0.1})
    with pytest.raises(ValueError, match="a pipeline with mask_source grids"):
        AutoMixConfig(mask_source="grids", pipeline="none")
    with pytest.raises(ValueError, match="pipeline: one of none, mp"):
        MixupConfig(pipeline="ce")  # type: ignore[arg-type]


# Runs.

RUNS: list[tuple[str, dict[str, Any]]] = [
    ("mixup", {"pipeline": "mp"}),
    ("cutmix", {"pipeline": "mp+ce"}),
    ("automix", {"pipeline": "none"}),
    ("automix", {"pipeline": "mp"}),
    ("automix", {"ema": 0.0, "ema_end": 0.0}),
    ("automix", {"mask_source": "grids"}),
    ("samix", {"pipeline": "none"}),
]


@pytest.mark.parametrize(("name", "options"), RUNS)
def test_a_run_resumes_exactly_and_deploys_what_was_validated(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {f"method.{key}": value for key, value in options.items()}
    whole = small_train(tmp_path / "whole", name, **changes)
    stopped = small_train(tmp_path / "parts", name, should_stop=stop_after(4), **changes)
    assert stopped.interrupted
    assert_same_run(whole, small_train(tmp_path / "parts", name, **changes))
    checkpoint = read_checkpoint(whole.last)
    assert checkpoint.weights == ("raw" if options.get("pipeline") == "none" else "ema")
    last = log(tmp_path / "whole")[-1]
    assert last["top1"] == last["acc_one_k"]
    test = load_dataset("digits", "test")
    chosen = test.subset([i * len(test) // 31 for i in range(31)])
    report = evaluate(load_model(whole.last), chosen, ["clean"])
    assert report.metric("clean.top1").value == pytest.approx(last["top1"], abs=1e-12)
    drawn = (tmp_path / "whole" / "pictures").exists()
    assert drawn == (name in ("automix", "samix"))


def test_a_run_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Its record lacks options that there were not; what they default to is what it did."""
    small_train(tmp_path, "mixup", should_stop=stop_after(4))
    path = tmp_path / "checkpoints" / "last.pth"
    old = read_checkpoint(path)
    method = {k: v for k, v in old.recipe["method"].items() if k != "pipeline"}
    assert set(method) == {"name", "alpha"}
    save_checkpoint(path, replace(old, recipe={**old.recipe, "method": method}))
    assert small_train(tmp_path, "mixup").epochs == 2
    save_checkpoint(path, replace(old, recipe={**old.recipe, "method": {**method, "alpha": 0.3}}))
    with pytest.raises(Exception, match=r"method\.alpha is 0\.3 there, 1\.0 here"):
        small_train(tmp_path, "mixup")
