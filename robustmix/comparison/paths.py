"""Metric paths: ``suite.metric`` or ``suite.metric[condition]``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from robustmix.errors import UsageError
from robustmix.metrics.metric import Metric
from robustmix.report.report import metrics_of
from robustmix.report.schema import AttackPart, CorruptionPart, ReportModel, SuiteUnion
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
        ending = f"[{self.condition}]" if self.condition else ""
        return f"{self.suite}.{self.metric}{ending}"


def parse_path(text: str) -> MetricPath:
    """Return the path that a user wrote.

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


def find_metric(part: SuiteUnion, path: MetricPath) -> Metric | None:
    """Return a number of a suite; a point of a curve is found by its value, ``8/255`` or 0.0314."""
    for condition, name, metric in metrics_of(part):
        if name == path.metric and same_condition(condition, path.condition):
            return metric
    return None


def same_condition(written: str, asked: str) -> bool:
    """Return whether two conditions are one: equal text, or equal numbers to five digits."""
    if written == asked:
        return True
    left, right = as_number(written), as_number(asked)
    return left is not None and right is not None and abs(left - right) <= 1e-5 * max(1, abs(left))


def as_number(text: str) -> float | None:
    """Return the value of ``8/255`` or ``0.25``; None for other text."""
    try:
        return float(Fraction(text)) if len(text) < 40 else None
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def headline_paths(content: ReportModel) -> list[MetricPath]:
    """Return what a comparison shows unless asked otherwise: a few numbers a suite."""
    return [
        MetricPath(suite, name)
        for suite, part in content.ordered_suites().items()
        if part.status == "ok"
        for name in _headline(part)
    ]


def accuracy_paths(content: ReportModel) -> list[MetricPath]:
    """Return the accuracy of each suite, the one number that a gate watches by default."""
    return [
        MetricPath(suite, name)
        for suite, part in content.ordered_suites().items()
        if part.status == "ok"
        for name in _accuracy(part)
        if part.metrics[name].value is not None
    ]


def _headline(part: SuiteUnion) -> list[str]:
    if isinstance(part, AttackPart):
        wanted = ["robust_acc", "asr", "auc_eps_16"]
    elif part.kind == "clean":
        wanted = ["top1", "top5", "nll", "brier_sum"]
    elif part.kind == "calibration":
        wanted = ["ece_15", "ece_10", "aurc"]
    elif isinstance(part, CorruptionPart):
        wanted = [n for n in part.metrics if n.startswith(("acc_mean", "ece_15_mean_"))]
    else:
        wanted = [n for n in part.metrics if n.startswith(("auc_", "nauc_", "rho50_"))]
    return [name for name in wanted if name in part.metrics and "scaled" not in name]


def _accuracy(part: SuiteUnion) -> list[str]:
    if part.kind == "clean":
        wanted = ["top1"]
    elif isinstance(part, AttackPart):
        wanted = ["robust_acc"]
    elif isinstance(part, CorruptionPart):
        # All 19 hold the 15: gating both would test the same images twice.
        means = [n for n in part.metrics if n.startswith("acc_mean")]
        wanted = sorted(means, key=lambda n: ("all19" not in n, "main15" not in n, n))[:1]
    else:
        wanted = [n for n in part.metrics if n.startswith("auc_")]
    return [name for name in wanted if name in part.metrics]
