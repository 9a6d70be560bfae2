"""What a number is: one definition, from which its value, interval, tests and checks are made.

A summary, its interval, ``report validate``, ``compare`` and ``check`` all ask the same
``Definition``; there is no second way in which a number could be computed.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from robustmix.metrics.chance import Chance, skewed_mean
from robustmix.metrics.intervals import (
    DRAWS,
    REPLICATES,
    bootstrap_metric,
    bootstrap_rng,
    clustered_mean,
    proportion,
    resample_weights,
)
from robustmix.metrics.metric import FIRST_RULES, RULES, Direction, Metric, Unit
from robustmix.metrics.scores import BoolArray, FloatArray

Interval = Literal["wilson", "normal", "skewed", "chance", "bootstrap", "none"]
"""Wilson's for shares of images, normal for means over images, Hall's for means of skewed values,
what chance may do for calibration errors, percentile bootstrap for the rest; none for maxima and
spreads, with a reason."""

CI = tuple[tuple[float, float], str]
"""An interval and how it was made."""
Statistic = Callable[[FloatArray], FloatArray]
"""How often each image counts, (R, n), each row summing to n -> values (R,); NaN if undefined."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Undefined(Exception):
    """A number cannot be made from these rows; the message says why."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Definition:
    """How a number follows from the rows: from one value an image, or from how often each counts.

    With both, ``values`` are what the number moves with to first order (their mean is the number
    itself), which makes its interval, and ``statistic`` is what resamples are judged by.
    """

    n: int
    """Images of the rows."""

    unit: Unit = "fraction"
    direction: Direction = "higher"
    note: str | None = None
    values: FloatArray | None = None
    """One number an image, whose mean is the metric, (n,)."""

    within: BoolArray | None = None
    """The images that count, bool (n,); None: all."""

    statistic: Statistic | None = None
    interval: Interval = "normal"
    ci: Callable[[], CI] | None = None
    """Makes the interval where none of the usual ones holds."""

    chance_of: Callable[[float], Chance] | None = None
    """Estimate -> what chance does to the statistic, where that is not as likely up as down."""

    widened: tuple[float, float] | None = None
    """Least interval, where resamples show too little: of the few errors among many images."""

    before: Interval | None = None
    """How the interval was made by the first rules, if otherwise."""

    rules: str = RULES
    """Rules by which the interval is made."""

    replicates: int = REPLICATES
    """Most resamples that are worth their cost."""

    costly: bool = False
    """Whether more than so many would take minutes, and not only time that hundreds of other
    numbers of the report take as well: tests keep to them too."""

    reason: str | None = None
    """Why there is no value or no interval, if there is none."""

    column: tuple[str, str] | None = None
    """Condition and column of the rows that ``values`` are, where they are just that."""

    @property
    def is_mean(self) -> bool:
        """Whether it is the plain mean of ``values`` over all images, and nothing else."""
        return self.values is not None and self.statistic is None and self.within is None

    @property
    def binary(self) -> bool:
        """Whether every image counts as right or wrong, 0 or 1."""
        return self.values is not None and bool(np.isin(self.values, (0.0, 1.0)).all())

    @property
    def testable(self) -> bool:
        """Whether resamples say anything of it: not of a maximum, nor of a spread over trials."""
        return self.interval != "none" and (self.values is not None or self.statistic is not None)

    @property
    def chance(self) -> Callable[[], Chance] | None:
        """What says what chance does to the number; None where it does not raise it."""
        of = self.chance_of
        return None if of is None else lambda: of(self.estimate())

    @property
    def counted(self) -> int:
        """Number of images that the metric is of."""
        return self.n if self.within is None else int(self.within.sum())

    def estimate(self) -> float:
        """Give the number of the images themselves, NaN if it is undefined for them."""
        return self._estimated

    @cached_property
    def _estimated(self) -> float:
        # Asked for twice by a summary, and sorting a million probabilities takes its time.
        if self.values is not None:
            chosen = self.values if self.within is None else self.values[self.within]
            return float(chosen.mean()) if len(chosen) else float("nan")
        if self.statistic is not None:
            return float(self.statistic(once(self.n))[0])
        return float("nan")

    def resampled(self, weights: FloatArray) -> FloatArray:
        """Give the number of each resample, (R,); ``weights`` are (R, n)."""
        if self.statistic is not None:
            return self.statistic(weights)
        if self.values is None:
            return np.full(len(weights), np.nan)
        if self.within is None:
            return np.asarray(weights @ self.values / self.n)
        inside = self.within.astype(float)
        return ratio_of(weights @ (self.values * inside), weights @ inside)

    def by_rules(self, rules: str) -> "Definition":
        """Give the definition as it was by the rules that a report was made by."""
        if rules != FIRST_RULES:
            return self
        interval = self.before or self.interval
        changed = interval != self.interval
        return replace(
            self,
            interval=interval,
            ci=None if changed else self.ci,
            widened=None,
            rules=rules,
        )

    def metric(self, drawn: FloatArray | None = None, *, seed: int = 0) -> Metric:
        """Give the number with its interval, as a report states it.

        Args:
            drawn: its values over resamples, (R,), for a bootstrap interval.
            seed: what these were made from.
        """
        if self.values is None and self.statistic is None:
            return self._bare(None, self.reason or "undefined for these samples")
        if self.interval == "bootstrap":
            return bootstrap_metric(
                self.estimate(),
                drawn,
                unit=self.unit,
                direction=self.direction,
                n=self.counted,
                seed=seed,
                note=self.note,
                undefined=self.reason or "undefined for these samples",
                widened=self.widened,
                rules=self.rules,
            )
        if self.interval == "none":
            return self._bare(self.estimate(), self.reason or "it has no interval")
        return self._closed()

    def _closed(self) -> Metric:
        """Give the number with the interval that a formula makes."""
        if self.interval == "chance" and self.chance_of is not None:
            value = self.estimate()
            if np.isnan(value):
                return self._bare(None, self.reason or "undefined for these samples")
            chance = self.chance_of(value)
            told = [f"chance alone adds up to {chance.raised:.6f}"] if chance.raised else []
            noted = replace(self, note="; ".join([*filter(None, [self.note]), *told]) or None)
            return noted._with(chance.interval(value), "chance95")
        if self.ci is not None:
            return self._with(*self.ci())
        assert self.values is not None, "only means have a closed form"
        chosen = self.values if self.within is None else self.values[self.within]
        if not len(chosen) and self.reason:
            return self._bare(None, self.reason)
        if self.interval == "wilson":
            hits = round(float(chosen.sum()))
            return proportion(hits, len(chosen), direction=self.direction, note=self.note)
        if self.interval == "skewed" and len(chosen) > 1:
            low, high = skewed_mean(chosen)
            if self.unit == "fraction":  # a difference of fractions may be negative
                low, high = max(0.0 if chosen.min() >= 0 else -1.0, low), min(1.0, high)
            return self._with((low, high), "skewed95/images")
        return clustered_mean(chosen, direction=self.direction, unit=self.unit, note=self.note)

    def _with(self, interval: tuple[float, float], method: str) -> Metric:
        return self._bare(self.estimate(), None).model_copy(
            update={"ci": interval, "ci_method": method}
        )

    def _bare(self, value: float | None, reason: str | None) -> Metric:
        defined = None if value is None or np.isnan(value) else value
        return Metric.model_construct(
            value=defined,
            unit=self.unit,
            direction=self.direction,
            n=self.counted,
            ci=None,
            ci_method=None,
            reason=reason,
            note=self.note,
        )


def share(
    hits: npt.ArrayLike,
    *,
    direction: Direction = "higher",
    note: str | None = None,
    within: BoolArray | None = None,
    reason: str | None = None,
    column: tuple[str, str] | None = None,
) -> Definition:
    """Define a share of images, with Wilson's interval; ``hits`` is 0 or 1 an image, (n,)."""
    values = np.asarray(hits, dtype=np.float64)
    return Definition(
        n=len(values), values=values, within=within, direction=direction, note=note, reason=reason,
        interval="wilson", column=column,
    )  # fmt: skip


def mean(
    values: npt.ArrayLike,
    *,
    direction: Direction = "higher",
    unit: Unit = "fraction",
    note: str | None = None,
    within: BoolArray | None = None,
    column: tuple[str, str] | None = None,
    interval: Interval = "normal",
) -> Definition:
    """Define a mean over images, with a normal interval over images; ``values`` is (n,)."""
    array = np.asarray(values, dtype=np.float64)
    return Definition(
        n=len(array), values=array, within=within, direction=direction, unit=unit, note=note,
        column=column, interval=interval, before="bootstrap" if interval == "skewed" else None,
    )  # fmt: skip


def function(
    n: int,
    statistic: Statistic,
    *,
    direction: Direction = "lower",
    unit: Unit = "fraction",
    note: str | None = None,
    replicates: int = REPLICATES,
    costly: bool = False,
    reason: str | None = None,
    interval: Interval = "bootstrap",
    chance: Callable[[float], Chance] | None = None,
    before: Interval | None = None,
) -> Definition:
    """Define a number that is no mean over images, with a bootstrap interval.

    ``reason`` is said where the statistic is NaN, or of the interval where that is ``none``. A
    statistic that chance moves up rather than down says how far in ``chance``, which is given the
    estimate and gives the interval then.
    """
    return Definition(
        n=n, statistic=statistic, direction=direction, unit=unit, note=note,
        replicates=replicates, costly=costly, reason=reason,
        interval=interval if chance is None else "chance", chance_of=chance,
        before=before if chance is None else "bootstrap",
    )  # fmt: skip


def absent(
    n: int, reason: str, *, direction: Direction, unit: Unit = "fraction", note: str | None = None
) -> Definition:
    """Define a number that these rows or parameters do not give, with the reason."""
    return Definition(
        n=n, direction=direction, unit=unit, note=note, reason=reason, interval="none"
    )


def quotient(
    above: FloatArray,
    below: FloatArray,
    *,
    reason: str,
    unit: Unit = "score",
    direction: Direction = "higher",
    note: str | None = None,
) -> Definition:
    """Define a ratio of two means over the same images, (n,) each, its interval to first order.

    Args:
        above: numerator, one number an image.
        below: denominator.
        reason: what to say where the denominator's mean is 0.
        unit: of the ratio.
        direction: which way is better.
        note: what a reader must know.
    """
    n, base = len(above), float(below.mean()) if len(below) else 0.0
    if base == 0:
        return absent(n, reason, direction=direction, unit=unit, note=note)
    ratio = float(above.mean()) / base

    def statistic(weights: FloatArray) -> FloatArray:
        return ratio_of(weights @ above, weights @ below)

    return Definition(
        n=n,
        # To first order the ratio moves with the mean of what is added to it, which is zero.
        values=ratio + (above - ratio * below) / base,
        statistic=statistic,
        unit=unit,
        direction=direction,
        note=note,
    )


def ratio_of(above: FloatArray, below: FloatArray) -> FloatArray:
    """Divide sums of resamples, (R,) each; NaN where the lower one is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


@lru_cache(maxsize=4)
def once(n: int) -> FloatArray:
    """Give the weights of the images themselves, ones (1, n), read-only.

    The very same array for every number, so that what numbers share is computed once for them too.
    """
    weights = np.ones((1, n))
    weights.flags.writeable = False
    return weights


class Shared(Generic[Value]):
    """Something that several statistics need of the same resamples, computed once for all.

    Calibration has a dozen measures of the same sums over bins; each is a definition of its own,
    and all of them are asked with one array of weights after the other.
    """

    def __init__(self, compute: Callable[[FloatArray], Value]) -> None:
        self._compute = compute
        self._last: tuple[FloatArray, Value] | None = None

    def __call__(self, weights: FloatArray) -> Value:
        """Give what was computed of these weights, (R, n)."""
        if self._last is None or self._last[0] is not weights:
            self._last = None  # makes room: it may be as large as the weights
            self._last = weights, self._compute(weights)
        return self._last[1]


Numbers = dict[tuple[str, str], Callable[[], Definition]]
"""(condition, metric) -> what makes its definition, in the order of the report. The condition of a
number of the whole suite is empty. Nothing is computed before it is asked for."""


def metric_path(condition: str, name: str) -> str:
    """Write a number's place within its suite: ``top1``, ``acc[fog/3]``."""
    return f"{name}[{condition}]" if condition else name


def summarise_metrics(
    numbers: Numbers,
    *,
    seed: int,
    columns: dict[str, tuple[str, str]] | None = None,
    intervals: dict[tuple[str, str], Interval] | None = None,
    replicates: int = REPLICATES,
    rules: str = RULES,
) -> dict[tuple[str, str], Metric]:
    """Give every number with its interval, in order.

    All bootstrap intervals are made from the same resamples, so that numbers of one report are
    paired, and so that adding a number changes none of the others.

    Args:
        numbers: what makes each definition.
        seed: of the resamples.
        columns: takes the condition and column of the numbers that are the mean of one.
        intervals: takes how the interval of each number is made.
        replicates: resamples of the bootstrap, 0 for no such intervals; numbers whose resamples
            are costly keep to fewer.
        rules: ``RULES``, or those that a report was made by.
    """
    metrics: dict[tuple[str, str], Metric] = {}
    waiting: dict[tuple[str, str], Definition] = {}
    for key, define in numbers.items():
        definition = _with_replicates(define().by_rules(rules), replicates)
        if columns is not None and definition.column is not None:
            columns[metric_path(*key)] = definition.column
        if intervals is not None:
            intervals[key] = definition.interval
        if definition.interval == "bootstrap":
            waiting[key] = definition
        # Made at once, so that the values of hundreds of conditions are not held together.
        metrics[key] = definition.metric(seed=seed)
    for key, drawn in bootstrapped(waiting, seed=seed).items():
        metrics[key] = waiting[key].metric(drawn, seed=seed)
    return metrics


def _with_replicates(definition: Definition, replicates: int) -> Definition:
    # Others take no resamples; a copy of them would make their number once more.
    if replicates == REPLICATES or definition.interval != "bootstrap":
        return definition
    few = definition.replicates < REPLICATES
    count = min(replicates, definition.replicates) if few else replicates
    return replace(definition, replicates=count)


def bootstrapped(numbers: Mapping[Key, Definition], *, seed: int) -> dict[Key, FloatArray]:
    """Give the values of each number over its resamples, (R,)."""
    parts: dict[Key, list[FloatArray]] = {key: [] for key in numbers}
    for n in dict.fromkeys(d.n for d in numbers.values()):
        alike = {key: d for key, d in numbers.items() if d.n == n}
        for weights in weight_chunks(n, {d.replicates for d in alike.values()}, seed):
            for key, d in alike.items():
                if d.replicates in weights:
                    parts[key].append(d.resampled(weights[d.replicates]))
    return {key: np.concatenate(found) for key, found in parts.items() if found}


def weight_chunks(
    n: int, replicates: AbstractSet[int], seed: int
) -> Iterator[dict[int, FloatArray]]:
    """Yield how often each image counts, some resamples at a time, (R, n) float64.

    The same seed gives the same resamples whatever is computed from them: fewer are the first of
    more. A chunk has one array for each number of replicates that is not reached yet, the very same
    one for all that ask for as many, which is what ``Shared`` goes by.
    """
    rng, most = bootstrap_rng(seed), max(replicates)
    rows = max(1, DRAWS // n)
    for start in range(0, most, rows):
        # In columns: sums within groups are taken of the transpose, which is then no copy.
        drawn = np.asfortranarray(resample_weights(n, min(rows, most - start), rng))
        chunk: dict[int, FloatArray] = {}
        for count in replicates:
            left = count - start
            if left >= len(drawn):
                chunk[count] = drawn
            elif left > 0:
                chunk[count] = np.asfortranarray(drawn[:left])
        yield chunk
