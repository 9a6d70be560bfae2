"""The rows of one report, put into the order that two reports share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustmix.errors import IntakeError
from robustmix.metrics.scores import FloatArray, IntArray
from robustmix.report.samples import Samples
from robustmix.report.schema import ReportModel


class Undefined(Exception):
    """A metric cannot be made from rows; the message says why."""


@dataclass(frozen=True, eq=False)
class Definition:
    """How a metric follows from the rows: as a mean over images, or as a function of weights."""

    n: int
    """Number of images."""

    values: FloatArray | None = None
    """One number an image, whose mean is the metric, (n,)."""

    statistic: Callable[[FloatArray], FloatArray] | None = None
    """Weights (R, n), each row summing to n -> values (R,); NaN where undefined."""

    @property
    def binary(self) -> bool:
        """Whether every image counts as right or wrong, 0 or 1."""
        return self.values is not None and bool(np.isin(self.values, (0.0, 1.0)).all())

    def estimate(self) -> float:
        """Return the metric of the images themselves."""
        if self.values is not None:
            return float(self.values.mean())
        assert self.statistic is not None
        return float(self.statistic(np.ones((1, self.n)))[0])

    def resampled(self, weights: FloatArray) -> FloatArray:
        """Return the metric of each resample, (R,)."""
        if self.values is not None:
            return np.asarray(weights @ self.values / len(self.values))
        assert self.statistic is not None
        return self.statistic(weights)


class Rows:
    """What a suite of a report sees of the per-sample record, in a given order of its samples."""

    def __init__(self, content: ReportModel, view: Samples, order: IntArray) -> None:
        self.content = content
        self.view = view
        self.order = order
        self.labels: NDArray[np.int64] = view.labels[order]

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.order)

    @property
    def num_classes(self) -> int:
        """Number of classes of the model."""
        return self.content.model.num_classes

    def conditions(self, suite: str) -> tuple[str, ...]:
        """Return the conditions that a suite has rows of."""
        table = self.view.tables.get(suite.partition("@")[0])
        if table is None:
            raise Undefined("there are no rows of this suite")
        return table.conditions

    def column(self, suite: str, condition: str, name: str) -> FloatArray:
        """Return a column of one condition, float64 (trials, n).

        Raises:
            Undefined: there is no such suite, condition or column.
            IntakeError: a value is not finite, or a correctness neither 0 nor 1.
        """
        conditions = self.conditions(suite)
        columns = self.view.tables[suite.partition("@")[0]].columns
        if condition not in conditions or name not in columns:
            raise Undefined(f"the rows have no {name} under this condition")
        array = columns[name]
        if array.ndim != 3 or array.dtype.kind not in "bifu":
            raise Undefined(f"the column {name} is not one number a row")
        rows = array[conditions.index(condition)][:, self.order]
        values: FloatArray = rows.astype(np.float64)
        if not np.isfinite(values).all():
            raise damaged(f"the column {name} has values that are not finite")
        if name == "correct" and not np.isin(values, (0.0, 1.0)).all():
            raise damaged("a row is neither right nor wrong")
        return values

    def mean(self, suite: str, condition: str, name: str) -> FloatArray:
        """Return the mean over trials, (n,)."""
        columns = self.column(suite, condition, name)
        return np.asarray(columns[0] if len(columns) == 1 else columns.mean(axis=0))

    def clean(self, name: str) -> FloatArray:
        """Return a column of suite ``clean``, (n,)."""
        return self.mean("clean", "clean", name)


def check_shapes(samples: Samples) -> None:
    """Refuse a record that does not name its samples, or whose columns do not fit them.

    Raises:
        IntakeError: ids that occur twice, labels or columns of another number.
    """
    n = len(samples)
    if n == 0 or samples.labels.shape != (n,) or len(set(samples.sample_ids)) != n:
        raise damaged("labels or ids do not name each sample once")
    for table in samples.tables.values():
        covered = n
        if table.positions is not None:
            places = table.positions
            if places.ndim != 1 or places.dtype.kind not in "iu" or len(places) == 0:
                raise damaged("the samples of a suite are not named")
            if places[0] < 0 or places[-1] >= n or (np.diff(places.astype(np.int64)) <= 0).any():
                raise damaged("the samples of a suite are not in the record")
            covered = len(places)
        (first, *others) = {column.shape[:3] for column in table.columns.values()}
        if others or first[:1] + first[2:] != (len(table.conditions), covered) or first[1] < 1:
            raise damaged("columns of a suite do not fit its samples")


def suite_view(content: ReportModel, samples: Samples, suite: str) -> Samples:
    """Return the samples that a suite covers, with its own rows and those of suite ``clean``.

    Args:
        content: the report, which says how many samples a suite covers.
        samples: a record that ``check_shapes`` accepts.
        suite: its key in the report.

    Raises:
        IntakeError: the rows are of another number of samples than the report states.
    """
    from robustmix.evaluation.planned import seeded_subset

    limit = content.protocol.limits.get(suite)
    table = samples.tables.get(suite)
    positions = table.positions if table is not None else None
    if table is None and limit is not None:
        covered = seeded_subset(content.run.seed, samples.sample_ids, limit)
        positions = None if covered is None else covered.numpy()
    count = len(samples) if positions is None else len(positions)
    if limit is not None and count != min(limit, len(samples)):
        raise damaged(f"a suite has rows of {count} samples, the report states {limit}")
    return samples.view(suite, positions)


def damaged(what: str) -> IntakeError:
    """Return the error for a record that contradicts itself or its report."""
    return IntakeError(
        f"the per-sample record is damaged: {what}", "evaluate again", code="E-SAMPLES"
    )


def mean_of(values: FloatArray) -> Definition:
    """Return the definition of a mean over images, (n,)."""
    return Definition(values=np.asarray(values, dtype=np.float64), n=len(values))


def function_of(n: int, statistic: Callable[[FloatArray], FloatArray]) -> Definition:
    """Return the definition of a metric that is not a mean over images."""
    return Definition(statistic=statistic, n=n)


def ratio(above: FloatArray, below: FloatArray) -> Definition:
    """Return the definition of a ratio of two means; undefined where the lower one is 0."""

    def statistic(weights: FloatArray) -> FloatArray:
        whole = weights @ below
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(whole > 0, weights @ above / whole, np.nan)

    return function_of(len(above), statistic)
