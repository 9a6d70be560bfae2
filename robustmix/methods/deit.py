"""MixUp or CutMix, one of them at every step: the policies of DeiT and of "ResNet strikes back".

Method card
    Paper: Touvron et al. 2021, "Training data-efficient image transformers & distillation through
        attention", arXiv:2012.12877, table 9.
    Does: each step mixes by MixUp with alpha 0.8 or by CutMix with alpha 1, one as likely as the
        other.
    Cost: 3 forward passes a step.
    Deviations: none in the arithmetic; MixUp and CutMix are this project's, see their cards. Only
        the mixing is meant: repeated augmentation, random erasing and distillation are no part.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.cutmix import PasteDraws, box_of, draw_cutmix, paste
from robustmix.methods.losses import BinaryLoss
from robustmix.methods.method import require
from robustmix.methods.mixing import (
    Blend,
    blend_binary_loss,
    blend_pairs,
    check_alpha,
    given,
    image_size,
)
from robustmix.methods.mixup import MixupDraws, draw_mixup, mixup
from robustmix.methods.pair_mixing import PairMixing

Loss = Literal["bce", "ce"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeiTConfig:
    """The two mixtures and how often each is."""

    mixup_alpha: float = 0.8
    """Both parameters of the Beta distribution of lam on MixUp's steps."""

    cutmix_alpha: float = 1.0
    """Both parameters of the Beta distribution of lam on CutMix's steps."""

    cutmix_prob: float = 0.5
    """Share of the steps that are CutMix's, in [0, 1]."""

    def __post_init__(self) -> None:
        check_alpha(self.mixup_alpha, "mixup_alpha")
        check_alpha(self.cutmix_alpha, "cutmix_alpha")
        require(0 <= self.cutmix_prob <= 1, "cutmix_prob in [0, 1]", self.cutmix_prob)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        idle = {0.0: "cutmix_alpha", 1.0: "mixup_alpha"}.get(self.cutmix_prob)
        return {} if idle is None else {idle: f"cutmix_prob is {self.cutmix_prob:g}"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RSBConfig(DeiTConfig):
    """The two mixtures, how often each is, and the loss."""

    mixup_alpha: float = 0.1

    loss: Loss = "bce"
    """``bce``: binary cross-entropy of every class; ``ce``: cross-entropy, as other methods have
    it."""

    def __post_init__(self) -> None:
        DeiTConfig.__post_init__(self)  # super() does not find its class under slots=True
        known = get_args(Loss)
        require(self.loss in known, f"loss: one of {', '.join(known)}", self.loss)


class DeiT(PairMixing):
    """One network trained on batches mixed by MixUp or by CutMix."""

    config: DeiTConfig

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> PasteDraws | MixupDraws:
        """Draw which of the two, then its draws."""
        config, images, n = self.config, batch.images, len(batch.images)
        if self.rng.uniform() < config.cutmix_prob:
            size = image_size(images)
            cut = draw_cutmix(n, size, config.cutmix_alpha, self.rng)
            return box_of(cut._replace(**given(lam=lam, perm=perm)), size)
        draws = draw_mixup(n, config.mixup_alpha, self.rng)
        return draws._replace(**given(lam=lam, perm=perm))

    def blend(self, batch: Batch, draws: PasteDraws | MixupDraws) -> Blend:
        """Mix a batch by one of the two."""
        if isinstance(draws, PasteDraws):
            return blend_pairs(paste(batch.images, draws), draws.perm, draws.own)
        mixed = mixup(batch.images, draws)
        return blend_pairs(mixed.images, draws.perm, mixed.lam)


class RSB(DeiT):
    """The policy of "ResNet strikes back": MixUp or CutMix, and a binary loss for every class.

    Method card
        Paper: Wightman et al. 2021, "ResNet strikes back: An improved training procedure in timm",
            arXiv:2110.00476, section 3 and table 2.
        Does: each step mixes by MixUp with alpha 0.1 or by CutMix with alpha 1, one as likely as
            the other; every class is a question of its own, with binary cross-entropy to the mixed
            target.
        Cost: 3 forward passes a step.
        Deviations: MixUp and CutMix are this project's, see their cards. The binary loss is the
            mean over images and classes, to the mixed weights themselves, unless a recipe says
            otherwise (bce_sum, bce_threshold); the paper's A1 to A3 count every class present as
            wholly present. Only the mixing and the loss are meant: LAMB, repeated augmentation and
            the rest of the procedure are other keys of a recipe.
    """

    config: RSBConfig

    def loss(self, logits: Tensor, labels: Tensor, blend: Blend) -> Tensor:
        """Return the binary cross-entropy of mixed images, or their cross-entropy."""
        if self.config.loss == "ce":
            return super().loss(logits, labels, blend)
        how = BinaryLoss() if self.bce is None else self.bce
        return blend_binary_loss(logits, labels, blend, how, smoothing=self.label_smoothing)
