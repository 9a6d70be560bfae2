"""What a training or an evaluation tells its hook; needs no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from robustmix.report.report import Report


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A run begins, or goes on; told before anything else of it."""

    kind: Literal["train", "eval"]
    name: str
    run_id: str
    """Hash of what decides the run's numbers: equal runs have equal ones."""

    folder: Path | None
    """Of the run; None for an evaluation that writes nothing."""

    config: Mapping[str, Any]
    """The complete recipe, or model, data and parameters of an evaluation; JSON-like."""

    continued: bool = False
    """Whether an earlier call began it. What that one told up to ``step`` is then told again, epoch
    by epoch or suite by suite, so that a hook can add what it lacks."""

    step: int = 0
    """Training steps made so far; an earlier call may have told of later ones, which are made
    again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scalars:
    """Numbers of a training: every 50 steps, and at the end of each epoch.

    Inside an epoch these are the learning rate and the running means over the epoch so far
    (``train_loss``, ...); at its end all that its line in ``metrics.jsonl`` has.
    """

    step: int
    """Training steps made since the beginning of the run, from 1."""

    epoch: float
    """The same in epochs; a whole number at the end of one."""

    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """A picture: masks and mixtures of a few images, or a figure of a report.

    Told before the numbers of its step.
    """

    step: int
    """As in ``Scalars``; 0 in an evaluation."""

    name: str
    pixels: "NDArray[np.uint8]"
    """(H, W, 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteFinished:
    """A suite of an evaluation has come to its end."""

    suite: str
    """Its key in the report."""

    status: str
    """``ok``, ``failed`` or ``skipped``."""

    metrics: Mapping[str, float]
    """Name -> value, of those that have one; shares are in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFinished:
    """A run has ended, well or not; nothing of it follows."""

    status: Literal["done", "stopped", "failed"]
    """``stopped``: asked to; the same call continues it."""

    error: str = ""
    """In one line, where it failed."""

    report: "Report | None" = None
    """Of an evaluation that came to one."""


Event: TypeAlias = RunStarted | Scalars | Pictures | SuiteFinished | RunFinished

Hook: TypeAlias = Callable[[Event], None]
"""What ``on_event`` takes: a function of an event. It is called by the thread that trains, between
two steps, and keeps it waiting; what it raises ends the run."""
