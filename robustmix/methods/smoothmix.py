"""SmoothMix: fade the partner in by a soft round mask.

Method card
    Paper: Lee et al. 2020, "SmoothMix: a Simple Yet Effective Data Augmentation to Train Robust
        Classifiers", CVPR workshops 2020, section 3 (the circular mask).
    Does: a Gaussian mask g with sigma uniform between 1/4 and 1/2 of the height and a uniform
        centre shows the partner; the label weight is 1 - mean g, the share of the image itself.
    Cost: 3 forward passes a step.
    Deviations: the released code and OpenMixup's exchange the two labels, so that an image has the
        weight of its partner's area; label = "swapped" does so. No Beta distribution is drawn
        from: OpenMixup takes an alpha for this method and ignores it, so here there is none, and
        no draw is the identity. An image may be its own partner.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.method import Mixed, require
from robustmix.methods.mixing import Blend, blend_pairs, given, image_size
from robustmix.methods.pair_mixing import PairMixing
from robustmix.upload import uploaded

Label = Literal["share", "swapped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothMixConfig:
    """SmoothMix's label rule; its masks have no knob."""

    label: Label = "share"
    """``share``: a label weighs what its image contributes; ``swapped``: the two weights are
    exchanged, as released."""

    def __post_init__(self) -> None:
        known = get_args(Label)
        require(self.label in known, f"label: one of {', '.join(known)}", self.label)


class SmoothMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    col: int
    """How far the mask is moved to the right, in [0, W); W // 2 leaves its centre."""

    row: int
    """How far the mask is moved down, in [0, H)."""

    width: float
    """Makes sigma (width / 4 + 1 / 4) H, in [0, 1)."""

    perm: Tensor
    """int64 (N,), who is faded into each image."""


def draw_smoothmix(n: int, size: tuple[int, int], rng: np.random.Generator) -> SmoothMixDraws:
    """Draw the centre (column first) and the width of the mask, and the partners.

    Args:
        n: images in the batch.
        size: height and width of the images.
        rng: source of the draws.
    """
    height, width = size
    return SmoothMixDraws(
        col=int(rng.integers(width)),
        row=int(rng.integers(height)),
        width=float(rng.uniform()),
        perm=torch.from_numpy(rng.permutation(n)),
    )


def smooth_mask(size: tuple[int, int], draws: SmoothMixDraws) -> Tensor:
    """Return the partner's share of every pixel, float64 (H, W) in (0, 1].

    It is cut from a bell in the middle of a plane of twice the sides, whose rows and columns are
    moved on around the plane.
    """
    height, width = size
    rows = _moved(height, int(draws.row - height / 2)) - (2 * height - 1) / 2
    cols = _moved(width, int(draws.col - width / 2)) - (2 * width - 1) / 2
    sigma = (draws.width / 4 + 0.25) * height
    return torch.exp(-(rows[:, None] ** 2 + cols[None, :] ** 2) / (2 * sigma**2))


def _moved(side: int, by: int) -> Tensor:
    places = torch.arange(2 * side, dtype=torch.float64).roll(by)
    return places[side // 2 : side // 2 + side]


def smoothmix(images: Tensor, draws: SmoothMixDraws) -> Mixed:
    """Fade each image's partner in.

    Args:
        images: (N, C, H, W).
        draws: one mask for the batch, one partner an image.

    Returns:
        (1 - g) image + g partner, and 1 - mean g, the image's own share, as lam.

    Reference:
        Lee et al. 2020, section 3.
    """
    fade = fade_of(draws, images)
    return Mixed(fade_in(images, uploaded(fade, images.device)), fade.own)


class FadeDraws(NamedTuple):
    """A mask for the batch, as the device is told."""

    share: Tensor
    """(H, W) in (0, 1], the partner's share of every pixel, in the images' type."""

    own: float
    """The image's own share, in [0, 1]."""

    perm: Tensor
    """int64 (N,), who is faded into each image."""


def fade_of(draws: SmoothMixDraws, images: Tensor) -> FadeDraws:
    """Return the mask that is drawn, for images like these."""
    share = smooth_mask(image_size(images), draws)
    return FadeDraws(share.to(images.dtype), 1 - float(share.mean()), draws.perm)


def fade_in(images: Tensor, draws: FadeDraws) -> Tensor:
    """Return images (N, C, H, W) into which their partners are faded, on one device."""
    return (1 - draws.share) * images + draws.share * images[draws.perm]


class SmoothMix(PairMixing):
    """One network trained on batches with softly blended images."""

    config: SmoothMixConfig

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> FadeDraws:
        """Draw the mask and the partners; ``lam`` is for others, this method has none."""
        draws = draw_smoothmix(len(batch.images), image_size(batch.images), self.rng)
        return fade_of(draws._replace(**given(perm=perm)), batch.images)

    def blend(self, batch: Batch, draws: FadeDraws) -> Blend:
        """Fade each image's partner in."""
        own = draws.own if self.config.label == "share" else 1 - draws.own
        return blend_pairs(fade_in(batch.images, draws), draws.perm, own)
