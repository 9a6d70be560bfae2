"""The option ``--log``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from robustmix.cli import completion, console
from robustmix.cli.options import split_names
from robustmix.errors import UsageError

if TYPE_CHECKING:
    from robustmix.loggers.events import Hook

FLAGS = ("--log", "--logger")
"""The second is for torchrun, which takes the first, wherever it stands, for one of its own."""

LogOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        *FLAGS,
        metavar="NAME,...",
        help="Log there too (list loggers).",
        autocompletion=completion.complete(completion.loggers, several=True),
    ),
]


def opened_log(values: list[str] | None) -> "Hook | None":
    """Return who is told of a run by ``--log``; None where nobody is asked for.

    Raises:
        UsageError: there is no such logger, or it cannot be used as things are.
    """
    names = split_names(values or [])
    if not names:
        if values:
            raise UsageError("--log names no logger", "name some, e.g. --log csv,tensorboard")
        return None
    from robustmix.loggers.log import log_to

    return log_to(*names, say=console.say)


def without_log(words: Sequence[str]) -> list[str]:
    """Leave the option out of a command line: who is told of a run does not make it another one.

    Example:
        >>> without_log(["net.pth", "--log", "csv", "--limit", "9", "--logger=wandb"])
        ['net.pth', '--limit', '9']
    """
    after = ["", *words]
    return [
        word
        for word, before in zip(words, after, strict=False)
        if before not in FLAGS and word.partition("=")[0] not in FLAGS
    ]
