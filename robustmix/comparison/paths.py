"""Metric paths: ``suite.metric`` or ``suite.metric[condition]``."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from robustmix.errors import UsageError
from robustmix.metrics.definition import metric_path
from robustmix.metrics.metric import Metric
from robustmix.report.report import metrics_of, same_condition
from robustmix.report.schema import ReportModel, SuitePart
from robustmix.report.text import plain

_PATTERN = re.compile(r"([^.\[\]\s]+)\.([^.\[\]\s]+)(?:\[([^\[\]]+)\])?", re.ASCII)


@dataclass(frozen=True, order=True)
class MetricPath:
    """Where a number stands in a report."""

    suite: str
    """A suite, or one under another preset, as in ``fgsm@paper-adautomix``."""

    metric: str
    condition: str = ""
    """Empty for a number of the whole suite; else ``fog/3``, ``groups:noise``, ``8/255``, ..."""

    def __str__(self) -> str:
        return f"{self.suite}.{metric_path(self.condition, self.metric)}"


def parse_path(text: str) -> MetricPath:
    """Read the path that a user wrote.

    Raises:
        UsageError: it has no suite or no metric.

    Example:
        >>> parse_path("corruption.acc[fog/3]").condition
        'fog/3'
    """
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"cannot read the metric '{plain(text)}'",
            "write suite.metric or suite.metric[condition], e.g. corruption.acc[fog/3]",
            code="E-METRIC-PATH",
        )
    return MetricPath(found[1], found[2], found[3] or "")


def all_metrics(content: ReportModel) -> Iterator[tuple[MetricPath, Metric]]:
    """Yield every number of a report, suite by suite in the order they are shown."""
    for suite, part in content.ordered_suites().items():
        for condition, name, metric in metrics_of(part):
            yield MetricPath(suite, name, condition), metric


def find_metric(part: SuitePart, path: MetricPath) -> Metric | None:
    """Find a number of a suite; that of a radius also by its value, ``8/255`` or 0.0313725."""
    found = find_number(part, path)
    return None if found is None else found[1]


def find_number(part: SuitePart, path: MetricPath) -> tuple[str, Metric] | None:
    """Find a number of a suite, with its place as the report writes it: ``acc[0.25]``."""
    key = find_key(part, path)
    if key is None:
        return None
    known = {(condition, name): metric for condition, name, metric in metrics_of(part)}
    return metric_path(*key), known[key]


def find_key(part: SuitePart, path: MetricPath) -> tuple[str, str] | None:
    """Find condition and name of a number of a suite as the report has them."""
    return matching_key({(at, name): None for at, name, _ in metrics_of(part)}, path)


def matching_key(keys: Collection[tuple[str, str]], path: MetricPath) -> tuple[str, str] | None:
    """Find which of some (condition, metric) a path means; equal text goes before equal numbers."""
    if (path.condition, path.metric) in keys:
        return path.condition, path.metric
    for condition, name in keys:
        if name == path.metric and same_condition(condition, path.condition):
            return condition, name
    return None


def headline_paths(content: ReportModel) -> list[MetricPath]:
    """List what a comparison shows unless asked otherwise: a few numbers a suite."""
    return [
        path
        for suite, part in completed(content)
        for path, _ in _numbers_at(suite, part, part.shown.compared)
    ]


def accuracy_paths(content: ReportModel) -> list[MetricPath]:
    """List the accuracies that a gate watches by default, where they have a value."""
    return [
        path
        for suite, part in completed(content)
        for path, metric in _numbers_at(suite, part, part.shown.gated)
        if metric.value is not None
    ]


def completed(content: ReportModel) -> Iterator[tuple[str, SuitePart]]:
    """Yield the suites that ran to their end."""
    for suite, part in content.ordered_suites().items():
        if part.status == "ok":
            yield suite, part


def _numbers_at(
    suite: str, part: SuitePart, places: Sequence[str]
) -> Iterator[tuple[MetricPath, Metric]]:
    """Yield the numbers at some places within a suite; a stranger's file may name more."""
    known = {
        metric_path(condition, name): (MetricPath(suite, name, condition), metric)
        for condition, name, metric in metrics_of(part)
    }
    for place in dict.fromkeys(places):
        if place in known:
            yield known[place]
