"""Several loggers behind one hook, in a thread of their own; one that fails stops alone."""

import importlib
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from robustmix.errors import UsageError
from robustmix.files import expanded, make_folder
from robustmix.loggers.events import (
    Event,
    Hook,
    Pictures,
    RunFinished,
    RunStarted,
    Scalars,
    SuiteFinished,
)
from robustmix.loggers.memory import Memory
from robustmix.loggers.registry import LOGGERS
from robustmix.text import shortened

FOLDER = "log"
"""Of a run's folder, where loggers write."""

CLOSE_S = 60.0
"""Longest wait, at the end of a run, for what is not logged yet."""


@dataclass
class _Logger:
    """One logger of a run."""

    name: str
    hook: Hook
    memory: Memory
    lag: float
    """Seconds until what it was told is safe from a kill."""

    failed: BaseException | None = None
    unsafe: list[tuple[float, Event]] = field(default_factory=list)
    """When it was told of what, as long as that is not safe."""

    @property
    def wants_pictures(self) -> bool:
        return self.failed is None and LOGGERS.row(self.name).pictures


class Log:
    """A hook for ``on_event`` that logs to some loggers of the table.

    What it is told is handed to a thread, so that no run waits for a network. A logger that raises
    is said to have failed and is told nothing more; the run goes on. Runs may follow one another.

    Args:
        names: of the loggers.
        folder: where they write; by default ``log`` in the run's folder.
        say: told in one line what went wrong; by default printed on standard error.

    Raises:
        UsageError: there is no such logger, its package is not installed, or it says that it cannot
            be used as things are.
    """

    def __init__(
        self,
        *names: str,
        folder: Path | str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.names = tuple(dict.fromkeys(LOGGERS.checked(name) for name in names))
        for name in self.names:
            _check(name)
        self._folder = None if folder is None else expanded(folder)
        self._say = say or _to_stderr
        self._loggers: list[_Logger] = []
        self._told: set[str] = set()
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._thread: Thread | None = None

    def __call__(self, event: Event) -> None:
        """Log an event."""
        if isinstance(event, RunStarted):
            self._begin(event)
            return
        self._tell_failures()
        self._events.put(event)
        if isinstance(event, RunFinished):
            self._end()

    def _begin(self, started: RunStarted) -> None:
        if self._folder is None and started.folder is None:
            raise UsageError(
                "a run without a folder has no place for its log", "give it an out", code="E-LOGGER"
            )
        folder = self._folder or Path(started.folder or "") / FOLDER
        # Here, not in the thread: what is asked for and cannot begin is told before the work.
        self._loggers = [one for name in self.names for one in self._opened(name, started, folder)]
        self._told, self._events = set(), SimpleQueue()
        work = (self._loggers, self._events)
        self._thread = Thread(target=_log, args=work, name="robustmix-log", daemon=True)
        self._thread.start()

    def _opened(self, name: str, started: RunStarted, folder: Path) -> Iterator[_Logger]:
        try:
            make_folder(folder)
            rewinds = LOGGERS.row(name).rewinds
            memory = Memory.of(folder / f"{name}.json", started, rewinds=rewinds)
            hook = LOGGERS[name](started, folder, memory)
            memory.save()
        except UsageError:
            raise
        except Exception as error:
            self._say(f"W-LOG: {name} cannot begin to log ({_words(error)}); the run goes on")
        else:
            yield _Logger(name, hook, memory, LOGGERS.row(name).lag)

    def _tell_failures(self) -> None:
        for one in self._loggers:
            if one.failed is not None and one.name not in self._told:
                self._told.add(one.name)
                words = _words(one.failed)
                self._say(f"W-LOG: {one.name} stopped logging ({words}); the run goes on")

    def _end(self) -> None:
        if self._thread is None:
            return
        self._thread.join(CLOSE_S)
        self._tell_failures()
        for one in self._loggers:
            if one.failed is not None:
                self._say(
                    f"W-LOG: {one.name} has not all of this run; the same command adds the epochs "
                    "or suites that it lacks"
                )
        if self._thread.is_alive():
            names = ", ".join(one.name for one in self._loggers if one.failed is None)
            self._say(f"W-LOG: {names}: not all was logged within {CLOSE_S:.0f} s")
        self._loggers, self._thread = [], None


def log_to(
    *names: str,
    folder: Path | str | None = None,
    say: Callable[[str], None] | None = None,
) -> Hook:
    """Return a hook for ``on_event`` that logs to the named loggers; see ``Log``.

    Example:
        >>> import tempfile
        >>> from robustmix import train
        >>> with tempfile.TemporaryDirectory() as out:
        ...     done = train("digits-resnet8-mixup", out=out, epochs=1, on_event=log_to("csv"))
        ...     print((done.run_dir / "log" / "scalars.csv").read_text().split(",")[:3])
        ['step', 'epoch', 'lr']
    """
    return Log(*names, folder=folder, say=say)


def _check(name: str) -> None:
    """Refuse a logger that cannot be used, before any work."""
    row = LOGGERS.row(name)
    if row.needs and importlib.util.find_spec(row.needs) is None:
        package = f"robustmix[{row.extra}]" if row.extra else row.needs
        raise UsageError(
            f"--log {name} needs the package {row.needs}, which is not installed",
            f"pip install '{package}'",
            code="E-EXTRA",
        )
    if row.check:
        module, _, function = row.check.partition(":")
        getattr(importlib.import_module(module), function)()


def _log(loggers: list[_Logger], events: "SimpleQueue[Event]") -> None:
    """Log events until the last one of a run."""
    while True:
        event = _next(events, loggers)
        if isinstance(event, RunFinished):
            _log_figures([one for one in loggers if one.wants_pictures], event)
        for one in loggers:
            _log_one(one, event)
        if isinstance(event, RunFinished):
            return


def _next(events: "SimpleQueue[Event]", loggers: list[_Logger]) -> Event:
    """Wait for an event; meanwhile remember what has become safe."""
    while True:
        waits = min((one.lag for one in loggers if one.unsafe), default=None)
        try:
            return events.get(timeout=waits)
        except Empty:
            for one in loggers:
                _remember(one, time.monotonic() - one.lag)


def _remember(one: _Logger, until: float = math.inf) -> None:
    """Note on disk what a logger was told up to some time, for that is safe."""
    try:
        while one.unsafe and one.failed is None and one.unsafe[0][0] <= until:
            one.memory.add(one.unsafe.pop(0)[1])
    except Exception as error:  # the disk is full
        one.failed = error


def _log_figures(loggers: list[_Logger], event: RunFinished) -> None:
    if event.status != "done" or event.report is None or not loggers:
        return  # of an evaluation that goes on the figures are drawn when it is whole
    try:
        from robustmix.loggers.figures import figures_of  # matplotlib

        for picture in figures_of(event.report):
            for one in loggers:
                _log_one(one, picture)
    except (Exception, SystemExit) as error:
        for one in loggers:
            one.failed = one.failed or error


def _log_one(one: _Logger, event: Event) -> None:
    if one.failed is not None or one.memory.has(event):
        return
    try:
        if isinstance(event, Pictures) and not one.wants_pictures:
            return
        one.hook(event)
        if isinstance(event, Scalars | Pictures | SuiteFinished):
            one.unsafe.append((time.monotonic(), event))
        ended = isinstance(event, RunFinished)
        _remember(one, math.inf if ended else time.monotonic() - one.lag)
    except (Exception, SystemExit) as error:
        one.failed = error


def _words(error: BaseException) -> str:
    return shortened(f"{type(error).__name__}: {' '.join(str(error).split())}", 300)


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
