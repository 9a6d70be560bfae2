"""Each metric of a pair of reports: both values, the difference, and what the rows say of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustmix.comparison.aligned_rows import Definition, Rows, Undefined, check_shapes, suite_view
from robustmix.comparison.definitions import define
from robustmix.comparison.open_report import Source
from robustmix.comparison.pair import Pair
from robustmix.comparison.paired import (
    Counted,
    Effect,
    Identical,
    Resampled,
    Unchanged,
    minimal_detectable,
    sign_flip,
)
from robustmix.comparison.paths import MetricPath, find_metric
from robustmix.errors import IncompatibleError
from robustmix.metrics.intervals import bootstrap_rng, resample
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import FloatArray
from robustmix.report.schema import ReportModel
from robustmix.report.text import plain

REPLICATES = 10_000
FUNCTION_REPLICATES = 1_000
MOSTLY = 0.95
"""Share of the resamples that a metric must be defined in."""

_DRAWS = 2**21
_AGREE = 1e-6
"""Relative difference between a stated value and that of the rows; columns may be float32."""

Problem = Literal["incomplete", "incompatible", "damaged"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the statistics are made."""

    alpha: float = 0.05
    replicates: int = REPLICATES
    function_replicates: int = FUNCTION_REPLICATES
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric of both sides."""

    path: MetricPath
    a: Metric | None
    b: Metric | None
    problem: Problem | None = None
    """Why no rule about it can hold, if so."""

    reason: str | None = None
    """The problem in words, or why there is no test."""

    effect: Effect | None = None
    value_a: float | None = None
    value_b: float | None = None
    n: int = 0
    mdd: float | None = None
    p_sign_flip: float | None = None

    @property
    def delta(self) -> float | None:
        """B - A."""
        if self.value_a is None or self.value_b is None:
            return None
        return self.value_b - self.value_a


def measure(pair: Pair, paths: Sequence[MetricPath], options: Options) -> list[Measured]:
    """Return each metric with its paired statistics, in the order asked for.

    Raises:
        IntakeError: a per-sample record is damaged.
    """
    found = [_values(pair, path) for path in paths]
    defined: dict[int, tuple[Definition, Definition]] = {}
    for i, one in enumerate(found):
        if one.problem is None:
            found[i], definitions = _defined(pair, one)
            if definitions is not None:
                defined[i] = definitions
    means = {i: d for i, d in defined.items() if all(one.values is not None for one in d)}
    functions = {i: d for i, d in defined.items() if i not in means}
    tested = _means(pair, found, means, options) | _functions(pair, found, functions, options)
    for i, one in tested.items():
        found[i] = one
    return found


def metric_at(content: ReportModel, path: MetricPath) -> tuple[Metric | None, str | None]:
    """Return a number of a report, or why there is none."""
    part = content.suites.get(path.suite)
    if part is None:
        return None, f"there is no suite {plain(path.suite)}"
    if part.status != "ok":
        return None, f"suite {plain(path.suite)} is {part.status}: {plain(part.reason or '')}"
    metric = find_metric(part, path)
    if metric is None:
        return None, f"there is no {plain(path)}"
    if metric.value is None:
        return metric, f"{plain(path)} has no value: {plain(metric.reason or '')}"
    return metric, None


def _values(pair: Pair, path: MetricPath) -> Measured:
    sides = (("baseline", pair.a.content), ("candidate", pair.b.content))
    metrics: list[Metric | None] = []
    missing = []
    for name, content in sides:
        metric, reason = metric_at(content, path)
        metrics.append(metric)
        if reason is not None:
            missing.append(f"{reason} in the {name}")
    a, b = metrics
    bare = Measured(path, a, b)
    difference = pair.protocol_difference(path.suite)
    if not missing and difference is not None:
        return _failed(bare, "incompatible", difference)
    if missing:
        return _failed(bare, "incomplete", "; ".join(missing))
    assert a is not None
    assert b is not None
    whole = [c.protocol.limits.get(path.suite, c.dataset.n) for _, c in sides]
    if (a.unit, a.direction) != (b.unit, b.direction):
        return _failed(bare, "incompatible", "the two reports give it another unit or direction")
    # A share of the correctly classified images has an n of its own on each side.
    if a.n != b.n and (a.n == whole[0] or b.n == whole[1]) and pair.n == pair.of:
        return _failed(bare, "incompatible", f"it is of {a.n} samples against {b.n}")
    return Measured(path, a, b, value_a=a.value, value_b=b.value, n=min(a.n, b.n))


def _failed(one: Measured, problem: Problem, reason: str) -> Measured:
    return Measured(one.path, one.a, one.b, problem=problem, reason=reason)


def _without_test(one: Measured, reason: str) -> Measured:
    return Measured(
        one.path, one.a, one.b, reason=reason, value_a=one.value_a, value_b=one.value_b, n=one.n
    )


def _defined(pair: Pair, one: Measured) -> tuple[Measured, tuple[Definition, Definition] | None]:
    if pair.same_report:
        return _identical(one), None
    partial = pair.n < pair.of
    try:
        rows_a, rows_b = pair.rows(one.path.suite)
        both = _definition(rows_a, one.path), _definition(rows_b, one.path)
    except IncompatibleError as error:
        return _failed(one, "incompatible", error.message), None
    except Undefined as error:
        if partial:
            return _failed(one, "incomplete", f"not known of the common samples: {error}"), None
        return _without_test(one, str(error)), None
    estimates = both[0].estimate(), both[1].estimate()
    if not np.isfinite(estimates).all():
        return _without_test(one, "it is undefined for these rows"), None
    if partial:
        kept = Measured(
            one.path, one.a, one.b, value_a=estimates[0], value_b=estimates[1], n=both[0].n
        )
        return kept, both
    for stated, estimate in zip((one.value_a, one.value_b), estimates, strict=True):
        assert stated is not None
        wrong = _disagreement(stated, estimate)
        if wrong is not None:
            return _failed(one, "damaged", wrong), None
    return one, both


def _disagreement(stated: float, estimate: float) -> str | None:
    if abs(stated - estimate) <= _AGREE * max(1.0, abs(stated)):
        return None
    return f"the rows give {estimate:.6g}, the report states {stated:.6g}"


def stated_wrongly(source: Source, path: MetricPath, stated: float) -> str | None:
    """Return how a report's number differs from what its rows give, None if it does not.

    A number that is not made of rows, or a report that came without them, is taken as it is.

    Raises:
        IntakeError: the per-sample record is damaged.
    """
    samples = source.report.samples
    if samples is None:
        return None
    check_shapes(samples)
    view = suite_view(source.content, samples, path.suite)
    rows = Rows(source.content, view, np.arange(len(view)))
    try:
        return _disagreement(stated, _definition(rows, path).estimate())
    except Undefined:
        return None


def _identical(one: Measured) -> Measured:
    return _with_effect(one, Identical(), mdd=0.0)


def _definition(rows: Rows, path: MetricPath) -> Definition:
    return define(rows, rows.content.suites[path.suite], path)


def _with_effect(
    one: Measured, effect: Effect, *, mdd: float | None, p_sign_flip: float | None = None
) -> Measured:
    return Measured(
        one.path,
        one.a,
        one.b,
        effect=effect,
        value_a=one.value_a,
        value_b=one.value_b,
        n=one.n,
        mdd=mdd,
        p_sign_flip=p_sign_flip,
    )


def weight_chunks(n: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each image counts in each resample, (R, n) some resamples at a time.

    The same seed gives the same resamples whatever is computed from them, so a metric's interval
    does not depend on which others are asked for.
    """
    rng = bootstrap_rng(seed)
    rows = max(1, _DRAWS // n)
    for start in range(0, replicates, rows):
        yield resample(n, min(rows, replicates - start), rng).astype(np.float64)


def _means(
    pair: Pair,
    found: Sequence[Measured],
    means: Mapping[int, tuple[Definition, Definition]],
    options: Options,
) -> dict[int, Measured]:
    """Return metrics that are means over images, with their effects."""
    done: dict[int, Measured] = {}
    moving: dict[int, FloatArray] = {}
    for i, (a, b) in means.items():
        assert a.values is not None
        assert b.values is not None
        difference = b.values - a.values
        sd = float(difference.std())
        mdd = minimal_detectable(sd, len(difference), alpha=options.alpha)
        if a.binary and b.binary and not (pair.same_model and sd == 0):
            done[i] = _with_effect(found[i], _counted(found[i], a, b), mdd=mdd)
        elif not difference.any():
            done[i] = _with_effect(found[i], _unmoved(pair, found[i], len(difference)), mdd=0.0)
        else:
            moving[i] = difference
            done[i] = _with_effect(found[i], Identical(), mdd=mdd)
    for n in {len(difference) for difference in moving.values()}:
        alike = {i: d for i, d in moving.items() if len(d) == n}
        table = np.stack(list(alike.values()), axis=1)
        drawn = [w @ table / n for w in weight_chunks(n, options.replicates, options.seed)]
        replicates = np.concatenate(drawn)
        rng = np.random.Generator(np.random.Philox([options.seed, 1]))
        p_values = sign_flip(table, rng=rng, replicates=options.replicates)
        for column, i in enumerate(alike):
            effect = Resampled(np.ascontiguousarray(replicates[:, column]))
            done[i] = _with_effect(
                found[i], effect, mdd=done[i].mdd, p_sign_flip=float(p_values[column])
            )
    return done


def _counted(one: Measured, a: Definition, b: Definition) -> Counted:
    assert a.values is not None
    assert b.values is not None
    first, second = a.values == 1, b.values == 1
    return Counted(
        both=int((first & second).sum()),
        b=int((first & ~second).sum()),
        c=int((~first & second).sum()),
        neither=int((~first & ~second).sum()),
    )


def _unmoved(pair: Pair, one: Measured, n: int) -> Effect:
    bounded = one.a is not None and one.a.unit == "fraction"
    return Unchanged(n) if bounded and not pair.same_model else Identical()


def _functions(
    pair: Pair,
    found: Sequence[Measured],
    functions: Mapping[int, tuple[Definition, Definition]],
    options: Options,
) -> dict[int, Measured]:
    """Return metrics that are no means over images, with their effects."""
    drawn: dict[int, list[FloatArray]] = {i: [] for i in functions}
    for n in {definitions[0].n for definitions in functions.values()}:
        for weights in weight_chunks(n, options.function_replicates, options.seed):
            for i, (a, b) in functions.items():
                if a.n == n:
                    drawn[i].append(b.resampled(weights) - a.resampled(weights))
    done = {}
    for i, parts in drawn.items():
        differences = np.concatenate(parts)
        done[i] = _resampled(found[i], differences, options, same=pair.same_model)
    return done


def _resampled(
    one: Measured,
    differences: FloatArray,
    options: Options,
    *,
    same: bool = False,
    label: str = "bootstrap",
) -> Measured:
    defined = differences[np.isfinite(differences)]
    if len(defined) < MOSTLY * len(differences):
        undefined = len(differences) - len(defined)
        return _without_test(one, f"undefined in {undefined} of {len(differences)} resamples")
    if same and not defined.any():
        return _identical(one)
    # The standard deviation of the resamples is the standard error already.
    mdd = minimal_detectable(float(defined.std()), 1, alpha=options.alpha)
    return _with_effect(one, Resampled(defined, label), mdd=mdd)


def measure_groups(
    pairs: Sequence[Sequence[Pair]], paths: Sequence[MetricPath], options: Options
) -> list[Measured]:
    """Return each metric of several runs a side, with a two-level bootstrap: runs, then images.

    The runs of a side are resampled with the images that all runs share. Of k runs, k - 1 are
    drawn: drawing k would understate the variance between runs by (k - 1) / k. A side of one run
    has no spread between runs, so the interval then speaks of images alone.

    Args:
        pairs: pairs[i][j] puts run i of side A beside run j of side B; all share their images.
        paths: the metrics.
        options: replicates and seed; all metrics take ``options.function_replicates``.

    Reference:
        Rao and Wu 1988, J. Am. Statist. Ass. 83:231, for the k - 1; Davison and Hinkley 1997,
        Bootstrap Methods and their Application, section 3.8, for the two levels.
    """
    done = []
    for path in paths:
        grid = [[_values(pair, path) for pair in row] for row in pairs]
        bad = next((one for row in grid for one in row if one.problem is not None), None)
        done.append(bad or _measure_group(pairs, grid, path, options))
    return done


def _measure_group(
    pairs: Sequence[Sequence[Pair]],
    grid: Sequence[Sequence[Measured]],
    path: MetricPath,
    options: Options,
) -> Measured:
    values = (
        [row[0].value_a for row in grid],
        [one.value_b for one in grid[0]],
    )
    first = grid[0][0]
    means = [float(np.mean([v for v in side if v is not None])) for side in values]
    one = Measured(path, first.a, first.b, value_a=means[0], value_b=means[1], n=first.n)
    sides: tuple[list[Definition], list[Definition]] = ([], [])
    for i, row in enumerate(pairs):
        for j, pair in enumerate(row):
            checked, both = _defined_apart(pair, grid[i][j])
            if both is None:
                return checked
            if j == 0:
                sides[0].append(both[0])
            if i == 0:
                sides[1].append(both[1])
    runs = [_drawn_runs(side, options, stream) for stream, side in enumerate(sides, 2)]
    differences = runs[1] - runs[0]
    return _resampled(one, differences, options, label="two-level bootstrap")


def _defined_apart(
    pair: Pair, one: Measured
) -> tuple[Measured, tuple[Definition, Definition] | None]:
    """Return both definitions even where a report stands on both sides."""
    if not pair.same_report:
        return _defined(pair, one)
    try:
        rows_a, rows_b = pair.rows(one.path.suite)
        return one, (_definition(rows_a, one.path), _definition(rows_b, one.path))
    except Undefined as error:
        return _without_test(one, str(error)), None


def _drawn_runs(side: Sequence[Definition], options: Options, stream: int) -> FloatArray:
    """Return the mean over drawn runs of the metric of drawn images, (R,)."""
    count = options.function_replicates
    chunks = weight_chunks(side[0].n, count, options.seed)
    values = np.concatenate([np.stack([d.resampled(w) for d in side], axis=1) for w in chunks])
    k = len(side)
    if k == 1:
        return np.asarray(values[:, 0])
    rng = np.random.Generator(np.random.Philox([options.seed, stream]))
    drawn = rng.integers(k, size=(count, k - 1))
    return np.asarray(np.take_along_axis(values, drawn, axis=1).mean(axis=1))
