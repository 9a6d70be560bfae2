"""FAB: the nearest decision boundaries, by steps onto the planes that stand for them."""

from dataclasses import dataclass, fields
from typing import NamedTuple

from robustmix.attacks.attack import attack, own_keys
from robustmix.attacks.ball import Norm, check_problem, lengths, per_sample, start_in_ball
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.hyperplane import step_onto_hyperplane
from robustmix.attacks.losses import Goal, at, gradient_of, probed, standing
from robustmix.attacks.outcome import Outcome
from robustmix.attacks.search import Leader, look_every, of_rows, plan, with_rows
from robustmix.later import Tensor, torch
from robustmix.types import Model

ALPHA_MAX = 0.1
"""Most weight of the step from the clean image against that from the present one."""

ETA = 1.05
"""How far a step goes, in lengths of the way to the plane: beyond it."""

BETA = 0.9
"""What is kept of a change that has reached the goal, before the next step."""

_LEAST = 1e-8


@attack
def fab(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 100,
    restarts: int = 1,
    targets: Tensor | int | None = 9,
    stop_early: bool = False,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Look for the smallest change that reaches another class, by steps onto linear boundaries.

    Each step goes onto the plane where the logits of target and label would be equal if they were
    linear, and a little beyond, within [0, 1]; a small part of it starts from the clean image.
    Where a class other than the label leads there, the change is noted if it is the smallest yet,
    and shortened. The search knows no radius: what it finds outside the ball is no success here,
    and the clean image is returned. A sample that has been found in the ball by the steps towards
    one target makes none towards the next.

    Without targets each step goes to the nearest plane of all classes, which takes a backward pass
    for every class. Targets can be a tensor too: of classes (N,), which alone count as success.
    With ``stop_early`` it is the same which samples are reached, by a change that need not be the
    smallest.

    Also looks at the shortened images, whose logits are known from the next step's gradient; the
    authors' code does not. A random start is anywhere in its ball; theirs is on its edge.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: what is to be small, ``linf`` or ``l2``.
        steps: gradient steps towards each target.
        restarts: searches for every target; the first starts at the image, further ones at a
            random point of the ball of half the radius.
        targets: highest other classes that are tried in turn; all of them, if there are fewer.
        stop_early: end a sample's search at the first iterate in the ball that reaches the goal.
        seed: what the random starts follow from where there are no keys.
        keys: one 64-bit key a sample for the random starts, int64 (N,).

    Returns:
        Images (N, C, H, W) in the ball and [0, 1]: the nearest that were found, the clean ones
        where there are none.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Croce and Hein 2020, arXiv:1907.02044, algorithm 1; targeted as in arXiv:2003.01690,
        section 4.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if steps < 1:
        raise ValueError(f"expected steps >= 1, got {steps}")
    keys = own_keys(keys, seed, images)
    tries, planning = plan(
        model, images, labels, loss="margin", targets=targets, restarts=restarts, doubts=doubts
    )
    enough = eps if stop_early else 0.0
    best, every = Leader(images), look_every(images.device)
    forwards = torch.full((len(images),), planning, dtype=torch.int64, device=images.device)
    backwards = torch.zeros_like(forwards)
    for number, (stream, whole) in enumerate(tries):
        rows = best.survivors()
        if not len(rows):
            break
        start = images[rows]
        if number >= len(tries) // restarts:
            start = start_in_ball(start, keys[rows], norm=norm, eps=eps / 2, stream=stream)
        walk, goal = _begin(images[rows], start, rows), whole.take(rows)
        for step in range(steps):
            if step and step % every == 0:
                left = walk.live(enough).nonzero().flatten()
                if len(left) < len(walk.rows):
                    walk.offer_to(best, among=~walk.live(enough))
                    walk = walk.only(left)
                    goal = whole.take(walk.rows)
                if not len(left):
                    break
            live = walk.live(enough)
            plane = _nearest_plane(model, walk.adv, goal, norm, doubts)
            walk.note(walk.adv, plane.reached & live, norm=norm, eps=eps)
            walk.adv = _towards(walk, plane, norm)
            reached = standing(model, walk.adv, goal, doubts).reached
            walk.note(walk.adv, reached & live, norm=norm, eps=eps)
            shorter = walk.centres + BETA * (walk.adv - walk.centres)
            walk.adv = torch.where(per_sample(reached), shorter, walk.adv)
            spent = of_rows(forwards, walk.rows) + 2 * live
            forwards = with_rows(forwards, walk.rows, spent)
            spent = of_rows(backwards, walk.rows) + plane.backwards * live
            backwards = with_rows(backwards, walk.rows, spent)
        walk.offer_to(best)
    doubts.settle()
    return Outcome(images=best.images, success=best.reached, forwards=forwards, backwards=backwards)


@dataclass
class _Walk:
    """The samples that are searched; one row a sample in every field."""

    rows: Tensor  # in the caller's batch
    centres: Tensor
    adv: Tensor
    top: Tensor  # the nearest image in the ball that reached the goal, and its distance
    distance: Tensor  # infinite if there is none yet

    def live(self, enough: float) -> Tensor:
        """Tell whose nearest image is not near enough yet, bool (n,)."""
        return self.distance > enough

    def note(self, adv: Tensor, reached: Tensor, *, norm: Norm, eps: float) -> None:
        """Keep images in the ball that reached the goal and are nearer than those before."""
        distance = lengths(adv - self.centres, norm=norm)
        nearer = reached & (distance <= eps) & (distance < self.distance)
        self.top = torch.where(per_sample(nearer), adv, self.top)
        self.distance = torch.where(nearer, distance, self.distance)

    def offer_to(self, best: Leader, among: Tensor | None = None) -> None:
        found = self.distance < torch.inf
        among = found if among is None else found & among
        best.offer(self.rows, self.top, found, -self.distance, among=among)

    def only(self, left: Tensor) -> "_Walk":
        return _Walk(*(getattr(self, field.name)[left] for field in fields(self)))


def _begin(centres: Tensor, start: Tensor, rows: Tensor) -> _Walk:
    none = torch.full((len(rows),), torch.inf, dtype=centres.dtype, device=centres.device)
    return _Walk(rows, centres, start, centres, none)


class _Plane(NamedTuple):
    """The linear boundary of each image: value + normal . (x - image) = 0."""

    value: Tensor
    """(n,): by how much the other class leads at the image itself."""

    normal: Tensor
    """(n, C, H, W)."""

    reached: Tensor
    """bool (n,): whether the image has reached the goal."""

    backwards: int
    """Backward passes that each image cost."""


def _nearest_plane(model: Model, images: Tensor, goal: Goal, norm: Norm, doubts: Doubts) -> _Plane:
    """Find where the target would be level with the label, without targets the nearest class."""
    probe, logits = probed(model, images, doubts)
    seen = logits.detach()
    reached = goal.reached(seen)
    if goal.targets is not None:
        with torch.enable_grad():
            lead = at(logits, goal.targets) - at(logits, goal.labels)
        value = lead.detach().to(images.dtype)
        return _Plane(value, gradient_of(lead, probe), reached, 1)
    count = logits.shape[1]
    value, normal = torch.zeros_like(seen[:, 0]).to(images.dtype), torch.zeros_like(images)
    nearest = torch.full_like(value, torch.inf)
    # One class after the other: all gradients together would take a copy of the batch for each.
    for other in range(count):
        with torch.enable_grad():
            lead = logits[:, other] - at(logits, goal.labels)
        gradient = gradient_of(lead, probe, again=other + 1 < count)
        slope = torch.linalg.vector_norm(gradient.flatten(1), ord=2 if norm == "l2" else 1, dim=1)
        distance = lead.detach().abs() / slope.clamp_min(1e-12)
        nearer = (distance < nearest) & (goal.labels != other)
        nearest = torch.where(nearer, distance.to(images.dtype), nearest)
        value = torch.where(nearer, lead.detach().to(images.dtype), value)
        normal = torch.where(per_sample(nearer), gradient, normal)
    return _Plane(value, normal, reached, count)


def _towards(walk: _Walk, plane: _Plane, norm: Norm) -> Tensor:
    """Step beyond the plane, from the image and a little from the clean one."""
    back = walk.adv - walk.centres
    normal = plane.normal.flatten(1)
    steps = step_onto_hyperplane(
        torch.cat([walk.adv, walk.centres]).flatten(1),
        torch.cat([normal, normal]),
        torch.cat([-plane.value, (normal * back.flatten(1)).sum(dim=1) - plane.value]),
        norm=norm,
    ).view(2, *walk.adv.shape)
    own, clean = (lengths(step, norm=norm).clamp_min(_LEAST) for step in steps)
    alpha = per_sample((own / (own + clean)).clamp_max(ALPHA_MAX))
    moved = (1 - alpha) * (walk.adv + ETA * steps[0]) + alpha * (walk.centres + ETA * steps[1])
    return moved.clamp(0, 1)
