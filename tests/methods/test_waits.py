"""No training step waits for the device: counted on a pretended GPU, its batch included."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.pretended_gpu import GPU, pretended_gpu
from benchmarks.waits import count_steps
from robustmix.data.loader import Batch
from robustmix.methods import METHODS
from robustmix.methods.generators.adaptive_mask import AdaptiveMask
from tests.methods.test_every_method import MIXERS, built, digits

WAITS: dict[str, float] = {
    "puzzlemix": 1,  # graphs are cut on the processor
    "co-mixup": 1,  # blocks are labelled on the processor
    "supermix": 1,  # after 1, 3, 7, ... steps of the masks it is looked who is done
}
"""Waits a step; a method that is not named has none. A figure may only fall."""


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_no_more_than_it_must(method: str) -> None:
    found = count_steps(method)
    assert found.waits == WAITS.get(method, 0), found.table


@pytest.mark.parametrize("method", MIXERS)
def test_a_step_that_does_not_look_computes_what_a_cpu_does(method: str) -> None:
    """To the bit, though plans, masks and blocks that are done only stand still on a device."""
    batch = digits()
    want = built(method).training_step(batch)
    with pretended_gpu():
        there = Batch(batch.images.to(GPU), batch.labels.to(GPU), batch.indices)
        got = built(method).to(GPU).training_step(there)
        assert torch.equal(got.loss.detach().cpu(), want.loss.detach())
        for name, value in want.logs.items():
            assert torch.equal(got.logs[name].cpu(), value), name


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("vanilla", {"augment.kind": "random-resized-crop", "augment.erase_prob": 0.9}),
    ("mixup", {"optimizer": "adamw", "lr": 1e-3, "ema_decay": 0.9, "grad_clip": 1.0}),
    ("adautomix", {"method.mix_samples": 2, "method.lam_concat": True}),
    ("adautomix", {"accumulate": 2, "method.passes": "plain"}),
    ("adautomix", {"method.gen_loss_net": "student"}),
    ("mixup", {"method.pipeline": "mp+ce"}),
    ("cutmix", {"method.pipeline": "mp", "accumulate": 2}),
    ("automix", {"method.pipeline": "none", "method.lam_concat": True}),
    ("automix", {"method.mask_source": "grids"}),
    ("samix", {"method.pipeline": "mp"}),
]


@pytest.mark.parametrize(("method", "changes"), SETTINGS)
def test_nor_does_a_step_under_other_settings(method: str, changes: dict[str, Any]) -> None:
    found = count_steps(method, **changes)
    assert found.waits == 0, found.table


@pytest.mark.parametrize("broken", [False, True])
def test_masks_are_guarded_without_a_look(broken: bool) -> None:
    maps = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    if broken:
        maps[1, 0, 0, 0] = float("nan")
    index = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1]])
    guarded = AdaptiveMask(8, factor=2, guard=True)
    with torch.no_grad(), pretended_gpu() as count:
        want = guarded.masks(guarded.project(maps), index, (0.5, 0.5))
        guarded.to(GPU)
        there, places = maps.to(GPU), index.to(GPU)
        count.clear()
        got = guarded.masks(guarded.project(there), places, (0.5, 0.5))
        assert sum(count.waits.values()) == 0
        assert torch.equal(got.cpu(), want)


def test_waits_are_told_from_what_goes_on_by_itself() -> None:
    """Each line with the waits that it has on a GPU, by the documentation of CUDA and torch."""
    with pretended_gpu() as count:
        x = torch.tensor([[1.0, -2.0], [3.0, 4.0]], device="cuda:0")
        small = torch.tensor([0])

        def waits() -> int:
            n = sum(count.waits.values())
            count.clear()
            return n

        assert waits() == 1  # made on the CPU, copied from pageable memory
        assert float(x.sum()) == 6
        assert waits() == 1
        assert x.tolist() == [[1, -2], [3, 4]]
        assert waits() == 1  # once, not once a number
        assert bool((x > 0).any())
        assert waits() == 1
        assert x[x > 0].shape == (3,)
        assert waits() == 1
        x[x < 0] = torch.tensor(0.0)  # a mask; the number goes along with the kernel
        assert waits() == 1
        assert len((x > 0).nonzero()) == 3
        assert waits() == 1
        assert x.cpu().numpy().sum() == 8
        assert waits() == 1
        x[small]
        assert waits() == 1  # indices of the CPU are copied first
        small.to("cuda:0", non_blocking=True)
        assert waits() == 1  # pageable memory
        small.pin_memory().to("cuda:0", non_blocking=True)
        assert (waits(), sum(count.uploads.values())) == (0, 0)  # cleared by ``waits``
        small.pin_memory()[:1].to("cuda:0", non_blocking=True)
        assert sum(count.uploads.values()) == 1
        torch.where(x > 1, x, 0.0).add_(x * 2).softmax(1)[:1].clamp(0, 1)
        torch.zeros(3, device="cuda:0")[x.argmax(1)]
        assert waits() == 0
        with pytest.raises(RuntimeError, match="two devices"):
            x + torch.ones(2)


def test_the_pretended_gpu_computes_what_the_cpu_does() -> None:
    """To the bit, over three steps of training with batch statistics and momentum."""

    def trained(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        net.append(nn.Linear(60, 5))
        net.to(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        rng = np.random.default_rng(0)
        for _ in range(3):
            images = torch.from_numpy(rng.random((7, 3, 5, 7), dtype=np.float32)).to(device)
            labels = torch.from_numpy(rng.integers(0, 5, 7)).to(device)
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(net(images), labels))
            optimizer.step()
        return [value.cpu() for value in net.state_dict().values()]

    with pretended_gpu() as count, torch.random.fork_rng(devices=[]):
        pretended = trained("cuda:0")
        assert count.operations["convolution"] == 3
    with torch.random.fork_rng(devices=[]):
        for one, other in zip(pretended, trained("cpu"), strict=True):
            assert torch.equal(one, other)
