"""The policy of DeiT's training: MixUp or CutMix, one of them at every step.

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

import numpy as np
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.cutmix import cutmix, draw_cutmix
from robustmix.methods.method import Setup, StepResult, require
from robustmix.methods.mixing import Blend, blend_pairs, blend_step, check_alpha, given
from robustmix.methods.mixup import draw_mixup, mixup


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


def mixup_or_cutmix(
    images: Tensor,
    rng: np.random.Generator,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    cutmix_prob: float,
    lam: float | None = None,
    perm: Tensor | None = None,
) -> Blend:
    """Mix images by one of two methods, which a uniform draw chooses.

    Args:
        images: (N, C, H, W).
        rng: source of the choice and of the method's draws.
        mixup_alpha: MixUp's.
        cutmix_alpha: CutMix's.
        cutmix_prob: probability of CutMix.
        lam: replaces the drawn one.
        perm: replaces the drawn one.
    """
    n, size = len(images), (images.shape[2], images.shape[3])
    if rng.uniform() < cutmix_prob:
        cut = draw_cutmix(n, size, cutmix_alpha, rng)._replace(**given(lam=lam, perm=perm))
        mixed = cutmix(images, cut)
        return blend_pairs(mixed.images, cut.perm, mixed.lam)
    draws = draw_mixup(n, mixup_alpha, rng)._replace(**given(lam=lam, perm=perm))
    mixed = mixup(images, draws)
    return blend_pairs(mixed.images, draws.perm, mixed.lam)


class DeiT(nn.Module):
    """One network trained on batches mixed by MixUp or by CutMix."""

    def __init__(self, network: nn.Module, config: DeiTConfig, setup: Setup) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Mix a batch by one of the two."""
        config = self.config
        return mixup_or_cutmix(
            batch.images,
            self.rng,
            mixup_alpha=config.mixup_alpha,
            cutmix_alpha=config.cutmix_alpha,
            cutmix_prob=config.cutmix_prob,
            lam=lam,
            perm=perm,
        )

    def training_step(self, batch: Batch) -> StepResult:
        """Return the mixed loss of one batch; ``top1`` counts an image's own label only."""
        return blend_step(self.network, batch, self.mix(batch), smoothing=self.label_smoothing)

    def classifier(self) -> nn.Module:
        """Return the one network."""
        return self.network
