"""One class for the methods that train one network on pairs: every image has one partner.

A method adds what it is: the dataclass of its options, named by the annotation ``config``, and
either ``mix``, which draws from ``rng``, applies a pure function and says whose labels weigh how
much, or the two parts of that: ``draw``, for the processor, and ``blend``, for the device.
"""

from typing import Any

from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.losses import sources_cross_entropy
from robustmix.methods.method import Setup, StepResult, decided, split_step, splits, top1
from robustmix.methods.mixing import Blend, blend_binary_loss, blend_cross_entropy


class PairMixing(nn.Module):
    """One network trained on what ``mix`` makes of each batch.

    Args:
        network: normalised images (N, 3, H, W) -> logits (N, K).
        config: the method's options.
        setup: its source of randomness, and what it must know of the images.
    """

    config: object
    """The method's options; a method annotates its own dataclass here."""

    one_lam = False
    """Whether lam is one number for the batch and weighs the labels' mean losses, as MixUp's and
    CutMix's authors have it; the sum over images is the same, but rounds otherwise."""

    batch_mean_lambda = False
    """Whether every image counts with the batch's mean weights, as some published code has it."""

    def __init__(self, network: nn.Module, config: object, setup: Setup) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing
        self.bce = setup.bce
        self.mean, self.std = setup.mean, setup.std

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Mix a batch of normalised images; ``lam`` and ``perm`` replace what is drawn."""
        return self.blend(batch, decided(self, batch, self.draw(batch, lam=lam, perm=perm)))

    def draw(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Any:
        """Return all that is random in ``mix``, on the CPU, and what follows from it there.

        Floats and tensors come to the device of the images; integers, truth values and None stay
        and choose the code that computes, so there are few different ones.

        Args:
            batch: of which only the shape matters.
            lam: replaces the weight that is drawn.
            perm: replaces the partners that are drawn.
        """
        raise NotImplementedError

    def blend(self, batch: Batch, draws: Any) -> Blend:
        """Mix a batch by draws on its device; reads no number from there."""
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor, blend: Blend) -> Tensor:
        """Return the loss of mixed images: a float32 scalar.

        Args:
            logits: of the blended images, (N, K).
            labels: of the batch before mixing, int64 (N,).
            blend: whose labels weigh how much.
        """
        smoothing = self.label_smoothing
        if self.bce is not None:
            mean = self.batch_mean_lambda
            return blend_binary_loss(
                logits, labels, blend, self.bce, smoothing=smoothing, batch_mean_lambda=mean
            )
        if self.one_lam:
            lam = blend.weights[:, 0]
            return sources_cross_entropy(logits, labels[blend.sources], lam, smoothing=smoothing)
        return blend_cross_entropy(
            logits, labels, blend, smoothing=smoothing, batch_mean_lambda=self.batch_mean_lambda
        )

    def result(self, logits: Tensor, batch: Batch, blend: Blend) -> StepResult:
        """Return the loss and what is logged; ``top1`` counts an image's own label only."""
        loss = self.loss(logits, batch.labels, blend)
        own = batch.labels[blend.sources[0]]
        return StepResult(loss, {"loss": loss.detach(), "top1": top1(logits, own)})

    def training_step(self, batch: Batch) -> StepResult:
        """Return the mixed loss of one batch, by draws of its own."""
        if splits(self):
            return split_step(self, batch)
        blend = self.mix(batch)
        return self.result(self.network(blend.images), batch, blend)

    def compute(self, batch: Batch, draws: Any) -> StepResult:
        """Return the mixed loss of one batch, for draws on its device."""
        blend = self.blend(batch, draws)
        return self.result(self.network(blend.images), batch, blend)

    def classifier(self) -> nn.Module:
        """Return the one network."""
        return self.network
