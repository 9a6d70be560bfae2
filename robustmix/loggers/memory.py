"""What a logger has logged of a run, kept in the run's folder so that no step is logged twice."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robustmix.errors import IntakeError
from robustmix.files import regular_file, write_text
from robustmix.loggers.events import Event, Pictures, RunStarted, Scalars, SuiteFinished

NOTHING = -1

MOST_BYTES = 2**24


@dataclass(kw_only=True)
class Memory:
    """What is logged already."""

    path: Path
    """File that holds it."""

    id: str = ""
    """Of the run with the service; '' before it has one."""

    scalars: int = NOTHING
    """Last step whose numbers are logged."""

    pictures: dict[str, int] = field(default_factory=dict)
    """Last step of each picture."""

    suites: list[str] = field(default_factory=list)
    """Suites whose numbers are logged."""

    @classmethod
    def of(cls, path: Path, started: RunStarted, *, rewinds: bool) -> "Memory":
        """Return what is logged of a run that begins; nothing is of a new one.

        Args:
            path: file that holds it; one that cannot be read counts as none.
            started: the run.
            rewinds: whether later steps than the run's are taken back.
        """
        known = cls(path=path)
        if started.continued:
            known._read()
        if rewinds and started.kind == "train":
            known.scalars = min(known.scalars, started.step)
            known.pictures = {k: v for k, v in known.pictures.items() if v <= known.scalars}
        return known

    def has(self, event: Event) -> bool:
        """Tell whether an event is logged."""
        match event:
            case Scalars():
                return event.step <= self.scalars
            case Pictures():
                return event.step <= self.pictures.get(event.name, NOTHING)
            case SuiteFinished():
                return event.suite in self.suites
        return False

    def add(self, event: Event) -> None:
        """Note, on disk too, that an event is logged."""
        match event:
            case Scalars():
                self.scalars = event.step
            case Pictures():
                self.pictures[event.name] = event.step
            case SuiteFinished() if event.status == "ok":  # others may be made again
                self.suites.append(event.suite)
        self.save()

    def save(self) -> None:
        """Write it."""
        known = {key: value for key, value in asdict(self).items() if key != "path"}
        write_text(self.path, json.dumps(known) + "\n")

    def _read(self) -> None:
        try:
            regular_file(self.path, limit=MOST_BYTES)
            saved: Any = json.loads(self.path.read_text(encoding="utf-8"))
            self.id, self.scalars = str(saved["id"]), int(saved["scalars"])
            self.pictures = {str(name): int(step) for name, step in saved["pictures"].items()}
            self.suites = [str(name) for name in saved["suites"]]
        except (OSError, IntakeError, ValueError, KeyError, TypeError, AttributeError):
            self.id, self.scalars, self.pictures, self.suites = "", NOTHING, {}, []
