"""The two streams: results go to stdout, talk goes to stderr."""

import sys

from rich.console import Console, RenderableType

WIDTH = 100


def talk() -> Console:
    """Return the console on stderr, at most 100 columns wide."""
    console = Console(stderr=True)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def say(what: RenderableType) -> None:
    """Show a table or a line to whoever watches."""
    talk().print(what, highlight=False, markup=False)


def error(line: str) -> None:
    """Print an error line, whole, on stderr."""
    sys.stderr.write(line + "\n")


def result(text: str) -> None:
    """Print a result on stdout."""
    sys.stdout.write(text + "\n")


def table_result(table: RenderableType) -> None:
    """Print a table on stdout: it is what was asked for."""
    output = Console(width=WIDTH if not sys.stdout.isatty() else None)
    output.print(table, highlight=False, markup=False)
