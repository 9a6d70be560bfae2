"""How an evaluation shows that it is alive: a bar on a terminal, plain lines elsewhere."""

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from robustmix.progress import PLAIN_SECONDS, ProgressKind, progress_kind, settle

STOPPING = "stopping; what is done is kept"


class EvalProgress(Protocol):
    """What the engine tells whoever watches."""

    def start(self, suite: str, total: int) -> None:
        """Announce a suite of so many rows."""
        ...

    def advance(self, suite: str, part: str, samples: int) -> None:
        """Note that so many samples of a part were done."""
        ...

    def stopping(self) -> None:
        """Say that the evaluation was asked to stop and does."""
        ...

    def close(self) -> None:
        """The evaluation is over."""
        ...


class Silence:
    """Shows nothing."""

    def start(self, suite: str, total: int) -> None:
        """Show nothing."""

    def advance(self, suite: str, part: str, samples: int) -> None:
        """Show nothing."""

    def stopping(self) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class PlainLines:
    """One line a suite, and one every 30 seconds inside a long one."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.done = 0
        self.began = self.spoken = time.monotonic()

    def start(self, suite: str, total: int) -> None:
        """Print the suite's name."""
        self.total, self.done = total, 0
        self.began = self.spoken = time.monotonic()
        self._say(f"{suite}: {total} images" if total else f"{suite}: from the clean predictions")

    def advance(self, suite: str, part: str, samples: int) -> None:
        """Print a line if the last one is 30 seconds old."""
        self.done += samples
        now = time.monotonic()
        if now - self.spoken < PLAIN_SECONDS or not self.total:
            return
        self.spoken = now
        rate = self.done / max(now - self.began, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        share = 100 * self.done / self.total
        self._say(f"{suite} {part}: {share:.0f} %, {rate:.0f} images/s, {left:.0f} s left")

    def stopping(self) -> None:
        """Print that it stops."""
        self._say(STOPPING)

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Bar:
    """A bar a suite."""

    def __init__(self, console: Console) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[part]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=None, part="")
        self.bar.start()

    def start(self, suite: str, total: int) -> None:
        """Begin the bar of a suite."""
        self.bar.reset(self.task, description=suite, total=max(total, 1), part="")

    def advance(self, suite: str, part: str, samples: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, advance=samples, part=part)

    def stopping(self) -> None:
        """Print that it stops, above the bar."""
        self.bar.console.print(STOPPING)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self.bar.stop()


def open_progress(kind: ProgressKind, console: Console) -> EvalProgress:
    """Return what shows the progress of an evaluation."""
    kind = settle(kind, console)
    if kind == "rich":
        return Bar(console)
    return PlainLines(console) if kind == "plain" else Silence()


def shown_by(progress: EvalProgress | str) -> EvalProgress:
    """Give what shows the progress of a call from Python.

    ``auto`` is a bar on a terminal, lines in a notebook, which has no cursor to move, and nothing
    elsewhere: what calls from a program has a voice of its own.

    Raises:
        UsageError: there is no such kind.
    """
    if not isinstance(progress, str):
        return progress
    kind, console = progress_kind(progress), Console(stderr=True)
    if kind == "auto":
        notebook = Console().is_jupyter
        kind = "plain" if notebook else "rich" if console.is_terminal else "none"
    return open_progress(kind, console)
