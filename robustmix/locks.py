"""One process a run folder: who comes second is told so, instead of mixing two runs."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from robustmix.errors import IncompleteError
from robustmix.files import make_folder

LOCK_FILE = ".lock"
"""Lies in the folder while a run works there; one that a kill left is taken over."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks say; runs there are not kept apart, but can be made."""


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep a run folder to this process; the folder is made if it is not there.

    The system gives the lock back when the process ends, however it ends. Threads of one process
    exclude each other too.

    Raises:
        IncompleteError: another run holds it (``E-BUSY``), or the folder cannot be written
            (``E-WRITE``).
    """
    path = Path(folder) / LOCK_FILE
    make_folder(path.parent)
    try:
        handle = _locked(path)
    except BlockingIOError:
        raise IncompleteError(
            f"another run is working in {folder}",
            "wait until it has ended, or choose another --out",
            code="E-BUSY",
        ) from None
    except OSError as error:
        raise IncompleteError(
            f"cannot write {folder}: {error.strerror}",
            "choose a writable --out",
            code="E-WRITE",
        ) from error
    try:
        yield
    finally:
        # While it is still held, so that no file is removed that somebody else has locked.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Say whether some process works in a run folder; nothing is made or changed there."""
    try:
        handle = os.open(Path(folder) / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, and given back at once: two who look do not take each other for a run.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _locked(path: Path) -> int:
    """Open and lock the file; again if who held it before removed it in between."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return handle
            os.close(handle)
            raise
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)
