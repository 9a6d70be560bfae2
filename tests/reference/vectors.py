"""Reference vectors: $ROBUSTMIX_REFERENCE, or ../shared/reference beside the checkout."""

import ast
import os
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


def cases(path: Path) -> list[Case]:
    found: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as vectors:
        for key in vectors.files:
            name, _, rest = key.partition("/")
            found.setdefault(name, {})[rest] = vectors[key]
    assert found
    return [Case(name, arrays) for name, arrays in found.items()]
