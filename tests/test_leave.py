"""How a process ends: its exit code is that of its work, whatever its libraries do afterwards."""

import os
import subprocess
import sys

import pytest

CODE = """
import atexit, os
from robustmix.launch import leave
atexit.register(os.abort)  # as torch does, now and then
print("a line that waits in a buffer")
leave(7)
"""

TOGETHER = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}


ALONE = {**TOGETHER, "RANK": "0", "WORLD_SIZE": "1"}


@pytest.mark.parametrize(
    ("more", "code"),
    [(TOGETHER, 7), (ALONE, -6), ({**TOGETHER, "RANK": ""}, -6)],
    ids=["one of two", "alone", "of nothing known"],
)
def test_one_of_several_processes_ends_with_its_code(more: dict[str, str], code: int) -> None:
    environ = {**os.environ, **more}
    environ.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run([sys.executable, "-c", CODE], env=environ, capture_output=True, text=True)
    assert done.returncode == code
    if code == 7:
        assert done.stdout == "a line that waits in a buffer\n"
