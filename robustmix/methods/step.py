"""What every training method gives the loop: a loss to minimise and a network to deploy."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from robustmix.data.loader import Batch


class StepResult(NamedTuple):
    """What one batch gives."""

    loss: Tensor
    """What to minimise, a scalar in float32 that carries the gradient."""

    logs: Mapping[str, Tensor]
    """Detached scalars, each a mean over the batch; the same names at every step."""


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


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of rows whose largest logit is the label's, a float32 scalar."""
    return (logits.detach().argmax(dim=1) == labels).float().mean()
