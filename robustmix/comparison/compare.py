"""Two sides compared metric by metric, without a verdict on the whole."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustmix.comparison.document import (
    Comparison,
    ComparisonDocument,
    MetricRow,
    ReportRef,
    Settings,
    Verdict,
)
from robustmix.comparison.measure import (
    Measured,
    Options,
    Watch,
    measure,
    measure_groups,
    unwatched,
)
from robustmix.comparison.named import is_suite, refuse_misnamed
from robustmix.comparison.open_report import Source, open_report, told_apart
from robustmix.comparison.pair import (
    Pair,
    align,
    check_protocols,
    one_sided,
    own_choice,
    pair_warnings,
)
from robustmix.comparison.paired import POWER, Counted, benjamini_hochberg, holm, mcnemar
from robustmix.comparison.paths import (
    MetricPath,
    all_metrics,
    completed,
    headline_paths,
    parse_path,
)
from robustmix.comparison.verdicts import verdict_rows, verdict_warnings
from robustmix.errors import UsageError, unknown_name
from robustmix.metrics.scores import FloatArray
from robustmix.report.report import Report
from robustmix.report.schema import ReportModel
from robustmix.report.text import plain

MARGIN = 0.01
"""A difference of a fraction that matters, unless told otherwise: one point."""

GROUP_REPLICATES = 2_000
"""Two-level resamples; each takes every run's metric of the drawn images."""

SINGLE_RUNS = (
    "W-SEEDS: one run a side: the statistics speak of these two models, not of their training; "
    "another seed of the same recipe differs too, by about 0.2 to 0.4 points on CIFAR-100 "
    "(compare --group takes several runs)"
)
FEW_RUNS = (
    "W-FEW-RUNS: fewer than 5 runs on a side: their spread is itself uncertain, and the intervals "
    "are rather too short"
)

Where = Path | str | Report | Source


def compare(
    a: Where,
    *others: Where,
    metrics: Sequence[MetricPath | str] | None = None,
    everything: bool = False,
    suites: Sequence[str] | None = None,
    allow_subset: bool = False,
    correction: str = "holm",
    margin: float = MARGIN,
    options: Options | None = None,
    watch: Watch = unwatched,
) -> ComparisonDocument:
    """Compare reports with a first one, image by image.

    Args:
        a: side A, the report that differences are taken from.
        others: one or more sides B.
        metrics: what to compare, e.g. ``corruption.acc[fog/3]``; the headline numbers if None.
        everything: compare every number, conditions and points of curves too.
        suites: leave all others out.
        allow_subset: compare the images that both reports hold, if these are not the same.
        correction: ``holm``, or ``bh`` for the false discovery rate; over all tests of the call.
        margin: difference of a fraction that matters; an interval that reaches beyond it without
            showing a difference is *inconclusive*.
        options: replicates, level and seed.
        watch: is told how far the resamples are.

    Raises:
        UsageError: nothing to compare with, or a metric or suite that no report has.
        IntakeError: a report or its record is missing or damaged.
        IncompatibleError: they are not of the same images, or a suite was run differently.
    """
    if not others:
        raise UsageError("expected two reports or more", "robustmix compare A.json B.json")
    options = options or Options()
    first, *rest = told_apart([open_report(where) for where in (a, *others)])
    pairs = [align(first, other, allow_subset=allow_subset) for other in rest]
    measured = []
    for pair in pairs:
        paths = _select([pair.a, pair.b], metrics, everything, suites)
        check_protocols(pair, list(dict.fromkeys(path.suite for path in paths)))
        measured.append(measure(pair, paths, options, watch))
    tables = _rows(measured, options, correction, margin)
    comparisons = []
    for pair, side, rows in zip(pairs, measured, tables, strict=True):
        warnings = [*pair_warnings(pair), *one_sided([pair.a], [pair.b])]
        warnings += _saliency_warning(pair, side)
        warnings += [] if pair.same_model else [SINGLE_RUNS]
        comparison = Comparison(
            a=[ReportRef.of(pair.a)], b=[ReportRef.of(pair.b)], metrics=rows, warnings=warnings
        )
        beside = metrics is None
        comparisons.append(_with_words(comparison, [[pair]], suites) if beside else comparison)
    return _document(comparisons, options, correction, margin)


def _saliency_warning(pair: Pair, side: Sequence[Measured]) -> list[str]:
    chosen = [plain(one.path) for one in side if own_choice(pair.a, one.path)]
    if not chosen or pair.same_model:
        return []
    return [
        f"W-SALIENCY: each model chose the patches of {chosen[0]} itself, so a difference may lie "
        "in the saliency (evaluate both with one saliency file)"
    ]


def compare_groups(
    a: Sequence[Where],
    b: Sequence[Where],
    *,
    metrics: Sequence[MetricPath | str] | None = None,
    everything: bool = False,
    suites: Sequence[str] | None = None,
    correction: str = "holm",
    margin: float = MARGIN,
    options: Options | None = None,
    watch: Watch = unwatched,
) -> ComparisonDocument:
    """Compare several runs of one recipe with several of another.

    Args:
        a: reports of side A, at least one; values are means over a side.
        b: reports of side B.
        metrics: see ``compare``, as for the other arguments.
        everything: likewise.
        suites: likewise.
        correction: likewise.
        margin: likewise.
        options: likewise; all metrics take ``function_replicates``.
        watch: is told how many of the metrics are done.

    Raises:
        UsageError: a side without reports, the same report twice, or a metric or suite that no
            report has.
        IntakeError: a report or its record is missing or damaged.
        IncompatibleError: they are not of the same images, or a suite was run differently.
    """
    options = options or Options(function_replicates=GROUP_REPLICATES)
    opened = told_apart([open_report(where) for where in (*a, *b)])
    sides = opened[: len(a)], opened[len(a) :]
    _check_sides(sides)
    pairs = [[align(left, right) for right in sides[1]] for left in sides[0]]
    paths = _select([*sides[0], *sides[1]], metrics, everything, suites)
    for row in pairs:
        for pair in row:
            check_protocols(pair, list(dict.fromkeys(path.suite for path in paths)))
    (rows,) = _rows([measure_groups(pairs, paths, options, watch)], options, correction, margin)
    sizes = [len(side) for side in sides]
    warnings = [*pair_warnings(pairs[0][0]), *one_sided(*sides)]
    if min(sizes) < 5:
        warnings.append(SINGLE_RUNS if max(sizes) == 1 else FEW_RUNS)
    comparison = Comparison(
        a=[ReportRef.of(source) for source in sides[0]],
        b=[ReportRef.of(source) for source in sides[1]],
        metrics=rows,
        warnings=warnings,
    )
    if metrics is None:
        comparison = _with_words(comparison, pairs, suites)
    return _document([comparison], options, correction, margin)


def _with_words(
    comparison: Comparison, pairs: Sequence[Sequence[Pair]], suites: Sequence[str] | None
) -> Comparison:
    """Add verdicts, and a word on each suite that would else go unseen.

    Args:
        comparison: with the metrics of all suites that have any to compare.
        pairs: pairs[i][j] puts run i of side A beside run j of side B.
        suites: those that were asked for; None for all.
    """
    first = pairs[0][0]
    sides = [row[0].a for row in pairs], [pair.b for pair in pairs[0]]
    asked = [suite for suite, _ in completed(first.a.content) if suites is None or suite in suites]
    verdicts, told = [row for row in verdict_rows(*sides) if row.suite in asked], []
    seen = {row.suite for row in comparison.metrics} | {row.suite for row in verdicts}
    for suite in asked:
        difference = first.protocol_difference(suite)
        if difference is not None:
            # Only of suites without metrics: those of the others were refused before.
            told.append(f"W-SUITE: suite {plain(suite)} is not compared: {difference}")
            verdicts = [row for row in verdicts if row.suite != suite]
        elif suite not in seen and all(suite in s.content.suites for side in sides for s in side):
            told.append(
                f"W-SUITE: suite {plain(suite)} has nothing that is compared unless asked for "
                "(--all compares every number)"
            )
    warnings = [*comparison.warnings, *told, *verdict_warnings(verdicts, ("A", "B"))]
    return comparison.model_copy(update={"verdicts": verdicts, "warnings": warnings})


def _check_sides(sides: tuple[list[Source], list[Source]]) -> None:
    for side in sides:
        if not side:
            raise UsageError("a side has no report", "write --group A=a1.json,a2.json")
        if len({source.sha256 for source in side}) < len(side):
            raise UsageError(
                "a report stands twice on one side", "a run counts once", code="E-GROUP"
            )


def _select(
    sources: Sequence[Source],
    metrics: Sequence[MetricPath | str] | None,
    everything: bool,
    suites: Sequence[str] | None,
) -> list[MetricPath]:
    """Choose what to compare: what every side has, unless metrics were named."""
    _check_suites(sources, suites or ())
    if metrics is not None:
        named = [parse_path(one) if isinstance(one, str) else one for one in metrics]
        refuse_misnamed(named, sources)
        return named
    first, *others = (source.content for source in sources)
    wanted = _numbers_of(first) if everything else headline_paths(first)
    had = [set(_numbers_of(other)) for other in others]
    chosen = [path for path in wanted if all(path in paths for paths in had)]
    if suites is not None:
        chosen = [path for path in chosen if path.suite in suites]
    if not chosen:
        raise UsageError(
            "the reports have no metric in common that could be compared",
            "evaluate both with the same suites",
            code="E-NOTHING",
        )
    return chosen


def _check_suites(sources: Sequence[Source], suites: Sequence[str]) -> None:
    known = {key for source in sources for key in source.content.suites}
    for name in suites:
        if name not in known and not is_suite(name):
            raise unknown_name("suite", plain(name, 60), map(plain, known))


def _numbers_of(content: ReportModel) -> list[MetricPath]:
    return [path for path, _ in all_metrics(content) if content.suites[path.suite].status == "ok"]


def adjust(p_values: FloatArray, correction: str) -> FloatArray:
    """Adjust p values for their number.

    Raises:
        UsageError: the correction is neither ``holm`` nor ``bh``.
    """
    methods = {"holm": holm, "bh": benjamini_hochberg}
    if correction not in methods:
        raise UsageError(f"unknown correction '{correction}'", "choose holm or bh")
    return methods[correction](p_values) if len(p_values) else p_values


def _rows(
    measured: Sequence[Sequence[Measured]], options: Options, correction: str, margin: float
) -> list[list[MetricRow]]:
    tested = [
        one.effect.p_zero()
        for side in measured
        for one in side
        if one.effect is not None and _tested(one)
    ]
    adjusted = iter(adjust(np.array(tested, dtype=np.float64), correction).tolist())
    return [
        [_row(one, options, margin, next(adjusted) if _tested(one) else None) for one in side]
        for side in measured
    ]


def _tested(one: Measured) -> bool:
    return one.effect is not None and one.a is not None and one.a.direction != "neither"


def _row(one: Measured, options: Options, margin: float, adjusted: float | None) -> MetricRow:
    shown = one.a or one.b
    row = MetricRow(
        path=str(one.path),
        suite=one.path.suite,
        unit=shown.unit if shown else "score",
        direction=shown.direction if shown else "neither",
        n=one.n,
        a=one.value_a if one.value_a is not None else (one.a.value if one.a else None),
        b=one.value_b if one.value_b is not None else (one.b.value if one.b else None),
        delta=one.delta,
        reason=one.reason,
    )
    effect = one.effect
    if effect is None:
        return row
    counted = effect if isinstance(effect, Counted) else None
    interval = effect.interval(options.alpha)
    return row.model_copy(
        update={
            "ci": interval,
            "ci_method": effect.method,
            "p": effect.p_zero(),
            "p_method": "mcnemar mid-p" if counted else effect.method,
            "p_adjusted": adjusted,
            "only_a_right": _only(one, counted, 0),
            "only_b_right": _only(one, counted, 1),
            "p_exact": mcnemar(counted.b, counted.c).exact if counted else None,
            "p_sign_flip": one.p_sign_flip,
            "mdd": one.mdd,
            "verdict": verdict(one, interval, adjusted, options.alpha, margin),
        }
    )


def _only(one: Measured, counted: Counted | None, side: int) -> int | None:
    if counted is None:
        return None
    # An error counts the wrong images, so there A alone counts where B alone is right.
    error = one.a is not None and one.a.direction == "lower"
    return (counted.b, counted.c)[side ^ error]


def verdict(
    one: Measured,
    interval: tuple[float, float],
    adjusted: float | None,
    alpha: float,
    margin: float,
) -> Verdict:
    """Say in a word what the data show of a metric.

    ``better`` or ``worse``: a difference is shown. ``no evidence``: none is, and one larger than
    the margin is excluded (where a margin has a meaning: for fractions). ``inconclusive``: none is
    shown, and one larger than the margin is not excluded.
    """
    assert one.delta is not None
    if adjusted is None or one.a is None:
        return "not tested"
    if adjusted < alpha and one.delta != 0:
        return "better" if (one.delta > 0) == (one.a.direction == "higher") else "worse"
    if one.a.unit == "fraction" and max(-interval[0], interval[1]) > margin:
        return "inconclusive"
    return "no evidence"


def settings(options: Options, correction: str) -> Settings:
    """State how statistics were made."""
    return Settings(
        alpha=options.alpha,
        correction="bh" if correction == "bh" else "holm",
        replicates=options.replicates,
        function_replicates=options.function_replicates,
        seed=options.seed,
        power=POWER,
    )


def _document(
    comparisons: list[Comparison], options: Options, correction: str, margin: float
) -> ComparisonDocument:
    return ComparisonDocument(
        settings=settings(options, correction), margin=margin, comparisons=comparisons
    )
