"""Files of strangers read within bounds: what is opened, how much of it, and what JSON may hold."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from robustmix.errors import IntakeError
from robustmix.files import regular_file
from robustmix.report.text import plain

MOST_BYTES = 64 * 2**20
"""Of a report file; the largest that are written take a tenth of it."""

MOST_VALUES = 400_000
"""Values that a report file may hold: each takes hundreds of bytes once it is read, and more where
it is faulty. A confusion matrix of ImageNet has half as many."""

DEEPEST = 64
"""Lists and objects within each other; what reads and writes them calls itself for each."""

LARGEST = 2**64
"""Integers beyond it cannot be what a report counts or seeds, and some overflow as floats."""


def existing(path: Path, what: str, limit: int | None = None) -> Path:
    """Give the path of a regular file; nothing is opened, so that no pipe is waited for.

    Args:
        path: of the file.
        what: how to call it, e.g. ``report``.
        limit: most bytes that it may have.

    Raises:
        IntakeError: it is missing, cannot be looked at, is no regular file, or too large.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise IntakeError(f"there is no {what} at {path}", _instead(path)) from None
    except (OSError, ValueError):
        pass  # said in what follows
    return regular_file(path, what=what, limit=limit, code="E-REPORT")


def _instead(path: Path) -> str:
    trained = path.parent / "checkpoints" / "last.pth"
    return f"evaluate first: robustmix eval {trained}" if trained.is_file() else "check the path"


def unreadable(path: Path, error: Exception) -> IntakeError:
    """Make the error for a file that the system does not let us read."""
    told = getattr(error, "strerror", None) or type(error).__name__
    return IntakeError(f"cannot read {path}: {told}", "check its permissions and its disk")


def read_json_file(path: Path) -> Any:
    """Read a JSON file of a stranger.

    Raises:
        IntakeError: it is missing, no regular file, too large, no JSON, or JSON that two readers
            could take for different things: a name that stands twice in an object, NaN, infinity,
            numbers beyond what is counted, half of a surrogate pair, or nesting without end.
    """
    try:
        raw = existing(path, "report", MOST_BYTES).read_bytes()
        _refuse_other(path, raw[:64])
        text = raw.decode("utf-8")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError:
        raise _no_json(path, "it is not UTF-8") from None
    if sum(map(text.count, "[{,")) > MOST_VALUES:
        raise _no_json(path, f"it holds more than {MOST_VALUES} values")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_int,
            parse_constant=_constant,
        )
        _check_nodes(value)
    except RecursionError:
        raise _no_json(path, "it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _no_json(path, f"{error.msg} in line {error.lineno}") from None
    except ValueError as error:
        raise _no_json(path, str(error)) from None
    return value


def _refuse_other(path: Path, head: bytes) -> None:
    """Refuse by its first bytes what is often given for a report."""
    if head.startswith((b"PK", b"\x80")):
        what, hint = (
            "no report but an archive, as checkpoints are",
            ("give the report.json that `robustmix eval` wrote of it"),
        )
    elif head.startswith(b"version https://git-lfs"):
        what, hint = "a Git LFS pointer, not the report", "fetch the file itself: git lfs pull"
    else:
        return
    raise IntakeError(f"{path} is {what}", hint)


def _no_json(path: Path, why: str) -> IntakeError:
    return IntakeError(f"{path} is not readable JSON: {why}", "restore it or evaluate again")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{plain(twice, 60)}' stands twice in one object")
    return found


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{plain(text, 20)} is no finite number")
    return number


def _int(text: str) -> int:
    # The length first: reading digits takes time that grows with their square.
    if len(text) > 21 or abs(number := int(text)) > LARGEST:
        raise ValueError(f"{plain(text, 20)} is too large a number")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _check_nodes(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > DEEPEST:
            raise RecursionError
        if isinstance(node, dict):
            waiting += [(item, depth + 1) for item in node.values()]
            for name in node:
                _check_text(name)
        elif isinstance(node, list):
            waiting += [(item, depth + 1) for item in node]
        elif isinstance(node, str):
            _check_text(node)


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"'{plain(text, 60)}' holds half of a surrogate pair")
