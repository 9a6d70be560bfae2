"""DeepFool: the nearest of the classes' boundaries, as if they were planes, again and again."""

from dataclasses import dataclass, fields

from robustmix.attacks.attack import attack
from robustmix.attacks.ball import Norm, ascent_direction, check_problem, lengths, per_sample
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.losses import Goal, at, gradient_of, probed, standing, top_targets
from robustmix.attacks.outcome import Outcome
from robustmix.attacks.search import Leader, look_every, of_rows, with_rows
from robustmix.later import Tensor, torch
from robustmix.types import Model

_LEAST = 1e-6  # of a step, so that none is lost in the rounding of pixels
_TINY = 1e-12


@attack
def deepfool(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 50,
    candidates: int = 9,
    overshoot: float = 0.02,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Look for a small change that leaves the label, by steps onto the nearest linear boundary.

    Each step takes the logits for linear, goes onto the plane where the nearest of a few classes
    would be level with the label, and is added to the steps before. The image is moved by their sum
    and a little more, and clipped to [0, 1]; the search of a sample ends where another class leads.
    It knows no radius: what it finds outside the ball is no success here, and the clean image is
    returned.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: what is to be small, ``linf`` or ``l2``.
        steps: most steps; each takes a backward pass for every candidate.
        candidates: highest other classes of the clean image whose boundaries are looked at; all of
            them, if there are fewer.
        overshoot: by what share of the whole change it goes beyond the boundary.
        seed: without effect, for nothing is random here.
        keys: likewise.

    Returns:
        Images (N, C, H, W) in the ball and [0, 1]: those that were found, the clean ones where
        there are none.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, algorithm 2; in linf the step that its
        section 3.3 gives for other norms. The paper does not clip.

    Example:
        >>> toward = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1)
        >>> image, label = torch.tensor([0.6, 0.4]).view(1, 1, 1, 2), torch.tensor([0])
        >>> found = deepfool(toward, image, label, eps=0.5)
        >>> [round(value, 3) for value in found.flatten().tolist()]
        [0.498, 0.502]
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if steps < 1 or candidates < 1 or not 0 <= overshoot < torch.inf:
        raise ValueError(
            "expected steps >= 1, candidates >= 1 and overshoot >= 0, got "
            f"{steps}, {candidates} and {overshoot}"
        )
    best, every = Leader(images), look_every(images.device)
    forwards = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    backwards, walk = torch.zeros_like(forwards), _begin(best.survivors(), images, labels)
    for step in range(steps + 1):
        if step % every == 0 and len(left := walk.live.nonzero().flatten()) < len(walk.rows):
            walk.offer_to(best, norm=norm, eps=eps)
            walk = walk.only(left)
        if not len(walk.rows):
            break
        live = walk.live
        forwards = with_rows(forwards, walk.rows, of_rows(forwards, walk.rows) + live)
        if step == steps:
            goal = Goal("margin", walk.labels)
            walk.live = live & ~standing(model, walk.adv, goal, doubts).reached
            break
        spent = _move(model, walk, candidates, norm, overshoot, doubts)
        backwards = with_rows(backwards, walk.rows, of_rows(backwards, walk.rows) + spent * live)
    walk.offer_to(best, norm=norm, eps=eps)
    doubts.settle()
    return Outcome(images=best.images, success=best.reached, forwards=forwards, backwards=backwards)


@dataclass
class _Walk:
    """The samples that are searched; one row a sample in every field."""

    rows: Tensor  # in the caller's batch
    centres: Tensor
    labels: Tensor
    adv: Tensor
    change: Tensor  # the sum of all steps, without overshoot and clipping
    classes: Tensor  # the candidates; none before the first look at the clean image
    live: Tensor  # whether the label still leads

    def offer_to(self, best: Leader, *, norm: Norm, eps: float) -> None:
        distance = lengths(self.adv - self.centres, norm=norm)
        found = ~self.live & (distance <= eps)
        best.offer(self.rows, self.adv, found, -distance, among=found)

    def only(self, left: Tensor) -> "_Walk":
        return _Walk(*(getattr(self, field.name)[left] for field in fields(self)))


def _begin(rows: Tensor, images: Tensor, labels: Tensor) -> _Walk:
    none = labels.new_zeros(len(rows), 0)
    change = torch.zeros_like(images)
    return _Walk(rows, images, labels, images, change, none, torch.ones_like(rows).bool())


def _move(
    model: Model, walk: _Walk, candidates: int, norm: Norm, overshoot: float, doubts: Doubts
) -> int:
    """Move the samples whose label leads by one step, and count the backward passes of each."""
    probe, logits = probed(model, walk.adv, doubts)
    seen = logits.detach()
    if not walk.classes.shape[1]:
        walk.classes = top_targets(seen, walk.labels, min(candidates, seen.shape[1] - 1))
    walk.live = walk.live & ~Goal("margin", walk.labels).reached(seen)
    distance = torch.full_like(walk.change[:, 0, 0, 0], torch.inf)
    normal, count = torch.zeros_like(walk.change), walk.classes.shape[1]
    # One class after the other: all gradients together would take a copy of the batch for each.
    for place in range(count):
        with torch.enable_grad():
            lead = at(logits, walk.classes[:, place]) - at(logits, walk.labels)
        gradient = gradient_of(lead, probe, again=place + 1 < count)
        slope = torch.linalg.vector_norm(gradient.flatten(1), ord=2 if norm == "l2" else 1, dim=1)
        away = (lead.detach().abs() / slope.clamp_min(_TINY)).to(distance.dtype)
        nearer = away < distance
        distance = torch.where(nearer, away, distance)
        normal = torch.where(per_sample(nearer), gradient, normal)
    step = per_sample(distance.clamp_min(_LEAST)) * ascent_direction(normal, norm=norm)
    # What has left its label stands still, for its change does.
    walk.change = torch.where(per_sample(walk.live), walk.change + step, walk.change)
    walk.adv = (walk.centres + (1 + overshoot) * walk.change).clamp(0, 1)
    return count
