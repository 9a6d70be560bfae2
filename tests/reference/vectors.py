"""Reference vectors: $ROBUSTMIX_REFERENCE, or ../shared/reference beside the checkout."""

import os
from pathlib import Path

import pytest


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
