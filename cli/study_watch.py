"""How far a study is, on the screen: lines as things happen, and on a terminal a live table."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.text import Text

from robustmix.cli import console
from robustmix.cli.study_tables import state_table
from robustmix.progress import ProgressKind, settle, show_duration
from robustmix.studies.run_state import Failure, RunState, read_state
from robustmix.studies.running import Slot, Task
from robustmix.studies.study import Evaluation

REFRESH_S = 1.0

PLAIN_S = 60.0
"""Seconds between two plain lines while nothing ends."""


class StudyProgress:
    """Tells whoever watches ``study run``."""

    def __init__(self, kind: ProgressKind, total: int, evaluation: Evaluation | None) -> None:
        self._kind = settle(kind, console.talk())
        self._total = total
        self._evaluation = evaluation
        self._counts = {"done": 0, "failed": 0}
        self._began: dict[Path, float] = {}
        self._waited: set[Path] = set()
        self._spoken = self._shown = time.monotonic()
        self._live: Live | None = None
        if self._kind == "rich":
            self._live = Live(console=console.talk(), auto_refresh=False, transient=True)
            self._live.start()

    def close(self) -> None:
        """Leave the screen as it is."""
        if self._live is not None:
            self._live.stop()

    def begun(self, task: Task, command: str, slot: Slot) -> None:
        """Say that a process has started."""
        self._began.setdefault(task.folder, time.monotonic())
        self._say(f"{command} {task.run.told} ({slot.name}, {task.folder.name})")

    def done(self, task: Task) -> None:
        """Say that a run is complete."""
        self._counts["done"] += 1
        began = self._began.get(task.folder)
        took = "already" if began is None else f"in {show_duration(time.monotonic() - began)}"
        self._say(f"done {task.run.told}, {took} {self._score()}")

    def failed(self, task: Task, failure: Failure) -> None:
        """Say that a run failed, and why."""
        self._counts["failed"] += 1
        self._say(f"failed {task.run.told} {self._score()}: {failure.command} said {failure.error}")

    def waits(self, task: Task) -> None:
        """Say, once, that another process works at a run."""
        if task.folder not in self._waited:
            self._waited.add(task.folder)
            self._say(f"waiting for {task.run.told}: another process works at it")

    def tick(self, working: Sequence[Task], waiting: int) -> None:
        """Show how far the runs are that are worked at."""
        now = time.monotonic()
        if self._live is not None and now - self._shown >= REFRESH_S:
            self._shown = now
            self._live.update(
                Group(
                    state_table([(one.run, self._state(one)) for one in working]),
                    Text(f"{self._score()} {waiting} waiting"),
                ),
                refresh=True,
            )
        elif self._kind == "plain" and working and now - self._spoken >= PLAIN_S:
            parts = []
            for one in working:
                state = self._state(one)
                left = "" if state.left_s is None else f", {show_duration(state.left_s)} left"
                parts.append(f"{one.run.told} {state.stage} {state.epoch}/{state.epochs}{left}")
            self._say("; ".join(parts))

    def _state(self, task: Task) -> RunState:
        return read_state(task.folder, task.run.recipe, self._evaluation)

    def _score(self) -> str:
        failed = f", {self._counts['failed']} failed" if self._counts["failed"] else ""
        return f"[{self._counts['done']} of {self._total} done{failed}]"

    def _say(self, line: str) -> None:
        self._spoken = time.monotonic()
        if self._kind == "none":
            return
        if self._live is not None:
            self._live.console.print(line, highlight=False)
        else:
            console.say(line)
