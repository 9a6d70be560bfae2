"""Vanilla: empirical risk minimisation, the baseline of every comparison.

Method card
    Paper: none.
    Does: one forward pass on the augmented batch, cross-entropy with the labels.
    Cost: 3 forward passes a step (one forward, one backward).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.losses import label_loss
from robustmix.methods.method import Setup, StepResult, split_step, top1
from robustmix.methods.mixing import Blend, blend_alone


@dataclass(frozen=True, kw_only=True, slots=True)
class VanillaConfig:
    """Plain training has no options."""


class Vanilla(nn.Module):
    """Cross-entropy on the images as they are."""

    config: VanillaConfig

    def __init__(self, network: nn.Module, config: VanillaConfig, setup: Setup) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing
        self.bce = setup.bce

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Return the batch as it is."""
        return blend_alone(batch.images)

    def training_step(self, batch: Batch) -> StepResult:
        """Return the loss of one batch, and its accuracy as ``top1``."""
        return split_step(self, batch)

    def draw(self, batch: Batch) -> tuple[()]:
        """Return nothing: nothing is random."""
        return ()

    def compute(self, batch: Batch, draws: tuple[()]) -> StepResult:
        """Return the loss of one batch, and its accuracy as ``top1``."""
        logits = self.network(batch.images)
        loss = label_loss(logits, batch.labels, bce=self.bce, smoothing=self.label_smoothing)
        return StepResult(loss, {"loss": loss.detach(), "top1": top1(logits, batch.labels)})

    def classifier(self) -> nn.Module:
        """Return the one network."""
        return self.network
