"""Optimal transport with an entropy term, between grids of features with equal weights.

Reference:
    Cuturi 2013, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport",
    arXiv:1306.0895, section 4; in the log domain as in Peyre and Cuturi 2019,
    arXiv:1803.00567, section 4.4.
"""

import math

import torch
from torch import Tensor

from robustmix.methods.mixing import may_look

TINY = 1e-8
"""Added to the marginals under the logarithm, as released."""


@torch.no_grad()
def sinkhorn_plan(
    cost: Tensor, *, epsilon: float, iterations: int, tolerance: float, stop_together: bool = False
) -> Tensor:
    """Return the plan that moves equal weights at little cost.

    Args:
        cost: of every pair, (B, S, T).
        epsilon: weight of the entropy, in units of the cost; small ones make plans sharp.
        iterations: at most so many, each an update of the rows' and of the columns' potentials.
        tolerance: an image is done when its rows' potentials have changed by less in all.
        stop_together: go on with all while the batch's mean change is larger, as released; else
            no image's plan depends on another's.

    Returns:
        float32 (B, S, T), every column summing to 1 / T and, once done, every row to about 1 / S.

    Example:
        >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> sinkhorn_plan(cost, epsilon=0.1, iterations=9, tolerance=0.1)
        tensor([[[4.9998e-01, 2.2699e-05],
                 [2.2699e-05, 4.9998e-01]]])
    """
    with torch.autocast(cost.device.type, enabled=False):
        cost = cost.float()
        rows, columns = cost.shape[1:]
        log_row, log_column = (math.log(1 / count + TINY) for count in (rows, columns))
        u, v = cost.new_zeros(cost.shape[:2]), cost.new_zeros(len(cost), columns)
        going = torch.ones_like(u[:, :1], dtype=torch.bool)
        gain = -cost
        for _ in range(iterations):
            row = epsilon * (log_row - _scaled(gain, u, v, epsilon).logsumexp(dim=2)) + u
            column = epsilon * (log_column - _scaled(gain, row, v, epsilon).logsumexp(dim=1))
            change = (row - u).abs().sum(dim=1, keepdim=True)
            u, v = torch.where(going, row, u), torch.where(going, column + v, v)
            if stop_together:
                change = change.mean().expand_as(change)
            going = going & (change >= tolerance)
            # An accelerator would be waited for to look; there, what is done stands still instead.
            if may_look(cost) and not going.any():
                break
        return _scaled(gain, u, v, epsilon).exp()


def _scaled(gain: Tensor, u: Tensor, v: Tensor, epsilon: float) -> Tensor:
    return (gain + u[:, :, None] + v[:, None, :]) / epsilon
