"""Every aggregate of a report made again from its per-sample record."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from robustmix.errors import IntakeError, RobustmixError
from robustmix.evaluation.evaluation import name_subset
from robustmix.evaluation.suite import Prepared, summarise
from robustmix.evaluation.suites.registry import read_suite
from robustmix.metrics.definition import Undefined
from robustmix.metrics.registry import METRICS
from robustmix.report.report import Report
from robustmix.report.rows import covered_view, rows_of
from robustmix.report.schema import SuitePart
from robustmix.tables import require_plugins

TOLERANCE = 1e-9
"""Relative; sums may round differently on another machine."""


def remake(report: Report) -> dict[str, SuitePart]:
    """Make every completed suite of a report again from its rows.

    Raises:
        IntakeError: the report has no per-sample record, it lacks the rows of a suite, or a suite
            or metric is not known here.
    """
    if report.samples is None:
        raise IntakeError("the report's per-sample record is not beside it", "restore samples.npz")
    content = report.content
    remade: dict[str, SuitePart] = {}
    suites: dict[str, Prepared] = {}
    for key, part in content.suites.items():
        if part.status != "ok":
            continue
        params = content.protocol.params.get(key, {})
        suites[key] = read_suite(key, params, part.origins)
        # Else the numbers of a metric that is not here would look as if the rows denied them.
        require_plugins([origin.model_dump() for origin in part.origins], [METRICS])
        try:
            view = covered_view(content, report.samples, key)
            rows = rows_of(content, view, key, suites[key].order(view))
            remade[key] = summarise(suites[key], rows, foreign=bool(part.origins))
        except RobustmixError:
            raise
        except (LookupError, ValueError, Undefined, TypeError, AttributeError) as error:
            raise IntakeError(
                f"the per-sample record does not hold the rows of suite {key} "
                f"({type(error).__name__})",
                "evaluate again",
            ) from None
        remade[key].origins = part.origins
        if key in content.protocol.limits:
            name_subset(remade[key], rows.n, len(report.samples))
    for key, prepared in suites.items():
        prepared.judge(key, remade)
    return remade


def recompute(report: Report) -> list[str]:
    """List where a report differs from what its rows give; empty if nowhere.

    Args:
        report: loaded together with its per-sample record.

    Returns:
        Lines such as ``clean.metrics.top1.value: 0.81 in the report, 0.80 from the rows``.

    Raises:
        IntakeError: see ``remake``.
    """
    differences: list[str] = []
    for key, made in remake(report).items():
        stated = report.content.suites[key].model_dump(mode="json")
        again = made.model_dump(mode="json")
        again["timing"] = stated["timing"]
        differences += _differences(_by_name(stated), _by_name(again), key)
    return differences


def _by_name(part: Mapping[str, Any]) -> dict[str, Any]:
    """Put conditions under their names, so that a difference says where it is."""
    return {**part, "conditions": {one["name"]: one for one in part["conditions"]}}


def _differences(stated: Any, again: Any, path: str) -> Iterator[str]:
    if isinstance(stated, dict) and isinstance(again, dict) and stated.keys() == again.keys():
        for key in stated:
            yield from _differences(stated[key], again[key], f"{path}.{key}")
    elif isinstance(stated, list) and isinstance(again, list) and len(stated) == len(again):
        for i, (left, right) in enumerate(zip(stated, again, strict=True)):
            yield from _differences(left, right, f"{path}[{i}]")
    elif isinstance(stated, float) and isinstance(again, float | int):
        if not math.isclose(stated, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{path}: {stated} in the report, {again} from the rows"
    elif stated != again:
        yield f"{path}: {stated!r:.60} in the report, {again!r:.60} from the rows"
