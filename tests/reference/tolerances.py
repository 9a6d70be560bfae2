"""provisional"""

from collections.abc import Mapping

import torch
from torch import Tensor

MASK = 3e-6
SCALAR = 1e-6
IMAGE = 1e-5
MAP = 1e-4
STEP_MASK = 3e-5
LOGITS = 1e-4
LOSS = 1e-5
GRADIENT = 1e-4
CANCELLED = 2e-6
RUNNING = 3e-5
PARAMETER = 1e-6
KINK = 1e-4


def largest(tensor: Tensor) -> float:
    return float(tensor.detach().abs().max())


def spread(tensor: Tensor) -> float:
    return float(tensor.max() - tensor.min())


def close(what: str, got: Tensor | None, want: Tensor, limit: float) -> None:
    """Assert that no entry is off by more than ``limit``; NaN is."""
    assert got is not None, what
    assert got.shape == want.shape, what
    error = largest(got.detach().double() - want.double())
    assert error <= limit, f"{what}: off by {error:.3g}, allowed are {limit:.3g}"


def gradient_limits(want: Mapping[str, Tensor]) -> dict[str, float]:
    most = max(largest(tensor) for tensor in want.values())
    return {n: max(GRADIENT * largest(tensor), CANCELLED * most) for n, tensor in want.items()}


def norm_limit(limit: float, of: Tensor) -> float:
    return limit * of.numel() ** 0.5


def sum_limit(limit: float, of: Tensor) -> float:
    return limit * of.numel()


def image_limit(want: Tensor) -> float:
    return IMAGE * spread(want)


def mask_limit(want: Tensor) -> float:
    return STEP_MASK


def logits_limit(want: Tensor) -> float:
    return LOGITS * largest(want)


def loss_limit(want: Tensor) -> float:
    return LOSS * max(1.0, largest(want))


def map_limit(want: Tensor) -> float:
    return MAP * largest(want)


def mask_loss_limit(want: Tensor) -> float:
    return 0.1 * STEP_MASK * 3


def running_limits(want: Mapping[str, Tensor]) -> dict[str, float]:
    limits = {}
    for name, tensor in want.items():
        scale = largest(tensor) if tensor.is_floating_point() else 0.0
        variance = want.get(name.replace("running_mean", "running_var"))
        if name.endswith("running_mean") and variance is not None:
            scale = max(scale, largest(variance) ** 0.5)
        limits[name] = RUNNING * scale
    return limits


class Drift:
    """How far parameters may be off after steps of SGD, whose gradients were within limits."""

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.velocity: dict[str, float] = {}
        self.way: dict[str, float] = {}

    def step(self, gradients: Mapping[str, float], rates: Mapping[str, float]) -> None:
        for name, limit in gradients.items():
            self.velocity[name] = self.momentum * self.velocity.get(name, 0.0) + limit
            self.way[name] = self.way.get(name, 0.0) + rates[name] * self.velocity[name]

    def limit(self, name: str, want: Tensor) -> float:
        return PARAMETER * largest(want) + self.way.get(name, 0.0)


def undecided_share(logits: Tensor) -> float:
    """Return the share of rows whose two largest entries are closer than rounding tells apart."""
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    return float((first - second <= 2 * logits_limit(logits)).double().mean())
