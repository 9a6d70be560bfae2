"""Atomic writes and checksums: no half-written file ever carries its final name."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from robustmix.errors import IncompleteError, IntakeError, UsageError

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""Names of temporary files and folders, as ``tempfile`` makes them of prefix and suffix."""


def expanded(path: Path | str) -> Path:
    """Return a path with ``~`` written out; of a user who is not there it stays a name.

    For every path that a caller from Python gives: a shell has written it out, Python has not.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is synced and renamed to ``path``.

    For what writes to paths only; ``atomic_file`` is for all that can write to an open file, and
    must be used where the writer is not Python, for such a writer tells no full disk.

    Raises:
        IncompleteError: the folder cannot be written or the disk is full. ``path`` then still is
            what it was before.
    """
    path = Path(path)
    temporary: Path | None = None
    handle = -1
    try:
        handle, name = _new_temporary(path)
        temporary = Path(name)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)  # says to remove_leftovers that it is being written
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result is an ordinary one
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        _raise_cannot_write(path, error)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            os.close(handle)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file, open for binary writing, that takes the place of ``path`` on success.

    Raises:
        IncompleteError: as ``atomic_path``.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        IncompleteError: it cannot be made; something else may have its name.
    """
    try:
        with _possible_name():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _raise_cannot_write(folder, error)


def _new_temporary(path: Path) -> tuple[int, str]:
    with _possible_name():
        path.parent.mkdir(parents=True, exist_ok=True)
        # The end of the name alone: with what is added, a long one would become too long.
        prefix = f".{path.name[-48:]}."
        return tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)


@contextlib.contextmanager
def _possible_name() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise OSError(errno.EINVAL, "no file can have this name") from error


_REMEDIES = {
    errno.EEXIST: "a file has this name; choose another --out",
    errno.ENOTDIR: "a file has the name of a folder on this path; choose another --out",
    errno.EISDIR: "a folder has this name; name a file",
}
"""What to do about a failed write, where it is not the disk."""


def _raise_cannot_write(path: Path, error: Exception) -> NoReturn:
    """Raise what a failed write is called; ``error`` itself if it is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__  # torch raises a RuntimeError after what the file said
    if cause is None:
        raise error
    hint = _REMEDIES.get(cause.errno or 0, "free disk space or choose a writable --out")
    raise IncompleteError(
        f"cannot write {path}: {cause.strerror or cause}", hint, code="E-WRITE"
    ) from error


_PICTURES = (b"\x89PNG", b"%PDF", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*", b"MM\0*")
"""How files of pixels begin."""


def refuse_replacing(path: Path, *, picture: bool = False) -> None:
    """Refuse to write a page, table or picture over a file of another kind.

    A slip of the hand would cost a checkpoint, a photo or a report, which are not made again in a
    moment.

    Args:
        path: where it is to be written.
        picture: whether it is a picture; else it is text.

    Raises:
        UsageError: a file of this name is no such thing, or is the report of an evaluation.
    """
    if not Path(path).is_file():
        return
    with open(path, "rb") as file:
        head = file.read(2**26)
    drawn = head.startswith(_PICTURES) or (picture and b"<svg" in head)
    report = b'"kind": "robustmix.report"' in head
    if report or drawn is not picture or (not picture and b"\0" in head):
        raise UsageError(
            f"{path} is there already and is {'a report' if report else 'of another kind'}",
            "choose another name, for it would be lost",
            code="E-EXISTS",
        )


def regular_file(
    path: Path,
    *,
    what: str = "file",
    limit: int | None = None,
    hint: str = "",
    code: str = "",
) -> Path:
    """Return ``path`` if it is a file; to be asked before it is opened.

    A pipe or a device would be read for ever.

    Args:
        path: of a user's.
        what: what it should be, in an error.
        limit: most bytes that it may have.
        hint: what to do about an error.
        code: of an error.

    Raises:
        IntakeError: it is not there, not a file, too large, or may not be looked at.
    """
    path = Path(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise IntakeError(f"cannot read {what} {path}: {reason}", hint, code=code) from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise IntakeError(f"cannot read {what} {path}: it is {kind}", hint, code=code)
    if limit is not None and found.st_size > limit:
        raise IntakeError(
            f"cannot read {what} {path}: it has {found.st_size} bytes, at most {limit} are read",
            hint,
            code=code,
        )
    return path


def remove_leftovers(folder: Path, *, below: bool = True) -> None:
    """Remove what earlier kills left in a run folder; to be called when a run opens it.

    That is temporary files which no process is writing, and folders that ``discard`` had begun to
    delete. What cannot be removed is left.

    Args:
        folder: the run folder; it need not be there.
        below: whether to look into its folders too.
    """
    found = Path(folder).glob("**/.*.tmp" if below else ".*.tmp")
    for path in [path for path in found if _TEMPORARY.fullmatch(path.name)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file():
            with contextlib.suppress(OSError), open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def discard(folder: Path) -> None:
    """Delete a folder so that a kill leaves it whole or gone, never half there under its name.

    Raises:
        IncompleteError: it cannot be moved.
    """
    if not folder.exists():
        return
    try:
        aside = tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent)
        os.replace(folder, aside)
    except OSError as error:
        raise IncompleteError(
            f"cannot remove {folder}: {error.strerror or error}",
            "choose a writable --out",
            code="E-WRITE",
        ) from error
    shutil.rmtree(aside, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    r"""Write ``text`` to ``path`` as UTF-8, atomically.

    Names of files that are not UTF-8 hold characters that cannot be encoded; they are written as
    JSON writes them, ``\udcff``.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON-like value, independent of the order of its keys."""
    text = canonical_json(value).encode("utf-8", "surrogatepass")  # names that are not UTF-8
    return hashlib.sha256(text).hexdigest()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
