"""Every row of the list of known wrong-result traps has a test that names it."""

import re
from pathlib import Path

ROWS = 36


def test_every_trap_has_a_test() -> None:
    named: set[int] = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        for name in re.findall(r"^ *def (test_\w+)\(", path.read_text(encoding="utf-8"), re.M):
            rows = re.match(r"test_traps?_(\d+(?:_(?:and_)?\d+)*)_", name)
            if rows:
                named |= {int(row) for row in re.findall(r"\d+", rows[1])}
    assert set(range(1, ROWS + 1)) - named == set()
