"""Reference vectors: $ROBUSTMIX_REFERENCE, or ../shared/reference beside the checkout."""

import ast
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor


def reference_files(pattern: str) -> list[Path]:
    """Return the files of the reference folder that match ``pattern``; may be empty."""
    default = Path(__file__).parents[2].parent / "shared" / "reference"
    return sorted(Path(os.environ.get("ROBUSTMIX_REFERENCE", default)).glob(pattern))


def reference_params(pattern: str) -> list[object]:
    """Return one pytest parameter a matching file, or one that skips and names what it lacks."""
    files = reference_files(pattern)
    if files:
        return [pytest.param(path, id=path.stem) for path in files]
    reason = f"no reference file matches {pattern} (set ROBUSTMIX_REFERENCE)"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


class Case:
    """One case of a file, and a note of which of its arrays were asked for."""

    def __init__(self, name: str, arrays: dict[str, NDArray[Any]]) -> None:
        self.name = name
        self.arrays = arrays
        self.cfg: dict[str, Any] = ast.literal_eval(str(arrays["cfg"]))
        self.used = {"cfg"}

    def tensor(self, key: str) -> Tensor:
        self.used.add(key)
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def under(self, *prefixes: str) -> dict[str, Tensor]:
        """Return the arrays whose names begin so, by the rest of their names."""
        return {
            key.removeprefix(prefix): self.tensor(key)
            for prefix in prefixes
            for key in self.arrays
            if key.startswith(prefix)
        }


def arrays_of(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the arrays of a file by case and by the rest of their names."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as vectors:
        for key in vectors.files:
            name, _, rest = key.partition("/")
            found.setdefault(name, {})[rest] = vectors[key]
    assert found
    return found


def cases(path: Path) -> list[Case]:
    return [Case(name, arrays) for name, arrays in arrays_of(path).items()]


class Vectors:
    """One case of a file without ``cfg``: its arrays, of which every setting is one."""

    def __init__(self, name: str, arrays: dict[str, NDArray[Any]]) -> None:
        self.name = name
        self.arrays = arrays

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.arrays[key]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def under(self, *prefixes: str) -> dict[str, Tensor]:
        """Return the arrays whose names begin so, by the rest of their names."""
        return {
            key.removeprefix(prefix): self.tensor(key)
            for prefix in prefixes
            for key in self.arrays
            if key.startswith(prefix)
        }

    def part(self, prefix: str) -> "Vectors":
        """Return the arrays whose names begin so as a case of its own."""
        found = {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}
        return Vectors(f"{self.name} {prefix}", found)


def vectors(path: Path, pattern: str = "") -> list[Vectors]:
    """Return the cases of a file whose names match a pattern from their beginning on."""
    found = arrays_of(path).items()
    return [Vectors(name, arrays) for name, arrays in found if re.match(pattern, name)]
