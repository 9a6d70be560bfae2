"""ResizeMix: shrink the whole partner into a box of the image.

Method card
    Paper: Qin et al. 2020, "ResizeMix: Mixing Data with Preserved Object Information and True
        Labels", arXiv:2012.11101, section 3.3.
    Does: a scale tau, uniform in [0.1, 0.8] or from Beta(alpha, alpha) and uniform where that falls
        outside; the partner is resized into a box of sides tau H and tau W around a uniform centre,
        clipped to the image; the label weight is the share of pixels that the image keeps.
    Cost: 3 forward passes a step.
    Deviations: as in OpenMixup, the partner is resized (nearest) to the clipped box, not clipped
        after resizing; an odd side loses a pixel; and tau is from a Beta distribution, where the
        paper has the uniform one only (use_alpha = false). An image may be its own partner.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.box_taps import TracedBox, filled_box, traced_box
from robustmix.methods.cutmix import Box, in_boxes
from robustmix.methods.method import Mixed, require
from robustmix.methods.mixing import Blend, blend_pairs, check_alpha, given, image_size
from robustmix.methods.pair_mixing import PairMixing
from robustmix.upload import uploaded

Interpolation = Literal["nearest", "bilinear"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResizeMixConfig:
    """How large the pasted images are."""

    alpha: float = 1.0
    """Both parameters of the Beta distribution of the scale tau."""

    use_alpha: bool = True
    """Draw tau from that distribution; false draws it from the uniform one, as in the paper."""

    smallest: float = 0.1
    """Least scale of a pasted image, a share of the side."""

    largest: float = 0.8
    """Greatest scale of a pasted image, a share of the side."""

    interpolation: Interpolation = "nearest"
    """How images are shrunk; the benchmark's transformers have ``bilinear``, without
    antialiasing."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        known = get_args(Interpolation)
        ok = self.interpolation in known
        require(ok, f"interpolation: one of {', '.join(known)}", self.interpolation)
        scale = (self.smallest, self.largest)
        require(0 <= scale[0] <= scale[1] <= 1, "0 <= smallest <= largest <= 1", scale)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        return {} if self.use_alpha else {"alpha": "use_alpha is false"}


class ResizeMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    tau: float
    """Sides of the box over those of the image, in [0, 1]."""

    row: int
    """Row of the box's centre, in [0, H)."""

    col: int
    """Column of the box's centre, in [0, W)."""

    perm: Tensor
    """int64 (N,), who is shrunk into each image."""


def draw_resizemix(
    n: int, size: tuple[int, int], config: ResizeMixConfig, rng: np.random.Generator
) -> ResizeMixDraws:
    """Draw the scale, the centre (column first) and the partners.

    Args:
        n: images in the batch.
        size: height and width of the images.
        config: the distribution of the scale.
        rng: source of the draws.
    """
    height, width = size
    low, high = config.smallest, config.largest
    tau = float(rng.beta(config.alpha, config.alpha)) if config.use_alpha else -1.0
    if not low <= tau <= high:
        tau = float(rng.uniform(low, high))
    col, row = int(rng.integers(width)), int(rng.integers(height))
    return ResizeMixDraws(tau=tau, row=row, col=col, perm=torch.from_numpy(rng.permutation(n)))


def resizemix(
    images: Tensor, draws: ResizeMixDraws, *, interpolation: Interpolation = "nearest"
) -> Mixed:
    """Shrink each image's partner into a box of a copy of the image.

    Args:
        images: (N, C, H, W).
        draws: one box for the batch, one partner an image.
        interpolation: how partners are shrunk.

    Returns:
        The mixed images, and 1 - box area / (H W), the share of own pixels, as lam.

    Reference:
        Qin et al. 2020, arXiv:2012.11101, equations 3 and 4.
    """
    box = shrunk_box(draws, image_size(images), interpolation)
    return Mixed(paste_shrunk(images, uploaded(box, images.device), interpolation), box.own)


class ShrunkDraws(NamedTuple):
    """Where the batch's partners are shrunk to, as the device is told."""

    box: Tensor
    """int64 (4,), a ``Box``."""

    rows: Tensor
    """int64 (H,), row of the partner at each row, where pixels are not interpolated; else (0,)."""

    cols: Tensor
    """int64 (W,), likewise of columns."""

    corners: Box | None
    """The box as numbers, where pixels are interpolated."""

    traced: TracedBox | None
    """The same as tensors."""

    own: float
    """Share of the pixels outside the box, in [0, 1]."""

    perm: Tensor
    """int64 (N,), who is shrunk into each image."""


def shrunk_box(
    draws: ResizeMixDraws, size: tuple[int, int], interpolation: Interpolation
) -> ShrunkDraws:
    """Return the box that is drawn, for images of a height and width."""
    height, width = size
    half_height, half_width = int(height * draws.tau) // 2, int(width * draws.tau) // 2
    top, bottom = max(draws.row - half_height, 0), min(draws.row + half_height, height)
    left, right = max(draws.col - half_width, 0), min(draws.col + half_width, width)
    box, whole = Box(top, bottom, left, right), Box(0, height, 0, width)
    area = max(bottom - top, 0) * max(right - left, 0)
    nearest = interpolation == "nearest"
    nothing = torch.empty(0, dtype=torch.int64)
    return ShrunkDraws(
        box=torch.tensor(box),
        rows=_nearest(height, top, bottom) if nearest else nothing,
        cols=_nearest(width, left, right) if nearest else nothing,
        corners=None if nearest else box,
        traced=None if nearest else traced_box(box, whole, size, align_corners=False),
        own=1 - area / (height * width),
        perm=draws.perm,
    )


def _nearest(side: int, start: int, end: int) -> Tensor:
    """Return for each place of an axis which one of its own is shown there, int64 (side,)."""
    places = torch.zeros(side, dtype=torch.int64)
    if end > start:
        own = torch.arange(side, dtype=torch.float64)[None, None]
        places[start:end] = F.interpolate(own, size=end - start, mode="nearest")[0, 0].long()
    return places


def paste_shrunk(images: Tensor, draws: ShrunkDraws, interpolation: Interpolation) -> Tensor:
    """Return copies of images (N, C, H, W) with their partners in the box, on one device."""
    if draws.traced is None or draws.corners is None:
        shrunk = images[draws.perm].index_select(2, draws.rows).index_select(3, draws.cols)
        # In this order the result has the images' memory format.
        return torch.where(~in_boxes(draws.box, image_size(images)), images, shrunk)
    if torch.compiler.is_compiling():
        return filled_box(images, images[draws.perm], draws.traced)
    box, mixed = draws.corners, images.clone()
    if box.bottom > box.top and box.right > box.left:
        size = (box.bottom - box.top, box.right - box.left)
        shrunk = F.interpolate(images[draws.perm], size=size, mode=interpolation)
        mixed[:, :, box.top : box.bottom, box.left : box.right] = shrunk
    return mixed


class ResizeMix(PairMixing):
    """One network trained on batches with whole images pasted in."""

    config: ResizeMixConfig

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> ShrunkDraws:
        """Draw the box and the partners; a given ``lam`` is 1 - tau^2."""
        size = image_size(batch.images)
        draws = draw_resizemix(len(batch.images), size, self.config, self.rng)
        tau = None if lam is None else math.sqrt(1 - lam)
        draws = draws._replace(**given(tau=tau, perm=perm))
        return shrunk_box(draws, size, self.config.interpolation)

    def blend(self, batch: Batch, draws: ShrunkDraws) -> Blend:
        """Paste each image's partner, shrunk."""
        images = paste_shrunk(batch.images, draws, self.config.interpolation)
        return blend_pairs(images, draws.perm, draws.own)
