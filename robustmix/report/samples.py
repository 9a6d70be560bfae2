"""The per-sample record of an evaluation: every number of a report is made from it.

A table a suite: each column is an array (conditions, trials, samples), so a row is one sample under
one condition in one trial. Labels and ids only, never pixels. A suite that covers a part of the
samples says which; one that looks at others than the evaluated ones brings their ids and labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robustmix.arrays import UNREADABLE, Array, load_arrays
from robustmix.errors import IntakeError
from robustmix.files import atomic_path, expanded
from robustmix.report.reading import existing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Added:
    """Images that one suite looks at beside the evaluated ones."""

    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample_ids)


@dataclass(frozen=True)
class Table:
    """The rows of one suite."""

    conditions: tuple[str, ...]
    columns: Mapping[str, Array]
    """Name -> array (conditions, trials, samples), or with further axes behind (logits)."""

    positions: NDArray[np.int64] | None = None
    """Which samples of the record the rows are of, rising; None: all of them."""

    added: Added | None = None
    """What the rows behind those of the record's samples are of; None: there are none."""

    @property
    def trials(self) -> int:
        """Number of trials."""
        return int(next(iter(self.columns.values())).shape[1])

    def at(self, condition: str, trial: int = 0) -> dict[str, Array]:
        """Give the columns (samples, ...) of one condition and trial."""
        row = self.conditions.index(condition)
        return {name: column[row, trial] for name, column in self.columns.items()}

    def take(self, positions: NDArray[np.int64]) -> "Table":
        """Take the rows of some of the table's samples, in that order."""
        return Table(
            self.conditions,
            {name: column[:, :, positions] for name, column in self.columns.items()},
        )


@dataclass(frozen=True)
class Samples:
    """All rows of an evaluation."""

    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    superclass: tuple[int, ...] | None
    tables: dict[str, Table] = field(default_factory=dict)
    evaluated: "Samples | None" = None
    """Of a view whose last samples are a suite's own: what it would be without them."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def rows(self) -> int:
        """Number of rows: samples x conditions x trials, over all suites."""
        return sum(
            (len(self if t.positions is None else t.positions) + len(t.added or ()))
            * len(t.conditions)
            * t.trials
            for t in self.tables.values()
        )

    def view(self, key: str, positions: NDArray[np.int64] | None = None) -> "Samples":
        """Give what the suite ``key`` sees, as if there were no other samples and suites.

        Args:
            key: e.g. ``fgsm@quick``, whose table the view calls ``fgsm``.
            positions: the samples that the suite covers, rising; None for all.

        Returns:
            The samples with the tables ``clean``, ``calibration`` (what was fitted to other
            images, if anything was) and the suite's own. Where the suite brought images of its own
            they stand behind the others, and the shared tables are in ``evaluated``.
        """
        added = self.tables[key].added if key in self.tables else None
        if added is not None:
            table = self.tables[key]
            others = {k: t for k, t in self.tables.items() if k != key}
            plain = replace(self, tables=others).view(key, positions)
            return replace(
                plain,
                sample_ids=(*plain.sample_ids, *added.sample_ids),
                labels=np.concatenate([plain.labels, added.labels]),
                tables={key.partition("@")[0]: replace(table, positions=None, added=None)},
                evaluated=plain,
            )
        name = key.partition("@")[0]
        shared = ("clean", "calibration")
        tables = {k: t for k, t in self.tables.items() if k in shared and t.positions is None}
        if positions is not None:
            tables = {kind: found.take(positions) for kind, found in tables.items()}
        if key in self.tables:
            tables[name] = replace(self.tables[key], positions=None)
        if positions is None:
            return replace(self, tables=tables)
        return replace(
            self,
            sample_ids=tuple(self.sample_ids[i] for i in positions),
            labels=self.labels[positions],
            tables=tables,
        )

    def clean_logits(self) -> NDArray[np.float32]:
        """Give the logits of suite ``clean``, float32 (samples, classes)."""
        return self.tables["clean"].at("clean")["logits"].astype(np.float32, copy=False)

    def save(self, path: Path) -> None:
        """Write a compressed npz, atomically; equal samples give equal bytes."""
        arrays: dict[str, Array] = {
            "sample_ids": np.array(self.sample_ids),
            "labels": self.labels,
            "class_names": np.array(self.class_names),
        }
        if self.superclass is not None:
            arrays["superclass"] = np.array(self.superclass)
        for suite, table in self.tables.items():
            arrays[f"{suite}/conditions"] = np.array(table.conditions)
            arrays |= {f"{suite}/column/{name}": column for name, column in table.columns.items()}
            if table.positions is not None:
                arrays[f"{suite}/positions"] = table.positions
            if table.added is not None:
                arrays[f"{suite}/added_ids"] = np.array(table.added.sample_ids)
                arrays[f"{suite}/added_labels"] = table.added.labels
        with atomic_path(expanded(path)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Samples":
        """Read what ``save`` wrote.

        Raises:
            IntakeError: the file is missing, damaged or not a sample file.
        """
        path = expanded(path)
        existing(path, "per-sample record")
        try:
            return _samples(load_arrays(path))
        except UNREADABLE as error:
            raise IntakeError(
                f"{path} is not a readable sample file ({type(error).__name__})",
                "evaluate again, or restore the file that belongs to the report",
                code="E-SAMPLES",
            ) from error

    def to_frame(self) -> "pd.DataFrame":
        """Make one row a sample, suite, condition and trial; logits are left out."""
        import pandas as pd

        frames = []
        for suite, table in self.tables.items():
            covered = np.arange(len(self)) if table.positions is None else table.positions
            ids, labels = np.array(self.sample_ids), self.labels
            if table.added is not None:
                covered = np.append(covered, len(self) + np.arange(len(table.added)))
                ids = np.append(ids, table.added.sample_ids)
                labels = np.append(labels, table.added.labels)
            shape = (len(table.conditions), table.trials, len(covered))
            condition, trial, row = np.indices(shape)
            sample = covered[row]
            frame = {
                "sample_id": ids[sample.ravel()],
                "suite": suite,
                "condition": np.array(table.conditions)[condition.ravel()],
                "trial": trial.ravel(),
                "label": labels[sample.ravel()],
            }
            for name, column in table.columns.items():
                if column.shape == shape:
                    frame[name] = column.ravel()
            frames.append(pd.DataFrame(frame))
        return pd.concat(frames, ignore_index=True)


def _samples(arrays: Mapping[str, Array]) -> Samples:
    """Make the record of its arrays.

    Raises:
        KeyError, ValueError: one is missing or of another form.
    """
    columns: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        suite, marker, column = name.partition("/column/")
        if marker:
            if array.ndim < 3 or array.dtype.kind not in "biuf":
                raise ValueError("a column is numbers by condition, trial and sample")
            columns.setdefault(suite, {})[column] = array
    superclass = arrays.get("superclass")
    return Samples(
        sample_ids=_names(arrays["sample_ids"]),
        labels=_integers(arrays["labels"]),
        class_names=_names(arrays["class_names"]),
        superclass=None if superclass is None else tuple(_integers(superclass).tolist()),
        tables={
            suite: Table(
                _conditions(arrays[f"{suite}/conditions"]),
                found,
                _integers(arrays[f"{suite}/positions"]) if f"{suite}/positions" in arrays else None,
                _added(arrays, suite),
            )
            for suite, found in columns.items()
        },
    )


def _added(arrays: Mapping[str, Array], suite: str) -> Added | None:
    if f"{suite}/added_ids" not in arrays:
        return None
    found = Added(_names(arrays[f"{suite}/added_ids"]), _integers(arrays[f"{suite}/added_labels"]))
    if len(found.labels) != len(found):
        raise ValueError("each added sample has a label")
    return found


def _names(array: Array) -> tuple[str, ...]:
    if array.ndim != 1 or (array.dtype.kind != "U" and len(array)):
        raise ValueError("names are a list of texts")
    names: Sequence[str] = array.tolist()
    "".join(names).encode("utf-8")  # refuses halves of surrogate pairs, which nothing can print
    return tuple(names)


def _conditions(array: Array) -> tuple[str, ...]:
    names = _names(array)
    if len(set(names)) < len(names):
        raise ValueError("a condition stands twice")
    return names


def _integers(array: Array) -> NDArray[np.int64]:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError("labels and positions are a list of whole numbers")
    return array.astype(np.int64)
