"""GridMix: take a grid of small rectangles from the partner.

Method card
    Paper: Baek et al. 2021, "GridMix: Strong Regularization through Local Context Mapping", Pattern
        Recognition 109; the form here is that of OpenMixup.
    Does: lam ~ Beta(alpha, alpha); in a random crop of the image, 2 to 6 patches wide, every patch
        gives a rectangle of sides sqrt(1 - lam) of its own to the partner; the label weight is the
        share of pixels that the image keeps.
    Cost: 3 forward passes a step.
    Deviations: this is OpenMixup's mixing. The paper's is a checkerboard of cells, each wholly of
        one image, with a second loss on the class of every cell, which the benchmark leaves out.
        A rectangle has at least one pixel and at most one less than its patch, so lam 1 is not
        quite the identity. A crop may be wider or higher than the image: it is cut off here, but
        OpenMixup's negative indices let rectangles that begin before the image show on its other
        side (wrap). An image may be its own partner.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.method import Mixed, require
from robustmix.methods.mixing import Blend, blend_pairs, check_alpha, given, image_size
from robustmix.methods.pair_mixing import PairMixing
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class GridMixConfig:
    """How the grid is drawn."""

    alpha: float = 0.2
    """Both parameters of the Beta distribution of lam; 0.2 is the CIFAR benchmark's value."""

    fewest_holes: int = 2
    """Least number of patches across the crop."""

    most_holes: int = 6
    """Greatest number of patches across the crop."""

    smallest_crop: float = 0.5
    """Least share of the image's area that the crop has; the greatest is all of it."""

    widest_aspect: float = 2.0
    """Height over width of the crop is uniform between the inverse of this and this."""

    wrap: bool = False
    """Let what lies left of or above the image come in from the other side, as released."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        holes = (self.fewest_holes, self.most_holes)
        require(1 <= holes[0] <= holes[1], "1 <= fewest_holes <= most_holes", holes)
        require(0 < self.smallest_crop <= 1, "0 < smallest_crop <= 1", self.smallest_crop)
        require(self.widest_aspect >= 1, "widest_aspect >= 1", self.widest_aspect)


class GridMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Share of each patch to keep before its rectangle is rounded, in [0, 1]."""

    holes: int
    """Patches across the crop, each with one rectangle."""

    hole_aspect: float
    """Height over width of a patch."""

    crop_area: float
    """Area of the crop over that of the image, in (0, 1]."""

    crop_aspect: float
    """Height over width of the crop."""

    x: float
    """Where the crop is between the left edge and the right one, in [0, 1]."""

    y: float
    """Where the crop is between the upper edge and the lower one, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whose pixels the rectangles show."""


def draw_gridmix(n: int, config: GridMixConfig, rng: np.random.Generator) -> GridMixDraws:
    """Draw lam ~ Beta(alpha, alpha), the crop and its grid, and the partners of ``n`` images."""
    return GridMixDraws(
        lam=float(rng.beta(config.alpha, config.alpha)),
        holes=int(rng.integers(config.fewest_holes, config.most_holes + 1)),
        hole_aspect=1.0,
        crop_area=float(rng.uniform(config.smallest_crop, 1.0)),
        crop_aspect=float(rng.uniform(1 / config.widest_aspect, config.widest_aspect)),
        x=float(rng.uniform()),
        y=float(rng.uniform()),
        perm=torch.from_numpy(rng.permutation(n)),
    )


def grid_mask(size: tuple[int, int], draws: GridMixDraws, *, wrap: bool = False) -> Tensor:
    """Return where the partner shows, bool (H, W).

    Args:
        size: height and width.
        draws: crop and grid. A crop that is wider or higher than the image is cut off.
        wrap: see ``GridMixConfig``.
    """
    height, width = size
    crop_width = int(math.sqrt(int(height * width * draws.crop_area) / draws.crop_aspect))
    crop_height = int(crop_width * draws.crop_aspect)
    left, top = int((width - crop_width) * draws.x), int((height - crop_height) * draws.y)
    patch_width = math.ceil(crop_width / draws.holes)
    patch_height = max(int(patch_width * draws.hole_aspect), 1)
    ratio = math.sqrt(1 - draws.lam)
    columns = _spans(left, crop_width, patch_width, draws.holes, ratio)
    rows = _spans(top, crop_height, patch_height, math.ceil(crop_height / patch_height), ratio)
    mask = torch.zeros(height, width, dtype=torch.bool)
    for begin, end in rows:
        for first, last in columns:
            if wrap:
                # A slice with a negative end counts from the other side, as in Python.
                mask[begin:end, first:last] = True
            else:
                mask[max(begin, 0) : max(end, 0), max(first, 0) : max(last, 0)] = True
    return mask


def _spans(start: int, length: int, patch: int, count: int, ratio: float) -> list[tuple[int, int]]:
    """Return where the rectangles of a crop begin and end along one axis."""
    hole = min(max(int(patch * ratio), 1), patch - 1)
    begins = [min(patch * i, length) for i in range(count)]
    return [(start + begin, start + min(begin + hole, length)) for begin in begins]


def gridmix(images: Tensor, draws: GridMixDraws, *, wrap: bool = False) -> Mixed:
    """Show a grid of rectangles of each image's partner.

    Args:
        images: (N, C, H, W).
        draws: one grid for the batch, one partner an image.
        wrap: see ``GridMixConfig``.

    Returns:
        The mixed images, and the share of own pixels as lam.

    Reference:
        OpenMixup, ``gridmix``.
    """
    grid = grid_of(draws, image_size(images), wrap=wrap)
    return Mixed(show_grid(images, uploaded(grid, images.device)), grid.own)


class GridDraws(NamedTuple):
    """A grid for the batch, as the device is told."""

    mask: Tensor
    """bool (H, W), where the partner shows."""

    own: float
    """Share of own pixels, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whose pixels the rectangles show."""


def grid_of(draws: GridMixDraws, size: tuple[int, int], *, wrap: bool = False) -> GridDraws:
    """Return the grid that is drawn, for images of a height and width."""
    mask = grid_mask(size, draws, wrap=wrap)
    return GridDraws(mask, 1 - int(mask.sum()) / mask.numel(), draws.perm)


def show_grid(images: Tensor, draws: GridDraws) -> Tensor:
    """Return copies of images (N, C, H, W) that show their partners in a grid, on one device."""
    return torch.where(draws.mask, images[draws.perm], images)


class GridMix(PairMixing):
    """One network trained on batches with grids of other images."""

    config: GridMixConfig

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> GridDraws:
        """Draw the grid and the partners."""
        draws = draw_gridmix(len(batch.images), self.config, self.rng)
        draws = draws._replace(**given(lam=lam, perm=perm))
        return grid_of(draws, image_size(batch.images), wrap=self.config.wrap)

    def blend(self, batch: Batch, draws: GridDraws) -> Blend:
        """Show a grid of each image's partner."""
        return blend_pairs(show_grid(batch.images, draws), draws.perm, draws.own)
