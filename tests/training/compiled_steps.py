"""Steps that are made twice, eagerly and traced, and must come to the same."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods import Setup
from robustmix.methods.registry import build_method
from robustmix.models.resnet import ResNet

N, CLASSES, SIDE = 6, 5, 16

STEPS = 12
"""Enough for every draw to show each of its sides."""


class Made(NamedTuple):
    """What a step left."""

    loss: Tensor
    logs: dict[str, Tensor]
    gradients: list[Tensor]


def tiny_batch(seed: int = 0) -> Batch:
    """Return six random images of 16 pixels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(N, 3, SIDE, SIDE, generator=generator)
    return Batch(images, torch.arange(N) % CLASSES, torch.arange(N))


def tiny_method(name: str, **options: Any) -> Any:
    """Return a method around a network of two blocks, the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ResNet(CLASSES, block="basic", depths=(1, 1), stem="cifar", width=4)
    rng = np.random.default_rng(0)
    setup = Setup(
        rng=rng,
        input_size=(3, SIDE, SIDE),
        num_classes=CLASSES,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        arch="tiny",
    )
    return build_method(name, network, options, setup)


def made(
    method: Any, step: Callable[[Batch], Any], batch: Batch, number: int, *, bf16: bool = False
) -> Made:
    """Make a step and its backward pass, with torch's own stream as it is at this number."""
    method.train().zero_grad()
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        torch.manual_seed(number)
        result = step(batch)
    torch.autograd.backward(result.loss)
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    if hasattr(method, "after_step"):
        method.after_step(number, STEPS // 2)  # so that whatever decays comes to its end
    return Made(result.loss.detach(), dict(result.logs), gradients)


def assert_same(got: Made, want: Made, *, loss: float = 1e-6, gradient: float = 1e-6) -> None:
    """Compare what two steps left.

    Args:
        got: of the one that was traced.
        want: of the other.
        loss: tolerance, as a share of it; sums may be added in another order.
        gradient: tolerance, as a share of the largest entry of all gradients.
    """
    torch.testing.assert_close(got.loss, want.loss, rtol=loss, atol=0)
    assert got.logs.keys() == want.logs.keys()
    largest = max(float(g.abs().max()) for g in want.gradients)
    for left, right in zip(got.gradients, want.gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=gradient * largest)
