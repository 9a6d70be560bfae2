"""MixUp: train on convex combinations of pairs of images and of their labels.

Method card
    Paper: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412,
        equation 1 and figure 1a.
    Does: one lam ~ Beta(alpha, alpha) and one permutation a batch; the mixed image is
        lam x + (1 - lam) x[perm], the loss lam CE(own) + (1 - lam) CE(partner).
    Cost: 3 forward passes a step; with a momentum pipeline 4 or 7, see ``momentum_mixing``.
    Deviations: none in the arithmetic. As in OpenMixup's benchmark, mixing happens after
        normalisation, and an image may be its own partner.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.method import Mixed
from robustmix.methods.mixing import Blend, blend_pairs, given
from robustmix.methods.momentum_mixing import MomentumConfig, MomentumMixing


@dataclass(frozen=True, kw_only=True, slots=True)
class MixupConfig(MomentumConfig):
    """MixUp's one knob, and those of the momentum pipeline."""

    alpha: float = 1.0
    """Both parameters of the Beta distribution of lam; 1 is uniform, towards 0 mixes less."""


class MixupDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Weight of the image itself, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whom each image is mixed with."""


def draw_mixup(n: int, alpha: float, rng: np.random.Generator) -> MixupDraws:
    """Draw lam ~ Beta(alpha, alpha), then a uniform permutation of ``n`` images."""
    return MixupDraws(lam=float(rng.beta(alpha, alpha)), perm=torch.from_numpy(rng.permutation(n)))


def mixup(images: Tensor, draws: MixupDraws) -> Mixed:
    """Blend every image with its partner.

    Args:
        images: (N, C, H, W), any range; the arithmetic is linear.
        draws: one weight for the batch, one partner an image.

    Returns:
        lam * images + (1 - lam) * images[perm], and lam as the weight of the own label.

    Reference:
        Zhang et al. 2018, arXiv:1710.09412, equation 1.

    Example:
        >>> images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
        >>> mixup(images, MixupDraws(lam=0.75, perm=torch.tensor([1, 0]))).images.flatten()
        tensor([0.2500, 0.7500])
    """
    partners = images[draws.perm.to(images.device)]
    return Mixed(draws.lam * images + (1 - draws.lam) * partners, draws.lam)


class Mixup(MomentumMixing):
    """One network trained on mixed batches, or student and teacher."""

    config: MixupConfig
    one_lam = True

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> MixupDraws:
        """Draw lam and partners."""
        draws = draw_mixup(len(batch.images), self.config.alpha, self.rng)
        return draws._replace(**given(lam=lam, perm=perm))

    def blend(self, batch: Batch, draws: MixupDraws) -> Blend:
        """Blend every image with its partner."""
        images, own = mixup(batch.images, draws)
        # Both weights rounded from float64, not the second taken from the rounded first.
        return blend_pairs(images, draws.perm, own, 1 - own)
