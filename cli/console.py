"""The two streams: results go to stdout, talk goes to stderr."""

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from robustmix.text import escaped, plain, plain_lines

WIDTH = 100

SECONDS = 10.0
"""How seldom one who waits is told how far it is."""

WARNINGS = 5
"""Most warnings of a report that are shown, unless more is asked for."""

LONGEST_LINE = 4000
"""Most characters of an error line."""


class _Screen(Console):
    """A console that shows no control character of what it is given."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain_lines(text), style, control)


_LOUDNESS: ContextVar[int] = ContextVar("loudness", default=0)


@contextlib.contextmanager
def loudness(of: int) -> Iterator[None]:
    """Say less (-1: nothing but results and errors) or more (1) meanwhile."""
    token = _LOUDNESS.set(of)
    try:
        yield
    finally:
        _LOUDNESS.reset(token)


def talk() -> Console:
    """Return the console on stderr, at most 100 columns wide; it is mute under ``--quiet``."""
    console = _Screen(
        stderr=True, markup=False, quiet=_LOUDNESS.get() < 0
    )  # in tables too: text may be a stranger's
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def say(what: RenderableType) -> None:
    """Show a table or a line to whoever watches."""
    talk().print(what, highlight=False)


def say_more(line: str) -> None:
    """Say what is only wanted under ``--verbose``."""
    if _LOUDNESS.get() > 0:
        say(line)


def most_warnings() -> int | None:
    """How many of a report's warnings are shown; None for all of them."""
    return None if _LOUDNESS.get() > 0 else WARNINGS


def starting(what: str) -> None:
    """Tell who sits before a terminal that something began: importing torch takes seconds."""
    if talk().is_terminal:
        say(f"{what} ...")


def error(line: str) -> None:
    """Print an error line, whole, on stderr."""
    sys.stderr.write(plain(line, LONGEST_LINE) + "\n")


def result(text: str) -> None:
    """Print a result on stdout."""
    sys.stdout.write(escaped(text) + "\n")


class Waiting:
    """Tells whoever waits for a comparison how far it is, in a line every so many seconds."""

    def __init__(self) -> None:
        self._spoken = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say it, unless a line was printed a moment ago or nothing is left to wait for."""
        if done < total and time.monotonic() - self._spoken >= SECONDS:
            self._spoken = time.monotonic()
            say(f"resampling {what}: {done} of {total}")


def table_result(table: RenderableType) -> None:
    """Print a table on stdout: it is what was asked for."""
    output = _Screen(width=WIDTH if not sys.stdout.isatty() else None, markup=False)
    output.print(table, highlight=False)


def write_results(*results: tuple[Path | None, Callable[[], str]]) -> bool:
    """Write results to the files that were asked for, atomically; ``-`` is stdout.

    Args:
        results: file and what makes its text; no file for what nobody asked for.

    Returns:
        Whether stdout is taken by one of them.

    Raises:
        UsageError: stdout was asked for twice; or a file is something else that would be lost.
        IncompleteError: a file cannot be written.
    """
    from robustmix.errors import UsageError
    from robustmix.files import refuse_replacing, write_text

    printed = [path for path, _ in results if str(path) == "-"]
    if len(printed) > 1:
        raise UsageError("two results cannot both go to stdout", "give one of them a file")
    for path, _ in results:
        if path is not None and str(path) != "-":
            refuse_replacing(path)  # before the first is written
    for path, text in results:
        if str(path) == "-":
            sys.stdout.write(escaped(text()))
        elif path is not None:
            write_text(path, text())
    return bool(printed)


class _Outlet:
    """A stream as commands see it: writing never fails, what goes wrong is noted.

    So a command that prints a verdict comes to its verdict, whoever reads it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = io.StringIO() if stream is None else stream
        self._closed = stream is None
        self.lost: OSError | None = None
        """Why not all of it was written."""

    def write(self, text: str) -> int:
        if self._closed:
            self.lost = OSError(errno.EBADF, os.strerror(errno.EBADF))
        else:
            self._try(lambda: self._put(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:  # the locale has no sign for it
            known = text.encode(error.encoding, "backslashreplace")
            self._stream.write(known.decode(error.encoding))

    def _try(self, act: Callable[[], object]) -> None:
        if self.lost is not None:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: somebody closed it
            self.lost = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
            self._drain()

    def _drain(self) -> None:
        """Lead what Python still holds, and would try to write at its end, to nowhere."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class Streams(NamedTuple):
    """What became of the output of a command."""

    out: _Outlet
    err: _Outlet

    @property
    def full(self) -> OSError | None:
        """Why stdout took no more, unless its reader had seen enough."""
        lost = self.out.lost
        return None if isinstance(lost, ConnectionError) else lost


@contextlib.contextmanager
def streams() -> Iterator[Streams]:
    """Let a command print without being stopped by a closed pipe or a full disk."""
    found = Streams(_Outlet(sys.stdout), _Outlet(sys.stderr))
    out, err = (cast(TextIO, outlet) for outlet in found)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield found
        finally:
            found.out.flush()
            found.err.flush()
