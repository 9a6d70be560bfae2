"""One pool of threads for the process: work on many files at once, and ahead of when it is needed.

Decoding and resizing release the interpreter's lock. What runs here must not wait for other work
of the pool.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from robustmix.later import Tensor

MOST_THREADS = 16
"""More only wait for one another."""

AHEAD = 2
"""Batches that are begun before they are needed."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_pools: list[ThreadPoolExecutor] = []  # none or one
os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork


def thread_count() -> int:
    """Return how many threads the pool has: one for each processor this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MOST_THREADS, usable or 1)


def thread_pool() -> ThreadPoolExecutor:
    """Return the pool, which is made when it is first needed."""
    if not _pools:
        _pools.append(ThreadPoolExecutor(thread_count(), thread_name_prefix="robustmix-decode"))
    return _pools[0]


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Return ``work`` of each item, in order; the first that raises ends it."""
    return list(thread_pool().map(work, items))


@dataclass(frozen=True, eq=False)
class Pending:
    """Images that threads are writing into a tensor."""

    images: Tensor
    """uint8 (n, 3, H, W), not to be read before ``result``."""

    jobs: Sequence["Future[None]"]

    def result(self) -> Tensor:
        """Wait for the images.

        Raises:
            Exception: what the first of the images that failed raised.
        """
        try:
            for job in self.jobs:
                job.result()
        except BaseException:
            self.cancel()
            raise
        return self.images

    def cancel(self) -> None:
        """Give up what has not begun; what is running ends within an image."""
        for job in self.jobs:
            job.cancel()


def fill(images: Tensor, work: Callable[[int, Tensor], None]) -> Pending:
    """Begin to write images, each by ``work`` of its place in the tensor and of that part of it."""
    pool = thread_pool()
    return Pending(images, [pool.submit(work, i, image) for i, image in enumerate(images)])


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


_Work = TypeVar("_Work", bound=_Cancellable)


def ahead(begun: Iterator[_Work], count: int) -> Generator[_Work]:
    """Yield work in order, each when ``count`` more have been begun after it.

    Args:
        begun: begins the next piece whenever it is advanced.
        count: how many pieces are begun ahead.
    """
    waiting: deque[_Work] = deque()
    try:
        while True:
            waiting.extend(islice(begun, count + 1 - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft()
    finally:
        for work in waiting:
            work.cancel()
