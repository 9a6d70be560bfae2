"""TOML of strangers, read within bounds.

The standard library's parser calls itself for every bracket, takes time that grows with the square
of a dotted key's parts, and reads integers of any length.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from robustmix.errors import IntakeError, UsageError
from robustmix.files import regular_file

MOST_BYTES = 256 * 2**10
"""Of a file of recipes or rules; the longest that are shipped take a hundredth of it."""

DEEPEST = 16
"""Lists and tables within each other, and parts of a dotted key."""

LONGEST_WORD = 128
"""Characters of a number or of a key without quotes."""

_QUOTED = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL
)
"""Strings and comments, in the order that a parser meets them."""


def parse_toml(text: str) -> dict[str, Any]:
    """Return the values of a TOML text.

    Raises:
        UsageError: it is larger, deeper or holds longer numbers than any that is meant.
        tomllib.TOMLDecodeError: it is no TOML.

    Example:
        >>> parse_toml("a.b = [1, 2]")
        {'a': {'b': [1, 2]}}
    """
    _check_size(text)
    try:
        values = tomllib.loads(text)
    except RecursionError:  # the bounds above should leave none
        raise _too("nested too deeply") from None
    _check_numbers(values)
    return values


def read_toml(path: Path, *, what: str = "TOML file", hint: str = "") -> dict[str, Any]:
    """Return the values of a user's TOML file.

    Args:
        path: of the file.
        what: how errors call it, e.g. ``recipe``.
        hint: what to do about an error.

    Raises:
        IntakeError: it is missing, cannot be read, is no regular file or no TOML, or is larger or
            deeper than any that is meant.
    """
    path = regular_file(path, what=what, limit=MOST_BYTES, hint=hint)
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IntakeError(f"cannot read {what} {path}: {error.strerror or error}", hint) from error
    except UsageError as error:
        raise IntakeError(f"{what} {path}: {error.message}", code=error.code) from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise IntakeError(f"{what} {path} is not valid TOML: {error}", hint) from error


def _check_size(text: str) -> None:
    if len(text) > MOST_BYTES:
        raise _too(f"longer than {MOST_BYTES} characters")
    bare = _QUOTED.sub(lambda quoted: "" if quoted[0][0] == "#" else "s", text)
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        if depth > DEEPEST:
            raise _too(f"nested more than {DEEPEST} deep")
    for words in re.findall(r"[\w\-. \t]+", bare):
        if words.count(".") >= DEEPEST:
            raise _too(f"a key of more than {DEEPEST} parts")
    if re.search(rf"\w{{{LONGEST_WORD + 1}}}", bare):
        raise _too(f"a number or key of more than {LONGEST_WORD} characters")


def _check_numbers(value: object) -> None:
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise _too("an integer beyond 64 bits, which TOML does not have")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)


def _too(what: str) -> UsageError:
    return UsageError(f"the TOML is refused: {what}", code="E-TOML")
