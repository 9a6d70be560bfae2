"""How progress is shown: a bar on a terminal, plain lines elsewhere, or nothing."""

import os
from typing import Literal, TypeAlias, cast, get_args

from rich.console import Console

from robustmix.errors import unknown_name

ProgressKind: TypeAlias = Literal["auto", "rich", "plain", "none"]

PLAIN_SECONDS = 30.0
"""How seldom a plain line is printed inside long work."""


def progress_kind(text: str) -> ProgressKind:
    """Return ``text`` as a kind of progress.

    Raises:
        UsageError: there is no such kind.
    """
    kinds = get_args(ProgressKind)
    if text not in kinds:
        raise unknown_name("progress", text, kinds)
    return cast(ProgressKind, text)


def settle(kind: ProgressKind, console: Console) -> ProgressKind:
    """Return what ``auto`` means here: ``rich`` on a terminal, ``plain`` elsewhere or in CI."""
    if kind != "auto":
        return kind
    return "rich" if console.is_terminal and not os.environ.get("CI") else "plain"
