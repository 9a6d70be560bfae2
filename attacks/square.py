"""Square: random search over square patches, without gradients."""

import math
from dataclasses import dataclass

from robustmix.attacks.attack import attack, own_keys
from robustmix.attacks.ball import Norm, check_problem, lengths, per_sample
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.losses import Goal, Loss, Standing, standing
from robustmix.attacks.outcome import Outcome
from robustmix.attacks.search import Leader, look_every, of_rows, with_rows
from robustmix.later import Tensor, torch
from robustmix.rng import uniform
from robustmix.types import Model

_TINY = 1e-12
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_BLOCK = 64  # proposals whose random numbers are drawn together


def patch_share(proposal: int, *, p_init: float, of: int | None = None) -> float:
    """Give the share of the image that a proposal changes: ``p_init``, halved nine times.

    Args:
        proposal: its number, from 0.
        p_init: the share at first.
        of: number of proposals that the schedule, made for 10,000, is squeezed or stretched to;
            None leaves it.

    Example:
        >>> patch_share(10, p_init=0.8), patch_share(11, p_init=0.8), patch_share(51, p_init=0.8)
        (0.8, 0.4, 0.2)
    """
    at = proposal if of is None else proposal * 10_000 // of
    return float(p_init / 2 ** sum(at > halving for halving in _HALVINGS))


@attack
def square(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    queries: int = 5000,
    p_init: float = 0.8,
    loss: Loss = "margin",
    reschedule: bool = False,
    targets: Tensor | None = None,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Raise a loss inside a ball by trying random patches and keeping those that help.

    Every sample has its own patches, and leaves the search as soon as it has reached the goal.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode; needs no gradients.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.
        queries: forward passes a sample may cost, the start included.
        p_init: share of the image that the first proposals change, in (0, 1].
        loss: what is raised: ``margin``, ``ce`` or ``dlr`` (at least 3 classes).
        reschedule: fit the schedule of patch sizes, made for 10,000 queries, to those there are.
        targets: None: away from the label. Classes (N,): towards these, and only they count as
            success.
        seed: what all draws follow from where there are no keys.
        keys: one 64-bit key a sample for all draws, int64 (N,).

    Returns:
        Images (N, C, H, W): the one that reached the goal, else the one of highest loss. The
        outcome has ``loss``; its ``forwards`` are the queries.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits.

    Reference:
        Andriushchenko et al. 2020, arXiv:1912.00049, algorithms 1 to 3 and section 4.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if queries < 1 or not 0 < p_init <= 1:
        raise ValueError(f"expected queries >= 1 and p_init in (0, 1], got {queries}, {p_init}")
    goal = Goal(loss, labels, targets, reach=targets is not None)
    keys = own_keys(keys, seed, images)
    best, every = Leader(images), look_every(images.device)
    used = torch.ones(len(images), dtype=torch.int64, device=images.device)
    search, own = _Search(best.survivors(), images, images, best.loss, ~best.reached), goal
    if len(images):
        start = _start(images, keys, norm, eps)
        search.keep(start, standing(model, start, goal, doubts))
    draws = _Draws(keys[:, None], keys[:, None])  # none yet
    propose = _propose_linf if norm == "linf" else _propose_l2
    for proposal in range(queries - 1):
        at = proposal % _BLOCK
        if at % every == 0 and len(left := search.live.nonzero().flatten()) < len(search.rows):
            search.offer_to(best, among=~search.live)
            search, draws = search.only(left), draws.only(left)
            own = goal.take(search.rows)
            if not len(left):
                break
        if at == 0:
            draws = _draw_block(keys[search.rows], images.shape[1], 1 + proposal // _BLOCK)
        share = patch_share(proposal, p_init=p_init, of=queries if reschedule else None)
        tried = propose(search.centres, search.top, draws.at(at), share, eps)
        used = with_rows(used, search.rows, of_rows(used, search.rows) + search.live)
        search.keep(tried, standing(model, tried, own, doubts))
    search.offer_to(best)
    doubts.settle()
    return Outcome(
        images=best.images,
        success=best.reached,
        loss=best.loss,
        forwards=used,
        backwards=torch.zeros_like(used),
    )


@dataclass(frozen=True)
class _Draws:
    """The random numbers of a block of proposals, all uniform in (0, 1)."""

    places: Tensor  # (n, proposals, 5): two corners and the patch's orientation
    signs: Tensor  # (n, proposals, C) of -1 or 1

    def at(self, proposal: int) -> "_Draws":
        return _Draws(self.places[:, proposal], self.signs[:, proposal])

    def only(self, left: Tensor) -> "_Draws":
        return _Draws(self.places[left], self.signs[left])


@dataclass
class _Search:
    """The samples that are searched; one row a sample in every field."""

    rows: Tensor  # in the caller's batch
    centres: Tensor
    top: Tensor  # the image that reached the goal, else that of highest loss, and its loss
    top_loss: Tensor
    live: Tensor  # whether no image has reached the goal yet

    def keep(self, tried: Tensor, stood: Standing) -> None:
        """Keep the images that are better, of samples that are not done."""
        better = self.live & (stood.reached | (stood.loss > self.top_loss))
        self.top = torch.where(per_sample(better), tried, self.top)
        self.top_loss = torch.where(better, stood.loss, self.top_loss)
        self.live = self.live & ~stood.reached

    def offer_to(self, best: Leader, among: Tensor | None = None) -> None:
        best.offer(self.rows, self.top, ~self.live, self.top_loss, among=among)

    def only(self, left: Tensor) -> "_Search":
        whole = (self.rows, self.centres, self.top, self.top_loss, self.live)
        return _Search(*(each[left] for each in whole))


def _draw_block(keys: Tensor, channels: int, stream: int) -> _Draws:
    width = 5 + channels
    numbers = uniform(keys, _BLOCK * width, counter_high=stream).view(-1, _BLOCK, width)
    return _Draws(numbers[..., :5], _signs(numbers[..., 5:]))


def _signs(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _start(images: Tensor, keys: Tensor, norm: Norm, eps: float) -> Tensor:
    """Draw stripes one pixel wide (linf) or a grid of five by five pyramids (l2)."""
    n, c, h, w = images.shape
    if norm == "linf":
        stripes = _signs(uniform(keys, c * w)).to(images.dtype).view(n, c, 1, w)
        return (images + eps * stripes).clamp(0, 1)
    side = max(min(h, w) // 5, 1)
    down, across = h // side, w // side
    numbers = uniform(keys, down * across * (c + 1)).view(n, down, across, c + 1)
    turned = numbers[..., c] < 0.5
    tiles = _pyramids(side, turned.flatten(), images).view(n, down, across, 1, side, side)
    tiles = tiles * _signs(numbers[..., :c]).to(images.dtype).view(n, down, across, c, 1, 1)
    change = torch.zeros_like(images)
    top, left = (h - down * side) // 2, (w - across * side) // 2
    change[:, :, top : top + down * side, left : left + across * side] = tiles.permute(
        0, 3, 1, 4, 2, 5
    ).reshape(n, c, down * side, across * side)
    return _on_sphere(images, change, eps)


def _propose_linf(centres: Tensor, adv: Tensor, draws: _Draws, share: float, eps: float) -> Tensor:
    """Set a square of every image to one corner of the ball a channel."""
    _, _, h, w = centres.shape
    side = min(max(round(math.sqrt(share * h * w)), 1), h, w)
    inside = _window(_corner(draws.places, 0, side, h, w), side, centres)
    painted = centres + eps * draws.signs.to(centres.dtype)[:, :, None, None]
    return torch.where(inside, painted, adv).clamp(0, 1)


def _propose_l2(centres: Tensor, adv: Tensor, draws: _Draws, share: float, eps: float) -> Tensor:
    """Move the length that one window holds, and what is left of the budget, into another."""
    n, c, h, w = centres.shape
    side = max(round(math.sqrt(share * h * w)), 3)
    side = min(side + 1 - side % 2, h, w)
    change = adv - centres
    into = _corner(draws.places, 0, side, h, w)
    out_of = _corner(draws.places, 2, side, h, w)
    touched = _window(into, side, centres) | _window(out_of, side, centres)
    unused = (eps**2 - change.square().sum(dim=(1, 2, 3), keepdim=True)).clamp_min(0)
    held = (change * touched).square().sum(dim=(2, 3), keepdim=True)
    reach = torch.arange(side, device=centres.device)
    index = (
        torch.arange(n, device=centres.device)[:, None, None, None],
        torch.arange(c, device=centres.device)[None, :, None, None],
        (into[0][:, None] + reach)[:, None, :, None],
        (into[1][:, None] + reach)[:, None, None, :],
    )
    old = change[index]
    pattern = _pyramids(side, draws.places[:, 4] < 0.5, centres).unsqueeze(1)
    new = pattern * draws.signs.to(centres.dtype)[:, :, None, None] + _unit(old)
    moved = change.masked_fill(_window(out_of, side, centres), 0)
    moved[index] = _unit(new) * (held + unused / c).sqrt()
    return _on_sphere(centres, moved, eps)


def _corner(places: Tensor, at: int, side: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    """Place top and left of a window, every position that fits being equally likely."""
    top = (places[:, at] * (h - side + 1)).long()
    left = (places[:, at + 1] * (w - side + 1)).long()
    return top, left


def _window(corner: tuple[Tensor, Tensor], side: int, images: Tensor) -> Tensor:
    """Make the mask of a square window, bool (n, 1, H, W)."""
    _, _, h, w = images.shape
    down = torch.arange(h, device=images.device) - corner[0][:, None]
    across = torch.arange(w, device=images.device) - corner[1][:, None]
    tall, wide = (down >= 0) & (down < side), (across >= 0) & (across < side)
    return (tall[:, None, :, None] & wide[:, None, None, :]).expand(-1, 1, h, w)


def _pyramids(side: int, turned: Tensor, like: Tensor) -> Tensor:
    """Make (n, side, side) of length 1: a hill and a hollow, side by side where ``turned``."""
    upper = side // 2
    halves = [_hill(upper, side, like), -_hill(side - upper, side, like)]
    both = torch.cat([half / half.norm().clamp_min(_TINY) for half in halves])
    both = both / both.norm()
    return torch.where(turned[:, None, None], both.T, both)


def _hill(rows: int, columns: int, like: Tensor) -> Tensor:
    """Lay squares around the middle on each other, the k-th smallest weighing 1 / k^2."""
    levels = max(rows // 2, columns // 2) + 1
    heights = torch.arange(1, levels + 1, device=like.device, dtype=like.dtype).pow(-2)
    heights = heights.flip(0).cumsum(0).flip(0)  # from the middle outwards
    down = (torch.arange(rows, device=like.device) - rows // 2).abs()
    across = (torch.arange(columns, device=like.device) - columns // 2).abs()
    return heights[torch.maximum(down[:, None], across)]


def _unit(patch: Tensor) -> Tensor:
    return patch / patch.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp_min(_TINY)


def _on_sphere(centres: Tensor, change: Tensor, eps: float) -> Tensor:
    scale = per_sample(eps / lengths(change, norm="l2").clamp_min(_TINY))
    return (centres + change * scale).clamp(0, 1)
