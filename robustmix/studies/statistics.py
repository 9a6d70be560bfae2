"""What is said of a run by one number, and of several runs by a mean: the tables' statistics.

A paper's figure is seldom the last checkpoint's accuracy. It is a statistic over epochs, and then a
mean over seeds. Imports neither torch nor numpy.
"""

import contextlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from robustmix.errors import IncompleteError, IntakeError, unknown_name
from robustmix.files import regular_file
from robustmix.later import special

MOST_BYTES = 64 * 2**20
"""Most bytes of a log of epochs that are read; one of 1,200 epochs has about one million."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistic:
    """How a run's accuracies, one an epoch, become the figure of a table."""

    help: str
    take: Callable[[Sequence[float]], float]
    """Accuracies of the last epochs, at least one -> the figure."""

    last: int
    """How many of the last epochs it looks at."""


STATISTICS: dict[str, Statistic] = {
    "median-last10": Statistic(
        help="median of the last ten epochs: AutoMix's tables, and CNNs in AdAutoMix's",
        take=statistics.median,
        last=10,
    ),
    "median-last5": Statistic(
        help="median of the last five epochs: OpenMixup's runs of 100 epochs on large sets",
        take=statistics.median,
        last=5,
    ),
    "best-last10": Statistic(
        help="best of the last ten epochs: Swin and ConvNeXt in AdAutoMix's tables",
        take=max,
        last=10,
    ),
    "last": Statistic(
        help="the last epoch: that of the checkpoint last.pth",
        take=lambda accuracies: accuracies[-1],
        last=1,
    ),
}
"""Every statistic by the name that a study's file says."""


def statistic(accuracies: Sequence[float], name: str) -> float:
    """Return the statistic ``name`` of a run's accuracies, one an epoch, the last one last.

    A run that is shorter than the statistic looks back gives that of all its epochs.

    Raises:
        UsageError: there is no such statistic.
        ValueError: there are no accuracies.

    Example:
        >>> statistic([0.1, 0.6, 0.5, 0.9], "median-last10"), statistic([0.6, 0.5], "best-last10")
        (0.55, 0.6)
    """
    chosen = find_statistic(name)
    if not accuracies:
        raise ValueError("a statistic is of at least one epoch")
    return float(chosen.take(accuracies[-chosen.last :]))


def find_statistic(name: str) -> Statistic:
    """Return the statistic ``name``.

    Raises:
        UsageError: there is no such statistic; the nearest name is suggested.
    """
    if name not in STATISTICS:
        raise unknown_name("statistic", name, STATISTICS)
    return STATISTICS[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatistic:
    """A statistic of one run."""

    name: str
    value: float
    """Top-1 accuracy of what is deployed, in [0, 1]."""

    first: int
    """The first epoch that it is of, counted from 1."""

    last: int
    """The last epoch that it is of."""

    selected_on: str
    """What was validated: ``test``, or ``val`` where a part of the training images was kept out."""

    @property
    def epochs(self) -> int:
        """How many epochs it is of; fewer than its name says where the run is shorter."""
        return self.last - self.first + 1

    @property
    def short(self) -> bool:
        """Whether the run has fewer epochs than the statistic looks back."""
        return self.epochs < STATISTICS[self.name].last


def run_statistic(run_dir: Path, name: str) -> RunStatistic:
    """Return a statistic of the epochs that a training run has finished.

    Args:
        run_dir: a run folder; its ``metrics.jsonl`` is read.
        name: a key of ``STATISTICS``.

    Raises:
        UsageError: there is no such statistic.
        IntakeError: the log is not there, too large, or no log of a run.
        IncompleteError: no epoch is finished yet.
    """
    chosen, path = find_statistic(name), Path(run_dir) / "metrics.jsonl"
    records = read_epochs(path)
    if not records:
        raise IncompleteError(f"{path} has no finished epoch", "let the run go on")
    taken = records[-chosen.last :]
    return RunStatistic(
        name=name,
        value=statistic([float(record["top1"]) for record in taken], name),
        first=taken[0]["epoch"],
        last=taken[-1]["epoch"],
        selected_on=str(taken[-1].get("selected_on", "test")),
    )


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run's ``metrics.jsonl``, one an epoch, checked.

    The loop replaces the file as a whole, but a copy may have been cut: a last line without an end
    is left out where it cannot be read.

    Raises:
        IntakeError: the log is not there, too large, or no log of a run.
    """
    text = regular_file(path, what="log of epochs", limit=MOST_BYTES).read_bytes()
    *lines, torn = text.split(b"\n")
    found = [_record(path, n, line) for n, line in enumerate(lines, 1)]
    if torn.strip():
        with contextlib.suppress(IntakeError):
            found.append(_record(path, len(lines) + 1, torn))
    if any(after["epoch"] != before["epoch"] + 1 for before, after in pairwise(found)):
        raise IntakeError(f"{path}: its epochs do not follow each other", code="E-METRICS")
    return found


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        epoch, top1 = record["epoch"], record["top1"]
        fits = type(epoch) is int and epoch >= 1 and type(top1) in (int, float) and 0 <= top1 <= 1
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise IntakeError(
            f"{path}, line {number}, is no record of an epoch with its top1",
            "give the folder of a training run",
            code="E-METRICS",
        )
    return dict(record)


@dataclass(frozen=True, slots=True)
class MeanAndStd:
    """Mean of one figure over seeds."""

    mean: float
    std: float | None
    """Sample standard deviation, with n - 1 below; None of one value."""

    n: int


def mean_and_std(values: Sequence[float]) -> MeanAndStd:
    """Return mean and sample standard deviation of at least one value.

    Raises:
        ValueError: there are no values, or one is not finite.

    Example:
        >>> mean_and_std([1.0, 2.0, 6.0]), mean_and_std([5.0]).std
        (MeanAndStd(mean=3.0, std=2.6457513110645907, n=3), None)
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"expected finite values, at least one, got {list(values)}")
    # fmean and stdev of Fractions inside: no cancellation where accuracies differ in the 4th digit.
    std = statistics.stdev(values) if len(values) > 1 else None
    return MeanAndStd(statistics.fmean(values), std, len(values))


def seed_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return Student's t interval of the mean over seeds; None of one value, which has no spread.

    Few seeds are few: with 3 the half width is 4.30 standard errors, not 1.96.

    Args:
        values: one figure a seed.
        level: probability that the interval holds the mean, in (0, 1), for normal figures.

    Raises:
        ValueError: there are no values, one is not finite, or ``level`` is not in (0, 1).

    Reference:
        Student 1908, "The probable error of a mean", Biometrika 6:1.

    Example:
        >>> low, high = seed_interval([1.0, 2.0, 6.0])
        >>> round(low, 4), round(high, 4)
        (-3.5724, 9.5724)
    """
    found = mean_and_std(values)
    if not 0 < level < 1:
        raise ValueError(f"expected 0 < level < 1, got {level}")
    if found.std is None:
        return None
    quantile = float(special.stdtrit(found.n - 1, (1 + level) / 2))
    half = quantile * found.std / math.sqrt(found.n)
    return found.mean - half, found.mean + half
