"""Tables for the terminal: at most 100 columns, plain where colour is not wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from robustmix.errors import UsageError
from robustmix.metrics.metric import Metric, Unit
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart, VerdictPart
from robustmix.report.text import folded, plain

WARNINGS_SHOWN = 5
LEAST_NOTE = 20
"""Columns that a note takes at least, as many as its longest word; else it stands below."""

LEAST_NAME = 10
"""Columns that a name of a suite or metric may take however narrow the terminal is."""

LONG = 1000
"""Most characters of a sentence from a report, which may be a stranger's."""


def show_value(metric: Metric) -> str:
    """Write a number as people read it: fractions in percent with two decimals."""
    return show_number(metric.value, metric.unit)


def show_interval(metric: Metric) -> str:
    """Write the interval in the unit of the value, or a dash."""
    if metric.ci is None:
        return "-"
    low, high = (show_number(end, metric.unit) for end in metric.ci)
    return f"[{low}, {high}]".replace(" %", "")


def show_number(value: float | None, unit: Unit) -> str:
    """Write a number of some unit as people read it, a dash for none."""
    if value is None:
        return "-"
    if unit == "fraction":
        return f"{100 * value:.2f} %"
    if unit == "pixels":
        return f"{255 * value:.3f}/255"
    return f"{value:.4f}"


def headline(part: SuitePart) -> list[tuple[str, Metric]]:
    """Give the few numbers of a suite that a summary shows, with readable names.

    A mean over a group of conditions is indented below those of the suite:
    ``acc_mean[groups:noise]`` is ``  noise``.
    """
    found = [(path, part.number(path)) for path in part.shown.headline]
    return [(_label(path), metric) for path, metric in found if metric is not None]


def _label(path: str) -> str:
    _, _, condition = path.removesuffix("]").partition("[")
    _, of_several, name = condition.rpartition(":")
    return plain(f"  {name}" if of_several else path)


Cells = tuple[str, str, str, str, str]
"""Metric, value, interval, n and note of one row."""


def summary_rows(part: SuitePart) -> list[Cells]:
    """Give what a summary says of one suite.

    Every suite has a row, so that none goes unseen: one that did not complete says why, one of
    verdicts alone gives them, and one that has neither is at least named.
    """
    if part.status != "ok":
        return [_bare(part, part.reason or "")]
    return _number_rows(part) or _verdict_rows(part) or [_bare(part, part.shown.note)]


def _bare(part: SuitePart, note: str) -> Cells:
    return part.status, "-", "-", "-", plain(note, LONG)


def _number_rows(part: SuitePart) -> list[Cells]:
    verdicts = [f"{one.title}: {verdict_word(one)}" for one in part.verdicts]
    note = plain(", ".join(filter(None, [part.shown.note, *verdicts])), LONG)
    return [
        (label, show_value(metric), show_interval(metric), str(metric.n), "" if i else note)
        for i, (label, metric) in enumerate(headline(part))
    ]


def _verdict_rows(part: SuitePart) -> list[Cells]:
    return [
        (verdict_word(one), "-", "-", str(one.n), plain(one.reason, LONG)) for one in part.verdicts
    ]


def verdict_word(verdict: VerdictPart) -> str:
    """Say a verdict as people read it: ``not assessable``."""
    return plain(verdict.verdict.replace("_", " "))


@dataclass(frozen=True)
class Summary:
    """The headline numbers of a report, laid out for as many columns as there are."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bare = summary_table(self.report, notes=False)
        needed = console.measure(bare, options=options.update(width=LONG)).maximum
        notes = [
            (key, note)
            for key, part in self.report.content.ordered_suites().items()
            for *_, note in summary_rows(part)
            if note
        ]
        words = [cell_len(word) for _, note in notes for word in note.split()]
        if needed + max(LEAST_NOTE, *words, 0) + 1 <= options.max_width:
            yield summary_table(self.report)
            return
        # Too narrow for a column of notes: they stand below, whole; and names are folded where
        # their parts end, so that no digit is cut off.
        missing = needed - options.max_width
        if missing > 0:
            bare = summary_table(self.report, notes=False, folded_to=_shares(bare, missing))
        yield bare
        yield from (Text(f"{key}: {note}") for key, note in notes)


def _shares(table: Table, missing: int) -> tuple[int, int]:
    """Give the columns that suites and metrics may take, where they take so many too many."""
    suite, metric = (
        max(cell_len(line) for cell in column.cells for line in str(cell).splitlines() or [""])
        for column in table.columns[:2]
    )
    room = max(2 * LEAST_NAME, suite + metric - missing)
    first = min(suite, max(LEAST_NAME, room - metric, room // 3))
    return first, room - first


def summary_table(
    report: Report, *, notes: bool = True, folded_to: tuple[int, int] = (LONG, LONG)
) -> Table:
    """Lay out suite, metric, value, interval, n and note of the headline numbers.

    Args:
        report: what is shown.
        notes: whether with the column of notes.
        folded_to: columns that a suite's and a metric's name take at most before they are broken
            where their parts end.
    """
    presets = ", ".join(map(plain, report.content.protocol.presets))
    title = plain(report.content.run.name) + (f" (protocol {presets})" if presets else "")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column, width in zip(("suite", "metric"), folded_to, strict=True):
        table.add_column(column, overflow="fold", no_wrap=width == LONG)
    for column in ("value", "95 % interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    if notes:
        table.add_column("note", overflow="fold")
    for name, part in report.content.ordered_suites().items():
        for i, (metric, *cells) in enumerate(summary_rows(part)):
            shown = ["" if i else name, metric]
            broken = ["\n".join(_folded(*pair)) for pair in zip(shown, folded_to, strict=True)]
            table.add_row(*broken, *cells[: None if notes else -1])
    return table


def numbers_table(report: Report, paths: Sequence[str]) -> Table:
    """Lay out some numbers, by their paths.

    Raises:
        UsageError: the report has no such number; the nearest are named.
    """
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric", overflow="fold")
    for column in ("value", "95 % interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for path in paths:
        try:
            metric = report.metric(path)
        except KeyError as error:
            what, _, hint = str(error.args[0]).partition("; ")
            raise UsageError(what, hint, code="E-METRIC") from None
        table.add_row(plain(path), show_value(metric), show_interval(metric), str(metric.n))
    return table


def _folded(name: str, width: int) -> list[str]:
    indent = " " * (len(name) - len(name.lstrip()))
    return [indent + line for line in folded(name.strip(), width)] if name.strip() else [""]


def one_line(report: Report) -> str:
    """Say what was evaluated, and the first number of each suite."""
    content = report.content
    data = content.dataset
    of = "" if data.n == data.n_total else f" of {data.n_total}"
    told = []
    for key, part in content.ordered_suites().items():
        first = headline(part)[:1] if part.status == "ok" else []
        said = [f"{name} {show_value(metric)}" for name, metric in first]
        told.append(" ".join([key, *(said or [part.status])]))
    name = f"{plain(content.run.name)} on {plain(data.name)}"
    return f"{name}, {data.n}{of} images: {', '.join(told)}"


def show(report: Report) -> None:
    """Print the headline numbers and the first warnings."""
    console = Console()
    console.print(Summary(report))
    for line in warning_lines(report):
        console.print(line, markup=False, highlight=False)


def comparison_table(reports: Sequence[Report]) -> Table:
    """Lay out the headline numbers of several reports side by side, those of the first."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("suite", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for report in reports:
        table.add_column(plain(report.content.run.name), justify="right")
    every = [report.content.suites for report in reports]
    for key, part in reports[0].content.ordered_suites().items():
        named = [(path, part.number(path)) for path in part.shown.headline]
        for i, (path, metric) in enumerate((p, m) for p, m in named if m is not None):
            found = [suites[key].number(path) if key in suites else None for suites in every]
            cells = ["-" if one is None else show_value(one) for one in found]
            table.add_row("" if i else key, f"{_label(path)} {_arrow(metric)}", *cells)
    return table


def _arrow(metric: Metric) -> str:
    return {"higher": "↑", "lower": "↓", "neither": ""}[metric.direction]


def warning_lines(report: Report, *, most: int | None = WARNINGS_SHOWN) -> list[str]:
    """Give the first warnings, one line each, and how many more there are; all where None."""
    warnings = report.content.warnings[:most]
    lines = [f"warning[{plain(w.code)}]: {plain(w.message, LONG)}" for w in warnings]
    rest = len(report.content.warnings) - len(warnings)
    return lines + ([f"... and {rest} more warnings in the report"] if rest > 0 else [])


def note_lines(report: Report) -> list[str]:
    """Give what the suites note of themselves, one line each; what is a warning too is left out."""
    return [
        f"{plain(key)}: {plain(note, LONG)}"
        for key, part in report.content.ordered_suites().items()
        for note in part.notes
        if not note.startswith("W-")
    ]


def error_lines(report: Report) -> list[str]:
    """Say why suites failed, one line each with its name; the table breaks it into pieces."""
    parts = report.content.ordered_suites().items()
    failed = [(key, part.reason) for key, part in parts if part.status == "failed" and part.reason]
    return [
        plain(reason, LONG)
        + (
            ""
            if f"suite {key}" in reason or f"attack {key}" in reason
            else f" (suite {plain(key)})"
        )
        for key, reason in failed
    ]
