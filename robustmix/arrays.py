"""The arrays of an npz file of a stranger, each looked at before memory is taken for it."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

UNREADABLE = (
    OSError, KeyError, ValueError, EOFError, AttributeError, TypeError, SyntaxError, MemoryError,
    OverflowError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    tokenize.TokenError,
)  # fmt: skip
"""What numpy and zipfile raise for damaged or foreign files."""

MOST_ARRAYS = 10_000
MOST_DIRECTORY = 2**22
"""Bytes of the list of arrays, which is read as a whole before it can be counted."""

SMALL = 2**28
"""Bytes that any file may hold."""

TIGHTEST = 100
"""Larger ones hold at most so many times their own size: rows do not compress better, bombs do."""

KINDS = "biufU"
"""Types of numpy that rows, labels and names have: no dates, no records, no objects."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def load_arrays(
    path: Path, *, small: int = SMALL, only: Collection[str] | None = None
) -> dict[str, Array]:
    """Read every array of an npz file.

    Args:
        path: the file; a regular one.
        small: bytes that its arrays may have however small it is.
        only: names of the arrays to read; None: all. The others may be of any type.

    Raises:
        ValueError: a name stands twice, an array is of another type, size or number of values than
            is read; also what else ``UNREADABLE`` lists.
    """
    size = path.stat().st_size
    _check_directory(path, size)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("a name stands twice")
        if len(members) > MOST_ARRAYS:
            raise ValueError(f"more than {MOST_ARRAYS} arrays")
        if sum(member.file_size for member in members) > max(small, TIGHTEST * size):
            raise ValueError("it holds far more than its size")
        named = {member.filename.removesuffix(".npy"): member for member in members}
        return {
            name: _array(archive, member)
            for name, member in named.items()
            if only is None or name in only
        }


def _check_directory(path: Path, size: int) -> None:
    """Look at the end of the file, where numpy leaves neither a comment nor a 64-bit record."""
    with open(path, "rb") as file:
        file.seek(max(0, size - 42))
        end = file.read(42)
    if end[-22:-18] != b"PK\x05\x06" or end[-42:-38] == b"PK\x06\x07":
        raise ValueError("the list of arrays is not at the end")
    if struct.unpack("<I", end[-10:-6])[0] > MOST_DIRECTORY:
        raise ValueError("the list of arrays is too long")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as file:
        _check_header(file, member.file_size)
    with archive.open(member) as file:
        found: Array = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _check_header(file: IO[bytes], size: int) -> None:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"npy version {version}")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise ValueError(f"an array of {dtype.kind}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError("an array of another size than it states")
