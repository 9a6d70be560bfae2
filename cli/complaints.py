"""What the parser says of a command line, with what to type instead."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from robustmix.errors import UsageError, unknown_option


def complaint(error: Any, arguments: Sequence[str]) -> UsageError:
    """Make an error of ours of the parser's.

    Args:
        error: an exception of the parser, whose classes lie in a private module of typer.
        arguments: the whole command line.
    """
    context = getattr(error, "ctx", None)
    command = getattr(context, "command", None)
    help_line = f"see {_typed(context)} --help"
    flag = getattr(error, "option_name", None)
    if flag is not None and hasattr(error, "possibilities"):
        behind = _behind(flag, command, arguments)
        if behind is not None:
            return UsageError(f"{flag} stands before its command", f"write {behind} ... {flag}")
        return unknown_option(flag, _flags(command), help_line)
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    return UsageError(message, _for_extra(message, command) or help_line)


def _typed(context: Any) -> str:
    """Name the command whose parser complains, as it is typed."""
    words = str(getattr(context, "command_path", "")).split()[1:]  # the first is argv[0]
    return " ".join(["robustmix", *words])


def _flags(command: Any) -> Iterator[str]:
    for parameter in getattr(command, "params", ()):
        yield from (*parameter.opts, *parameter.secondary_opts)


def _behind(flag: str, group: Any, arguments: Sequence[str]) -> str | None:
    """Name the command that is on the line and has the option, where a group was asked for it."""
    commands = getattr(group, "commands", {})
    # After what the parser did not know: a command's name may also be a value before it.
    for place, word in enumerate(arguments):
        if word not in commands:
            continue
        inner = commands[word]
        below = getattr(inner, "commands", None)
        following = arguments[place + 1 : place + 2]
        if below is not None and following and following[0] in below:
            word, inner = f"{word} {following[0]}", below[following[0]]
        if flag in _flags(inner) or (word == "eval" and flag in _suite_flags()):
            path = [] if group.name is None or group.name == "robustmix" else [group.name]
            return " ".join(["robustmix", *path, word])
    return None


def _suite_flags() -> set[str]:
    from robustmix.evaluation.plan import every_option

    return {option.flag for known in every_option().values() for option in known.values()}


def _for_extra(message: str, command: Any) -> str | None:
    """Say what a word too many was to be, where the command has an option for such words."""
    extra = re.search(r"unexpected extra arguments?(?:\(s\))? \((\S+?)[ )]", message)
    if extra is None:
        return None
    word, flags = extra[1], set(_flags(command))
    if "=" in word and "--set" in flags:
        return f"write --set {word}"
    return f"write --baseline {word}" if "--baseline" in flags else None
