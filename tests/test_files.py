import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from robustmix.errors import IncompleteError, IntakeError
from robustmix.files import (
    atomic_file,
    atomic_path,
    canonical_json,
    discard,
    file_digest,
    hash_json,
    make_folder,
    regular_file,
    remove_leftovers,
    write_text,
)


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    write_text(path, "näher")
    assert path.read_bytes() == "näher".encode()
    assert list(path.parent.iterdir()) == [path]


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")}
    assert len(modes) == 1


def full_disk(*args: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(IncompleteError, match="No space left on device") as caught:
        write_text(path, "new")
    assert caught.value.exit_code == 4
    assert caught.value.code == "E-WRITE"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_writer_is_not_disguised(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_hashes() -> None:
    assert canonical_json({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"é"],"b":1}'
    assert hash_json({"b": 1, "a": 2}) == hash_json({"a": 2, "b": 1})
    assert hash_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        hash_json({"a": float("nan")})


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"


KILLED = """
import os, sys
from pathlib import Path
from robustmix.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
    print("writing", flush=True)
    sys.stdin.read()
"""


def writer(path: Path, how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_kills_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    below = tmp_path / "checkpoints"
    for path in (tmp_path / "a.json", below / "last.pth"):
        writer(path, "die").communicate()
    kept = ["mine.tmp", ".hidden", ".a.tmp", ".a.json.ABCDEFGH.tmp", ".a.json.abcdefgh.tmp~"]
    for name in kept:
        (below / name).write_text("x")
    (tmp_path / ".units.0123abcd.tmp" / "fgsm").mkdir(parents=True)
    (tmp_path / ".link.abcdefgh.tmp").symlink_to(below)
    assert len(list(tmp_path.rglob(".*.tmp"))) == 6
    remove_leftovers(tmp_path, below=False)
    assert [path.parent.name for path in tmp_path.rglob(".last.pth.*.tmp")] == ["checkpoints"]
    remove_leftovers(tmp_path)
    left = {path.name for path in tmp_path.rglob("*")}
    assert left == {"checkpoints", ".link.abcdefgh.tmp", *kept}
    remove_leftovers(tmp_path / "not there")


def test_a_file_that_somebody_is_writing_stays(tmp_path: Path) -> None:
    with writer(tmp_path / "a.json", "wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        remove_leftovers(tmp_path)
        process.communicate("")
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_discarded_folder_is_whole_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "units"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_text("x")
    seen: list[bool] = []

    def note(path: Path, ignore_errors: bool) -> None:
        seen.append(folder.exists())

    monkeypatch.setattr(shutil, "rmtree", note)
    discard(folder)
    discard(folder)  # there is none
    assert seen == [False]
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_hides_what_the_file_said_is_told_as_a_full_disk(tmp_path: Path) -> None:
    """As torch does: a RuntimeError about positions, after the file's own error."""

    def write() -> None:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"begun")
            try:
                full_disk()
            except OSError:
                raise RuntimeError("unexpected pos 704 vs 598") from None

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(IncompleteError, match="No space left on device") as caught:
        write()
    assert caught.value.code == "E-WRITE"
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_another_runtime_error_of_a_writer_is_not_disguised(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_file(tmp_path / "a"):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        write()


def test_what_torch_writes_does_not_depend_on_its_name(tmp_path: Path) -> None:
    """Given a path, torch names the folder in the archive after it."""
    for name in ("a.pth", "b.other"):
        with atomic_file(tmp_path / name) as file:
            torch.save({"x": torch.arange(7)}, file)
    assert file_digest(tmp_path / "a.pth") == file_digest(tmp_path / "b.other")


@pytest.mark.parametrize(
    "name", ["n" * 255, "ü" * 127, "\udcff.txt"], ids=["long", "of many bytes", "not UTF-8"]
)
def test_any_name_that_a_file_can_have_is_written(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / name, "x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["x"]
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    "place",
    ["n" * 256, "a\0b", "\ud800", "file/below", "x/" * 3000 + "y"],
    ids=["long", "NUL", "surrogate", "below a file", "deep"],
)
def test_a_name_that_no_file_can_have_is_told(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(IncompleteError) as caught:
        write_text(tmp_path / place, "x")
    assert caught.value.code == "E-WRITE"
    with pytest.raises(IncompleteError) as caught:
        make_folder(tmp_path / place / "deep")
    assert caught.value.code == "E-WRITE"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_that_are_not_utf8_can_be_recorded(tmp_path: Path) -> None:
    value = {"name": os.fsdecode(b"\xff.png")}
    write_text(tmp_path / "a.json", canonical_json(value))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value
    assert hash_json(value) != hash_json({"name": "?.png"})


def test_only_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    assert regular_file(tmp_path / "file", limit=5) == tmp_path / "file"
    assert regular_file(tmp_path / "link").read_bytes() == b"12345"
    for name, said in (
        ("pipe", "a pipe"),
        (".", "a folder"),
        ("/dev/zero", "device"),
        ("absent", "No such file"),
        ("n" * 300, "too long"),
        ("a\0b", "no file can have this name"),
        ("file/below", "Not a directory"),
    ):
        with pytest.raises(IntakeError, match=said):
            regular_file(tmp_path / name, what="picture")
    with pytest.raises(IntakeError, match="5 bytes, at most 4 are read; look there") as caught:
        regular_file(tmp_path / "file", limit=4, hint="look there", code="E-X")
    assert caught.value.code == "E-X"
