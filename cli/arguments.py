"""What of a command line is for no command: ``--import``, ``--debug``, ``-q`` and ``-v``."""

import os.path
from collections.abc import Sequence
from typing import NamedTuple

from robustmix.errors import UsageError

LOUDER = {"-q": -1, "--quiet": -1, "-v": 1, "--verbose": 1}
"""What changes how much is said."""

ASIDE = frozenset({"--debug", *LOUDER})
"""What changes nothing of what is done."""


class Arguments(NamedTuple):
    """A command line in its parts."""

    rest: list[str]
    """What typer is to read."""

    plugins: list[str]
    """What is to be imported first."""

    loudness: int = 0
    """How much is said beside results: -1 errors alone, 0 as usual, 1 more."""


def split_arguments(arguments: Sequence[str]) -> Arguments:
    """Take these off a command line, wherever they stand before a ``--``.

    Not left to typer: commands and their options may be of what is imported.

    Raises:
        UsageError: they have no value or exclude each other; or a word is empty, as an unset
            variable of the shell is, which as a path would mean the current folder.
    """
    queue = [_at_home(word) for word in _filled(arguments)]
    found = Arguments([], [])
    loudness = set[int]()
    while queue and queue[0] != "--":
        word, equals, value = queue.pop(0).partition("=")
        if word == "--import":
            value = value if equals or not queue else queue.pop(0)
            if not value or value.startswith("-"):
                raise UsageError("--import needs a value", "write --import FILE_OR_MODULE")
            found.plugins.append(value)
        elif word in LOUDER and not equals:
            loudness.add(LOUDER[word])
        elif word != "--debug" or equals:
            found.rest.append(word + equals + value)
    if len(loudness) > 1:
        raise UsageError("--quiet and --verbose exclude each other", "give one of them")
    return found._replace(rest=found.rest + queue, loudness=sum(loudness))


def _filled(arguments: Sequence[str]) -> Sequence[str]:
    for place, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if word == "":
            before = arguments[place - 1] if place else ""
            flag = before if before.startswith("-") else ""
        elif not (flag.startswith("--") and equals and not value):
            continue
        raise UsageError(
            f"the value of {flag} is empty" if flag else f"argument {place + 1} is empty",
            f"give one, or leave {flag or 'it'} out; a variable of the shell that is not set is "
            "empty",
        )
    return arguments


def _at_home(word: str) -> str:
    """Write ``~/`` out where the shell did not: in quotes, and behind ``--out=``."""
    flag, equals, value = word.partition("=")
    if flag.startswith("--") and equals and value.startswith("~/"):
        return f"{flag}={os.path.expanduser(value)}"
    return os.path.expanduser(word) if word.startswith("~/") else word
