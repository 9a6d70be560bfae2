"""Auto-PGD: projected gradient ascent with momentum that sets its own step size."""

from dataclasses import dataclass, fields

from robustmix.attacks.attack import attack, own_keys
from robustmix.attacks.ball import (
    Norm,
    ascent_direction,
    check_problem,
    per_sample,
    project,
    start_in_ball,
)
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.expectation import Looks
from robustmix.attacks.losses import Goal, Loss
from robustmix.attacks.outcome import Outcome
from robustmix.attacks.search import Leader, look_every, of_rows, plan, with_rows
from robustmix.later import Tensor, torch
from robustmix.types import Model

MOMENTUM = 0.75
"""Weight of the new step against the last one; alpha of the paper."""


def checkpoints(steps: int) -> tuple[int, ...]:
    """List after how many steps the step size is reviewed, rising, all at most ``steps``.

    The first interval is 22 % of the steps; each next one is 3 % shorter, down to 6 %.

    Example:
        >>> checkpoints(100)
        (22, 41, 57, 70, 80, 87, 93, 99)
    """
    points, before, at = [], 0, 22  # in hundredths, so that no share is rounded
    while at <= 100:
        points.append(-(-at * steps // 100))
        before, at = at, at + max(at - before - 3, 6)
    return tuple(dict.fromkeys(points))


@attack
def apgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 100,
    restarts: int = 1,
    loss: Loss = "ce",
    targets: Tensor | int | None = None,
    rho: float = 0.75,
    eot: int = 1,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Raise a loss inside a ball with a step size that halves itself where progress stalls.

    The step starts at 2 eps. At each checkpoint a sample's step is halved and its search goes
    back to the best point if fewer than ``rho`` of the steps since the last checkpoint raised the
    loss, or if neither the step nor the best loss has changed since then. A sample leaves the
    search as soon as it has reached the goal.

    Follows the paper, from which its authors' code differs in details: there, exactly ``rho``
    also halves, the first step always counts as a rise, and the first checkpoint knows only the
    first of the two conditions. Targets can be a tensor too: of classes (N,), which alone count as
    success.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.
        steps: gradient steps of a restart.
        restarts: random starts of a search (for every target).
        loss: what is raised: ``ce``, ``margin`` or ``dlr`` (at least 3 classes, with targets 4).
        targets: a number such as 9, that of APGD-T: go towards each of that many highest other
            classes in turn, any wrong class counts as success; by default away from the label.
        rho: share of rising steps below which a step size is halved.
        eot: passes that each gradient is the mean of, for a network whose answers are random
            (expectation over transformation); its draws follow from the keys.
        seed: what the random starts follow from where there are no keys.
        keys: one 64-bit key a sample for the random starts, int64 (N,).

    Returns:
        Images (N, C, H, W): of all iterates one that reached the goal if any did, else the one of
        highest loss. The outcome has ``loss``.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Croce and Hein 2020, arXiv:2003.01690, algorithm 1 and section 3.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if steps < 1 or not 0 <= rho <= 1:
        raise ValueError(f"expected steps >= 1 and rho in [0, 1], got {steps} and {rho}")
    keys = own_keys(keys, seed, images)
    looks = Looks(eot, keys)
    with looks.drawing(images.device):
        tries, planning = plan(
            model, images, labels, loss=loss, targets=targets, restarts=restarts, doubts=doubts
        )
    best, every = Leader(images), look_every(images.device)
    passes = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    marks = checkpoints(steps)
    for stream, goal in tries:
        rows = best.survivors()
        if not len(rows):
            break
        start = start_in_ball(images[rows], keys[rows], norm=norm, eps=eps, stream=stream)
        passes = with_rows(passes, rows, of_rows(passes, rows) + 1)
        own = goal.take(rows)
        climb = _begin(model, images[rows], start, own, rows, eps, looks, doubts)
        for step in range(1, steps + 1):
            if step % every == 0 and len(left := climb.live.nonzero().flatten()) < len(climb.rows):
                best.offer(climb.rows, climb.top, ~climb.live, climb.top_loss, among=~climb.live)
                climb = climb.only(left)
                own = goal.take(climb.rows)
                if not len(left):
                    break
            passes = with_rows(passes, climb.rows, of_rows(passes, climb.rows) + climb.live)
            _step(
                model, climb, own, norm=norm, eps=eps, first=step == 1, looks=looks, doubts=doubts
            )
            if step in marks:
                interval = step - max((mark for mark in marks if mark < step), default=0)
                _review(climb, rho * interval)
        best.offer(climb.rows, climb.top, ~climb.live, climb.top_loss)
    doubts.settle()
    return Outcome(
        images=best.images,
        success=best.reached,
        loss=best.loss,
        forwards=eot * passes + planning,
        backwards=eot * passes,
    )


@dataclass
class _Climb:
    """The samples that still climb; one row a sample in every field."""

    rows: Tensor  # in the caller's batch
    centres: Tensor
    adv: Tensor
    previous: Tensor  # the iterate before
    gradient: Tensor
    loss: Tensor
    live: Tensor  # whether no iterate has reached the goal yet
    top: Tensor  # the iterate that did, else that of highest loss, its gradient and loss
    top_gradient: Tensor
    top_loss: Tensor
    step_size: Tensor
    rises: Tensor  # steps since the last checkpoint that raised the loss
    halved: Tensor  # whether the step size was halved at the last checkpoint
    checked_loss: Tensor  # the top loss at the last checkpoint

    def only(self, left: Tensor) -> "_Climb":
        return _Climb(*(getattr(self, field.name)[left] for field in fields(self)))


def _begin(
    model: Model,
    centres: Tensor,
    start: Tensor,
    goal: Goal,
    rows: Tensor,
    eps: float,
    looks: Looks,
    doubts: Doubts,
) -> _Climb:
    loss, reached, gradient, _ = looks.slope(model, start, goal, doubts)
    return _Climb(
        rows=rows,
        centres=centres,
        adv=start,
        previous=start,
        gradient=gradient,
        loss=loss,
        live=~reached,
        top=start,
        top_gradient=gradient,
        top_loss=loss,
        step_size=torch.full_like(loss, 2 * eps),
        rises=torch.zeros_like(rows),
        halved=torch.zeros_like(reached),
        checked_loss=loss,
    )


def _step(
    model: Model,
    climb: _Climb,
    goal: Goal,
    *,
    norm: Norm,
    eps: float,
    first: bool,
    looks: Looks,
    doubts: Doubts,
) -> None:
    """Make one step with momentum and score where it ends."""
    adv, centres = climb.adv, climb.centres
    move = per_sample(climb.step_size) * ascent_direction(climb.gradient, norm=norm)
    moved = project(centres, adv + move, norm=norm, eps=eps)
    if not first:
        moved = adv + MOMENTUM * (moved - adv) + (1 - MOMENTUM) * (adv - climb.previous)
        moved = project(centres, moved, norm=norm, eps=eps)
    climb.previous, climb.adv = adv, moved
    loss, reached, climb.gradient, _ = looks.slope(model, moved, goal, doubts)
    climb.rises = climb.rises + (loss > climb.loss)
    climb.loss = loss
    higher = climb.live & (reached | (loss > climb.top_loss))
    climb.live = climb.live & ~reached
    wide = per_sample(higher)
    climb.top = torch.where(wide, moved, climb.top)
    climb.top_gradient = torch.where(wide, climb.gradient, climb.top_gradient)
    climb.top_loss = torch.where(higher, loss, climb.top_loss)


def _review(climb: _Climb, needed_rises: float) -> None:
    """Halve the steps of samples that make no progress and send these back to their best point."""
    unchanged = ~climb.halved & (climb.top_loss == climb.checked_loss)
    halve = (climb.rises < needed_rises) | unchanged
    climb.step_size = torch.where(halve, climb.step_size / 2, climb.step_size)
    wide = per_sample(halve)
    climb.adv = torch.where(wide, climb.top, climb.adv)
    climb.gradient = torch.where(wide, climb.top_gradient, climb.gradient)
    climb.loss = torch.where(halve, climb.top_loss, climb.loss)
    climb.halved, climb.checked_loss = halve, climb.top_loss
    climb.rises = torch.zeros_like(climb.rises)
