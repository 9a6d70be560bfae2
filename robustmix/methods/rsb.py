"""The policy of "ResNet strikes back": MixUp or CutMix, and a binary loss for every class.

Method card
    Paper: Wightman et al. 2021, "ResNet strikes back: An improved training procedure in timm",
        arXiv:2110.00476, section 3 and table 2.
    Does: each step mixes by MixUp with alpha 0.1 or by CutMix with alpha 1, one as likely as the
        other; every class is a question of its own, with binary cross-entropy to the mixed target.
    Cost: 3 forward passes a step.
    Deviations: MixUp and CutMix are this project's, see their cards. The binary loss is the mean
        over images and classes, to the mixed weights themselves; the paper's A1 to A3 count every
        class present as wholly present. Only the mixing and the loss are meant: LAMB, repeated
        augmentation and the rest of the procedure are no part.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.deit import mixup_or_cutmix
from robustmix.methods.losses import full_precision
from robustmix.methods.method import Setup, StepResult, require, top1
from robustmix.methods.mixing import Blend, blend_step, check_alpha, soft_targets

Loss = Literal["bce", "ce"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RSBConfig:
    """The two mixtures, how often each is, and the loss."""

    mixup_alpha: float = 0.1
    """Both parameters of the Beta distribution of lam on MixUp's steps."""

    cutmix_alpha: float = 1.0
    """Both parameters of the Beta distribution of lam on CutMix's steps."""

    cutmix_prob: float = 0.5
    """Share of the steps that are CutMix's, in [0, 1]."""

    loss: Loss = "bce"
    """``bce``: binary cross-entropy of every class; ``ce``: cross-entropy, as other methods have
    it."""

    def __post_init__(self) -> None:
        check_alpha(self.mixup_alpha, "mixup_alpha")
        check_alpha(self.cutmix_alpha, "cutmix_alpha")
        require(0 <= self.cutmix_prob <= 1, "cutmix_prob in [0, 1]", self.cutmix_prob)
        known = get_args(Loss)
        require(self.loss in known, f"loss: one of {', '.join(known)}", self.loss)


class RSB(nn.Module):
    """One network trained on batches mixed by MixUp or by CutMix, one question a class."""

    def __init__(self, network: nn.Module, config: RSBConfig, setup: Setup) -> None:
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
        blend, eps = self.mix(batch), self.label_smoothing
        if self.config.loss == "ce":
            return blend_step(self.network, batch, blend, smoothing=eps)
        logits = full_precision(self.network(blend.images))
        targets = soft_targets(blend, batch.labels, logits.shape[1])
        targets = (1 - eps) * targets + eps / logits.shape[1]
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        return StepResult(loss, {"loss": loss.detach(), "top1": top1(logits, batch.labels)})

    def classifier(self) -> nn.Module:
        """Return the one network."""
        return self.network
