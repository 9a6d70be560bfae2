"""The attack of Carlini and Wagner in l2: a small change that wins, by Adam on a weighted sum."""

import math
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from robustmix.attacks.attack import attack
from robustmix.attacks.ball import check_problem, lengths, per_sample
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.losses import Goal, gradient_of, probed, scores
from robustmix.attacks.outcome import Outcome
from robustmix.attacks.search import Leader, look_every, of_rows, with_rows
from robustmix.later import Tensor, torch
from robustmix.types import Model

BETAS = (0.9, 0.999)
"""Of Adam: what its two running means keep at each step."""

REVIEWS = 10
"""How often in a search it is looked whether the sum still falls."""

LEAST_FALL = 1e-4
"""Share of the sum by which it has to have fallen since the last look."""

_INSIDE = 1 - 1e-6  # pixels of exactly 0 and 1 would be infinitely far away
_TINY = 1e-8


@attack
def cw(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Literal["l2"] = "l2",
    steps: int = 1000,
    binary_search_steps: int = 9,
    initial_const: float = 1e-3,
    learning_rate: float = 0.01,
    confidence: float = 0.0,
    targets: Tensor | None = None,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Look for the smallest change in l2 by which another class leads.

    Minimises the squared length of the change plus a constant times what the label still leads by,
    over images written as (1 + tanh) / 2 so that they stay in [0, 1]. Each sample has its constant:
    ten times as large where a search has found nothing, and halved in between once one has. The
    nearest image of all searches counts. A sample's search ends early where a tenth of the steps
    has not lowered its least sum by a ten-thousandth. The search knows no radius: what it finds
    outside the ball is no success here, and the clean image is returned.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (0.5, not 128).
        norm: ``l2``.
        steps: most gradient steps of a search.
        binary_search_steps: searches, each with another constant.
        initial_const: the constant of the first search.
        learning_rate: of Adam, in units of the argument of tanh.
        confidence: by how much another logit has to lead.
        targets: None: away from the label. Classes (N,): towards these, and only they count as
            success.
        seed: without effect, for nothing is random here.
        keys: likewise.

    Returns:
        Images (N, C, H, W) in the ball and [0, 1]: the nearest that were found, the clean ones
        where there are none.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Carlini and Wagner 2017, arXiv:1608.04644, section V and VI.A, with the six of f.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if norm != "l2":
        raise ValueError(f"expected norm l2, got {norm!r}")
    _check_options(steps, binary_search_steps, initial_const, learning_rate, confidence)
    goal = Goal("margin", labels, targets, reach=targets is not None)
    best, n = Leader(images), len(images)
    passes = torch.zeros(n, dtype=torch.int64, device=images.device)
    if not n:
        none = images.clone()
        return Outcome(images=none, success=best.reached, forwards=passes, backwards=passes)
    clean = goal.reached(scores(model, images, doubts))
    best.offer(best.survivors(), images, clean, -torch.zeros_like(best.loss), among=clean)
    bounds, every = _Bounds.begin(best.loss, initial_const), look_every(images.device)
    for _ in range(binary_search_steps):
        hit, search = torch.zeros_like(clean), _begin(images, bounds.const, ~clean)
        for step in range(steps):
            if step % every == 0:
                left = search.live.nonzero().flatten()
                if len(left) < len(search.rows):
                    search = search.only(left)
                if not len(left):
                    break
            rows, live = search.rows, search.live
            passes = with_rows(passes, rows, of_rows(passes, rows) + live)
            seen = _look(model, search, goal.take(rows), confidence, doubts)
            won = seen.won & live
            hit = with_rows(hit, rows, of_rows(hit, rows) | won)
            near = won & (seen.distance <= eps)
            best.offer(rows, seen.images, near, -seen.distance, among=near)
            search.least = search.least.minimum(seen.total)
            if step and step % max(steps // REVIEWS, 1) == 0:
                search.live = live & (search.least <= (1 - LEAST_FALL) * search.reviewed)
                search.reviewed = search.least
            _descend(search, seen, learning_rate, step + 1)
        bounds = bounds.narrowed(hit)
    doubts.settle()
    return Outcome(images=best.images, success=best.reached, forwards=passes + 1, backwards=passes)


def _check_options(
    steps: int, searches: int, const: float, learning_rate: float, confidence: float
) -> None:
    if steps < 1 or searches < 1:
        raise ValueError(
            f"expected steps >= 1 and binary_search_steps >= 1, got {steps} and {searches}"
        )
    positive = all(0 < each < math.inf for each in (const, learning_rate))
    if not positive or not 0 <= confidence < math.inf:
        raise ValueError(
            "expected initial_const > 0, learning_rate > 0 and confidence >= 0, got "
            f"{const}, {learning_rate} and {confidence}"
        )


class _Bounds(NamedTuple):
    """Each sample's constant, and between which it is looked for, (N,)."""

    const: Tensor
    lower: Tensor  # the largest that was too small
    upper: Tensor  # the smallest that was large enough

    @staticmethod
    def begin(like: Tensor, const: float) -> "_Bounds":
        first = torch.full_like(like, const)
        return _Bounds(first, torch.zeros_like(first), torch.full_like(first, torch.inf))

    def narrowed(self, hit: Tensor) -> "_Bounds":
        """Give the bounds after a search, and between them the next constant."""
        lower = torch.where(hit, self.lower, self.const)
        upper = torch.where(hit, self.const, self.upper)
        middle = torch.where(upper < torch.inf, (lower + upper) / 2, 10 * self.const)
        return _Bounds(middle, lower, upper)


@dataclass
class _Search:
    """The samples that are searched; one row a sample in every field."""

    rows: Tensor  # in the caller's batch
    centres: Tensor
    hidden: Tensor  # the image is (1 + tanh) / 2 of it
    mean: Tensor  # Adam's, of its gradients and their squares
    square: Tensor
    const: Tensor
    least: Tensor  # of the sums that were seen, and as it was when last looked whether it falls
    reviewed: Tensor
    live: Tensor

    def only(self, left: Tensor) -> "_Search":
        return _Search(*(getattr(self, field.name)[left] for field in fields(self)))


def _begin(images: Tensor, const: Tensor, live: Tensor) -> _Search:
    rows, none = torch.arange(len(images), device=images.device), torch.zeros_like(images)
    hidden = torch.atanh(_INSIDE * (2 * images - 1))
    endless = torch.full_like(const, torch.inf)
    return _Search(rows, images, hidden, none, none, const, endless, endless, live)


class _Seen(NamedTuple):
    """What one forward and one backward pass show of the present images."""

    images: Tensor
    distance: Tensor  # (n,), in l2
    won: Tensor  # bool (n,): whether another class leads by the confidence asked for
    total: Tensor  # (n,), what is minimised
    gradient: Tensor  # of it, with respect to ``hidden``


def _look(model: Model, search: _Search, goal: Goal, confidence: float, doubts: Doubts) -> _Seen:
    turned = search.hidden.tanh()
    images = (1 + turned) / 2
    probe, logits = probed(model, images, doubts)
    with torch.enable_grad():
        lead = goal.values(logits)
        short = (confidence - lead).clamp_min(0)
    gradient, lead = gradient_of(short, probe), lead.detach()
    change = images - search.centres
    distance = lengths(change, norm="l2")
    total = distance.square() + search.const * short.detach().to(distance.dtype)
    pull = 2 * change + per_sample(search.const) * gradient
    won = goal.reached(logits.detach()) & (lead >= confidence)
    return _Seen(images, distance, won, total, pull * (1 - turned.square()) / 2)


def _descend(search: _Search, seen: _Seen, learning_rate: float, step: int) -> None:
    """Make the step of Adam that follows; its sums are those of single values, of no batch."""
    keep, keep_square = BETAS
    search.mean = keep * search.mean + (1 - keep) * seen.gradient
    search.square = keep_square * search.square + (1 - keep_square) * seen.gradient.square()
    mean, square = search.mean / (1 - keep**step), search.square / (1 - keep_square**step)
    search.hidden = search.hidden - learning_rate * mean / (square.sqrt() + _TINY)
