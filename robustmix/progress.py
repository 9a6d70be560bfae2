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


def show_duration(seconds: float) -> str:
    """Return a time as people say it.

    Example:
        >>> show_duration(0.4), show_duration(75), show_duration(7300), show_duration(4e5)
        ('<1 s', '1:15 min', '2:02 h', '4.6 days')
    """
    if seconds < 1:
        return "<1 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:.1f} days"
    return f"{minutes // 60}:{minutes % 60:02d} h"
