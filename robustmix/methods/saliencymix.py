"""SaliencyMix: CutMix whose box is where the pasted image is most salient.

Method card
    Paper: Uddin et al. 2021, "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better
        Regularization", arXiv:2006.01791, section 3.
    Does: lam ~ Beta(alpha, alpha); a box of CutMix's size around the peak of the partner's
        fine-grained saliency, clipped to the image, is copied from the partner; the label weight
        is the share of pixels that the image keeps.
    Cost: 3 forward passes a step.
    Deviations: as the paper has it, and as the released code does not, every image gets the box of
        its own partner, placed by the saliency of grey levels in [0, 255]. The released code, and
        OpenMixup's, take the peak of one image, the partner of the batch's first, for the whole
        batch (one_box), and hand normalised float32 images to a routine of OpenCV that reads
        single bytes of them (float_bytes), so that the peak has little to do with what the image
        shows. Partners are drawn again, up to ten times, while some image is its own. Published
        figures were made with both quirks on.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.cutmix import draw_partners, half_sides, in_boxes
from robustmix.methods.method import Setup
from robustmix.methods.mixing import (
    Blend,
    blend_pairs,
    check_alpha,
    given,
    image_size,
    register_scale,
    to_levels,
)
from robustmix.methods.pair_mixing import PairMixing
from robustmix.methods.saliency import fine_grained_saliency, float_bytes_saliency, peaks
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class SaliencyMixConfig:
    """SaliencyMix's knob and its released code's two quirks."""

    alpha: float = 0.2
    """Both parameters of the Beta distribution of lam; 0.2 is the CIFAR benchmark's value."""

    one_box: bool = False
    """Let the partner of the first image place the box for the whole batch, as released."""

    float_bytes: bool = False
    """Take single bytes of normalised float32 images for grey levels, as released."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)


class SaliencyMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Share of the image to keep before the box is rounded and clipped, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whose pixels are pasted into each image."""


class PastedBoxes(NamedTuple):
    """Images with a box each."""

    images: Tensor
    """(N, C, H, W), a new tensor."""

    lam: Tensor
    """float32 (N,), share of own pixels."""


def draw_saliencymix(n: int, alpha: float, rng: np.random.Generator) -> SaliencyMixDraws:
    """Draw lam ~ Beta(alpha, alpha), then the partners of ``n`` images."""
    return SaliencyMixDraws(lam=float(rng.beta(alpha, alpha)), perm=draw_partners(n, rng))


def saliencymix(
    images: Tensor, draws: SaliencyMixDraws, centres: Tensor, *, one_box: bool = False
) -> PastedBoxes:
    """Paste a box of each image's partner, around a place of the partner's, into the image.

    Args:
        images: (N, C, H, W).
        draws: one share for the batch, one partner an image.
        centres: int64 (N, 2), row and column of the most salient pixel of every image.
        one_box: take the centre of the first image's partner for all.

    Returns:
        The mixed images, and each one's share of own pixels.

    Reference:
        Uddin et al. 2021, arXiv:2006.01791, equations 1 to 3.
    """
    salient = boxes_of(draws, image_size(images), one_box=one_box)
    return paste_salient(images, uploaded(salient, images.device), centres.to(images.device))


class SalientDraws(NamedTuple):
    """Sizes and partners of a batch, as the device is told."""

    halves: Tensor
    """int64 (2,), how far boxes reach from their centres, in rows and columns."""

    perm: Tensor
    """int64 (N,), whose pixels are pasted into each image."""

    placed_by: Tensor
    """int64 (N,) or (1,), whose saliency places each image's box."""


def boxes_of(
    draws: SaliencyMixDraws, size: tuple[int, int], *, one_box: bool = False
) -> SalientDraws:
    """Return what is drawn, for images of a height and width."""
    halves = torch.tensor(half_sides(draws.lam, size))
    return SalientDraws(halves, draws.perm, draws.perm[:1] if one_box else draws.perm)


def paste_salient(images: Tensor, draws: SalientDraws, centres: Tensor) -> PastedBoxes:
    """Paste a box around the centre of each image's partner, all on one device."""
    height, width = image_size(images)
    (row, col), (down, across) = centres[draws.placed_by].unbind(1), draws.halves.unbind()
    rows = [(row - down).clamp_min(0), (row + down).clamp_max(height)]
    cols = [(col - across).clamp_min(0), (col + across).clamp_max(width)]
    inside = in_boxes(torch.stack(rows + cols, dim=1), (height, width))
    mixed = torch.where(inside[:, None], images[draws.perm], images)
    area = (rows[1] - rows[0]) * (cols[1] - cols[0])
    kept = (1 - area.double() / (height * width)).float()
    return PastedBoxes(mixed, kept.expand(len(images)))


class SaliencyMix(PairMixing):
    """One network trained on batches with salient boxes pasted in."""

    config: SaliencyMixConfig
    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, config: SaliencyMixConfig, setup: Setup) -> None:
        super().__init__(network, config, setup)
        register_scale(self, setup)

    def centres(self, images: Tensor) -> Tensor:
        """Return row and column of the most salient pixel of normalised images, int64 (N, 2)."""
        if self.config.float_bytes:
            return peaks(float_bytes_saliency(images.float()))
        return peaks(fine_grained_saliency(to_levels(images, self.shift, self.scale)))

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> SalientDraws:
        """Draw how large boxes are, and the partners."""
        draws = draw_saliencymix(len(batch.images), self.config.alpha, self.rng)
        draws = draws._replace(**given(lam=lam, perm=perm))
        return boxes_of(draws, image_size(batch.images), one_box=self.config.one_box)

    def blend(self, batch: Batch, draws: SalientDraws) -> Blend:
        """Paste a salient box of each image's partner."""
        if self.config.one_box:  # only one image's saliency matters
            centres = self.centres(batch.images[draws.placed_by])
            draws = draws._replace(placed_by=torch.zeros_like(draws.placed_by))
        else:
            centres = self.centres(batch.images)
        mixed = paste_salient(batch.images, draws, centres)
        return blend_pairs(mixed.images, draws.perm, mixed.lam)
