"""A forecast as people read it."""

from rich import box
from rich.table import Table

from robustmix.evaluation.forecast import Cost, Forecast
from robustmix.evaluation.job import Job
from robustmix.evaluation.suites.corruption import CorruptionSuite


def forecast_table(found: Forecast) -> Table:
    """Return suites with their conditions, samples, passes and times; at most 100 columns."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("suite", no_wrap=True)
    for column in ("conditions", "images", "forward", "backward", "about"):
        table.add_column(column, justify="right", no_wrap=True)
    for cost in found.suites:
        table.add_row(
            cost.key,
            str(cost.conditions),
            f"{cost.n:,}",
            _count(cost, cost.forwards),
            _count(cost, cost.backwards),
            _most(cost) + show_duration(cost.seconds) if cost.seconds is not None else "?",
        )
    return table


def forecast_lines(job: Job, found: Forecast) -> list[str]:
    """Return the data that was found, the sum, and what the signs mean."""
    data = job.dataset
    of = "" if data["n"] == data["n_total"] else f" of {data['n_total']:,}"
    files = ", ".join(file["name"] for file in data["files"]) or "made by the program"
    lines = [f"data: {data['name']} ({data['split']}), {data['n']:,}{of} images; {files}"]
    for planned in job.suites:
        if isinstance(planned.suite, CorruptionSuite):
            params = planned.suite.params()
            lines.append(f"{planned.key}: {params['source']} images")
    for key, error in job.refused.items():
        lines.append(f"{key} cannot be run: {error.line()}")
    bounded = any(cost.most for cost in found.suites)
    lines.append(
        f"about {show_duration(found.seconds)} in all"
        + (", at most" if bounded else "")
        + f"; measured: {1 / found.forward_s:,.0f} images/s forward, "
        f"{1 / (found.forward_s + found.backward_s):,.0f} forward and backward, on {job.device}"
    )
    if bounded:
        lines.append(
            "<: attacks stop at an image once it is broken; a network without defences costs a "
            "small part of this"
        )
    if any(cost.seconds is None for cost in found.suites):
        lines.append("?: what this attack costs is for its own program to know")
    return lines


def _most(cost: Cost) -> str:
    return "<" if cost.most else ""


def _count(cost: Cost, number: int | None) -> str:
    return "?" if number is None else f"{_most(cost)}{number:,}"


def show_duration(seconds: float) -> str:
    """Return a time as people say it.

    Example:
        >>> show_duration(0.4), show_duration(75), show_duration(7300)
        ('<1 s', '1:15 min', '2:02 h')
    """
    if seconds < 1:
        return "<1 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
