"""A step in two parts: draws on the processor, computation on the device."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.pretended_gpu import GPU, OnGPU, pretended_gpu
from robustmix.data.loader import Batch
from robustmix.methods import METHODS, Mixup, PairMixing
from robustmix.methods.method import StepResult, splits
from robustmix.methods.mixing import Blend
from robustmix.methods.vanilla import Vanilla
from robustmix.upload import uploaded


class Inner(NamedTuple):
    lam: float
    perm: Tensor


class Draws(NamedTuple):
    inner: Inner
    chosen: bool
    nothing: None
    few: tuple[float, ...]
    shape: Tensor
    empty: Tensor


def test_draws_come_to_the_device_in_one_copy_that_nothing_waits_for() -> None:
    made = Draws(
        Inner(0.1, torch.tensor([3, 1, 2])),
        True,
        None,
        (0.25, 1 / 3),
        torch.tensor([[True, False, True]]),
        torch.zeros(0, 2),
    )
    with pretended_gpu() as count:
        there = uploaded(made, GPU)
        assert (sum(count.uploads.values()), sum(count.waits.values())) == (1, 0)
        assert isinstance(there.inner, Inner)
        assert (there.chosen, there.nothing) == (True, None)
        found: list[Any] = [there.inner.lam, there.inner.perm, *there.few, there.shape, there.empty]
        assert all(type(tensor) is OnGPU for tensor in found)
        assert [tensor.tolist() for tensor in found] == [
            0.1,
            [3, 1, 2],
            0.25,
            1 / 3,
            [[True, False, True]],
            [],
        ]
        assert found[0].dtype == torch.float64
        assert tuple(found[-1].shape) == (0, 2)


def test_a_float_computes_alike_as_a_tensor() -> None:
    rng = np.random.default_rng(0)
    images = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    for lam in rng.random(50).tolist():
        (tensor,) = uploaded((lam,), torch.device("cpu"))
        assert torch.equal(
            lam * images + (1 - lam) * images, tensor * images + (1 - tensor) * images
        )


class OwnMix(PairMixing):
    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        raise NotImplementedError


class MixOver(Mixup):
    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        raise NotImplementedError


class StepOver(Vanilla):
    def training_step(self, batch: Batch) -> StepResult:
        raise NotImplementedError


class PartOver(Vanilla):
    def compute(self, batch: Batch, draws: tuple[()]) -> StepResult:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "apart"),
    [
        (Vanilla, True),
        (Mixup, True),
        (PartOver, True),
        (OwnMix, False),
        (MixOver, False),
        (StepOver, False),
        (torch.nn.Identity, False),
    ],
)
def test_parts_are_taken_only_where_they_are_the_step(kind: type, apart: bool) -> None:
    assert splits(object.__new__(kind)) == apart


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_step_in_parts(name: str) -> None:
    assert splits(object.__new__(METHODS.load(name)))
