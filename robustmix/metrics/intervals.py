"""Intervals: Wilson for proportions, normal for means over images, bootstrap for the rest."""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from robustmix.errors import UsageError
from robustmix.later import sparse, special
from robustmix.metrics.metric import FIRST_RULES, RULES, Direction, Metric, Unit
from robustmix.metrics.scores import FloatArray, IntArray

Z95 = 1.959964
"""97.5 % quantile of the normal distribution, to the six digits that reports state."""

REPLICATES = 1000
"""Bootstrap replicates unless asked otherwise."""

Statistic: TypeAlias = Callable[[IntArray], Mapping[str, FloatArray]]
"""How often each sample counts, (R, n) -> name to value of each of the R replicates, (R,)."""

MOSTLY = 0.95
"""Share of the resamples that a statistic must be defined in for an interval or a test."""

DRAWS = 2**21
"""Weights that are held at once."""

AT_ONCE = 2**16
"""Numbers that are worked on at a time, where that takes no more time: they fit into a cache."""


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    Args:
        successes: how many of the ``n`` samples count, 0 <= successes <= n.
        n: number of samples, at least 1.
        z: normal quantile; the default gives 95 %.

    Reference:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Example:
        >>> low, high = wilson(80, 100)
        >>> round(low, 6), round(high, 6)
        (0.711171, 0.866633)
    """
    if not 0 <= successes <= n or n < 1:
        raise UsageError(f"expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    p = successes / n
    spread = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / spread
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / spread
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-18 or pass 1.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def least_share(hits: npt.ArrayLike, counts: npt.ArrayLike) -> tuple[float, float]:
    """Give a 95 % interval of the least of several proportions, from exact ones of each.

    The least lies above the lower limit of its own interval, hence above the least of those limits;
    and all lie below their upper limits at once if these are taken at a level for all of them. A
    proportion of no samples at all may be 0.

    Args:
        hits: how many samples count, one number a proportion, (K,).
        counts: how many samples there are, (K,), not all 0.

    Reference:
        Clopper and Pearson 1934, Biometrika 26:404, for the interval of each.

    Example:
        >>> low, high = least_share([5, 9], [10, 10])
        >>> round(low, 4), round(high, 4)
        (0.1871, 0.8415)
    """
    n, k = np.asarray(counts, dtype=np.float64), np.asarray(hits, dtype=np.float64)
    there = n > 0
    n, k, tail = n[there], k[there], (1 - 0.95) / 2
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    each = 1 - tail / len(n)
    high = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1), each), 1.0)
    return (float(low.min()) if there.all() else 0.0), float(high.min())


def proportion(successes: int, n: int, *, direction: Direction, note: str | None = None) -> Metric:
    """Return a share of samples with its Wilson interval; without samples it has no value."""
    if n == 0:
        return Metric(
            value=None, unit="fraction", direction=direction, n=0, reason="no samples", note=note
        )
    return Metric(
        value=successes / n,
        unit="fraction",
        direction=direction,
        n=n,
        ci=wilson(successes, n),
        ci_method="wilson95",
        note=note,
    )


def clustered_mean(
    values: npt.ArrayLike,
    *,
    direction: Direction,
    unit: Unit = "fraction",
    note: str | None = None,
) -> Metric:
    """Return the mean over images of a per-image mean, with mean ± 1.96 sd / sqrt(images).

    The rows of one image (its corruptions, its trials) are not independent: averaging them first
    makes the image the unit, which an interval over all rows would understate several times.

    Args:
        values: one number an image, (n_images,); for a fraction each is in [0, 1], or in [-1, 1]
            if it is a difference.
        direction: which way is better.
        unit: a fraction's interval is cut to that range.
        note: what a reader must know.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n == 0:
        return Metric(
            value=None, unit=unit, direction=direction, n=0, reason="no samples", note=note
        )
    mean = float(x.mean())
    if n == 1:
        return Metric(
            value=mean,
            unit=unit,
            direction=direction,
            n=1,
            reason="one image has no standard deviation",
            note=note,
        )
    half = Z95 * float(x.std(ddof=1)) / math.sqrt(n)
    low, high = mean - half, mean + half
    if unit == "fraction":
        # A difference of fractions may be negative; its interval ends at -1.
        low, high = max(0.0 if x.min() >= 0 else -1.0, low), min(1.0, high)
    return Metric(
        value=mean,
        unit=unit,
        direction=direction,
        n=n,
        ci=(low, high),
        ci_method="normal95/images",
        note=note,
    )


def bootstrap_rng(seed: int) -> np.random.Generator:
    """Return the generator of a bootstrap: the same seed gives the same resamples everywhere."""
    return np.random.Generator(np.random.Philox(seed))


def row_groups(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of the rows of a (rows, width) array that hold about ``AT_ONCE`` numbers each.

    Example:
        >>> [(part.start, part.stop) for part in row_groups(5, AT_ONCE // 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, AT_ONCE // max(width, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def resample(n: int, replicates: int, rng: np.random.Generator) -> IntArray:
    """Draw how often each of ``n`` samples occurs in each resample, int64 (replicates, n).

    Every row sums to ``n``: it is a multinomial draw with equal probabilities, made by counting
    ``n`` uniform indices, which is faster than a chain of ``n`` binomials.
    """
    return _resampled(np.empty((replicates, n), dtype=np.int64), rng)


def resample_weights(n: int, replicates: int, rng: np.random.Generator) -> FloatArray:
    """Draw the same counts as weights, float64 (replicates, n)."""
    return _resampled(np.empty((replicates, n)), rng)


def _resampled(counts: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    n = counts.shape[1]
    for rows in row_groups(*counts.shape):
        part = counts[rows]
        draws = rng.integers(n, size=part.shape)
        draws += n * np.arange(len(part))[:, None]
        part[:] = np.bincount(draws.ravel(), minlength=part.size).reshape(part.shape)
    return counts


def weight_chunks(n: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each sample counts in each resample, (R, n) some resamples at a time.

    The same seed gives the same resamples whatever is computed from them, so a metric's interval
    does not depend on which others are asked for.
    """
    rng = bootstrap_rng(seed)
    rows = max(1, DRAWS // n)
    for start in range(0, replicates, rows):
        yield resample_weights(n, min(rows, replicates - start), rng)


FEW_COLUMNS = 3
"""Up to here it is faster to add up what was drawn than to count it first."""


def resampled_means(table: FloatArray, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Yield the means of a table's columns in the same resamples, (R, M) some at a time.

    Args:
        table: a row a sample, a column a quantity, (n, M).
        replicates: number of resamples.
        seed: of the resamples.
    """
    n, columns = table.shape
    if columns > FEW_COLUMNS:
        for weights in weight_chunks(n, replicates, seed):
            yield weights @ table / n
        return
    rng, values = bootstrap_rng(seed), np.ascontiguousarray(table.T)
    for part in row_groups(replicates, n):
        drawn = rng.integers(n, size=(part.stop - part.start, n))
        yield np.stack([one.take(drawn).sum(axis=1) for one in values], axis=1) / n


def bootstrap(
    statistic: Statistic, n: int, *, rng: np.random.Generator, replicates: int = REPLICATES
) -> dict[str, FloatArray]:
    """Return the statistic of ``replicates`` resamples of the ``n`` samples.

    Args:
        statistic: takes integer weights (R, n), each row summing to ``n``, and returns named
            values (R,). All its values are taken from the same resamples, hence paired.
        n: number of samples.
        rng: source of the resamples.
        replicates: number of resamples, at least 1.

    Returns:
        Name to values, each (replicates,).

    Reference:
        Efron 1979, "Bootstrap methods: another look at the jackknife".

    Example:
        >>> x = np.array([0.0, 1.0, 5.0])
        >>> out = bootstrap(lambda w: {"mean": w @ x / 3}, 3, rng=bootstrap_rng(0), replicates=7)
        >>> out["mean"].shape
        (7,)
    """
    rows = max(1, DRAWS // n)
    parts = [
        statistic(resample(n, min(rows, replicates - start), rng))
        for start in range(0, replicates, rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def bootstrap_bias(estimate: float, replicates: FloatArray) -> float:
    """Return the mean of the replicates minus the estimate."""
    return float(np.mean(replicates)) - estimate


def percentile_interval(replicates: FloatArray) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of the replicates.

    For a statistic that is biased upward (a calibration error, a maximum) the interval may lie
    above the estimate, and need not hold the truth: see ``metrics.chance``.
    """
    low, high = np.quantile(replicates, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_metric(
    estimate: float,
    replicates: FloatArray | None,
    *,
    unit: Unit,
    direction: Direction,
    n: int,
    seed: int,
    note: str | None = None,
    undefined: str = "undefined for these samples",
    widened: tuple[float, float] | None = None,
    rules: str = RULES,
) -> Metric:
    """Return an estimate with its percentile interval and, in the note, its bootstrap bias.

    Args:
        estimate: the statistic of the samples themselves; NaN if undefined.
        replicates: its values over the resamples, (R,), NaN where undefined; None or empty for
            no interval.
        unit: unit of the estimate.
        direction: which way is better.
        n: number of samples.
        seed: what the generator of the resamples was made from.
        note: what a reader must know.
        undefined: the reason given when the estimate is NaN.
        widened: an interval that the percentiles' is joined with, Wilson's.
        rules: by the first ones an interval may miss its estimate, and a statistic may be undefined
            in most resamples; today the samples do not determine such a one.
    """
    if math.isnan(estimate):
        return Metric(value=None, unit=unit, direction=direction, n=n, reason=undefined, note=note)
    defined = np.empty(0) if replicates is None else replicates[~np.isnan(replicates)]
    if defined.size == 0:
        return Metric(
            value=estimate,
            unit=unit,
            direction=direction,
            n=n,
            reason="no bootstrap was made",
            note=note,
        )
    total = 0 if replicates is None else replicates.size
    if rules != FIRST_RULES and defined.size < MOSTLY * total:
        # What is seen of it is a selection: the resamples that happen to define it.
        return Metric(
            value=estimate,
            unit=unit,
            direction=direction,
            n=n,
            reason=f"undefined in {total - defined.size} of {total} resamples",
            note=note,
        )
    notes = [note] if note else []
    notes.append(f"bootstrap bias {bootstrap_bias(estimate, defined):+.6f}")
    if defined.size < total:
        notes.append(f"undefined in {total - defined.size} of {total} resamples")
    low, high = percentile_interval(defined)
    method = f"bootstrap95/{total}/seed{seed}"
    if rules != FIRST_RULES:
        low, high = min(low, estimate), max(high, estimate)
    if widened is not None:
        low, high = min(low, widened[0]), max(high, widened[1])
        method = f"bootstrap95+wilson95/{total}/seed{seed}"
    return Metric(
        value=estimate,
        unit=unit,
        direction=direction,
        n=n,
        ci=(low, high),
        ci_method=method,
        note="; ".join(notes),
    )


class _Columns:
    """The weights of resamples column after column, as sums over groups want them.

    Hundreds of conditions are summed with the same weights; to transpose those takes longer than
    the sums. The last copy is kept, for as long as the weights that it was made of.
    """

    def __init__(self) -> None:
        self._made_of: weakref.ref[npt.NDArray[Any]] | None = None
        self._copy: FloatArray | None = None

    def of(self, weights: npt.NDArray[np.int64] | FloatArray) -> FloatArray:
        """Give the weights (R, n) as a float64 array (n, R) whose rows are contiguous."""
        if weights.T.flags.c_contiguous and weights.dtype == np.float64:
            return np.asarray(weights.T)
        if self._copy is None or self._made_of is None or self._made_of() is not weights:
            self._forget()  # before another is made: they are large
            self._copy = np.ascontiguousarray(weights.T, dtype=np.float64)
            self._made_of = weakref.ref(weights, self._forget)
        return self._copy

    def _forget(self, gone: "weakref.ref[npt.NDArray[Any]] | None" = None) -> None:
        if gone is None or gone is self._made_of:
            self._made_of = self._copy = None


_COLUMNS = _Columns()


def group_sums(
    weights: npt.NDArray[np.int64] | FloatArray,
    groups: IntArray,
    num_groups: int,
    *values: npt.ArrayLike,
) -> list[FloatArray]:
    """Return the weighted sums of some values within groups of samples.

    Args:
        weights: weight of each sample in each replicate, (R, n).
        groups: group of each sample, (n,), in [0, num_groups).
        num_groups: number of groups G.
        values: arrays (n,), in floating point or bool.

    Returns:
        For each of the values the sums, (R, G).
    """
    n, kinds = len(groups), len(values)
    if len(weights) == 1:  # the samples themselves, mostly: the same sums in the same order
        once: FloatArray = np.asarray(weights[0], dtype=np.float64)
        weighted = [np.asarray(v, dtype=np.float64) * once for v in values]
        found = [np.bincount(groups, v, minlength=num_groups) for v in weighted]
        return [np.asarray(one, dtype=np.float64)[None] for one in found]
    sums = sparse.csr_array(
        (
            np.concatenate([np.asarray(v, dtype=np.float64) for v in values]),
            (
                np.concatenate([groups + kind * num_groups for kind in range(kinds)]),
                np.tile(np.arange(n), kinds),
            ),
        ),
        shape=(kinds * num_groups, n),
    ) @ _COLUMNS.of(weights)
    return [part.T for part in np.split(np.asarray(sums), kinds)]
