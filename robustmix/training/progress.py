"""How a training run shows that it is alive: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, Self, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from robustmix.progress import PLAIN_SECONDS, ProgressKind, settle

Means: TypeAlias = Callable[[], Mapping[str, float]]
"""The epoch's running means so far; calling it waits for the device, so it is called seldom."""

RICH_SECONDS = 0.5


class Talk(Protocol):
    """What the loop tells whoever watches."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def begin(self, *, epochs: int, steps: int, done: int) -> None:
        """Announce ``epochs`` of ``steps`` each, of which ``done`` steps lie behind."""
        ...

    def step(self, images: int, means: Means) -> None:
        """Note that one step with so many images was made."""
        ...

    def epoch(self, record: Mapping[str, object]) -> None:
        """Show the record of a finished epoch."""
        ...

    def say(self, text: str) -> None:
        """Show one line."""
        ...


def open_progress(kind: ProgressKind, console: Console | None = None) -> Talk:
    """Return what shows the progress of a run.

    Args:
        kind: ``auto`` is ``rich`` on a terminal, and ``plain`` elsewhere or where ``CI`` is set.
        console: where to; standard error if none is given.
    """
    console = console or Console(stderr=True)
    kind = settle(kind, console)
    if kind == "rich":
        return RichTalk(console)
    return PlainTalk(console) if kind == "plain" else Silence()


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def begin(self, *, epochs: int, steps: int, done: int) -> None:
        """Show nothing."""

    def step(self, images: int, means: Means) -> None:
        """Show nothing."""

    def epoch(self, record: Mapping[str, object]) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""


class _Pace:
    """Steps and images since the run was opened, and what follows from them."""

    def __init__(self) -> None:
        self.epochs = self.steps = self.done = self.made = self.images = 0
        self.started = self.spoken = time.monotonic()

    def begin(self, epochs: int, steps: int, done: int) -> None:
        self.epochs, self.steps, self.done = epochs, steps, done
        self.started = self.spoken = time.monotonic()

    def step(self, images: int) -> None:
        self.done += 1
        self.made += 1
        self.images += images

    def due(self, seconds: float) -> bool:
        """Return whether so long has passed since this was last true."""
        now = time.monotonic()
        if now - self.spoken < seconds:
            return False
        self.spoken = now
        return True

    def elapsed(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)

    def rate(self) -> float:
        return self.images / self.elapsed()

    def left(self) -> float | None:
        """Return the seconds that the rest takes at the pace so far."""
        if not self.made:
            return None
        return (self.epochs * self.steps - self.done) * self.elapsed() / self.made


class PlainTalk:
    """One line an epoch, or every 30 seconds inside a long one."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.pace = _Pace()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def begin(self, *, epochs: int, steps: int, done: int) -> None:
        """Take the totals from which the time left is computed."""
        self.pace.begin(epochs, steps, done)

    def step(self, images: int, means: Means) -> None:
        """Print a line if the last one is 30 seconds old."""
        self.pace.step(images)
        if self.pace.due(PLAIN_SECONDS):
            epoch, step = divmod(self.pace.done - 1, self.pace.steps)
            where = f"epoch {epoch + 1}/{self.pace.epochs} step {step + 1}/{self.pace.steps}"
            self.say(f"{where}  {_show(_running(means()))}  {self._pace_text()}")

    def epoch(self, record: Mapping[str, object]) -> None:
        """Print the line of a finished epoch."""
        self.pace.spoken = time.monotonic()
        numbers = {key: value for key, value in record.items() if isinstance(value, float)}
        shown = {k: numbers[k] for k in ("train_loss", "train_top1", "loss", "top1", "lr")}
        self.say(f"epoch {record['epoch']}/{self.pace.epochs}  {_show(shown)}  {self._pace_text()}")

    def say(self, text: str) -> None:
        """Print one line, unwrapped."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _pace_text(self) -> str:
        left = self.pace.left()
        return f"{self.pace.rate():.0f} images/s" + (f"  {_clock(left)} left" if left else "")


class RichTalk:
    """A bar over the whole run; finished epochs scroll by above it."""

    def __init__(self, console: Console) -> None:
        self.lines = PlainTalk(console)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[steps]}"),
            TextColumn("{task.fields[means]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("train", total=None, steps="", means="", rate="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def begin(self, *, epochs: int, steps: int, done: int) -> None:
        """Set the length of the bar."""
        self.lines.pace.begin(epochs, steps, done)
        self.bar.update(self.task, total=epochs * steps, completed=done, steps=self._steps())

    def step(self, images: int, means: Means) -> None:
        """Move the bar, at most twice a second."""
        pace = self.lines.pace
        pace.step(images)
        if pace.due(RICH_SECONDS):
            epoch = (pace.done - 1) // pace.steps + 1
            self.bar.update(
                self.task,
                description=f"epoch {epoch}/{pace.epochs}",
                completed=pace.done,
                steps=self._steps(),
                means=_show(_running(means())),
                rate=f"{pace.rate():.0f} images/s",
            )

    def epoch(self, record: Mapping[str, object]) -> None:
        """Print the line of a finished epoch above the bar."""
        self.bar.update(self.task, completed=self.lines.pace.done, steps=self._steps())
        self.lines.epoch(record)

    def _steps(self) -> str:
        """Say how far it is; only asked where the total is known, which rich writes as None."""
        pace = self.lines.pace
        return f"{pace.done}/{pace.epochs * pace.steps} steps"

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self.lines.say(text)


RUNNING = ("loss", "top1", "loss_gen", "cosine")
"""Which of the running means fit on a line; all are in the log."""


def _running(means: Mapping[str, float]) -> dict[str, float]:
    return {key: means[key] for key in RUNNING if key in means}


def _show(values: Mapping[str, float]) -> str:
    return "  ".join(
        f"{key} {100 * value:.2f} %" if key.endswith("top1") else f"{key} {value:.4g}"
        for key, value in values.items()
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
