"""Finished units of work on disk, so that an interrupted evaluation goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustmix.arrays import Array, load_arrays
from robustmix.errors import IncompatibleError, UsageError
from robustmix.files import atomic_file, canonical_json, discard, write_text

BLOCK = 2048
"""Samples a unit. It does not depend on the batch size, so that a resumed run may change it."""

_SEAL = "|seal"
"""Array of a unit that says what it belongs to, and how many samples it holds."""


class Unit(NamedTuple):
    """Where some rows belong."""

    suite: str
    part: str
    block: int
    sample_ids: Sequence[str]
    """Of all samples that the finished unit has, in order."""


class Kept(NamedTuple):
    """The rows of the first samples of a unit: of all of them where it is finished."""

    n: int
    arrays: Mapping[str, Array]


@dataclass
class UnitStore:
    """A folder of units: (suite, part, block of samples), each written atomically.

    Each is sealed with what it belongs to. One that a lost disk, a power cut or another evaluation
    left is made again; none is ever taken for another.
    """

    folder: Path
    identity: Mapping[str, str] = field(default_factory=dict)
    """Hash of what must be equal for units to be reusable: ``run`` and one entry a suite."""

    @property
    def _marker(self) -> Path:
        return self.folder / "identity.json"

    @property
    def begun(self) -> bool:
        """Whether anything was kept; a kill at the very beginning leaves an empty folder."""
        return self._marker.exists() or any(self.folder.rglob("*.npz"))

    def open(self, identity: Mapping[str, str], *, resume: bool) -> None:
        """Begin or continue an evaluation.

        Args:
            identity: hash of what must be equal for units to be reusable: ``run`` (model, data,
                seed) and one entry a suite.
            resume: whether units that are already there may be used.

        Raises:
            UsageError: there are units and ``resume`` is not set.
            IncompatibleError: the units belong to another model, data set or parameters.
        """
        if not resume and self.begun:
            raise UsageError(
                f"{self.folder.parent} holds an unfinished evaluation",
                "add --resume to continue it or --force to start anew",
                code="E-EXISTS",
            )
        before = self._recorded()
        for key, value in identity.items():
            if before.get(key, value) != value:
                what = "model, data or seed" if key == "run" else f"parameters of suite {key}"
                raise IncompatibleError(
                    f"the unfinished evaluation in {self.folder.parent} has another {what}",
                    "add --force to start anew or choose another --out",
                    code="E-RESUME",
                )
        self.identity = dict(identity)
        write_text(self._marker, canonical_json(before | self.identity))

    def belongs_to(self, identity: Mapping[str, str]) -> bool:
        """Tell whether the folder holds the beginning of this very evaluation."""
        before = self._recorded()
        return all(before.get(key) == value for key, value in identity.items())

    def _recorded(self) -> dict[str, str]:
        """Read what the units say they belong to; nothing where that is damaged.

        The units then speak for themselves.
        """
        try:
            found = json.loads(self._marker.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _path(self, unit: Unit) -> Path:
        name = f"{unit.part.replace('/', '-')}-{unit.block:05d}.npz"
        return self.folder / unit.suite / name

    def get(self, unit: Unit) -> Kept | None:
        """Return the rows that are there of a unit, or None."""
        try:
            arrays = load_arrays(self._path(unit))
            seal, count = arrays.pop(_SEAL).tolist()
            n = int(count)
            known = n <= len(unit.sample_ids) and seal == self._seal(unit, Kept(n, arrays))
        except Exception:  # whatever it may be: it is not a unit, and is made again
            return None
        return Kept(n, arrays) if known else None

    def put(self, unit: Unit, rows: Kept) -> None:
        """Write the rows of a unit; of a part of its samples if it was interrupted."""
        sealed = {_SEAL: np.array([self._seal(unit, rows), str(rows.n)]), **rows.arrays}
        with atomic_file(self._path(unit)) as file:
            np.savez(file, **sealed)  # type: ignore[arg-type]

    def _seal(self, unit: Unit, rows: Kept) -> str:
        arrays = {name: np.ascontiguousarray(rows.arrays[name]) for name in sorted(rows.arrays)}
        shapes = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
        suite = self.identity.get(unit.suite), unit.suite, unit.part, unit.block
        what = [self.identity.get("run"), *suite, list(unit.sample_ids[: rows.n]), shapes]
        digest = hashlib.sha256(canonical_json(what).encode("utf-8", "surrogatepass"))
        for array in arrays.values():
            digest.update(array.tobytes())
        return digest.hexdigest()

    def remove(self) -> None:
        """Delete all units; their rows are in the sample file by now."""
        discard(self.folder)
