"""Every aggregate of a report made again from its per-sample record."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import robustmix
from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.evaluation.contradictions import report_contradictions, row_contradictions
from robustmix.evaluation.subset_note import name_subset
from robustmix.evaluation.suite import Prepared, all_numbers, summarise_numbers
from robustmix.evaluation.suites.registry import read_suite
from robustmix.metrics.agreement import AGREE, disagreement
from robustmix.metrics.definition import (
    Interval,
    Numbers,
    Undefined,
    metric_path,
    summarise_metrics,
)
from robustmix.metrics.intervals import REPLICATES
from robustmix.metrics.metric import Metric
from robustmix.metrics.registry import METRICS
from robustmix.report.report import Report, metrics_of
from robustmix.report.rows import Rows, covered_view, rows_of
from robustmix.report.schema import SuitePart
from robustmix.tables import require_plugins

TOLERANCE = 1e-9
"""Relative; sums may round differently on another machine."""

WORDS = frozenset({"note", "notes", "reason", "label", "text"})
"""Fields in words, which may hold rounded numbers: no rule goes by them."""

FITTED = frozenset({"recalibrated"})
"""Details that a search by many steps ends in: on another machine it ends a little elsewhere."""

Key = tuple[str, str]
"""Condition and name of a number."""


@dataclass(frozen=True, eq=False)
class _Remade:
    """A suite made again."""

    prepared: Prepared
    rows: Rows
    part: SuitePart
    numbers: Numbers
    intervals: dict[Key, Interval]
    """How the interval of each number is made."""


def remake(report: Report) -> dict[str, SuitePart]:
    """Make every completed suite of a report again from its rows.

    Those of which the report, a shard, has a share are left out.

    Raises:
        IntakeError: the report has no per-sample record, it lacks the rows of a suite, or a suite
            or metric is not known here.
    """
    if report.samples is None:
        raise IntakeError("the report's per-sample record is not beside it", "restore samples.npz")
    content = report.content
    made: dict[str, _Remade] = {}
    for key, part in content.suites.items():
        if part.status == "ok" and not _is_share(report, key):
            # Else the numbers of a metric that is not here would look as if the rows denied them.
            require_plugins([origin.model_dump() for origin in part.origins], [METRICS])
            made[key] = _remade(report, key, REPLICATES)
    parts = {key: one.part for key, one in made.items()}
    for key, one in made.items():
        one.part.origins = content.suites[key].origins
        if key in content.protocol.limits:
            n = len(one.rows.view.evaluated or one.rows.view)
            name_subset(one.part, n, len(report.samples))
    for key, one in made.items():
        one.prepared.judge(key, parts)
    return parts


def _is_share(report: Report, key: str) -> bool:
    """Tell whether a suite's rows are a shard's share of them, of which there are no numbers."""
    assert report.samples is not None
    content, table = report.content, report.samples.tables.get(key)
    if content.dataset.shard is None or table is None or table.positions is None:
        return False
    n = len(report.samples)
    return len(table.positions) < min(content.protocol.limits.get(key, n), n)


def _remade(report: Report, key: str, replicates: int) -> _Remade:
    assert report.samples is not None
    content, part = report.content, report.content.suites[key]
    if key not in content.protocol.params:
        raise _unlike(key, "the report does not state its parameters")
    prepared = read_suite(key, content.protocol.params[key], part.origins)
    try:
        view = covered_view(content, report.samples, key)
        rows = rows_of(content, view, key, prepared.order(view))
        prepared.check(rows)
        numbers, intervals = all_numbers(prepared, rows), dict[Key, Interval]()
        made = summarise_numbers(
            prepared,
            rows,
            numbers,
            foreign=bool(part.origins),
            intervals=intervals,
            replicates=replicates,
        )
    except UsageError as error:  # no option of who reads it, but a parameter of who wrote it
        raise _unlike(key, error.message) from None
    except RobustmixError:
        raise
    except (
        LookupError,
        ValueError,
        Undefined,
        TypeError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise _unlike(key, type(error).__name__) from None
    return _Remade(prepared, rows, made, numbers, intervals)


def _unlike(key: str, why: str) -> IntakeError:
    return IntakeError(
        f"the per-sample record does not hold the rows of suite {key} ({why})", "evaluate again"
    )


def recompute(report: Report) -> list[str]:
    """List where a report differs from what its rows give, or contradicts them; empty if nowhere.

    Args:
        report: loaded together with its per-sample record.

    Returns:
        Lines such as ``clean.metrics.top1.value: 0.81 in the report, 0.80 from the rows``.

    Raises:
        IntakeError: see ``remake``.
    """
    if report.samples is None:
        raise IntakeError("the report's per-sample record is not beside it", "restore samples.npz")
    found = list(row_contradictions(report))
    if found:
        return found
    for key, made in remake(report).items():
        stated = report.content.suites[key].model_dump(mode="json")
        again = made.model_dump(mode="json")
        again["timing"] = stated["timing"]
        found += _differences(_by_name(stated), _by_name(again), key)
    return [*found, *report_contradictions(report)]


def misstated(report: Report, asked: Mapping[str, Collection[Key]]) -> Iterator[str]:
    """Say where a report states what its rows do not give, as far as a gate may go by it.

    That is what ``recompute`` says, but for words, for what another machine fits a little
    differently, and for the intervals of resamples that no rule asks for, which take minutes. Of a
    report of another version only the numbers that rules ask for: what else it holds may have been
    defined otherwise then.

    Args:
        report: loaded together with its per-sample record.
        asked: the numbers that rules speak of, by suite.

    Raises:
        IntakeError: the rows of a suite are not there, or its recorded parameters are damaged.
    """
    content = report.content
    own = content.tool.version == robustmix.__version__
    made: dict[str, _Remade] = {}
    for key, part in content.suites.items():
        if part.status == "ok" and (own or key in asked):
            one = _if_known(report, key)
            if one is not None:
                made[key] = one
    parts = {key: one.part for key, one in made.items()}
    for key, one in made.items():
        one.prepared.judge(key, parts)
    for key, one in made.items():
        yield from _number_faults(key, content.suites[key], one, asked.get(key, ()), own)
        if own:
            # Verdicts may be others' on this suite, and whoever judged may not be here.
            known = made.keys() >= {k for k, part in content.suites.items() if part.status == "ok"}
            yield from _part_faults(key, content.suites[key], one.part, verdicts=known)
        one.rows.forget()


def _if_known(report: Report, key: str) -> _Remade | None:
    """Make a suite again; None where it is not installed, or others' code of it raises."""
    try:
        return _remade(report, key, 0)
    except IntakeError as error:
        if error.code in ("E-PLUGIN-ABSENT", "E-SUITE-UNKNOWN"):
            return None
        raise
    except RobustmixError:
        raise
    except Exception:
        if not report.content.suites[key].origins:
            raise
        return None


def _number_faults(
    key: str, part: SuitePart, made: _Remade, asked: Collection[Key], own: bool
) -> Iterator[str]:
    numbers, rules = made.numbers, made.rows.rules
    stated = {(condition, name): metric for condition, name, metric in metrics_of(part)}
    again = {(condition, name): metric for condition, name, metric in metrics_of(made.part)}
    exact = {k: numbers[k] for k in asked if k in numbers}
    again |= summarise_metrics(exact, seed=made.rows.seed, rules=rules)
    if own and not part.origins:
        for number in (*stated, *again):  # in their order: which fault is told first is no chance
            if number in stated and number in again:
                continue
            if METRICS.origin(f"{part.kind}.{number[1]}") is None:
                what = "is no number of it" if number in stated else "is missing"
                yield f"{key}.{metric_path(*number)} {what}"
    for number in again:
        if number in stated and (own or number in asked):
            left, right = stated[number], again[number]
            drawn = number not in asked and made.intervals[number] == "bootstrap"
            wrong = disagreement(left, right, interval=_comparable(left, right, own) and not drawn)
            if drawn and own and not (left.ci_method or "bootstrap").startswith("bootstrap"):
                wrong = f"its interval is one of resamples, the report states {left.ci_method}"
            if wrong is not None:
                yield f"{key}.{metric_path(*number)}: {wrong}"


def _comparable(stated: Metric, made: Metric, own: bool) -> bool:
    """Tell whether two intervals must be equal: another version may make them another way."""
    return own or stated.ci_method == made.ci_method


def _part_faults(key: str, part: SuitePart, made: SuitePart, *, verdicts: bool) -> Iterator[str]:
    left_out = {"metrics", "conditions", "timing", "origins", "columns", "status", "reason"}
    left_out |= set() if verdicts else {"verdicts"}
    stated, again = (
        _without_words(one.model_dump(mode="json", exclude=left_out)) for one in (part, made)
    )
    yield from _differences(stated, again, key, tolerance=AGREE)


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        skipped = WORDS | FITTED
        return {key: _without_words(one) for key, one in value.items() if key not in skipped}
    return [_without_words(one) for one in value] if isinstance(value, list) else value


def _by_name(part: Mapping[str, Any]) -> dict[str, Any]:
    """Put conditions under their names, so that a difference says where it is."""
    return {**part, "conditions": {one["name"]: one for one in part["conditions"]}}


def _differences(
    stated: Any, again: Any, path: str, *, tolerance: float = TOLERANCE
) -> Iterator[str]:
    if isinstance(stated, dict) and isinstance(again, dict) and stated.keys() == again.keys():
        for key in stated:
            yield from _differences(stated[key], again[key], f"{path}.{key}", tolerance=tolerance)
    elif isinstance(stated, list) and isinstance(again, list) and len(stated) == len(again):
        for i, (left, right) in enumerate(zip(stated, again, strict=True)):
            yield from _differences(left, right, f"{path}[{i}]", tolerance=tolerance)
    elif isinstance(stated, float) and isinstance(again, float | int):
        if not math.isclose(stated, again, rel_tol=tolerance, abs_tol=tolerance):
            yield f"{path}: {stated} in the report, {again} from the rows"
    elif stated != again:
        yield f"{path}: {stated!r:.60} in the report, {again!r:.60} from the rows"
