"""Metrics that were named and that nothing has: slips of the pen, told with the nearest names."""

import difflib
from collections.abc import Sequence

from robustmix.comparison.open_report import Source
from robustmix.comparison.paths import MetricPath, all_metrics, find_key, matching_key
from robustmix.comparison.suite_numbers import suite_numbers
from robustmix.errors import RobustmixError, UsageError
from robustmix.metrics.definition import Undefined
from robustmix.report.rows import covered_view
from robustmix.report.text import plain


def refuse_misnamed(paths: Sequence[MetricPath], sources: Sequence[Source]) -> None:
    """Refuse metrics that no report has and that no suite of theirs could have.

    What a suite could have and a report lacks is missing, which is no slip; nor is a suite that did
    not run, or did not complete.

    Args:
        paths: as they were named.
        sources: the reports that are judged or compared.

    Raises:
        UsageError: there is none of a name; the nearest are told.
    """
    for path in paths:
        if not any(_has(source, path) for source in sources):
            _refuse(path, sources)


def is_suite(key: str) -> bool:
    """Tell whether a key could be that of a suite: one that is known here."""
    from robustmix.evaluation.suites.registry import suite_names

    return key.partition("@")[0] in suite_names()


def _has(source: Source, path: MetricPath) -> bool:
    """Tell whether a report has a number, or may lack it for a reason that is no slip."""
    part = source.content.suites.get(path.suite)
    if part is None:
        return is_suite(path.suite)
    if part.status != "ok" or find_key(part, path) is not None:
        return True
    samples = source.report.samples
    if samples is None:  # nothing tells what the suite could have
        return True
    try:
        view = covered_view(source.content, samples, path.suite)
        numbers = suite_numbers(source.content, view, path.suite)
    except (RobustmixError, Undefined):
        return True  # told when it is asked for the number
    return not numbers.installed or matching_key(numbers.numbers, path) is not None


def _refuse(path: MetricPath, sources: Sequence[Source]) -> None:
    known = [str(known) for source in sources for known, _ in all_metrics(source.content)]
    near = difflib.get_close_matches(str(path)[:200], dict.fromkeys(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(plain, near))}?" if near else ""
    raise UsageError(
        f"there is no metric {plain(path)}",
        hint or "`robustmix report csv REPORT` lists what a report has",
        code="E-METRIC",
    )
