"""What every training method gives the loop: a loss to minimise and a network to deploy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

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

    allow_download: bool = False
    """Whether published weights that are not in the local cache are fetched."""


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

    A method that must decide on the processor in the middle of a step, by what a device found, has
    ``decide`` as well, see ``Deciding``.
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


Run: TypeAlias = Callable[..., Any]
"""``run(part, *arguments)`` calls a bound method that computes on a device, compiled perhaps."""


@runtime_checkable
class Deciding(Protocol):
    """A method that decides on the processor between two parts of its step: graph cuts, say."""

    def decide(self, batch: Batch, draws: Any, run: Run) -> Any:
        """Return what ``compute`` gets in place of the draws, in nested tuples.

        Args:
            batch: N images.
            draws: as ``draw`` returns them, on the CPU.
            run: calls those of the method's parts that compute on the device. Each is traced by
                itself, so it is under the same rules as ``compute`` is.
        """
        ...


def splits(method: object) -> bool:
    """Return whether a method's ``draw`` and ``compute`` are its ``training_step`` in two parts.

    They are not where a class replaces ``training_step``, or the ``mix`` that it calls, of one that
    it inherits the parts from.
    """
    order = type(method).__mro__

    def place(name: str) -> int:
        return next((i for i, owner in enumerate(order) if name in vars(owner)), len(order))

    parts = max(place("draw"), min(place("compute"), place("blend")))
    return parts < len(order) and parts <= min(place("training_step"), place("mix"))


def at_once(part: Callable[..., Any], *arguments: Any) -> Any:
    """Call a part of a step as it is; the plainest ``Run``."""
    return part(*arguments)


def decided(method: object, batch: Batch, draws: Any, run: Run = at_once) -> Any:
    """Return what ``compute`` or ``blend`` is given for draws on the CPU, on the batch's device."""
    if isinstance(method, Deciding):
        draws = method.decide(batch, draws, run)
    return uploaded(draws, batch.images.device)


def split_step(method: SplitMethod, batch: Batch, run: Run = at_once) -> StepResult:
    """Return what the parts of a step make of a batch, one after the other."""
    result: StepResult = run(method.compute, batch, decided(method, batch, method.draw(batch), run))
    return result


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of rows whose largest logit is the label's, a float32 scalar."""
    return (logits.detach().argmax(dim=1) == labels).float().mean()


def require(ok: bool, want: str, got: object) -> None:
    """Raise ValueError, naming what a config wants and what it got, unless ``ok``."""
    if not ok:
        raise ValueError(f"expected {want}, got {got}")
