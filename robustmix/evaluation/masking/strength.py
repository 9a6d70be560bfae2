"""Checks G2 to G7, G14 and G15: does more of an attack find more?"""

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import Goal, Norm, pgd, square, standing
from robustmix.attacks.ball import lengths, per_sample
from robustmix.attacks.search import Leader
from robustmix.evaluation.masking.probes import (
    Evidence,
    Threat,
    check,
    percent,
    scored,
    skipped,
    with_a_gradient,
)
from robustmix.evaluation.suite import Batch, Columns, Context, Done, Part
from robustmix.later import RobustModel, Tensor, torch
from robustmix.report.schema import CheckPart
from robustmix.rng import normal, sample_keys, uniform
from robustmix.types import Model

STEPS = 10
"""Of the searches that are compared with FGSM and along the radius."""

LONG = 40
"""Of the search at the radius itself, half of which must do as well."""

RADII = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Radii of the searches, in units of the threat's."""

SLACK = 0.01
"""What an attack without bound may leave above chance before that warns."""

UNBOUNDED_STEPS = 100
QUERIES = 1000
NOISES = 10

Attack = Callable[[Model, Batch, Tensor], Columns]
Select = Callable[[Done], NDArray[np.int64]]


def search_name(factor: float) -> str:
    """Name the condition of a search at a multiple of the radius; the radius itself is ``pgd``.

    Example:
        >>> search_name(1.0), search_name(0.25)
        ('pgd', 'pgd x0.25')
    """
    return "pgd" if factor == 1 else f"pgd x{factor:g}"


def strength_parts(context: Context, threat: Threat, surrogate: RobustModel | None) -> list[Part]:
    """List one part an attack; Square's takes only what the search has left."""
    whole = widest(context, threat)
    model = with_a_gradient(context.model)
    made: dict[str, Attack] = {"noise": partial(noise, threat, "noise", NOISES)}
    for factor in RADII:
        steps = LONG if factor == 1 else STEPS
        name = search_name(factor)
        made[name] = at_radius(threat, name, min(factor * threat.eps, whole), steps)
    made["unbounded"] = without_bound(threat, "unbounded", whole)
    made["square"] = partial(queries, threat, "square", QUERIES)
    if surrogate is not None:
        from robustmix.models.robust_model import padded

        other = padded(surrogate.to(context.device))
        made["transfer"] = partial(transfer, threat, "transfer", LONG, other)

    def part(name: str, attack: Attack) -> Part:
        def compute(batch: Batch) -> Mapping[str, Columns]:
            return {name: attack(model, batch, batch.pixels())}

        return Part(name, (name,), compute, select=_left if name == "square" else None)

    return [part(name, attack) for name, attack in made.items()]


def widest(context: Context, threat: Threat) -> float:
    """Give the radius of a ball that holds every image."""
    return 1.0 if threat.norm == "linf" else math.sqrt(math.prod(context.robust.input_size))


def at_radius(threat: Threat, name: str, eps: float, steps: int) -> Attack:
    """Make a search inside a ball; ``name`` is the condition, which its random start follows."""
    return partial(_search, threat, name, eps, eps * threat.step_share, steps)


def without_bound(threat: Threat, name: str, whole: float) -> Attack:
    """Make the search that may reach any image."""
    return partial(_search, threat, name, whole, whole / 50, UNBOUNDED_STEPS)


def _left(done: Done) -> NDArray[np.int64]:
    rows = done["pgd", 0]
    return np.flatnonzero(rows["tested"].astype(bool) & rows["correct"].astype(bool))


def _keys(threat: Threat, name: str, batch: Batch) -> Tensor:
    return sample_keys(threat.seed, "masking", name, 0, batch.sample_ids)


def noise(
    threat: Threat, name: str, tries: int, model: Model, batch: Batch, images: Tensor
) -> Columns:
    """Try random points of the ball's surface until one is misclassified."""
    keys, goal = _keys(threat, name, batch).to(images.device), Goal("margin", batch.labels)
    best, tried = Leader(images), torch.zeros(len(images), dtype=torch.int64)
    for stream in range(tries):
        rows = best.survivors()
        if not len(rows):
            break
        change = surface(keys[rows], images[rows], norm=threat.norm, eps=threat.eps, stream=stream)
        noisy = (images[rows] + change).clamp(0, 1)
        stood = standing(model, noisy, goal.take(rows))
        best.offer(rows, noisy, stood.reached, stood.loss)
        tried[rows.cpu()] += 1
    return scored(
        model, batch, images, best.images, norm=threat.norm, eps=threat.eps,
        value=tried, forwards=tried,
    )  # fmt: skip


def surface(keys: Tensor, images: Tensor, *, norm: Norm, eps: float, stream: int) -> Tensor:
    """Draw a random corner of the linf ball, or a random point of the l2 sphere, around zero."""
    count = images[0].numel()
    if norm == "linf":
        signs = torch.where(uniform(keys, count, counter_high=stream) < 0.5, -eps, eps)
        return signs.view_as(images).to(images.dtype)
    draws = normal(keys, count, counter_high=stream).view_as(images)
    return (draws * per_sample(eps / lengths(draws, norm="l2"))).to(images.dtype)


def _search(
    threat: Threat,
    name: str,
    eps: float,
    step_size: float,
    steps: int,
    model: Model,
    batch: Batch,
    images: Tensor,
) -> Columns:
    found = pgd.outcome(
        model,
        images,
        batch.labels,
        eps=eps,
        step_size=step_size,
        steps=steps,
        norm=threat.norm,
        keys=_keys(threat, name, batch),
        stop_early=True,
    )
    return scored(
        model,
        batch,
        images,
        found.images,
        norm=threat.norm,
        eps=eps,
        value=found.first_step,
        forwards=found.forwards,
        backwards=found.backwards,
    )


def queries(
    threat: Threat, name: str, count: int, model: Model, batch: Batch, images: Tensor
) -> Columns:
    """Search with Square, which needs no gradient, by so many queries."""
    found = square.outcome(
        model,
        images,
        batch.labels,
        eps=threat.eps,
        norm=threat.norm,
        queries=count,
        keys=_keys(threat, name, batch),
    )
    return scored(
        model, batch, images, found.images, norm=threat.norm, eps=threat.eps,
        value=found.forwards, forwards=found.forwards,
    )  # fmt: skip


def transfer(
    threat: Threat,
    name: str,
    steps: int,
    surrogate: Model,
    model: Model,
    batch: Batch,
    images: Tensor,
) -> Columns:
    """Attack another model with all steps, and show the result to the one that is checked."""
    raw = pgd(
        surrogate,
        images,
        batch.labels,
        eps=threat.eps,
        step_size=threat.eps * threat.step_share,
        steps=steps,
        norm=threat.norm,
        keys=_keys(threat, name, batch),
    )
    return scored(model, batch, images, raw, norm=threat.norm, eps=threat.eps)


def strength_checks(found: Evidence) -> list[CheckPart]:
    """Make G2 to G7, G14 and G15."""
    return [
        _iterative(found),
        _monotone(found),
        _unbounded(found),
        _queries(found),
        _random(found),
        _surrogate(found),
        _loss(found),
        _converged(found),
    ]


def _iterative(found: Evidence) -> CheckPart:
    one, many = found.error("fgsm"), found.error_within("pgd", STEPS)
    return check(
        "G2",
        "one step stronger than ten",
        one - many,
        f"FGSM breaks {percent(one)}, PGD-{STEPS} {percent(many)}",
        n=found.n,
        warn=0.005,
        fail=0.02,
        grain=True,
    )


def _monotone(found: Evidence) -> CheckPart:
    errors = [found.error_within(search_name(factor), STEPS) for factor in RADII]
    drops = [before - after for before, after in itertools.pairwise(errors)]
    told = " ".join(percent(error) for error in errors)
    return check(
        "G3",
        "a larger radius that breaks fewer",
        max(0.0, *drops),
        f"PGD-{STEPS} at {', '.join(f'{factor:g}' for factor in RADII)} radii breaks {told}",
        n=found.n,
        warn=0.005,
        fail=0.02,
        grain=True,
    )


def _unbounded(found: Evidence) -> CheckPart:
    left, chance = 1 - found.error("unbounded"), 1 / found.num_classes
    return check(
        "G4",
        "accuracy left when any image is allowed",
        left,
        f"{percent(left)} survive an attack without bound, chance is {percent(chance)}",
        n=found.n,
        warn=chance + SLACK,
        fail=chance + 0.05,
    )


def _queries(found: Evidence) -> CheckPart:
    won = found.error("square")
    return check(
        "G5",
        "what a search without gradients breaks beyond PGD",
        won,
        f"Square with {QUERIES} queries breaks another {percent(won)}, which PGD-{LONG} did not",
        n=found.n,
        warn=0.002,
        fail=0.02,
        grain=True,
    )


def _random(found: Evidence) -> CheckPart:
    noise, one = found.error("noise"), found.error("fgsm")
    return check(
        "G6",
        "noise stronger than FGSM",
        noise - one,
        f"the best of {NOISES} random points breaks {percent(noise)}, FGSM {percent(one)}",
        n=found.n,
        warn=0.0,
        fail=0.01,
    )


def _surrogate(found: Evidence) -> CheckPart:
    title = "attacks on another model stronger than on this one"
    if not found.has("transfer"):
        return skipped("G7", title, "no surrogate was given")
    other, own = found.error("transfer"), found.error("pgd")
    return check(
        "G7",
        title,
        other - own,
        f"images made for the surrogate break {percent(other)}, for this model {percent(own)}",
        n=found.n,
        warn=0.005,
        fail=0.02,
        grain=True,
    )


def _loss(found: Evidence) -> CheckPart:
    stuck = float((found.rows("pgd")["nll"] <= found.before("pgd")["nll"]).mean())
    return check(
        "G14",
        "attacks that do not raise the loss",
        stuck,
        f"PGD does not raise the loss of {percent(stuck)} of the samples",
        n=found.n,
        warn=0.01,
        fail=0.1,
        grain=True,
    )


def _converged(found: Evidence) -> CheckPart:
    half = LONG // 2
    single, double = found.error_within("pgd", half), found.error_within("pgd", LONG)
    return check(
        "G15",
        "a search that has not converged",
        double - single,
        f"PGD breaks {percent(single)} in {half} steps, {percent(double)} in {LONG}",
        n=found.n,
        warn=0.005,
        fail=0.02,
        grain=True,
    )
