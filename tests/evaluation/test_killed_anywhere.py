"""Evaluations killed outright at every place where a file gets its name, and at any moment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


def campaign(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the program in ``kills.py``, whose assertions are this module's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.kills", str(folder), *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_killed_at_a_few_renames_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """The marker, a unit, the samples, the report, and the units when all is done."""
    assert campaign(tmp_path, "renames", "0,8,-3,-2,-1")["kills"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["renames", "over"])
def test_killed_at_every_rename(tmp_path: Path, kind: str) -> None:
    """``over``: where the report of another evaluation lay before, with ``force``."""
    found = campaign(tmp_path, kind, "all")
    assert found["renames"] > 20
    assert found["kills"] == 2 * found["renames"]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    assert campaign(tmp_path, "random", "20")["kills"] >= 20
