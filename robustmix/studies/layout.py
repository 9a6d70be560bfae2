"""What rows and columns of a table are made of, and which runs must not be averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from robustmix.comparison.paths import parse_path
from robustmix.errors import UsageError
from robustmix.report.text import plain
from robustmix.studies.results import CLEAN, NAMES, RunResult

OWN = (*NAMES, "seed")
"""Labels in which runs of one cell may differ."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What rows and columns are made of."""

    rows: tuple[str, ...] = ("method",)
    """Labels that a row's runs share."""

    across: tuple[str, ...] = ()
    """Labels that a column's runs share, as in a table of methods by data sets."""

    metrics: tuple[str, ...] = (CLEAN,)
    """Metric paths."""


def layout_of(
    results: Sequence[RunResult], *, rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> Layout:
    """Understand what a user or a study's file names as rows and columns.

    Args:
        results: the runs.
        rows: labels; if none, the method, or the model's name, and whatever else tells runs apart.
        columns: metric paths and labels. If there are labels alone, the metric is ``clean.top1``;
            if there is nothing, the leading number of every suite.

    Raises:
        UsageError: there is no such label, or a metric cannot be read.
    """
    known = dict.fromkeys([*(key for result in results for key in result.labels), "seed"])
    across = tuple(name for name in columns if name in known)
    metrics = tuple(name for name in columns if name not in known)
    if not metrics:
        metrics = (CLEAN,) if across else tuple(leading_metrics(results))
    for path in metrics:
        _check_metric(path, known)
    for name in rows:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(
                f"no run has a label {plain(name)}",
                hint or f"there are {', '.join(list(known)[:8])}, ...",
                code="E-TABLE",
            )
    return Layout(rows=tuple(rows) or _telling(results, across), across=across, metrics=metrics)


def leading_metrics(results: Sequence[RunResult]) -> list[str]:
    """Name the numbers that a reader looks at first: one a suite, clean accuracy before all."""
    return list(dict.fromkeys((CLEAN, *(path for result in results for path in result.leading))))


def refuse_misnamed(results: Sequence[RunResult], layout: Layout) -> None:
    """Refuse metrics that no run has: slips of the pen, told with the nearest names.

    Raises:
        UsageError: there is one.
    """
    known = dict.fromkeys(path for result in results for path in result.values)
    for path in layout.metrics:
        if path != CLEAN and all(result.find(path) is None for result in results):
            near = get_close_matches(path[:200], known, n=3, cutoff=0.5)
            raise UsageError(
                f"no run has the metric {plain(path)}",
                f"did you mean {' or '.join(map(plain, near))}?" if near else "evaluate it first",
                code="E-METRIC",
            )


def _check_metric(path: str, known: Mapping[str, None]) -> None:
    try:
        parse_path(path)
    except UsageError:
        near = get_close_matches(path, known, n=3, cutoff=0.5)
        if not near:
            raise
        raise UsageError(
            f"{plain(path)} is neither a metric nor a label of a run",
            f"did you mean {' or '.join(near)}?",
            code="E-TABLE",
        ) from None


def _telling(results: Sequence[RunResult], across: Sequence[str]) -> tuple[str, ...]:
    """Choose labels so that runs of one cell differ in nothing but their seed."""
    base = "method" if all("method" in result.labels for result in results) else "name"
    chosen = [] if base in across else [base]
    for _ in range(len(NAMES) + 1 + len({k for r in results for k in r.labels})):
        clash = next(iter(clashes(results, [*chosen, *across])), None)
        if clash is None:
            break
        chosen.append(clash.key)
    return tuple(chosen) or (base,)


@dataclass(frozen=True)
class Clash:
    """Two runs of one cell that are no seeds of one another."""

    key: str
    """In what they differ: a label."""

    one: RunResult
    other: RunResult


def clashes(results: Sequence[RunResult], keys: Sequence[str]) -> list[Clash]:
    """List runs that some labels put into one cell, and that are no seeds of one another."""
    cells: dict[tuple[str, ...], list[RunResult]] = {}
    for result in results:
        cells.setdefault(tuple(result.label(key) for key in keys), []).append(result)
    found = []
    for first, *others in cells.values():
        seen = {first.seed: first}
        for other in others:
            differing = [
                key
                for key in dict.fromkeys((*first.labels, *other.labels))
                if key not in OWN and first.labels.get(key) != other.labels.get(key)
            ]
            if differing:
                found.append(Clash(_plainest(differing), first, other))
            elif other.seed in seen:
                names = [key for key in NAMES if key not in keys]
                twin = seen[other.seed]
                apart = [k for k in names if twin.labels.get(k) != other.labels.get(k)]
                if apart:
                    found.append(Clash(apart[0], twin, other))
            seen[other.seed] = other
    return found


def _plainest(keys: Sequence[str]) -> str:
    """Choose what a reader would name: the data set before an option of the method."""
    usual = ("dataset", "arch", "epochs")
    return min(keys, key=lambda key: (key not in usual, "." not in key, keys.index(key)))
