"""Archives that must not be unpacked, and how those that may be are."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from robustmix.data import unpack as unpacking
from robustmix.data.unpack import unpack
from robustmix.errors import IntakeError, UsageError


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked_whatever_its_packing(tmp_path: Path, mode: str) -> None:
    members = {"set/a.txt": b"1", "set/deep/b c.txt": b"22"}
    (tmp_path / "x.tar").write_bytes(tar_of(members, mode))
    made = unpack(tmp_path / "x.tar", tmp_path / "into")
    assert made == [tmp_path / "into" / "set"]
    assert tree(tmp_path / "into") == members


def test_a_zip_is_unpacked_and_a_plain_file_is_copied(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("set/", b"")
        archive.writestr("set/a.txt", b"1")
    (tmp_path / "labels.mat").write_bytes(b"22")
    unpack(tmp_path / "x.zip", tmp_path / "into")
    unpack(tmp_path / "labels.mat", tmp_path / "into")
    assert tree(tmp_path / "into") == {"set/a.txt": b"1", "labels.mat": b"22"}


def test_tars_in_a_tar_become_folders_of_their_names(tmp_path: Path) -> None:
    inner = {wnid: tar_of({f"{wnid}_1.JPEG": wnid.encode()}) for wnid in ("n01", "n02")}
    (tmp_path / "train.tar").write_bytes(tar_of({f"{k}.tar": v for k, v in inner.items()}))
    unpack(tmp_path / "train.tar", tmp_path / "train")
    assert tree(tmp_path / "train") == {"n01/n01_1.JPEG": b"n01", "n02/n02_1.JPEG": b"n02"}


def special(kind: bytes, target: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("set/link")
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return stream.getvalue()


def zipped(name: str, mode: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, b"/etc/passwd")
    return stream.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "above": (lambda: tar_of({"../x": b"1"}), "would lie outside"),
    "above inside": (lambda: tar_of({"a/../../x": b"1"}), "would lie outside"),
    "absolute": (lambda: tar_of({"/tmp/x": b"1"}), "would lie outside"),
    "unprintable": (lambda: tar_of({"a\nb": b"1"}), "would lie outside"),
    "inner above": (lambda: tar_of({"n1.tar": tar_of({"../../x": b"1"})}), "would lie outside"),
    "symlink": (lambda: special(tarfile.SYMTYPE, "/etc/passwd"), "is a link or a device"),
    "hard link": (lambda: special(tarfile.LNKTYPE, "set/a"), "is a link or a device"),
    "device": (lambda: special(tarfile.CHRTYPE, ""), "is a link or a device"),
    "zip above": (lambda: zipped("../x"), "would lie outside"),
    "zip windows": (lambda: zipped("C:\\x"), "would lie outside"),
    "zip link": (lambda: zipped("x", 0o120777), "is a link or a device"),
    "cut off": (lambda: tar_of({"a": b"1" * 5000}, "w:gz")[:60], "it is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_elsewhere_is_not_unpacked(tmp_path: Path, name: str) -> None:
    make, told = HOSTILE[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.archive").write_bytes(make())
    with pytest.raises(IntakeError, match=told) as error:
        unpack(tmp_path / "in" / "x.archive", tmp_path / "into")
    assert error.value.code == "E-ARCHIVE"
    assert tree(tmp_path / "into") == {}
    assert [path.name for path in tmp_path.iterdir()] in (["in", "into"], ["into", "in"])
    assert not list((tmp_path / "into").iterdir())


def test_an_archive_of_zeros_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LEAST_BYTES", 1000)
    monkeypatch.setattr(unpacking, "_CHUNK", 512)
    (tmp_path / "x.tgz").write_bytes(tar_of({"zeros": bytes(10**6)}, "w:gz"))
    with pytest.raises(IntakeError, match="far more than an archive of its size"):
        unpack(tmp_path / "x.tgz", tmp_path / "into")
    assert tree(tmp_path / "into") == {}


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of({"set/a": b"new"}))
    (tmp_path / "into" / "set").mkdir(parents=True)
    (tmp_path / "into" / "set" / "mine").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"):
        unpack(tmp_path / "x.tar", tmp_path / "into")
    assert tree(tmp_path / "into") == {"set/mine": b"old"}
