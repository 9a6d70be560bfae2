"""A step has at most four variants, however many steps are made, and keeps its numbers in each."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from robustmix.methods import Setup
from robustmix.methods.generators.adaptive_mask import AdaptiveMask
from robustmix.methods.registry import build_method
from robustmix.training.compiled import compiled_step, why_eager
from tests.methods.test_every_method import built, digits
from tests.training.compiled_steps import (
    STEPS,
    N,
    assert_same,
    made,
    tiny_batch,
    tiny_method,
)

MOST = 4
"""Variants of a step."""

MASKED: list[tuple[str, dict[str, Any], int]] = [
    ("automix", {}, 1),
    ("samix", {"mask_adjust": 0.5}, 1),
    ("adautomix", {}, 2),
]
"""Methods, options, and the variants that their draws come to in twelve steps."""

OTHERS: list[tuple[str, dict[str, Any], int]] = [
    ("automix", {"mask_loss_decay": "linear", "switch_off": 0.5}, 4),
    ("automix", {"head_one_mix": True}, 2),
    ("adautomix", {"switch_off": 0.5}, 3),
    ("adautomix", {"random_samples": True}, 4),
    ("adautomix", {"gen_loss_net": "student"}, 2),
    ("adautomix", {"mask_guard": True, "mix_samples": 2, "lam_concat": True}, 2),
]
"""The same of options that are rarer."""


@pytest.mark.parametrize(
    ("name", "options", "variants"),
    [*MASKED, *(pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS)],
    ids=str,
)
def test_learned_masks_take_few_traces(name: str, options: dict[str, Any], variants: int) -> None:
    """Adversarial or not, a plain mixture or not: the first is traced twice, the second once."""
    torch._dynamo.reset()
    batch, counter = tiny_batch(), CompileCounter()
    eager, traced = (tiny_method(name, lam_margin=0.3, **options) for _ in range(2))
    step = compiled_step(traced, N, "", backend=counter)
    assert step is not None
    seen = set()
    draw = traced.draw

    def noted(batch: Any) -> Any:
        found = draw(batch)
        seen.add((getattr(found, "adversarial", None), bool(found.plain)))
        return found

    traced.draw = noted
    for number in range(STEPS):
        assert_same(
            made(traced, step, batch, number), made(eager, eager.training_step, batch, number)
        )
    assert len(seen) == (4 if name == "adautomix" else 2), seen  # every kind of step was made
    assert counter.frame_count == variants <= MOST
    torch._dynamo.reset()


SIZES: list[tuple[str, dict[str, Any], int]] = [
    ("snapmix", {"double_same_class": True}, 1),
    ("resizemix", {"interpolation": "bilinear"}, 1),
    ("attentivemix", {}, 1),
    ("augmix", {}, 1),
    ("co-mixup", {}, 2),
    ("supermix", {}, 3),
    ("puzzlemix", {"max_blocks": 2}, 2),
]
"""Methods whose draws are of every size, and their traces: of all parts, where there is more than
one."""


@pytest.mark.parametrize(("name", "options", "variants"), SIZES, ids=str)
def test_other_sizes_trace_nothing_anew(name: str, options: dict[str, Any], variants: int) -> None:
    """Boxes, cells and groups of images; sums within boxes are added in another order."""
    torch._dynamo.reset()
    batch, counter = digits(), CompileCounter()
    eager, traced = (built(name, **options) for _ in range(2))
    step = compiled_step(traced, len(batch.labels), "", backend=counter)
    assert step is not None
    for number in range(STEPS):
        want = made(eager, eager.training_step, batch, number)
        assert_same(made(traced, step, batch, number), want, gradient=1e-5)
    assert counter.frame_count == variants
    torch._dynamo.reset()


INSIDE = [
    ("manifoldmix", "timm:test_vit", 3),
    ("manifoldmix", "timm:test_convnext", 3),
    ("alignmix", "timm:test_convnext", 4),
    ("transmix", "timm:test_vit", 2),
]
"""Methods, networks of timm, and the most variants."""


@pytest.mark.parametrize(
    ("name", "arch", "most"),
    [one if one[0] == "transmix" else pytest.param(*one, marks=pytest.mark.slow) for one in INSIDE],
)
def test_networks_of_timm_are_mixed_inside_in_a_trace(name: str, arch: str, most: int) -> None:
    torch._dynamo.reset()
    batch, counter = digits(), CompileCounter()
    eager, traced = (built(name, arch=arch) for _ in range(2))
    step = compiled_step(traced, len(batch.labels), "", backend=counter)
    assert step is not None
    for number in range(STEPS):
        want = made(eager, eager.training_step, batch, number)
        assert_same(made(traced, step, batch, number), want)
    assert 2 <= counter.frame_count <= most
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_swin_transformer_is_tapped_in_a_trace() -> None:
    torch._dynamo.reset()
    batch = digits()
    setup: dict[str, Any] = {"input_size": (3, 32, 32), "num_classes": 10}

    def method() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sizes: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
            network = SwinTransformer(
                img_size=32,
                patch_size=2,
                window_size=4,
                num_classes=10,
                drop_path_rate=0.0,
                **sizes,
            )
        return build_method("automix", network, {}, Setup(rng=np.random.default_rng(0), **setup))

    eager, traced = method(), method()
    step = compiled_step(traced, len(batch.labels), "", backend=CompileCounter())
    assert step is not None
    for number in range(2):
        want = made(eager, eager.training_step, batch, number)
        assert_same(made(traced, step, batch, number), want)
    torch._dynamo.reset()


@pytest.mark.parametrize("broken", [False, True])
def test_the_guard_of_masks_is_traced(broken: bool) -> None:
    """Masks that are no numbers are mended in the same way as eagerly, gradients included."""
    torch._dynamo.reset()
    maps = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    if broken:
        maps[1, 0, 0, 0] = float("nan")
    index = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1]])
    found: list[tuple[Tensor, list[Tensor]]] = []
    generator = AdaptiveMask(8, factor=2, guard=True)

    def masks(maps: Tensor) -> Tensor:
        return generator.masks(generator.project(maps), index, (0.5, 0.5))

    for make in (masks, torch.compile(masks, fullgraph=True, backend="aot_eager")):
        generator.zero_grad()
        made_masks = make(maps)
        torch.autograd.backward(made_masks.square().sum())
        found.append((made_masks.detach(), [p.grad for p in generator.parameters()]))  # type: ignore[misc]
    (want, own), (got, theirs) = found
    assert bool(got.isfinite().all())
    torch.testing.assert_close(got, want)
    for left, right in zip(theirs, own, strict=True):
        torch.testing.assert_close(left, right, equal_nan=True)
        assert bool(left.isfinite().all()) or broken
    torch._dynamo.reset()


def test_a_guard_that_a_norm_would_notice_is_not_traced() -> None:
    method = tiny_method("adautomix", mask_guard=True, att_norm=True)
    assert why_eager(method) == "mask_guard with att_norm looks at its masks"
    assert compiled_step(method, N, "") is None


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("mixup", False),
        ("mixup", True),
        ("automix", True),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in itertools.product(["automix", "adautomix"], [False, True])
            if one != ("automix", True)
        ),
    ],
)
def test_precision_and_layout_go_with_it(name: str, bf16: bool) -> None:
    """The loss to 1e-6. Gradients of weights that are used twice meet in bf16: 2^-8 of it."""
    torch._dynamo.reset()
    layout = torch.channels_last
    batch = tiny_batch()
    batch = batch._replace(images=batch.images.contiguous(memory_format=layout))
    eager, traced = (tiny_method(name).to(memory_format=layout) for _ in range(2))
    step = compiled_step(traced, N, "", backend="aot_eager")
    assert step is not None
    for number in range(2):  # one of AdAutoMix's two kinds each
        want = made(eager, eager.training_step, batch, number, bf16=bf16)
        got = made(traced, step, batch, number, bf16=bf16)
        assert_same(got, want, gradient=2**-8 if bf16 else 1e-6)
    torch._dynamo.reset()
