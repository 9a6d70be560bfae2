"""Each metric of a pair of reports: both values, the difference, and what the rows say of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from robustmix.comparison.open_report import Source
from robustmix.comparison.pair import NO_ROWS, Pair
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
from robustmix.comparison.suite_numbers import suite_numbers
from robustmix.comparison.verify import begun
from robustmix.errors import IncompatibleError
from robustmix.metrics.agreement import disagreement
from robustmix.metrics.definition import Definition, Undefined
from robustmix.metrics.intervals import resampled_means, weight_chunks
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import FloatArray
from robustmix.report.rows import check_shapes, covered_view
from robustmix.report.schema import ReportModel
from robustmix.report.text import plain

REPLICATES = 10_000
FUNCTION_REPLICATES = 1_000
MOSTLY = 0.95
"""Share of the resamples that a metric must be defined in."""

Watch: TypeAlias = Callable[[str, int, int], None]
"""Is told what is resampled, how many resamples are done, and of how many."""


def unwatched(what: str, done: int, total: int) -> None:
    """Tell nobody."""


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

    unverified: bool = False
    """Whether no rows tell if the stated values are true."""

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


def measure(
    pair: Pair, paths: Sequence[MetricPath], options: Options, watch: Watch = unwatched
) -> list[Measured]:
    """Give each metric its paired statistics, in the order asked for.

    Args:
        pair: the reports.
        paths: the metrics.
        options: replicates, level and seed.
        watch: is told how far the resamples are.

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
    means = {i: d for i, d in defined.items() if all(one.is_mean for one in d)}
    functions = {i: d for i, d in defined.items() if i not in means}
    tested = _means(pair, found, means, options, watch)
    tested |= _functions(pair, found, functions, options, watch)
    for i, one in tested.items():
        found[i] = one
    pair.forget()
    return found


def metric_at(content: ReportModel, path: MetricPath) -> tuple[Metric | None, str | None]:
    """Find a number of a report, or say why there is none."""
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


def _without_test(one: Measured, reason: str, *, unverified: bool = False) -> Measured:
    return replace(one, reason=reason, unverified=unverified)


def _defined(pair: Pair, one: Measured) -> tuple[Measured, tuple[Definition, Definition] | None]:
    """Give both definitions of a metric, held against what the reports state; None for no test."""
    if not pair.same_report:
        return _of_rows(pair, one)
    same = _identical(one)
    return same if pair.has_rows else replace(same, unverified=True, reason=NO_ROWS), None


def _of_rows(pair: Pair, one: Measured) -> tuple[Measured, tuple[Definition, Definition] | None]:
    partial = pair.n < pair.of
    try:
        sides = [numbers.define(one.path) for numbers in pair.numbers(one.path.suite)]
    except IncompatibleError as error:
        return _failed(one, "incompatible", error.message), None
    except Undefined as error:
        if partial:
            return _failed(one, "incomplete", f"not known of the common samples: {error}"), None
        return _without_test(one, str(error), unverified=True), None
    (a, value_a), (b, value_b) = sides
    if a.column != b.column:
        # Where no plugin says it, the reports do, and a stranger's might name a better column.
        return _failed(one, "incompatible", "each report makes it from another column"), None
    if not np.isfinite((value_a, value_b)).all():
        return _without_test(one, "it is undefined for these rows", unverified=True), None
    if partial:
        one = Measured(one.path, one.a, one.b, value_a=value_a, value_b=value_b, n=a.counted)
    else:
        for stated, (definition, value) in zip((one.a, one.b), sides, strict=True):
            assert stated is not None
            wrong = _disagreement(stated, definition, value)
            if wrong is not None:
                return _failed(one, "damaged", wrong), None
    if not (a.testable and b.testable):
        return _without_test(one, a.reason or b.reason or "it has no interval"), None
    return one, (a, b)


def _disagreement(stated: Metric, definition: Definition, value: float) -> str | None:
    """Say how a report's number differs from what its rows give, None if it does not."""
    # Without an interval, which may take long: a gate makes it again where a rule asks for it.
    made = Metric.model_construct(
        value=value,
        unit=definition.unit,
        direction=definition.direction,
        n=definition.counted,
        ci=None,
    )
    return disagreement(stated, made, interval=False)


def stated_wrongly(source: Source, path: MetricPath, stated: Metric) -> tuple[Problem, str] | None:
    """Hold a report's number against its rows; None if they agree.

    Returns:
        The problem and its reason: ``damaged``, or ``incomplete`` where the rows do not tell.

    Raises:
        IntakeError: the per-sample record or the recorded parameters are damaged.
    """
    samples = source.report.samples
    if samples is None:
        return "incomplete", f"cannot be verified: {NO_ROWS}"
    check_shapes(samples)
    try:
        view = covered_view(source.content, samples, path.suite)
        definition, value = suite_numbers(source.content, view, path.suite).define(path)
    except Undefined as error:
        return "incomplete", f"cannot be verified: {error}"
    if not np.isfinite(value):
        return "damaged", "it is undefined for these rows"
    wrong = _disagreement(stated, definition, value)
    return None if wrong is None else ("damaged", wrong)


def _identical(one: Measured) -> Measured:
    return _with_effect(one, Identical(), mdd=0.0)


def _with_effect(
    one: Measured, effect: Effect, *, mdd: float | None, p_sign_flip: float | None = None
) -> Measured:
    return replace(one, effect=effect, mdd=mdd, p_sign_flip=p_sign_flip)


def _means(
    pair: Pair,
    found: Sequence[Measured],
    means: Mapping[int, tuple[Definition, Definition]],
    options: Options,
    watch: Watch,
) -> dict[int, Measured]:
    """Give metrics that are means over images their effects."""
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
        rng = np.random.Generator(np.random.Philox([options.seed, 1]))
        flips = partial(sign_flip, table, rng=rng, replicates=options.replicates)
        with begun([flips]) as flipped:
            replicates = _mean_replicates(table, options, watch)
            [p_values] = flipped()
        for column, i in enumerate(alike):
            effect = Resampled(np.ascontiguousarray(replicates[:, column]))
            done[i] = _with_effect(
                found[i], effect, mdd=done[i].mdd, p_sign_flip=float(p_values[column])
            )
    return done


def _mean_replicates(table: FloatArray, options: Options, watch: Watch) -> FloatArray:
    """Resample the means of a table's columns, (n, M) -> (R, M): all by the same resamples."""
    replicates, done = np.empty((options.replicates, table.shape[1])), 0
    for means in resampled_means(table, options.replicates, options.seed):
        replicates[done : done + len(means)] = means
        done += len(means)
        watch("means", done, options.replicates)
    return replicates


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
    watch: Watch,
) -> dict[int, Measured]:
    """Give metrics that are no means over images their effects."""
    drawn: dict[int, list[FloatArray]] = {i: [] for i in functions}
    counts = {i: _replicates(both, options) for i, both in functions.items()}
    # Those that take as many resamples are asked together: they share what they need of them.
    for n, count in {(a.n, counts[i]) for i, (a, _) in functions.items()}:
        done = 0
        for weights in weight_chunks(n, count, options.seed):
            for i, (a, b) in functions.items():
                if (a.n, counts[i]) == (n, count):
                    drawn[i].append(b.resampled(weights) - a.resampled(weights))
            done += len(weights)
            watch("other numbers", done, count)
    return {
        i: _resampled(
            found[i],
            np.concatenate(parts),
            options,
            sides=tuple([one] for one in functions[i]),
            same=pair.same_model,
        )
        for i, parts in drawn.items()
    }


def _replicates(definitions: Sequence[Definition], options: Options) -> int:
    """Choose how many resamples a metric takes: fewer where each takes long."""
    most = [definition.replicates for definition in definitions if definition.costly]
    return min([options.function_replicates, *most])


def _resampled(
    one: Measured,
    differences: FloatArray,
    options: Options,
    *,
    sides: Sequence[Sequence[Definition]],
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
    assert one.delta is not None, "what has definitions has values"
    below, above = chance_of_difference(*sides)
    effect = Resampled.around(one.delta, defined, label, below, above)
    return _with_effect(one, effect, mdd=mdd + max(below, above))


def chance_of_difference(a: Sequence[Definition], b: Sequence[Definition]) -> tuple[float, float]:
    """Give by how much chance may have made B - A too large, and too small, on average.

    Args:
        a: definitions of the runs of side A, whose numbers are averaged.
        b: of side B.
    """
    (raised_a, lowered_a), (raised_b, lowered_b) = (
        np.mean([_chance(one) for one in side], axis=0).tolist() for side in (a, b)
    )
    return raised_b + lowered_a, lowered_b + raised_a


def _chance(definition: Definition) -> tuple[float, float]:
    if definition.chance_of is None:
        return 0.0, 0.0
    chance = definition.chance_of(definition.estimate())
    return chance.raised, chance.lowered


def measure_groups(
    pairs: Sequence[Sequence[Pair]],
    paths: Sequence[MetricPath],
    options: Options,
    watch: Watch = unwatched,
) -> list[Measured]:
    """Compare several runs a side by a two-level bootstrap: runs, then images.

    The runs of a side are resampled with the images that all runs share. Of k runs, k - 1 are
    drawn: drawing k would understate the variance between runs by (k - 1) / k. A side of one run
    has no spread between runs, so the interval then speaks of images alone.

    Args:
        pairs: pairs[i][j] puts run i of side A beside run j of side B; all share their images.
        paths: the metrics.
        options: replicates and seed; all metrics take ``options.function_replicates``.
        watch: is told how many of the metrics are done.

    Reference:
        Rao and Wu 1988, J. Am. Statist. Ass. 83:231, for the k - 1; Davison and Hinkley 1997,
        Bootstrap Methods and their Application, section 3.8, for the two levels.
    """
    done = []
    for path in paths:
        grid = [[_values(pair, path) for pair in row] for row in pairs]
        bad = next((one for row in grid for one in row if one.problem is not None), None)
        done.append(bad or _measure_group(pairs, grid, path, options))
        watch("metrics", len(done), len(paths))
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
            # A report may stand on both sides, and its runs are resampled apart even then.
            checked, both = _of_rows(pair, grid[i][j])
            if both is None:
                # Without a test the values are means over the runs all the same.
                told = checked.problem is None
                return replace(checked, value_a=means[0], value_b=means[1]) if told else checked
            if j == 0:
                sides[0].append(both[0])
            if i == 0:
                sides[1].append(both[1])
    few = replace(options, function_replicates=_replicates([*sides[0], *sides[1]], options))
    runs = [_drawn_runs(side, few, stream) for stream, side in enumerate(sides, 2)]
    differences = runs[1] - runs[0]
    return _resampled(one, differences, options, sides=sides, label="two-level bootstrap")


def _drawn_runs(side: Sequence[Definition], options: Options, stream: int) -> FloatArray:
    """Give the mean over drawn runs of the metric of drawn images, (R,)."""
    count = options.function_replicates
    chunks = weight_chunks(side[0].n, count, options.seed)
    values = np.concatenate([np.stack([d.resampled(w) for d in side], axis=1) for w in chunks])
    k = len(side)
    if k == 1:
        return np.asarray(values[:, 0])
    rng = np.random.Generator(np.random.Philox([options.seed, stream]))
    drawn = rng.integers(k, size=(count, k - 1))
    return np.asarray(np.take_along_axis(values, drawn, axis=1).mean(axis=1))
