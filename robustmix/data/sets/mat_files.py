"""MATLAB files of data sets. Reading one runs no code; what it may unpack to is bounded first."""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from robustmix.data.sets.image_set import damaged
from robustmix.files import regular_file

MOST_BYTES = 2**24
"""Of a file; the largest official one has less than a million."""

MOST_UNPACKED = 2**28
"""Bytes that the compressed parts of a file may unpack to."""

_HEADER, _TAG, _COMPRESSED = 128, 8, 15


def read_mat(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a MATLAB 5 file by name; of struct arrays each field is an object.

    Raises:
        IntakeError: it is not there, too large, damaged, or of another version.
    """
    regular_file(path, what="list", limit=MOST_BYTES, hint="unpack it again", code="E-DATA")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise damaged(f"cannot read {path}: {error.strerror}") from error
    return parse_mat(content, path)


def parse_mat(content: bytes, path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a MATLAB 5 file by name, as ``read_mat`` does.

    Args:
        content: of the file.
        path: where it is from, for the error message.

    Raises:
        IntakeError: it is damaged, of another version, or unpacks to too much.
    """
    from scipy.io import loadmat  # not needed to list sets

    try:
        _check_unpacked(content)
        # The stubs do not say that it takes files, too.
        file: Any = io.BytesIO(content)
        found = loadmat(file, squeeze_me=True, struct_as_record=True)
    except Exception as error:  # a damaged file can raise nearly anything
        why = str(error).partition("\n")[0] or type(error).__name__
        raise damaged(f"{path} is no readable MATLAB 5 file: {why}") from error
    return {name: np.atleast_1d(value) for name, value in found.items() if name[:2] != "__"}


def _check_unpacked(content: bytes) -> None:
    """Refuse a file whose parts unpack to more than any official one: a bomb of zeros."""
    if len(content) < _HEADER:
        raise ValueError("it is cut off")
    order = ">" if content[126:128] == b"MI" else "<"
    place, total = _HEADER, 0
    while place + _TAG <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj()
            part = content[place + _TAG : place + _TAG + size]
            total += len(unpacked.decompress(part, MOST_UNPACKED - total + 1))
        if total > MOST_UNPACKED:
            raise ValueError(f"it unpacks to more than {MOST_UNPACKED:,} bytes")
        place += _TAG + size


def mat_column(
    arrays: Mapping[str, NDArray[np.generic]], name: str, field: str, path: Path
) -> list[object]:
    """Return a field of a struct array, or the values of a plain array if ``field`` is empty.

    Raises:
        IntakeError: there is no such array or field.
    """
    array = arrays.get(name)
    if array is not None and field and field in (array.dtype.names or ()):
        return list(cast(NDArray[np.void], array)[field].ravel())
    if array is not None and not field:
        return list(array.ravel())
    raise damaged(f"{path} has no {name}{'.' * bool(field)}{field}")


def as_int(value: object, path: Path) -> int:
    """Return a whole number of a MATLAB file, which may store it as a float.

    Raises:
        IntakeError: it is none.
    """
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind in "iuf":
        number = array.item()
        if number == number // 1 and abs(number) < 2**53:
            return int(number)
    raise damaged(f"{path}: expected a whole number, got {value!r:.40}")


def as_text(value: object, path: Path) -> str:
    """Return a text of a MATLAB file.

    Raises:
        IntakeError: it is none.
    """
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind == "U":
        return str(array.item())
    if array.size == 1 and isinstance(array.item(), str):
        return str(array.item())
    raise damaged(f"{path}: expected a text, got {value!r:.40}")
