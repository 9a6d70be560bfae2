"""What of a command line is for no command: ``--import`` and ``--debug``."""

from collections.abc import Sequence
from typing import NamedTuple

from robustmix.errors import UsageError


class Arguments(NamedTuple):
    """A command line in two parts."""

    rest: list[str]
    """What typer is to read."""

    plugins: list[str]
    """What is to be imported first."""


def split_arguments(arguments: Sequence[str]) -> Arguments:
    """Take ``--import`` and ``--debug`` off a command line, wherever they stand before a ``--``.

    Not left to typer: commands and their options may be of what is imported.
    """
    queue = list(arguments)
    found = Arguments([], [])
    while queue and queue[0] != "--":
        word, equals, value = queue.pop(0).partition("=")
        if word == "--import":
            value = value if equals or not queue else queue.pop(0)
            if not value or value.startswith("-"):
                raise UsageError("--import needs a value", "write --import FILE_OR_MODULE")
            found.plugins.append(value)
        elif word != "--debug" or equals:
            found.rest.append(word + equals + value)
    return found._replace(rest=found.rest + queue)
