"""Models whose attacks have known answers, and sample keys."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.rng import sample_keys
from robustmix.types import Model

SHAPE = (2, 3, 5)
SIZE = 2 * 3 * 5

Array = NDArray[np.float64]
Known = TypeVar("Known")


def known(value: Known | None) -> Known:
    """Return a field of an outcome that not every attack has."""
    assert value is not None
    return value


def linear(weight: Tensor, bias: float = 0.0) -> Model:
    """Two-class model whose margin is exactly weight . x + bias, so every optimum is known."""

    def model(images: Tensor) -> Tensor:
        margin = images.flatten(1) @ weight + bias
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)

    return model


def problem(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Model, Tensor]:
    """Return weight, images whose ball stays in [0, 1], the linear model and its own labels."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(SIZE, generator=generator)
    images = 0.5 + 0.1 * torch.rand(n, *SHAPE, generator=generator)
    model = linear(weight)
    return weight, images, model, model(images).argmax(dim=1)


class Curved:
    """A two-layer tanh network in float64, with its gradient derived by hand in numpy."""

    def __init__(self, classes: int, seed: int, lift: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.inner = rng.normal(size=(7, SIZE)) * 1.5
        self.outer = rng.normal(size=(classes, 7)) * 2
        self.shift = rng.normal(size=classes)
        self.shift[0] += lift  # a class that no small change leaves

    def __call__(self, images: Tensor) -> Tensor:
        hidden = torch.tanh((images.flatten(1) - 0.5) @ torch.from_numpy(self.inner).T)
        return hidden @ torch.from_numpy(self.outer).T + torch.from_numpy(self.shift)

    def logits(self, image: Array) -> Array:
        out: Array = self.outer @ np.tanh(self.inner @ (image - 0.5)) + self.shift
        return out

    def cross_entropy(self, image: Array, label: int) -> tuple[float, Array]:
        """Return loss and gradient for one flat image."""
        hidden = np.tanh(self.inner @ (image - 0.5))
        logits = self.outer @ hidden + self.shift
        shifted = logits - logits.max()
        p = np.exp(shifted) / np.exp(shifted).sum()
        loss = float(np.log(np.exp(shifted).sum()) - shifted[label])
        p[label] -= 1
        gradient: Array = self.inner.T @ ((1 - hidden**2) * (self.outer.T @ p))
        return loss, gradient


def curved_images(n: int, seed: int = 5) -> Tensor:
    """Return float64 images all over [0, 1], some of their values at its ends."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(n, *SHAPE, generator=generator, dtype=torch.float64)
    return (1.2 * spread - 0.1).clamp(0, 1)


def keys(n: int, trial: int = 0, seed: int = 0) -> Tensor:
    return sample_keys(seed, "test", "attack", trial, [f"sample/{i}" for i in range(n)])


def alone(attack: Callable[[Tensor, Tensor, Tensor], Tensor], *columns: Tensor) -> Tensor:
    """Return an attack's images when every sample is attacked by itself."""
    images, labels, own = columns
    return torch.cat(
        [attack(images[i : i + 1], labels[i : i + 1], own[i : i + 1]) for i in range(len(images))]
    )


def numpy_project(centre: Array, point: Array, norm: str, eps: float) -> Array:
    """Project one flat point, written apart from the code under test."""
    change = point - centre
    if norm == "linf":
        change = np.minimum(np.maximum(change, -eps), eps)
    elif np.sqrt((change**2).sum()) > eps:
        change = change * eps / np.sqrt((change**2).sum())
    return np.minimum(np.maximum(centre + change, 0), 1)


def numpy_direction(gradient: Array, norm: str) -> Array:
    if norm == "linf":
        return np.sign(gradient)
    out: Array = gradient / np.sqrt((gradient**2).sum())
    return out
