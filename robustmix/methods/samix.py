"""SAMix: AutoMix with a generator that lam scales and that attends within both images at once.

Method card
    Paper: Li et al. 2021, "Boosting Discriminative Visual Representation Learning with
        Scenario-Agnostic Mixup", arXiv:2111.15454, its supervised part.
    Does: a step is AutoMix's. In the generator lam, bent by a cubic, multiplies the two maps; query
        and key both see the two maps together; the value is a small network. Masks are enlarged
        bilinearly, the mask loss rewards their variance, and on small images the student's masks
        are scaled to a mean of lam at a quarter of the steps.
    Cost: 9 forward passes a step.
    Deviations: this follows the released code where the paper differs. The second map is scaled by
        1 - bent lam. mask_adjust scales the student's masks to the weight of the generator's pairs,
        not to their own. The teacher's loss on mixed one-hot labels was released with a weight of
        1/2 for classes that a label does not hold; such a class adds nothing to a cross-entropy, so
        the plain mixed cross-entropy here is the same number. The self-supervised scenario of the
        paper is not here. A loss that is NaN is left out of the step and counted.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.automix import (
    PASSES,
    AutoMixConfig,
    AutoMixDraws,
    AutoMixTerms,
    Clock,
    automix_step,
    draw_automix,
    preview_pairs,
)
from robustmix.methods.generators.attention import Upsample
from robustmix.methods.generators.mix_block import (
    LARGEST_CURVATURE,
    MaskLoss,
    MaskLossDecay,
    SAMixBlock,
)
from robustmix.methods.method import Setup, StepResult
from robustmix.methods.momentum_pair import MixPreview, MomentumPair, ema_momentum


@dataclass(frozen=True, kw_only=True, slots=True)
class SAMixConfig:
    """Options of SAMix; the defaults are those of ResNet-18 on CIFAR-100."""

    alpha: float = 2.0
    """Both parameters of the Beta distribution of either branch's lam."""

    lam_margin: float = 0.08
    """Where lam is this close to 0 or 1, the student's mixture is a plain one."""

    upsample: Upsample = "bilinear"
    """How masks are enlarged to the images."""

    lam_mul_k: float = 0.25
    """How lam is bent before it scales the maps, in [0, 10]; -1 leaves it as it is."""

    mask_loss: MaskLoss = "l1+variance"
    """``l1``: distance of the mean mask from lam beyond the margin; ``l1+variance`` also rewards
    spread."""

    mask_loss_weight: float = 0.1
    """Weight of the mask loss at first; 0 leaves it out."""

    mask_loss_margin: float = 0.1
    """Deviation of the mean mask from lam that costs nothing, in [0, 1]."""

    mask_loss_decay: MaskLossDecay = "constant"
    """``linear`` falls to 0 over the run; ``compound-cosine`` is multiplied by a falling cosine at
    every step, so that little is left after a few per cent of the run."""

    mask_adjust: float = 0.25
    """Probability of scaling the student's masks to the mean lam, in [0, 1]."""

    value_dropout: float = 0.0
    """Probability of zeroing a value of the generator in training, in [0, 1)."""

    no_repeat: bool = False
    """Draw partners again (at most ten times) while an image is its own partner."""

    switch_off: float = 0.0
    """Let the teacher judge only this share of the steps; 0 and 1 judge all."""

    ema: float = 0.999
    """Weight of the old teacher at first."""

    ema_end: float = 0.999999
    """Weight of the old teacher that the run ends with."""

    ema_start: float = 0.1
    """Share of the run before the weight begins to rise."""

    feature_stage: int = -1
    """Stage whose map the generator gets; -1 is the architecture's own."""

    def __post_init__(self) -> None:
        if self.lam_mul_k != -1 and not 0 <= self.lam_mul_k <= LARGEST_CURVATURE:
            raise ValueError(f"expected lam_mul_k = -1 or in [0, 10], got {self.lam_mul_k}")
        if not 0 <= self.value_dropout < 1:
            raise ValueError(f"expected value_dropout in [0, 1), got {self.value_dropout}")
        self.shared()

    def shared(self) -> AutoMixConfig:
        """Return the options that mean the same in AutoMix.

        Raises:
            ValueError: one of them is impossible.
        """
        return AutoMixConfig(
            alpha=self.alpha,
            lam_margin=self.lam_margin,
            upsample=self.upsample,
            mask_loss=self.mask_loss,
            mask_loss_weight=self.mask_loss_weight,
            mask_loss_margin=self.mask_loss_margin,
            mask_loss_decay=self.mask_loss_decay,
            mask_adjust=self.mask_adjust,
            no_repeat=self.no_repeat,
            switch_off=self.switch_off,
            ema=self.ema,
            ema_end=self.ema_end,
            ema_start=self.ema_start,
            feature_stage=self.feature_stage,
        )


class SAMix(nn.Module):
    """Student, teacher and generator of SAMix.

    Args:
        network: normalised images (N, 3, H, W) -> logits (N, K); becomes the student.
        config: the options.
        setup: sources of randomness, size of the images.

    Raises:
        UsageError: the network has no map for the generator.
    """

    def __init__(self, network: nn.Module, config: SAMixConfig, setup: Setup) -> None:
        super().__init__()
        self.config = config
        self.shared = config.shared()
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing
        self.clock = Clock()
        self.pair = MomentumPair(network, setup, feature_stage=config.feature_stage)
        self.generator = SAMixBlock(
            self.pair.tap.channels,
            factor=self.pair.mask_factor(setup),
            mode=config.upsample,
            lam_mul_k=config.lam_mul_k,
            value_dropout=config.value_dropout,
            weights=setup.weights,
        )

    def training_step(self, batch: Batch) -> StepResult:
        """Return the loss of student and generator for one batch, by draws of its own."""
        height, width = batch.images.shape[2:]
        draws = draw_automix(len(batch.images), (height, width), self.shared, self.rng)
        return self.step(batch, draws).result()

    def step(self, batch: Batch, draws: AutoMixDraws) -> AutoMixTerms:
        """Return everything that a step computes, for given draws."""
        return automix_step(
            self.pair,
            self.generator,
            batch,
            draws,
            self.shared,
            mask_weight=self.clock.mask_weight(self.shared),
            smoothing=self.label_smoothing,
        )

    def before_step(self, iteration: int, total: int) -> None:
        """Set the mask loss's weight for step ``iteration`` (0-based) of ``total``."""
        self.clock.iteration, self.clock.total = iteration, total

    def after_step(self, iteration: int, total: int) -> None:
        """Move the teacher after step ``iteration`` (0-based) of ``total``."""
        base, end, start = self.config.ema, self.config.ema_end, self.config.ema_start
        self.pair.update(ema_momentum(iteration, total, base=base, end=end, start=start))
        self.before_step(iteration + 1, total)

    def classifier(self) -> nn.Module:
        """Return the teacher with its head for clean images."""
        return self.pair.network_k

    def preview(self, images: Tensor) -> MixPreview:
        """Mix every image half and half with the next; changes nothing."""
        return preview_pairs(self.pair, self.generator, images)

    def passes(self) -> str:
        """Return what a step costs."""
        return PASSES

    def get_extra_state(self) -> Tensor:
        """Return the place in the run, for checkpoints."""
        return self.clock.pack()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a checkpoint's place."""
        self.clock.unpack(state)
