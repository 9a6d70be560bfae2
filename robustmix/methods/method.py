"""What every training method gives the loop: a loss to minimise and a network to deploy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.losses import BinaryLoss
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a method is built with, beside its network and its config."""

    rng: np.random.Generator
    """Source of everything that the method draws while it trains."""

    label_smoothing: float = 0.0
    """eps in [0, 1) of every cross-entropy."""

    bce: BinaryLoss | None = None
    """How binary cross-entropy takes the place of cross-entropy; None keeps that. Only methods that
    say ``bce`` in their row are given one."""

    input_size: tuple[int, int, int] = (3, 32, 32)
    """(3, H, W) of the images."""

    num_classes: int = 0
    """K, the number of the data set's labels; 0 if unknown."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What was subtracted from the images, a number a channel, in [0, 1] pixel units."""

    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What they were divided by, same unit."""

    weights: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    """Source of the initial weights of whatever the method adds to the network; on the CPU."""

    arch: str = ""
    """Name of the network, for messages."""


class StepResult(NamedTuple):
    """What one batch gives."""

    loss: Tensor
    """What to minimise, a scalar in float32 that carries the gradient."""

    logs: Mapping[str, Tensor]
    """Detached scalars, each a mean over the batch."""


class Mixed(NamedTuple):
    """A batch after mixing."""

    images: Tensor
    """(N, C, H, W), a new tensor."""

    lam: float
    """Weight of each image's own label, in [0, 1]; the partner's label has the rest."""


class Method(Protocol):
    """A training method; in fact an ``nn.Module``, whose state is what resuming needs.

    It owns every network it trains, and the numpy generator that its draws come from. The loop
    saves that generator apart from the module's state.
    """

    def training_step(self, batch: Batch) -> StepResult:
        """Return the loss of one batch of normalised images (N, 3, H, W)."""
        ...

    def classifier(self) -> nn.Module:
        """Return the network that is evaluated and deployed: normalised images -> logits."""
        ...


class SplitMethod(Method, Protocol):
    """A method whose step is two parts: what it draws on the processor, and what it computes.

    The second part is compiled where that is asked for, and waits for nothing. Of one step:
    ``compute(batch, uploaded(draw(batch), device))``.
    """

    def draw(self, batch: Batch) -> Any:
        """Return all that is random in a step, in nested tuples; see ``uploaded``.

        It looks at the shape of a batch, not into it. Numbers that differ from step to step are
        floats and tensors; integers, truth values and None choose the code that computes, so
        there are few different ones.
        """
        ...

    def compute(self, batch: Batch, draws: Any) -> StepResult:
        """Return the loss of one batch for draws on its device; reads no number from there."""
        ...


def splits(method: object) -> bool:
    """Return whether a method's ``draw`` and ``compute`` are its ``training_step`` in two parts.

    They are not where a class replaces ``training_step``, or the ``mix`` that it calls, of one that
    it inherits the parts from; nor where a method says by ``one_graph = False`` that what it
    computes cannot be traced once for all draws.
    """
    if not getattr(method, "one_graph", True):
        return False
    order = type(method).__mro__

    def place(name: str) -> int:
        return next((i for i, owner in enumerate(order) if name in vars(owner)), len(order))

    parts = max(place("draw"), min(place("compute"), place("blend")))
    return parts < len(order) and parts <= min(place("training_step"), place("mix"))


def split_step(method: SplitMethod, batch: Batch) -> StepResult:
    """Return what a step's two parts make of a batch, one after the other."""
    return method.compute(batch, uploaded(method.draw(batch), batch.images.device))


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of rows whose largest logit is the label's, a float32 scalar."""
    return (logits.detach().argmax(dim=1) == labels).float().mean()


def require(ok: bool, want: str, got: object) -> None:
    """Raise ValueError, naming what a config wants and what it got, unless ``ok``."""
    if not ok:
        raise ValueError(f"expected {want}, got {got}")
