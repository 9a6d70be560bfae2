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
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.cutmix import Box, cut_box, draw_partners
from robustmix.methods.mixing import Blend, blend_pairs, check_alpha, given, to_levels
from robustmix.methods.pair_mixing import PairMixing
from robustmix.methods.saliency import fine_grained_saliency, float_bytes_saliency, peaks


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
    n, _, height, width = images.shape
    perm = draws.perm.to(images.device)
    places = centres[draws.perm.to(centres.device)].tolist()
    if one_box:
        places = [places[0]] * n
    boxes = [cut_box(draws.lam, row, col, (height, width)) for row, col in places]
    inside = _inside(boxes, (height, width), images.device)
    mixed = torch.where(inside[:, None], images[perm], images)
    kept = [1 - (b.bottom - b.top) * (b.right - b.left) / (height * width) for b in boxes]
    return PastedBoxes(mixed, torch.tensor(kept, device=images.device))


def _inside(boxes: list[Box], size: tuple[int, int], device: torch.device) -> Tensor:
    """Return which pixels are in each box, bool (N, H, W)."""
    top, bottom, left, right = torch.tensor(boxes, device=device).T[:, :, None]
    rows, cols = (torch.arange(side, device=device) for side in size)
    in_rows = (rows >= top) & (rows < bottom)
    in_cols = (cols >= left) & (cols < right)
    inside: Tensor = in_rows[:, :, None] & in_cols[:, None, :]
    return inside


class SaliencyMix(PairMixing):
    """One network trained on batches with salient boxes pasted in."""

    config: SaliencyMixConfig

    def centres(self, images: Tensor) -> Tensor:
        """Return row and column of the most salient pixel of normalised images, int64 (N, 2)."""
        if self.config.float_bytes:
            return peaks(float_bytes_saliency(images.float()))
        return peaks(fine_grained_saliency(to_levels(images, self.mean, self.std)))

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Paste a salient box of each image's partner."""
        draws = draw_saliencymix(len(batch.images), self.config.alpha, self.rng)
        draws = draws._replace(**given(lam=lam, perm=perm))
        one_box = self.config.one_box
        if one_box:  # only one image's saliency matters
            first = int(draws.perm[0])
            centres = self.centres(batch.images[first : first + 1]).expand(len(draws.perm), 2)
        else:
            centres = self.centres(batch.images)
        mixed = saliencymix(batch.images, draws, centres, one_box=one_box)
        return blend_pairs(mixed.images, draws.perm, mixed.lam)
