"""Blocks of an image moved to where a mask shows them: PuzzleMix's transport plan.

Reference:
    Kim et al. 2020, "Puzzle Mix", arXiv:2009.06962, section 4.3 and algorithm 1.
"""

import torch
from torch import Tensor


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
    cost = _costs(saliency.flatten(1), mask.flatten(1), side, epsilon).view(-1, count)
    price, place = cost.min(dim=1)
    blocks = torch.arange(count, device=cost.device).repeat(batch)
    grids = torch.arange(batch, device=cost.device).repeat_interleave(count) * count
    for turn in range(side):
        asking = (price < 0).nonzero()[:, 0]
        target = grids[asking] + place[asking]
        won = _first_cheapest(price[asking], blocks[asking], target, batch * count)
        lost = asking[~won]
        if turn == side - 1 or not len(lost):
            break
        cost[lost, place[lost]] += 1
        price[lost], place[lost] = cost[lost].min(dim=1)
    plan = blocks.clone()
    plan[target[won]] = blocks[asking[won]]
    return plan.view(batch, count)


def _costs(saliency: Tensor, mask: Tensor, side: int, epsilon: float) -> Tensor:
    """Return what each block pays for each place, (B, blocks, places)."""
    steps = torch.arange(side, device=saliency.device)
    squares = (steps[:, None] - steps) ** 2
    apart = squares[:, None, :, None] + squares[None, :, None, :]
    move = epsilon * (apart.reshape(side**2, side**2).to(saliency.dtype) / (side - 1) ** 2)
    return move - saliency[:, :, None] * (mask > 0).to(saliency.dtype)[:, None, :]


def _first_cheapest(price: Tensor, block: Tensor, target: Tensor, places: int) -> Tensor:
    """Return who has the lowest price of those with the same target, the first of equals."""
    lowest = price.new_zeros(places).scatter_reduce(0, target, price, "amin")
    best = price == lowest[target]
    first = block.new_full((places,), places).scatter_reduce(0, target[best], block[best], "amin")
    return best & (block == first[target])


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
