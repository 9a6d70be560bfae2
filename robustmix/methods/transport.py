"""Blocks of an image moved to where a mask shows them: PuzzleMix's transport plan.

Reference:
    Kim et al. 2020, "Puzzle Mix", arXiv:2009.06962, section 4.3 and algorithm 1.
"""

import torch
from torch import Tensor

from robustmix.methods.mixing import may_look


def transport_plan(saliency: Tensor, mask: Tensor, *, epsilon: float) -> Tensor:
    """Return which block comes to each place, so that salient ones are where the mask shows.

    A block a pays ``epsilon`` times the squared distance (the grid's side as unit) for a place c,
    and gains its saliency if c is shown. Every block asks for the place that is cheapest for it;
    the cheapest block that asks for a place has it, the others pay 1 more for that place from then
    on and ask again. As released, this is done as many times as the grid has rows. A place that
    no block gains by keeps its own; released code leaves it black if it is shown, which happens
    where the saliency is exactly 0.

    Args:
        saliency: of every block, (B, n, n), >= 0, each grid summing to 1.
        mask: of every place, (B, n, n) in [0, 1]; it is shown if above 0.
        epsilon: cost of a move across the grid.

    Returns:
        int64 (B, n * n): the block at each place; one may be at two places, or at none.

    Example:
        >>> saliency = torch.tensor([[[0.1, 0.7], [0.1, 0.1]]])
        >>> mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> transport_plan(saliency, mask, epsilon=0.5)
        tensor([[1, 1, 2, 3]])
    """
    batch, side, _ = saliency.shape
    count = side * side
    cost = _costs(saliency.flatten(1), mask.flatten(1), side, epsilon)
    price, place = cost.min(dim=2)
    blocks = torch.arange(count, device=cost.device).expand(batch, count)
    for turn in range(side):
        asking = price < 0
        won = asking & _first_cheapest(torch.where(asking, price, torch.inf), place)
        lost = asking & ~won
        # Turns after the last that somebody lost change nothing.
        if turn == side - 1 or (may_look(lost) and not lost.any()):
            break
        cost.scatter_add_(2, place[:, :, None], lost[:, :, None].to(cost.dtype))
        price, place = cost.min(dim=2)
    # Whoever has no place is written to one more, which is cut off.
    plan = torch.arange(count + 1, device=cost.device).repeat(batch, 1)
    return plan.scatter_(1, torch.where(won, place, count), blocks)[:, :count]


def _costs(saliency: Tensor, mask: Tensor, side: int, epsilon: float) -> Tensor:
    """Return what each block pays for each place, (B, blocks, places)."""
    steps = torch.arange(side, device=saliency.device)
    squares = (steps[:, None] - steps) ** 2
    apart = squares[:, None, :, None] + squares[None, :, None, :]
    move = epsilon * (apart.reshape(side**2, side**2).to(saliency.dtype) / (side - 1) ** 2)
    return move - saliency[:, :, None] * (mask > 0).to(saliency.dtype)[:, None, :]


def _first_cheapest(price: Tensor, place: Tensor) -> Tensor:
    """Return who has the lowest price of those at the same place, the first of equals, (B, n)."""
    count = price.shape[1]
    lowest = torch.full_like(price, torch.inf).scatter_reduce(1, place, price, "amin")
    best = price == lowest.gather(1, place)
    blocks = torch.arange(count, device=price.device).expand_as(place)
    named = torch.where(best, blocks, count)
    first = torch.full_like(place, count).scatter_reduce(1, place, named, "amin")
    return blocks == first.gather(1, place)


def move_blocks(images: Tensor, plan: Tensor) -> Tensor:
    """Return images whose blocks are where a plan says.

    Args:
        images: (B, C, H, W), cut into n x n blocks; n divides H and W.
        plan: int64 (B, n * n), as ``transport_plan`` gives it.
    """
    batch, channels, height, width = images.shape
    side = round(plan.shape[1] ** 0.5)
    rows, cols = height // side, width // side
    grid = images.reshape(batch, channels, side, rows, side, cols).permute(0, 2, 4, 1, 3, 5)
    blocks = grid.reshape(batch, side * side, channels * rows * cols)
    moved = blocks.gather(1, plan[:, :, None].expand_as(blocks))
    grid = moved.view(batch, side, side, channels, rows, cols).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(images.shape)
