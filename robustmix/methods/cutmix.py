"""CutMix: paste a random box of another image and weigh the labels by area.

Method card
    Paper: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with
        Localizable Features", arXiv:1905.04899, section 3.1.
    Does: lam ~ Beta(alpha, alpha); a box of sides int(H sqrt(1 - lam)) and int(W sqrt(1 - lam))
        around a uniform centre, clipped to the image, is copied from the partner; the label
        weight is the share of pixels that the image keeps.
    Cost: 3 forward passes a step; with a momentum pipeline 4 or 7, see ``momentum_mixing``.
    Deviations: as in OpenMixup, the permutation is drawn again, up to ten times, while some image
        is its own partner; and an odd side loses a pixel, because the box reaches side // 2 to
        either side of its centre. The paper applies CutMix to every batch of CIFAR with
        probability 0.5; this, as the benchmark it is compared with, applies it always.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.method import Mixed
from robustmix.methods.mixing import Blend, blend_pairs, given, image_size
from robustmix.methods.momentum_mixing import MomentumConfig, MomentumMixing
from robustmix.methods.step_draws import StepDraws
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class CutMixConfig(MomentumConfig):
    """CutMix's one knob, and those of the momentum pipeline."""

    alpha: float = 0.2
    """Both parameters of the Beta distribution of lam; 0.2 is the CIFAR benchmark's value."""


class CutMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Share of the image to keep before the box is rounded and clipped, in [0, 1]."""

    row: int
    """Row of the box's centre, in [0, H)."""

    col: int
    """Column of the box's centre, in [0, W)."""

    perm: Tensor
    """int64 (N,), whose pixels are pasted into each image."""


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right); may be empty."""

    top: int
    bottom: int
    left: int
    right: int


def draw_partners(n: int, rng: np.random.Generator, *, attempts: int = 10) -> Tensor:
    """Draw a permutation of ``n``, again while it has fixed points, at most ``attempts`` times.

    Returns:
        int64 (n,). The last draw is kept as it is, so a fixed point remains possible: with
        probability about (1 - 1/e)^10 = 1 %, and always for ``n`` = 1.
    """
    if isinstance(rng, StepDraws) and rng.in_parts:  # each as often as it takes by itself
        return torch.from_numpy(
            rng.each_part(n, lambda k, own: draw_partners(k, own, attempts=attempts).numpy())
        )
    perm = rng.permutation(n)
    for _ in range(attempts - 1):
        if not (perm == np.arange(n)).any():
            break
        perm = rng.permutation(n)
    return torch.from_numpy(perm)


def draw_cutmix(
    n: int, size: tuple[int, int], alpha: float, rng: np.random.Generator
) -> CutMixDraws:
    """Draw lam ~ Beta(alpha, alpha), the centre (row first) and the partners.

    Args:
        n: images in the batch.
        size: height and width of the images.
        alpha: both parameters of the Beta distribution.
        rng: source of the draws.
    """
    height, width = size
    return CutMixDraws(
        lam=float(rng.beta(alpha, alpha)),
        row=int(rng.integers(height)),
        col=int(rng.integers(width)),
        perm=draw_partners(n, rng),
    )


def half_sides(lam: float, size: tuple[int, int]) -> tuple[int, int]:
    """Return how many rows and columns a box that leaves ``lam`` of the area reaches each way."""
    height, width = size
    ratio = math.sqrt(1 - lam)
    return int(height * ratio) // 2, int(width * ratio) // 2


def cut_box(lam: float, row: int, col: int, size: tuple[int, int]) -> Box:
    """Return the box of area about (1 - lam) H W around (row, col), clipped to the image.

    Example:
        >>> cut_box(0.75, 0, 4, (6, 10))  # sides 3 and 5, reaching 1 and 2 from the centre
        Box(top=0, bottom=1, left=2, right=6)
    """
    height, width = size
    half_height, half_width = half_sides(lam, size)
    return Box(
        top=max(row - half_height, 0),
        bottom=min(row + half_height, height),
        left=max(col - half_width, 0),
        right=min(col + half_width, width),
    )


class PasteDraws(NamedTuple):
    """A box for the batch, as the device is told."""

    box: Tensor
    """int64 (4,), a ``Box``."""

    own: float
    """Share of the pixels outside the box, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whose pixels are pasted into each image."""


def box_of(draws: CutMixDraws, size: tuple[int, int]) -> PasteDraws:
    """Return the box that is drawn, for images of a height and width."""
    height, width = size
    box = cut_box(draws.lam, draws.row, draws.col, size)
    area = (box.bottom - box.top) * (box.right - box.left)
    return PasteDraws(torch.tensor(box), 1 - area / (height * width), draws.perm)


def in_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which pixels are in each box, bool (..., H, W).

    Args:
        boxes: int64 (..., 4): top, bottom, left, right; see ``Box``.
        size: height and width.
    """
    top, bottom, left, right = boxes[..., None].unbind(-2)
    rows, cols = (torch.arange(side, device=boxes.device) for side in size)
    in_rows = (rows >= top) & (rows < bottom)
    in_cols = (cols >= left) & (cols < right)
    return in_rows[..., :, None] & in_cols[..., None, :]


def paste(images: Tensor, draws: PasteDraws) -> Tensor:
    """Return copies of images (N, C, H, W) with the box of each one's partner, on one device."""
    inside = in_boxes(draws.box, image_size(images))
    return torch.where(inside, images[draws.perm], images)


def cutmix(images: Tensor, draws: CutMixDraws) -> Mixed:
    """Paste the box of each image's partner into a copy of the image.

    Args:
        images: (N, C, H, W).
        draws: one box for the batch, one partner an image.

    Returns:
        The mixed images, and 1 - box area / (H W), the share of own pixels, as lam.

    Reference:
        Yun et al. 2019, arXiv:1905.04899, equations 1 and 2.
    """
    box = box_of(draws, image_size(images))
    return Mixed(paste(images, uploaded(box, images.device)), box.own)


class CutMix(MomentumMixing):
    """One network trained on batches with pasted boxes, or student and teacher."""

    config: CutMixConfig
    one_lam = True

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> PasteDraws:
        """Draw the box of the batch and the partners."""
        size = image_size(batch.images)
        draws = draw_cutmix(len(batch.images), size, self.config.alpha, self.rng)
        return box_of(draws._replace(**given(lam=lam, perm=perm)), size)

    def blend(self, batch: Batch, draws: PasteDraws) -> Blend:
        """Paste the box of each image's partner."""
        return blend_pairs(paste(batch.images, draws), draws.perm, draws.own, 1 - draws.own)
