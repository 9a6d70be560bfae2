"""The rows of one suite of a report, in the order that is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from robustmix.errors import IntakeError
from robustmix.metrics.definition import Definition, Shared, Undefined, Value, mean, share
from robustmix.metrics.metric import RULES, Direction, Unit
from robustmix.metrics.scores import FloatArray, IntArray
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import ReportModel, ShardPart
from robustmix.rng import subset_positions

MOST_KEPT = 2**24
"""Bytes of intermediate results that are kept of a suite's rows; what is beyond is made again."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What a suite's numbers are made from: its own rows and those of suite ``clean``."""

    view: Samples
    """The samples that the suite covers, with its table and those that all suites may read."""

    suite: str
    """Name of the suite's table in the view: its key without the protocol behind the ``@``."""

    order: IntArray
    """Positions in the view, (n,): the images that count, in the order they are taken."""

    num_classes: int
    input_size: tuple[int, int, int]
    """Channels, height and width of the images."""

    seed: int
    """Of the run; subsets and folds follow from it."""

    token_patch: tuple[float, ...] | None = None
    """Height and width of a transformer's patches in pixels."""

    subset: bool = False
    """Whether these are a part of the data set's split."""

    rules: str = RULES
    """Rules by which intervals and fits are made of them."""

    @classmethod
    def of(
        cls,
        view: Samples,
        key: str,
        *,
        num_classes: int,
        input_size: tuple[int, int, int],
        seed: int,
        token_patch: tuple[float, ...] | None = None,
        subset: bool = False,
        order: IntArray | None = None,
        rules: str = RULES,
    ) -> "Rows":
        """Take the samples of a view, all of them in their order unless one is given."""
        return cls(
            view,
            key.partition("@")[0],
            np.arange(len(view)) if order is None else order,
            num_classes,
            input_size,
            seed,
            token_patch,
            subset,
            rules,
        )

    @cached_property
    def _as_stored(self) -> bool:
        """Whether the images are all those of the view in its order."""
        return np.array_equal(self.order, np.arange(len(self.view)))

    @cached_property
    def _kept(self) -> dict[str, Any]:
        return {}

    def kept(self, key: str, make: Callable[[], Value], size: int) -> Value:
        """Give what was made before by a key of the caller's; else make it, and keep it if it fits.

        Args:
            key: of what is made.
            make: makes it.
            size: bytes of it.
        """
        if key in self._kept:
            return cast(Value, self._kept[key])
        made = make()
        if (len(self._kept) + 1) * size <= MOST_KEPT:
            self._kept[key] = made
        return made

    @cached_property
    def _shared(self) -> dict[str, Shared[Any]]:
        return {}

    def shared(self, key: str, compute: Callable[[FloatArray], Value]) -> Shared[Value]:
        """Share what several numbers need of the same resamples, by a key of the caller's."""
        return self._shared.setdefault(key, Shared(compute))

    def forget(self) -> None:
        """Drop what was shared and kept, large arrays that would else wait for a collection."""
        self._shared.clear()
        self._kept.clear()

    def taken(self, positions: IntArray) -> "Rows":
        """Take the images of some positions in the view, in that order."""
        return replace(self, order=positions)

    def of_evaluated(self) -> "Rows":
        """Leave the suite's own images out: what remains has the clean rows beside its own."""
        plain = self.view.evaluated
        assert plain is not None, "asked of suites that bring images of their own"
        own = self.table.take(np.arange(len(plain)))
        view = replace(plain, tables={**plain.tables, self.suite: own})
        return replace(self, view=view, order=self.order[self.order < len(plain)])

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.order)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """True classes, (n,)."""
        return self.view.labels[self.order]

    @cached_property
    def sample_ids(self) -> tuple[str, ...]:
        """Ids of the images, in this order."""
        return tuple(self.view.sample_ids[i] for i in self.order)

    @property
    def table(self) -> Table:
        """The suite's own rows, in the order of the view.

        Raises:
            Undefined: it has none.
        """
        found = self.view.tables.get(self.suite)
        if found is None:
            raise Undefined("there are no rows of this suite")
        return found

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions that the suite has rows of."""
        return self.table.conditions

    def column(self, condition: str, name: str, *, suite: str = "") -> FloatArray:
        """Give a column of one condition, float64 (trials, n).

        Args:
            condition: one of ``conditions``.
            name: of the column.
            suite: another suite of the view, ``clean``; the rows' own if empty.

        Raises:
            Undefined: there is no such suite, condition or column.
            IntakeError: a value is not finite, or a correctness neither 0 nor 1.
        """
        table = self.table if not suite else self.view.tables.get(suite)
        if table is None or condition not in table.conditions or name not in table.columns:
            raise Undefined(f"the rows have no {name} under this condition")
        array = table.columns[name]
        if array.ndim != 3 or array.dtype.kind not in "bifu":
            raise Undefined(f"the column {name} is not one number a row")
        rows = array[table.conditions.index(condition)]
        values: FloatArray = (rows if self._as_stored else rows[:, self.order]).astype(np.float64)
        if array.dtype.kind == "f" and not np.isfinite(values).all():
            raise damaged(f"the column {name} has values that are not finite")
        known = array.dtype.kind == "b" or name != "correct"
        if not known and not ((values == 0) | (values == 1)).all():
            raise damaged("a row is neither right nor wrong")
        return values

    def mean(self, condition: str, name: str) -> FloatArray:
        """Give a column of one condition, the mean over its trials, (n,)."""
        columns = self.column(condition, name)
        return np.asarray(columns[0] if len(columns) == 1 else columns.mean(axis=0))

    def total(self, conditions: Sequence[str], name: str) -> FloatArray:
        """Add a column up over conditions, of each the mean over its trials, (n,)."""
        stored = self.table.columns.get(name)
        counted = stored is not None and stored.dtype.kind == "b" and stored.shape[1:2] == (1,)
        if counted and stored is not None and set(conditions) <= set(self.conditions):
            # Whole numbers, whose sum is the same in any order and form.
            places = [self.conditions.index(condition) for condition in conditions]
            sums = stored[places, 0].sum(axis=0, dtype=np.int32)
            return np.asarray(sums if self._as_stored else sums[self.order], dtype=np.float64)
        total = np.zeros(self.n)
        for condition in conditions:
            total += self.mean(condition, name)
        return total

    def clean(self, name: str) -> FloatArray:
        """Give a column of suite ``clean``, (n,)."""
        found: FloatArray = self.column("clean", name, suite="clean")[0]
        return found

    def share(
        self,
        condition: str,
        column: str = "correct",
        *,
        direction: Direction = "higher",
        note: str | None = None,
    ) -> Definition:
        """Define the share of images whose column is 1, with Wilson's interval.

        Of several trials it is the mean over images, with a normal interval.
        """
        values = self.mean(condition, column)
        make = share if len(self.column(condition, column)) == 1 else mean
        return make(values, direction=direction, note=note, column=(condition, column))

    def average(
        self,
        condition: str,
        column: str,
        *,
        direction: Direction = "higher",
        unit: Unit = "fraction",
        note: str | None = None,
    ) -> Definition:
        """Define the mean of a column over images, with a normal interval over images."""
        values, of = self.mean(condition, column), (condition, column)
        return mean(values, direction=direction, unit=unit, note=note, column=of)

    def has(self, name: str) -> bool:
        """Tell whether the suite's rows have a column."""
        return name in self.table.columns


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
        if table.added is not None:
            covered += len(table.added)
            if len({*samples.sample_ids, *table.added.sample_ids}) != n + len(table.added):
                raise damaged("the ids of a suite's own samples occur twice")
        if any(column.dtype.kind not in "biuf" for column in table.columns.values()):
            raise damaged("a column of a suite is not numbers")
        (first, *others) = {column.shape[:3] for column in table.columns.values()}
        if others or first[:1] + first[2:] != (len(table.conditions), covered) or first[1] < 1:
            raise damaged("columns of a suite do not fit its samples")


def own_places(n: int, shard: ShardPart | None) -> NDArray[np.int64]:
    """Give the places among ``n`` images, in their order, that are a shard's, int64, rising.

    Every N-th, so that each shard has its part of every class and of every source.

    Example:
        >>> own_places(7, ShardPart(index=2, count=3, suites=[])).tolist()
        [1, 4]
    """
    if shard is None:
        return np.arange(n)
    return np.arange(shard.index - 1, n, shard.count)


def covered_view(content: ReportModel, samples: Samples, key: str) -> Samples:
    """Give what a suite sees of a record: the samples that it covers, and what it may read.

    Args:
        content: the report, which says how many samples the suite covers.
        samples: its record.
        key: the suite's in the report.

    Raises:
        IntakeError: the rows are of another number of samples than the report states.
    """
    limit, table = content.protocol.limits.get(key), samples.tables.get(key)
    positions = None if table is None else table.positions
    if table is None and limit is not None:
        positions = subset_positions(content.run.seed, samples.sample_ids, limit)
    count = len(samples) if positions is None else len(positions)
    allowed = {len(samples) if limit is None else min(limit, len(samples))}
    if content.dataset.shard is not None:
        allowed |= {len(own_places(n, content.dataset.shard)) for n in allowed}
    if (limit is not None or content.dataset.shard is not None) and count not in allowed:
        raise damaged(f"a suite has rows of {count} samples, the report states {min(allowed)}")
    return samples.view(key, positions)


def rows_of(content: ReportModel, view: Samples, key: str, order: IntArray | None = None) -> Rows:
    """Take the rows of a suite of a report.

    Args:
        content: the report.
        view: what the suite sees of the record, see ``covered_view``.
        key: the suite's in the report.
        order: positions in the view, (n,); None: all of them as they stand.
    """
    patch = content.model.token_patch
    return Rows.of(
        view,
        key,
        order=order,
        num_classes=content.model.num_classes,
        input_size=content.model.input_size,
        seed=content.run.seed,
        token_patch=None if patch is None else tuple(patch),
        subset=content.dataset.subset is not None
        or key in content.protocol.limits
        or len(view.evaluated or view) < content.dataset.n,
        rules=content.rules,
    )


def damaged(what: str) -> IntakeError:
    """Make the error for a record that contradicts itself or its report."""
    return IntakeError(
        f"the per-sample record is damaged: {what}", "evaluate again", code="E-SAMPLES"
    )
