"""Tables for the terminal: at most 100 columns, plain where colour is not wanted."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from robustmix.metrics.metric import Metric
from robustmix.report.report import Report
from robustmix.report.schema import (
    AttackPart,
    CalibrationPart,
    CorruptionPart,
    OcclusionPart,
    SuitePart,
    SuiteUnion,
)
from robustmix.report.text import plain

BARS = "▁▂▃▄▅▆▇█"
WARNINGS_SHOWN = 5
LONG = 1000
"""Most characters of a sentence from a report, which may be a stranger's."""


def show_value(metric: Metric) -> str:
    """Return a number as people read it: fractions in percent with two decimals."""
    return _show(metric.value, metric)


def show_interval(metric: Metric) -> str:
    """Return the interval in the unit of the value, or a dash."""
    if metric.ci is None:
        return "-"
    return f"[{_show(metric.ci[0], metric)}, {_show(metric.ci[1], metric)}]".replace(" %", "")


def _show(value: float | None, metric: Metric) -> str:
    if value is None:
        return "-"
    if metric.unit == "fraction":
        return f"{100 * value:.2f} %"
    if metric.unit == "pixels":
        return f"{255 * value:.3f}/255"
    return f"{value:.4f}"


def headline(name: str, part: SuiteUnion) -> list[tuple[str, Metric]]:
    """Return the few numbers of a suite that a summary shows, with readable names."""
    wanted = {
        "clean": ["top1", "top5", "nll"],
        "calibration": ["ece_paper_tool", "ece_15", "ece_10", "gap"],
    }.get(name.partition("@")[0])
    if isinstance(part, AttackPart):
        wanted = ["robust_acc", "error", "error_clamp_only", "asr", "auc_eps_16"]
    if wanted is not None:
        return [(key, part.metrics[key]) for key in wanted if key in part.metrics]
    if isinstance(part, CorruptionPart):
        means = [(k, m) for k, m in part.metrics.items() if k.startswith("acc_mean")]
        return means + [(f"  {group}", m) for group, m in part.groups.items()]
    shown = ("auc_", "nauc_mean", "rho50_")
    return [(k, m) for k, m in part.metrics.items() if k.startswith(shown)]


def sparkline(values: Sequence[float]) -> str:
    """Return values in [0, 1] as a row of small bars.

    Example:
        >>> sparkline([0.0, 0.5, 1.0])
        '▁▅█'
    """
    return "".join(BARS[min(len(BARS) - 1, int(value * len(BARS)))] for value in values)


def _note(part: SuitePart) -> str:
    if isinstance(part, CorruptionPart):
        note = f"{part.source}, {len(part.corruptions)} corruptions"
        return f"{note}, {' and '.join(part.approximate)} approximate" if part.approximate else note
    if isinstance(part, AttackPart):
        note = f"{part.norm}, eps {part.params['eps']}"
        verdict = part.masking.verdict.replace("_", " ") if part.masking else None
        return f"{note}, masking: {verdict}" if verdict else note
    if isinstance(part, OcclusionPart):
        return sparkline([p.metrics["acc"].value or 0 for p in part.points])
    if isinstance(part, CalibrationPart) and part.temperature:
        carried = part.params.get("carried")
        return "before scaling" if carried is None else f"calibrated, T = {carried:.3f}"
    return ""


def summary_table(report: Report) -> Table:
    """Return suite, metric, value, interval, n and note of the headline numbers."""
    table = Table(box=box.SIMPLE_HEAD, title=plain(report.content.run.name), title_justify="left")
    for column in ("suite", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("value", "95 % interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("note")
    for name, part in report.content.ordered_suites().items():
        if part.status != "ok":
            table.add_row(name, part.status, "-", "-", "-", plain(part.reason or "", LONG))
            continue
        for i, (key, metric) in enumerate(headline(name, part)):
            table.add_row(
                name if i == 0 else "",
                key,
                show_value(metric),
                show_interval(metric),
                str(metric.n),
                _note(part) if i == 0 else "",
            )
    return table


def comparison_table(reports: Sequence[Report]) -> Table:
    """Return the headline numbers of several reports side by side."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("suite", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for report in reports:
        table.add_column(plain(report.content.run.name), justify="right")
    first = reports[0].content.ordered_suites()
    for name, part in first.items():
        for i, (key, metric) in enumerate(headline(name, part)):
            cells = []
            for report in reports:
                other = report.content.suites.get(name)
                found = dict(headline(name, other)).get(key) if other is not None else None
                cells.append("-" if found is None else show_value(found))
            table.add_row(name if i == 0 else "", f"{key} {_arrow(metric)}", *cells)
    return table


def _arrow(metric: Metric) -> str:
    return {"higher": "↑", "lower": "↓", "neither": ""}[metric.direction]


def warning_lines(report: Report) -> list[str]:
    """Return the first warnings, one line each, and how many more there are."""
    warnings = report.content.warnings
    lines = [
        f"warning[{plain(w.code)}]: {plain(w.message, LONG)}" for w in warnings[:WARNINGS_SHOWN]
    ]
    rest = len(warnings) - WARNINGS_SHOWN
    return lines + ([f"... and {rest} more warnings in the report"] if rest > 0 else [])


def error_lines(report: Report) -> list[str]:
    """Return why suites failed, one line each; the table breaks it into pieces."""
    parts = report.content.ordered_suites().values()
    return [plain(p.reason, LONG) for p in parts if p.status == "failed" and p.reason]
