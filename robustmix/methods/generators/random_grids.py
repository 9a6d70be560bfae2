"""Masks from random grids, in place of a generator that learns: the first row of AutoMix's Table 9.

Method card
    Paper: Liu et al. 2022, "AutoMix: Unveiling the Power of Mixup for Stronger Classifiers",
        arXiv:2103.13027, Table 9, "random grids".
    Deviations: the paper does not say how its grids are drawn, and the released code has none.
        Assumed: the cells are those of the map that attention would have given a mask of; for each
        batch, as lam is, so many of them are drawn as make up the second sample's share, rounded;
        they are enlarged as they are, and a pixel is of one sample alone.
"""

import numpy as np
import torch
from torch import Tensor, nn


def draw_grid(size: tuple[int, int], lam: float, rng: np.random.Generator) -> Tensor:
    """Draw which cells the second sample has: round((1 - lam) h w) of them, all as likely.

    Args:
        size: h and w, the number of rows and columns.
        lam: weight of the first sample, in [0, 1].
        rng: source of the draws.

    Returns:
        float32 (h, w), 1 where the second sample is shown.

    Example:
        >>> draw_grid((2, 3), 0.5, np.random.default_rng(0)).sum()
        tensor(3.)
    """
    height, width = size
    cells = height * width
    # By ranks of uniform numbers: a permutation would be taken for partners, see StepDraws.
    order = rng.random(cells).argsort()
    grid = np.zeros(cells, dtype=np.float32)
    grid[order[: round((1 - lam) * cells)]] = 1
    return torch.from_numpy(grid.reshape(height, width))


class RandomGrids(nn.Module):
    """Stands where a generator does, and has nothing to learn.

    Args:
        size: h and w of the maps, the rows and columns of the grids.
        factor: the masks are so many times larger.
    """

    def __init__(self, size: tuple[int, int], *, factor: int) -> None:
        super().__init__()
        self.size, self.factor = size, factor

    def forward(self, feature: Tensor, index: Tensor, lam: float) -> Tensor:
        """Return the masks of pairs by a grid that is always the same for a lam; for pictures."""
        grid = draw_grid(self.size, lam, np.random.default_rng(0))
        return self.masks(feature, index, grid.to(feature.device))

    def masks(self, feature: Tensor, index: Tensor, grid: float | Tensor) -> Tensor:
        """Return the masks of pairs, (B, 2, factor h, factor w), 0 or 1; they sum to 1.

        Args:
            feature: of no effect.
            index: int64 (B,), the second sample of each pair.
            grid: float32 (h, w), see ``draw_grid``.
        """
        assert isinstance(grid, Tensor)
        large = grid.repeat_interleave(self.factor, dim=0)
        second = large.repeat_interleave(self.factor, dim=1)
        return torch.stack([1 - second, second]).expand(len(index), -1, -1, -1)
