"""The smallest step onto a hyperplane that stays among images, in linf and in l2."""

from robustmix.attacks.ball import Norm
from robustmix.later import Tensor, torch

NEWTON_STEPS = 16
"""Steps on an accelerator, which is not asked whether all is done; on random problems of up to
150,528 values eight were enough."""

_HUGE = 1e30


def step_onto_hyperplane(points: Tensor, normals: Tensor, offsets: Tensor, *, norm: Norm) -> Tensor:
    """Find the smallest changes that reach hyperplanes without leaving [0, 1].

    Of all ``d`` with ``normals . d = offsets`` and ``points + d`` in [0, 1] the shortest one; where
    there is none, the one that comes nearest to the plane. A value moves along its normal by
    lambda (linf) or by lambda times its normal's entry (l2), until it meets the end of its range;
    how far all come together is concave and piecewise linear in lambda. Newton's method meets the
    offset from the left, passes every bend at most once, and is exact once it stands in the right
    piece.

    Args:
        points: (n, D), in [0, 1].
        normals: (n, D); a row of zeros gives no change.
        offsets: (n,).
        norm: what is to be small.

    Returns:
        The changes, (n, D).

    Reference:
        Croce and Hein 2020, arXiv:1907.02044, section 3.1 and appendix A, which sort the bends;
        Cominetti, Mascarenhas and Silva 2014, "A Newton's method for the continuous quadratic
        knapsack problem".

    Example:
        >>> point, normal = torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, 1.0]])
        >>> step_onto_hyperplane(point, normal, torch.tensor([0.5]), norm="linf")
        tensor([[0.4000, 0.1000]])
    """
    # By the largest entry, so that squares of tiny or huge normals neither vanish nor overflow.
    largest = normals.abs().amax(dim=1, keepdim=True)
    usable = largest > 0
    scale = torch.where(usable, largest, 1.0)
    side = torch.where(offsets.unsqueeze(1) < 0, -1.0, 1.0).to(points.dtype)
    normals = side * normals / scale
    weight = normals.abs()
    room = torch.where(normals > 0, 1 - points, points)
    whole = weight * room
    wanted = torch.where(usable, offsets.unsqueeze(1).abs() / scale, 0.0)
    # Beyond what all values together can do, more changes nothing.
    wanted = torch.minimum(wanted, 2 * whole.sum(dim=1, keepdim=True))
    slopes = weight if norm == "linf" else weight.square()
    reach = _reach(weight, slopes, room, whole, wanted, norm)
    return normals.sign() * torch.minimum(reach, room)


def _reach(
    weight: Tensor, slopes: Tensor, room: Tensor, whole: Tensor, wanted: Tensor, norm: Norm
) -> Tensor:
    """Tell how far each value would move if its range had no end, (n, D)."""
    lam = wanted / slopes.sum(dim=1, keepdim=True).clamp_min(1 / _HUGE)
    reach = lam if norm == "linf" else lam * weight
    for _ in range(NEWTON_STEPS if lam.device.type != "cpu" else weight.shape[1]):
        free = reach < room
        left = wanted - whole.masked_fill(free, 0).sum(dim=1, keepdim=True)
        slope = slopes.masked_fill(~free, 0).sum(dim=1, keepdim=True)
        # Rounding may not send it back, or it would go round for ever.
        next_lam = torch.where(slope > 0, left / slope, lam).clamp_max(_HUGE).maximum(lam)
        if lam.device.type == "cpu" and torch.equal(next_lam, lam):
            break
        lam = next_lam
        reach = lam if norm == "linf" else lam * weight
    return reach
