"""What a gate goes by is held against the per-sample record first: it judges as ``validate``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from robustmix.comparison.open_report import Source
from robustmix.comparison.paths import MetricPath, find_key
from robustmix.errors import IntakeError
from robustmix.report.text import plain

T = TypeVar("T")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions beside each other, each in a thread: most of what takes long is in NumPy.

    Args:
        calls: functions that do not depend on each other.

    Returns:
        What each returned, in their order.

    Raises:
        Exception: what the first of them to raise, in their order, raised.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    with begun(calls) as results:
        return results()


@contextmanager
def begun(calls: Sequence[Callable[[], T]]) -> Iterator[Callable[..., list[T]]]:
    """Call functions in threads while the block goes on.

    Args:
        calls: functions that do not depend on each other, nor on what the block does.

    Yields:
        A function that calls those it is given beside them, and returns or raises what
        ``at_once`` does for all of them. What is not asked for is not raised.
    """
    running: list[Future[T]] = []
    with ThreadPoolExecutor(thread_name_prefix="robustmix-side") as pool:
        running += [pool.submit(call) for call in calls]

        def results(*more: Callable[[], T]) -> list[T]:
            running.extend(pool.submit(call) for call in more)
            return [one.result() for one in running]

        yield results


def check_rows(source: Source) -> None:
    """Refuse a record whose rows contradict each other; what has none is judged by no rows.

    Raises:
        IntakeError: they do.
    """
    if source.report.samples is None:
        return
    # Imported here, for the suites import torch, which takes seconds: a report without rows and
    # one that cannot be compared are spared them.
    from robustmix.evaluation.contradictions import row_contradictions

    _refuse(source, row_contradictions(source.report), "its per-sample record contradicts itself")


def check_statements(source: Source, paths: Sequence[MetricPath]) -> None:
    """Refuse a report that contradicts itself or its rows.

    Args:
        source: the report.
        paths: the numbers that rules speak of, whose intervals are made again too.

    Raises:
        IntakeError: it does, or the rows of a suite are not there.
    """
    if source.report.samples is None:
        return
    from robustmix.evaluation.contradictions import report_contradictions
    from robustmix.evaluation.recompute import misstated

    asked: dict[str, set[tuple[str, str]]] = {}
    for path in paths:
        part = source.content.suites.get(path.suite)
        key = None if part is None else find_key(part, path)
        if key is not None:
            asked.setdefault(path.suite, set()).add(key)
    _refuse(source, report_contradictions(source.report), "it contradicts itself")
    _refuse(source, misstated(source.report, asked), "it is not what its per-sample record gives")


def _refuse(source: Source, found: Iterable[str], what: str) -> None:
    faults = list(found)
    if faults:
        more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise IntakeError(
            f"{plain(source.label)} is damaged: {what}: {plain(faults[0], 300)}{more}",
            "evaluate again",
            code="E-REPORT",
        )
