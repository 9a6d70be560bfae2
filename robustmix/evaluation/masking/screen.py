"""The screen: few samples, short probes, and whether they leave anything to look into.

The first stage of the sequential design. It takes a random part of the samples that the full
battery would take, and counts on it, check by check, the samples on which the model does what the
check is about. It is *clear* if no check counts more than it is allowed; else the full battery
decides, from its own rows alone. The screen can spare the battery, never condemn a model.

What is counted is chosen so that, wherever the battery's check warns, samples are counted: a
difference of two error rates is at most the share of samples that the weaker attack breaks and the
stronger does not, and Square cannot break what PGD left without getting closer there than PGD did.
So the error rate is that of a random part without any of the counted samples in it: a share ``p``
of all is missed with a probability of at most ``(1 - p) ** n``. With 32 samples that is 5 % at
p = 8.9 %, 19 % at 5 %, and 52 % at the 2 % from which most checks of the battery fail: shares so
small, and the battery's warnings of them, are what the screen gives up; ``missed`` gives it for
any share. Checks that warn of large shares only (G4, G16) allow the most samples that keep the
probability of missing a share at which they warn below 5 %, or none.

Three probes are shorter than the battery's, and what only the longer one shows is missed: PGD takes
16 steps, not 40, Square 16 queries on a few survivors, not 1,000 on all, noise five points, not
ten. That is why Square need not break a sample to be counted, but only raise the loss above what
PGD reached. G15 compares PGD's second half with its first: as plain networks fall in it now and
then, it notices a share of a fifth. Of five radii the screen takes two.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustmix.evaluation.masking.behaviour import IN_RANGE, TOLERANCE, behaviour_parts
from robustmix.evaluation.masking.gradients import (
    CONTRADICTED,
    SATURATED,
    gradient_parts,
    probabilities,
)
from robustmix.evaluation.masking.probes import (
    Threat,
    check,
    skipped,
    with_a_gradient,
)
from robustmix.evaluation.masking.strength import (
    RADII,
    SLACK,
    STEPS,
    Attack,
    at_radius,
    noise,
    queries,
    search_name,
    transfer,
    widest,
    without_bound,
)
from robustmix.evaluation.suite import Batch, Columns, Context, Done, Part
from robustmix.later import RobustModel
from robustmix.report.samples import Table
from robustmix.report.schema import CheckPart

PREFIX = "screen "
"""Of the conditions that are the screen's."""

MISSED = 0.05
"""Most probability of missing a share of samples at which a check warns, where samples allow it."""

LATE = 0.2
"""Share of samples that fall in the second half of the screen's search which is to be noticed."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Screen:
    """How the screen is made."""

    samples: int = 32
    """How many of the samples that the full battery would take, at random."""

    repeats: int = 2
    """Passes that must agree."""

    alone: int = 4
    """Samples that are also asked about one by one."""

    steps: int = 16
    """Of the search at the radius itself, half of which must do as well."""

    factor: float = RADII[-1]
    """Multiple of the radius at which what was broken must break again."""

    survivors: int = 16
    """Most survivors of that search that Square takes on, at random."""

    queries: int = 16
    """Of Square for each."""

    noises: int = 5
    """Random points that are tried for each image that FGSM does not break."""

    @property
    def far(self) -> str:
        """Condition of the search at the multiple of the radius."""
        return search_name(self.factor)


def screen_parts(
    context: Context,
    threat: Threat,
    surrogate: RobustModel | None,
    screen: Screen,
    first: NDArray[np.int64],
) -> list[Part]:
    """List the screen's work, the cheap before the dear; the first that is unclear ends it.

    Args:
        context: what is evaluated.
        threat: the attacks in question.
        surrogate: another model, if one was given.
        screen: how it is made.
        first: positions of the samples that the full battery would take, in random order.
    """
    order = first[: screen.samples]
    parts = [
        *behaviour_parts(context, order, passes=screen.repeats, alone=screen.alone),
        *gradient_parts(context, threat),
        *_attack_parts(context, threat, surrogate, screen, order),
    ]

    def narrowed(part: Part) -> Part:
        def select(done: Done) -> NDArray[np.int64]:
            # The first is always made: rows that nobody made have no columns.
            if done and any(c.status == "warn" for c in checks_so_far(context, screen, done)):
                return order[:0]
            return np.sort(order) if part.select is None else part.select(_own(done))

        def compute(batch: Batch) -> Mapping[str, Columns]:
            return {PREFIX + name: rows for name, rows in part.compute(batch).items()}

        return replace(
            part,
            name=PREFIX + part.name,
            conditions=tuple(PREFIX + name for name in part.conditions),
            compute=compute,
            select=select,
        )

    return [narrowed(part) for part in parts]


def _own(done: Done) -> Done:
    """Take the screen's rows, under the names that the battery has for the same probes."""
    return {
        (name.removeprefix(PREFIX), trial): rows
        for (name, trial), rows in done.items()
        if name.startswith(PREFIX)
    }


def _attack_parts(
    context: Context,
    threat: Threat,
    surrogate: RobustModel | None,
    screen: Screen,
    order: NDArray[np.int64],
) -> list[Part]:
    whole, model = widest(context, threat), with_a_gradient(context.model)

    def part(name: str, attack: Attack, whom: Callable[[Done], Bools] | None = None) -> Part:
        def compute(batch: Batch) -> Mapping[str, Columns]:
            return {name: attack(model, batch, batch.pixels())}

        def select(done: Done) -> NDArray[np.int64]:
            assert whom is not None
            chosen = order[whom(done)[order]]
            return np.sort(chosen[: screen.survivors] if name == "square" else chosen)

        return Part(name, (name,), compute, select=None if whom is None else select)

    def key(name: str) -> str:
        return PREFIX + name  # draws of its own: the battery must not repeat the screen's luck

    far = min(screen.factor * threat.eps, whole)
    by_noise = partial(noise, threat, key("noise"), screen.noises)
    by_queries = partial(queries, threat, key("square"), screen.queries)
    parts = [
        part("pgd", at_radius(threat, key("pgd"), threat.eps, screen.steps)),
        part(screen.far, at_radius(threat, key(screen.far), far, STEPS), _fell),
        part("unbounded", without_bound(threat, key("unbounded"), whole)),
        part("noise", by_noise, partial(_held, "fgsm")),
        part("square", by_queries, partial(_held, "pgd")),
    ]
    if surrogate is not None:
        from robustmix.models.robust_model import padded

        other = padded(surrogate.to(context.device))
        shown = partial(transfer, threat, key("transfer"), screen.steps, other)
        parts.append(part("transfer", shown, partial(_held, "pgd")))
    return parts


def _held(condition: str, done: Done) -> Bools:
    """Tell which samples an attack left as they were, (n,)."""
    return _left(done[condition, 0])


def _left(rows: Mapping[str, NDArray[Any]]) -> Bools:
    found: Bools = rows["tested"].astype(bool) & rows["correct"].astype(bool)
    return found


def _fell(done: Done) -> Bools:
    """Tell which samples the search broke in as many steps as the one farther out has, (n,)."""
    return _within(done["pgd", 0], STEPS)


def _within(rows: Mapping[str, NDArray[Any]], steps: int) -> Bools:
    first = rows["value"]
    found: Bools = rows["tested"].astype(bool) & (first >= 0) & (first <= steps)
    return found


def checks_so_far(context: Context, screen: Screen, done: Done) -> list[CheckPart]:
    """Make the checks of the parts that are done.

    Args:
        context: what is evaluated.
        screen: how the screen is made.
        done: all rows of the suite so far.
    """
    assert context.clean is not None, "the suite clean always runs first"
    names = [name for name, trial in done if name.startswith(PREFIX) and trial == 0]
    columns = done[names[0], 0] if names else ()
    table = Table(
        tuple(names),
        {column: np.stack([done[name, 0][column][None] for name in names]) for column in columns},
    )
    clean = context.clean.at("clean")
    return screen_checks(table, clean, num_classes=context.robust.num_classes, screen=screen)


@dataclass(frozen=True)
class Seen:
    """The screen's rows, by the battery's names of the probes."""

    table: Table
    clean: Mapping[str, NDArray[Any]]
    """Rows of suite ``clean``, of all samples."""

    num_classes: int
    screen: Screen

    def has(self, *conditions: str) -> bool:
        """Tell whether probes were made."""
        return all(
            PREFIX + name in self.table.conditions and self.at(name)["tested"].any()
            for name in conditions
        )

    def at(self, condition: str) -> dict[str, NDArray[Any]]:
        """Give the columns of a probe, (n,) of all samples."""
        return self.table.at(PREFIX + condition)

    def tested(self, condition: str) -> Bools:
        """Tell which samples were probed, (n,)."""
        return self.at(condition)["tested"].astype(bool)

    def broken(self, condition: str) -> Bools:
        """Tell which samples an attack broke, (n,)."""
        held: Bools = self.at(condition)["correct"].astype(bool)
        return self.tested(condition) & ~held

    def covers(self, condition: str, wanted: Bools) -> bool:
        """Tell whether a probe was made of all the samples that it is for; there may be none."""
        if PREFIX + condition not in self.table.conditions:
            return False
        return bool((self.tested(condition) == wanted).all())


class Count(NamedTuple):
    """What a check of the screen counts."""

    id: str
    what: str
    """Said of the samples that are counted."""

    counted: Callable[[Seen], Bools | None]
    """Which samples, (n,) of all; None if the probe was not made."""

    warns: Callable[[Seen], float] | None = None
    """The share at which the battery's check warns, where that is large enough for a few to be
    allowed."""


def screen_checks(
    table: Table, clean: Mapping[str, NDArray[Any]], *, num_classes: int, screen: Screen
) -> list[CheckPart]:
    """Count; a check warns of more samples than it allows, and none ever fails.

    Args:
        table: rows of the suite.
        clean: rows of suite ``clean``, of all samples.
        num_classes: of the model.
        screen: how the screen was made.
    """
    seen = Seen(table, clean, num_classes, screen)
    n = int(seen.tested("identity").sum()) if seen.has("identity") else 0
    return [_output(clean), *(_made(count, seen, n) for count in COUNTS)]


def is_clear(checks: Sequence[CheckPart], *, surrogate: bool) -> bool:
    """Tell whether all checks were made and none warns; that of a surrogate needs one."""
    optional = set() if surrogate else {"G7"}
    return all(one.status == "pass" or one.id in optional for one in checks)


def allowed(n: int, share: float) -> int:
    """Give the most samples that may be counted of ``n`` so that ``share`` is rarely missed.

    Example:
        >>> allowed(64, 0.1), allowed(64, 0.01)
        (2, 0)
    """
    count = 0
    while missed(share, n, allowed=count + 1) <= MISSED:
        count += 1
    return count


def missed(share: float, n: int, *, allowed: int = 0) -> float:
    """Give the probability that ``n`` random samples have at most so many of a share of all.

    It is that of samples drawn with replacement; from a finite set it is less.

    Args:
        share: of all samples, in [0, 1].
        n: number of samples drawn.
        allowed: how many of these may be counted.

    Example:
        >>> round(missed(0.05, 64), 3), round(missed(0.1, 64, allowed=2), 3)
        (0.038, 0.039)
    """
    return math.fsum(
        math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(allowed + 1)
    )


def found_share(n: int) -> float:
    """Give the share of samples that ``n`` of them miss with a probability of ``MISSED``.

    Example:
        >>> round(found_share(64), 4)
        0.0457
    """
    return float(1 - MISSED ** (1 / n))


def _made(count: Count, seen: Seen, n: int) -> CheckPart:
    counted = count.counted(seen) if n else None
    if counted is None:
        why = "no surrogate was given" if count.id == "G7" else "the screen had ended"
        return skipped(count.id, count.what, why)
    if count.id == "G5" and _left(seen.at("pgd")).sum() > seen.screen.survivors:
        n = seen.screen.survivors  # of the other survivors nothing is known
    few, many = allowed(n, count.warns(seen)) if count.warns else 0, int(counted.sum())
    return check(
        count.id,
        count.what,
        many / n,
        f"{many} of {n} samples" + (f", {few} allowed" if few else ""),
        n=n,
        warn=few / n,
        fail=None,
    )


def _output(clean: Mapping[str, NDArray[Any]]) -> CheckPart:
    """Make G9 of all samples that are classified correctly, for their logits are known."""
    right = clean["correct"].astype(bool)
    squashed = probabilities(clean["logits"][right])
    saturated = int((clean["margin"][right] > SATURATED).sum())
    return check(
        "G9",
        f"probabilities for logits, or a lead of more than {SATURATED:g}",
        1.0 if squashed else saturated / max(int(right.sum()), 1),
        "the outputs are probabilities, not logits" if squashed else f"{saturated} samples",
        n=int(right.sum()),
        warn=0.0,
        fail=None,
    )


def _no_gradient(seen: Seen) -> Bools | None:
    losses = [f"gradient-{loss}" for loss in ("ce", "dlr")]
    made = [seen.tested(loss) & (seen.at(loss)["value"] == 1) for loss in losses if seen.has(loss)]
    if not made:
        return None
    found: Bools = np.any(made, axis=0)
    return found


def _one_step_alone(seen: Seen) -> Bools | None:
    if not seen.has("fgsm", "pgd"):
        return None
    return seen.broken("fgsm") & ~_within(seen.at("pgd"), STEPS)


def _near_alone(seen: Seen) -> Bools | None:
    far = seen.screen.far
    if not seen.has("pgd") or not seen.covers(far, near := _within(seen.at("pgd"), STEPS)):
        return None
    return near & ~_within(seen.at(far), STEPS)


def _survives_all(seen: Seen) -> Bools | None:
    return _left(seen.at("unbounded")) if seen.has("unbounded") else None


def _closer_without(seen: Seen) -> Bools | None:
    """Tell whom Square broke, or brought to a higher loss than the search had reached."""
    if not seen.has("pgd"):
        return None
    survived = _left(seen.at("pgd"))
    enough = min(int(survived.sum()), seen.screen.survivors)
    if PREFIX + "square" not in seen.table.conditions:
        return None
    tried = seen.tested("square")
    if int(tried.sum()) != enough or (tried & ~survived).any():
        return None
    higher: Bools = seen.at("square")["nll"] > seen.at("pgd")["nll"]
    return seen.broken("square") | (tried & higher)


def _noise_alone(seen: Seen) -> Bools | None:
    if not seen.has("fgsm") or not seen.covers("noise", _left(seen.at("fgsm"))):
        return None
    return seen.broken("noise")


def _surrogate_alone(seen: Seen) -> Bools | None:
    if not seen.has("pgd") or not seen.covers("transfer", _left(seen.at("pgd"))):
        return None
    return seen.broken("transfer")


def _unsteady(seen: Seen) -> Bools | None:
    if not seen.has("repeat"):
        return None
    rows = seen.at("repeat")
    moved: Bools = rows["value"] > TOLERANCE
    same: Bools = rows["correct"].astype(bool)
    return seen.tested("repeat") & (moved | ~same)


def _depends_on_others(seen: Seen) -> Bools | None:
    if not seen.has("identity", "alone"):
        return None
    moved: Bools = np.zeros_like(seen.tested("identity"))
    for name in ("identity", "alone"):
        rows = seen.at(name)
        differs: Bools = (rows["value"] > TOLERANCE) | (rows["pred"] != seen.clean["pred"])
        moved |= seen.tested(name) & differs
    return moved


def _adapts(seen: Seen) -> Bools | None:
    if not seen.has("adaptation"):
        return None
    found: Bools = seen.at("adaptation")["value"] > 0
    return found


def _not_clean(seen: Seen) -> Bools | None:
    if not seen.has("identity"):
        return None
    differs: Bools = seen.at("identity")["pred"] != seen.clean["pred"]
    return seen.tested("identity") & differs


def _outside(seen: Seen) -> Bools | None:
    made = [name for name in ("fgsm", "pgd", seen.screen.far, "unbounded") if seen.has(name)]
    made += [name for name in ("noise", "square", "transfer") if seen.has(name)]
    if not seen.has("fgsm", "pgd", "unbounded"):
        return None
    found: Bools = np.any([seen.at(name)["overshoot"] > IN_RANGE for name in made], axis=0)
    return found


def _loss_not_raised(seen: Seen) -> Bools | None:
    if not seen.has("pgd"):
        return None
    stuck: Bools = seen.at("pgd")["nll"] <= seen.clean["nll"]
    return seen.tested("pgd") & stuck


def _late(seen: Seen) -> Bools | None:
    if not seen.has("pgd"):
        return None
    rows, half = seen.at("pgd"), seen.screen.steps // 2
    return _within(rows, seen.screen.steps) & ~_within(rows, half)


def _contradicted(seen: Seen) -> Bools | None:
    if not seen.has("gradient-margin", "difference"):
        return None
    has_one: Bools = seen.at("gradient-margin")["value"] < 1
    falls: Bools = seen.at("difference")["value"] <= 0
    usable = seen.tested("difference") & has_one
    return usable & falls if usable.any() else None


COUNTS = (
    Count("G1", "no input gradient at all", _no_gradient),
    Count("G2", "broken by one step and not by ten", _one_step_alone),
    Count("G3", "broken at the radius and not farther out", _near_alone),
    Count(
        "G4", "survive when any image is allowed", _survives_all,
        lambda seen: 1 / seen.num_classes + SLACK,
    ),
    Count("G5", "Square gets closer than PGD, which did not break them", _closer_without),
    Count("G6", "broken by noise and not by FGSM", _noise_alone),
    Count("G7", "broken by a surrogate's images and not by their own", _surrogate_alone),
    Count("G8", "another answer in another pass", _unsteady),
    Count("G10", "another answer alone or in other company", _depends_on_others),
    Count("G11", "gradients or optimiser steps inside the forward pass", _adapts),
    Count("G12", "another prediction at eps 0", _not_clean),
    Count("G13", "attacked images outside ball or range", _outside),
    Count("G14", "PGD does not raise the loss", _loss_not_raised),
    Count("G15", "PGD needs the second half of its steps", _late, lambda seen: LATE),
    Count(
        "G16", "the finite difference contradicts the gradient", _contradicted,
        lambda seen: CONTRADICTED,
    ),
)  # fmt: skip
