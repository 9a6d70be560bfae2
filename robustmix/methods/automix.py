"""AutoMix: pairs mixed by masks that a generator learns from the teacher's maps and its judgement.

SAMix differs in its generator alone, and has its card in its class.

Method card
    Paper: Liu et al. 2022, "AutoMix: Unveiling the Power of Mixup for Stronger Classifiers",
        ECCV 2022, arXiv:2103.13027.
    Does: the teacher's map of a batch gives masks for two ways of pairing it. Of the first the
        generator learns, from the teacher's loss on the mixtures and from how far the mean mask is
        from lam; of the second the student learns, which also learns the clean images. The teacher
        is the student's moving average and is what is deployed, with its head for clean images.
    Cost: 9 forward passes a step; 6 with pipeline mp or none; one fewer with random grids.
    Deviations: this follows the released code where the paper differs. The weight of the mask loss
        stays what it is on small images (mask_loss_decay = "constant"); the paper lets it fall
        linearly to 0 ("linear"), and the other recipes multiply it by a cosine anew at every step,
        so that it is all but gone after the first 2 to 4 % of the run ("compound-cosine"). The
        masks depend on lam only with lam_concat, which the small-image recipes leave off; the
        paper always embeds it. The paper's normalisation C is a division by the root of the
        width; the value is of the second sample, and a sigmoid makes the mask. The teacher's
        momentum stays at 0.999 for the first tenth of the run and ends below 1. The recipes of
        CIFAR end at a learning rate of 0.05, where the paper says cosine, and the generator's
        learning rate is larger than the paper's on fine-grained data. mask_adjust scales the
        student's masks to the weight of the generator's pairs, not to their own, as released.
        Where attention would be NaN the released code stops or patches it; here it is computed in
        float32 always and a loss that is NaN is left out of the step and counted.
        The variants of the paper's Tables 9 and 10 are not in the released code and the paper says
        little of them. Assumed: with pipeline mp the student learns the mixtures alone, by one
        head, which is deployed; ema = ema_end = 0 is m = 0. With pipeline none there is one
        network, one mixture a step and nothing is cut off: the loss of the mixture, and the mask
        loss, train the network and the generator at once, through the map too. With mask_source
        grids each batch draws cells of the map's grid, as many as make up the partner's share, and
        all else is as it was: the teacher makes its passes, for its batch statistics.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from robustmix.methods.generators.attention import Upsample
from robustmix.methods.generators.mix_block import (
    LARGEST_CURVATURE,
    AttentionNorm,
    MaskLoss,
    MixBlock,
    SAMixBlock,
)
from robustmix.methods.generators.random_grids import RandomGrids
from robustmix.methods.method import require
from robustmix.methods.pair_masks import PairMaskConfig, PairMasks

MaskSource: TypeAlias = Literal["attention", "grids"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoMixConfig(PairMaskConfig):
    """Options of AutoMix; the defaults are those of ResNet-18 on CIFAR-100."""

    lam_concat: bool = False
    """Whether the generator is told lam, by one more channel."""

    head_one_mix: bool = False
    """Give the head for clean images MixUp or CutMix instead, one as likely as the other."""

    att_norm: AttentionNorm = "none"
    """``layer`` puts a layer norm into the attention, as for ImageNet's transformers."""

    mask_source: MaskSource = "attention"
    """``attention``: the generator's; ``grids``: cells that are drawn at random, nothing learns."""

    def __post_init__(self) -> None:
        PairMaskConfig.__post_init__(self)  # super() does not find its class under slots=True
        for name, known in (
            ("att_norm", get_args(AttentionNorm)),
            ("mask_source", get_args(MaskSource)),
        ):
            value = getattr(self, name)
            require(value in known, f"{name}: one of {', '.join(known)}", value)
        both = self.mask_source == "grids" and self.pipeline == "none"
        require(not both, "a pipeline with mask_source grids", self.pipeline)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        found = PairMaskConfig.without_effect(self)
        if self.pipeline != "mp+ce":
            found["head_one_mix"] = f"with pipeline {self.pipeline} no head is for clean images"
        if not self.learns_masks():
            masks = ("mask_loss", "mask_loss_weight", "mask_loss_margin", "mask_loss_decay")
            keys = ("lam_concat", "att_norm", "upsample", *masks)
            found |= dict.fromkeys(keys, "mask_source is grids")
        return found

    def mixes_clean(self) -> bool:
        """Whether the head for clean images is given mixtures too."""
        return self.head_one_mix and self.pipeline == "mp+ce"

    def learns_masks(self) -> bool:
        """Whether the masks are of a generator that is trained."""
        return self.mask_source == "attention"


@dataclass(frozen=True, kw_only=True, slots=True)
class SAMixConfig(PairMaskConfig):
    """Options of SAMix; the defaults are those of ResNet-18 on CIFAR-100."""

    upsample: Upsample = "bilinear"
    mask_loss: MaskLoss = "l1+variance"
    mask_adjust: float = 0.25

    lam_mul_k: float = 0.25
    """How lam is bent before it scales the maps, in [0, 10]; -1 leaves it as it is."""

    value_dropout: float = 0.0
    """Probability of zeroing a value of the generator in training, in [0, 1)."""

    def __post_init__(self) -> None:
        PairMaskConfig.__post_init__(self)
        bent = self.lam_mul_k
        ok = bent == -1 or 0 <= bent <= LARGEST_CURVATURE
        require(ok, "lam_mul_k = -1 or in [0, 10]", bent)
        require(0 <= self.value_dropout < 1, "value_dropout in [0, 1)", self.value_dropout)


class AutoMix(PairMasks):
    """AutoMix: what the generator is told of lam is a channel, if anything."""

    config: AutoMixConfig
    generator: MixBlock | RandomGrids

    def new_generator(self, factor: int, weights: torch.Generator) -> MixBlock | RandomGrids:
        """Return an untrained Mix Block, or what stands in its place."""
        if self.config.mask_source == "grids":
            return RandomGrids(self.pair.tap.size, factor=factor)
        return MixBlock(
            self.pair.tap.channels,
            factor=factor,
            lam_concat=self.config.lam_concat,
            mode=self.config.upsample,
            att_norm=self.config.att_norm,
            weights=weights,
        )


class SAMix(PairMasks):
    """SAMix: AutoMix with a generator that lam scales and that attends within both images at once.

    Method card
        Paper: Li et al. 2021, "Boosting Discriminative Visual Representation Learning with
            Scenario-Agnostic Mixup", arXiv:2111.15454, its supervised part.
        Does: a step is AutoMix's. In the generator lam, bent by a cubic, multiplies the two maps;
            query and key both see the two maps together; the value is a small network. Masks are
            enlarged bilinearly, the mask loss rewards their variance, and on small images the
            student's masks are scaled to a mean of lam at a quarter of the steps.
        Cost: 9 forward passes a step.
        Deviations: this follows the released code where the paper differs. The second map is scaled
            by 1 - bent lam. mask_adjust scales the student's masks to the weight of the generator's
            pairs, not to their own. The teacher's loss on mixed one-hot labels was released with a
            weight of 1/2 for classes that a label does not hold; such a class adds nothing to a
            cross-entropy, so the plain mixed cross-entropy here is the same number. The
            self-supervised scenario of the paper is not here. A loss that is NaN is left out of the
            step and counted.
    """

    config: SAMixConfig
    generator: SAMixBlock

    def new_generator(self, factor: int, weights: torch.Generator) -> SAMixBlock:
        """Return an untrained Mix Block of SAMix."""
        return SAMixBlock(
            self.pair.tap.channels,
            factor=factor,
            mode=self.config.upsample,
            lam_mul_k=self.config.lam_mul_k,
            value_dropout=self.config.value_dropout,
            weights=weights,
        )
