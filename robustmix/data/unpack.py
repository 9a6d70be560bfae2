"""Archives of data sets, unpacked so that nothing leaves the folder they are unpacked into.

Only files and folders are written: no links, no devices, no path that leads elsewhere, and no more
bytes than an archive of its size can honestly hold. A tar inside a tar (ImageNet's training images)
becomes a folder of its name.
"""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from robustmix.errors import IncompleteError, IntakeError, UsageError
from robustmix.files import make_folder

MOST_MEMBERS = 5_000_000
"""Of an archive; the largest official one has 2.5 million."""

LEAST_BYTES, MOST_RATIO = 2**26, 20
"""An archive may unpack to so many times its size, small ones to so many bytes; images are packed
already, and lists do not shrink to a twentieth."""

_CHUNK = 2**20


@dataclass
class _Budget:
    """What may still be written."""

    archive: Path
    bytes: int
    members: int = MOST_MEMBERS

    def take(self, n: int) -> None:
        self.bytes -= n
        if self.bytes < 0:
            raise _bad(self.archive, "it unpacks to far more than an archive of its size can hold")

    def member(self) -> None:
        self.members -= 1
        if self.members < 0:
            raise _bad(self.archive, f"it has more than {MOST_MEMBERS:,} members")


def unpack(archive: Path, into: Path) -> list[Path]:
    """Unpack a tar (plain or compressed) or zip archive; any other file is copied.

    It is unpacked beside ``into`` first and moved there when it is complete.

    Args:
        archive: the file.
        into: folder that its members go to; made if it is not there.

    Returns:
        What is new in ``into``.

    Raises:
        IntakeError: the archive is damaged, or holds what is not to be unpacked (``E-ARCHIVE``).
        UsageError: a member lies in ``into`` already.
        IncompleteError: it cannot be written.
    """
    make_folder(into)
    with _beside(into) as place:
        budget = _Budget(archive, max(LEAST_BYTES, MOST_RATIO * archive.stat().st_size))
        try:
            _write_members(archive, place, budget)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _bad(archive, f"it is damaged ({error})") from error
        except (NotImplementedError, RuntimeError) as error:  # zip: unknown packing, a password
            raise _bad(archive, str(error)) from error
        found = sorted(place.iterdir())
        taken = [one.name for one in found if (into / one.name).exists()]
        if taken:
            raise UsageError(
                f"{into / taken[0]} exists already, which {archive.name} would replace",
                "move it away first",
                code="E-EXISTS",
            )
        for one in found:
            one.rename(into / one.name)
    return [into / one.name for one in found]


@contextmanager
def _beside(into: Path) -> Iterator[Path]:
    try:
        place = Path(tempfile.mkdtemp(prefix=".unpacking.", suffix=".tmp", dir=into))
    except OSError as error:
        raise IncompleteError(
            f"cannot write into {into}: {error.strerror or error}",
            "choose a writable --data-dir",
            code="E-WRITE",
        ) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write_members(archive: Path, place: Path, budget: _Budget) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            _write_zip(opened, place, budget)
    elif tarfile.is_tarfile(archive):
        with archive.open("rb") as file:
            _write_tar(file, "r|*", place, budget)
    else:
        with archive.open("rb") as file:
            _write(file, place / archive.name, budget)


def _write_zip(opened: zipfile.ZipFile, place: Path, budget: _Budget) -> None:
    for info in opened.infolist():
        kind = (info.external_attr >> 16) & 0o170000  # Unix; 0 where the zip does not say it
        if kind not in (0, 0o100000, 0o040000):
            raise _bad(budget.archive, f"{info.filename!r:.80} is a link or a device")
        if info.is_dir():
            _target(place, info.filename, budget).mkdir(parents=True, exist_ok=True)
            continue
        with opened.open(info) as file:
            _write(file, _target(place, info.filename, budget), budget)


def _write_tar(file: IO[bytes], mode: str, place: Path, budget: _Budget) -> None:
    # As a stream, so that a tar inside is read without being written first.
    with tarfile.open(fileobj=file, mode=mode) as opened:  # type: ignore[call-overload]
        for member in opened:
            target = _target(place, member.name, budget)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            content = opened.extractfile(member) if member.isreg() else None
            if content is None:
                raise _bad(budget.archive, f"{member.name!r:.80} is a link or a device")
            if mode == "r|*" and member.name.endswith(".tar"):
                _write_tar(content, "r|", target.with_suffix(""), budget)
            else:
                _write(content, target, budget)


def _target(place: Path, name: str, budget: _Budget) -> Path:
    """Return where a member goes, which must be below ``place``."""
    budget.member()
    parts = PurePosixPath(name).parts
    if not name.isprintable() or name[:1] == "/" or ".." in parts or "\\" in name or ":" in name:
        raise _bad(budget.archive, f"{name!r:.80} would lie outside of its folder")
    return place.joinpath(*parts)


def _write(file: IO[bytes], target: Path, budget: _Budget) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            while chunk := file.read(_CHUNK):
                budget.take(len(chunk))
                out.write(chunk)
    except FileExistsError as error:
        raise _bad(budget.archive, f"it holds {target.name!r:.80} twice") from error


def _bad(archive: Path, why: str) -> IntakeError:
    return IntakeError(f"{archive} is not unpacked: {why}", "download it again", code="E-ARCHIVE")
