"""The two streams: results go to stdout, talk goes to stderr."""

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, RenderableType

WIDTH = 100


def talk() -> Console:
    """Return the console on stderr, at most 100 columns wide."""
    console = Console(stderr=True, markup=False)  # in tables too: text may be a stranger's
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def say(what: RenderableType) -> None:
    """Show a table or a line to whoever watches."""
    talk().print(what, highlight=False)


def error(line: str) -> None:
    """Print an error line, whole, on stderr."""
    sys.stderr.write(line + "\n")


def result(text: str) -> None:
    """Print a result on stdout."""
    sys.stdout.write(text + "\n")


def table_result(table: RenderableType) -> None:
    """Print a table on stdout: it is what was asked for."""
    output = Console(width=WIDTH if not sys.stdout.isatty() else None, markup=False)
    output.print(table, highlight=False)


def write_results(*results: tuple[Path | None, Callable[[], str]]) -> bool:
    """Write results to the files that were asked for, atomically; ``-`` is stdout.

    Args:
        results: file and what makes its text; no file for what nobody asked for.

    Returns:
        Whether stdout is taken by one of them.

    Raises:
        UsageError: stdout was asked for twice.
        IncompleteError: a file cannot be written.
    """
    from robustmix.errors import UsageError
    from robustmix.files import write_text

    printed = [path for path, _ in results if str(path) == "-"]
    if len(printed) > 1:
        raise UsageError("two results cannot both go to stdout", "give one of them a file")
    for path, text in results:
        if str(path) == "-":
            sys.stdout.write(text())
        elif path is not None:
            write_text(path, text())
    return bool(printed)
