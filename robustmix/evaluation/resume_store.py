"""Finished units of work on disk, so that an interrupted evaluation goes on where it stopped."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustmix.errors import IncompatibleError, UsageError
from robustmix.files import atomic_path, canonical_json, write_text
from robustmix.report.samples import Array

BLOCK = 2048
"""Samples a unit. It does not depend on the batch size, so that a resumed run may change it."""


@dataclass(frozen=True)
class UnitStore:
    """A folder of units: (suite, part, block of samples), each written atomically."""

    folder: Path

    def open(self, identity: dict[str, str], *, resume: bool) -> None:
        """Begin or continue an evaluation.

        Args:
            identity: hash of what must be equal for units to be reusable: ``run`` (model, data,
                seed) and one entry a suite.
            resume: whether units that are already there may be used.

        Raises:
            UsageError: there are units and ``resume`` is not set.
            IncompatibleError: the units belong to another model, data set or parameters.
        """
        marker = self.folder / "identity.json"
        if marker.exists():
            if not resume:
                raise UsageError(
                    f"{self.folder.parent} holds an unfinished evaluation",
                    "add --resume to continue it or --force to start anew",
                    code="E-EXISTS",
                )
            before: dict[str, str] = json.loads(marker.read_text(encoding="utf-8"))
            for key, value in identity.items():
                if before.get(key, value) != value:
                    what = "model, data or seed" if key == "run" else f"parameters of suite {key}"
                    raise IncompatibleError(
                        f"the unfinished evaluation in {self.folder.parent} has another {what}",
                        "add --force to start anew or choose another --out",
                        code="E-RESUME",
                    )
            identity = before | identity
        write_text(marker, canonical_json(identity))

    def _path(self, suite: str, part: str, block: int) -> Path:
        return self.folder / suite / f"{part.replace('/', '-')}-{block:05d}.npz"

    def get(self, suite: str, part: str, block: int) -> dict[str, Array] | None:
        """Return the arrays of a finished unit, or None."""
        path = self._path(suite, part, block)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None  # a disk that lost power may hold a damaged unit; it is made again

    def put(self, suite: str, part: str, block: int, arrays: Mapping[str, Array]) -> None:
        """Write a finished unit."""
        with (
            atomic_path(self._path(suite, part, block)) as temporary,
            open(temporary, "wb") as file,
        ):
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def remove(self) -> None:
        """Delete all units; their rows are in the sample file by now."""
        shutil.rmtree(self.folder, ignore_errors=True)
