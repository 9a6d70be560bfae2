import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from robustmix.errors import IncompleteError
from robustmix.locks import LOCK_FILE, run_lock

HOLDER = """
import sys
from pathlib import Path
from robustmix.locks import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that works in a folder until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_comes_second_is_told_so_and_leaves_the_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    with holder(folder) as process:
        with pytest.raises(IncompleteError, match=r"another run is working in .*run") as caught:
            run_lock(folder).__enter__()
        assert (caught.value.code, caught.value.exit_code) == ("E-BUSY", 4)
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
        process.communicate("")
    with run_lock(folder):
        pass
    assert list(folder.iterdir()) == []


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.communicate()
    assert (tmp_path / LOCK_FILE).exists()
    with run_lock(tmp_path), pytest.raises(IncompleteError, match="another run"):
        run_lock(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_removed_in_between_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first holder removes the file after the second has opened it: the second opens anew."""
    path, real = tmp_path / LOCK_FILE, fcntl.flock
    opened: list[int] = []

    def late(handle: int, how: int) -> None:
        if not opened:
            path.unlink()
        opened.append(os.fstat(handle).st_nlink)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with run_lock(tmp_path):
        assert opened == [0, 1]
        with pytest.raises(IncompleteError, match="another run"):
            run_lock(tmp_path).__enter__()


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/run", "file", "x" * 300, "a\0b"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IncompleteError, match="cannot write") as caught:
        run_lock(tmp_path / name).__enter__()
    assert caught.value.code == "E-WRITE"


def test_where_there_are_no_locks_one_works_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(handle: int, how: int) -> NoReturn:
        raise OSError(errno.EOPNOTSUPP, "none here")

    monkeypatch.setattr(fcntl, "flock", none)
    with run_lock(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
    assert list(tmp_path.iterdir()) == []
