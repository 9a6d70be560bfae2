"""Text that may be a stranger's, made safe to show."""

import re
import unicodedata
from collections.abc import Callable

_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's control, direction, surrogate and line-separating characters: escape sequences of a
terminal, line breaks of a log and reversed text would let a name in a file pass for our output."""


_NONE = re.compile(r"\bNone\b")


def plain(text: object, limit: int = 200) -> str:
    r"""Put text on one line without control, direction or surrogate characters, cut short.

    Example:
        >>> plain("a\x1b[31mb\nc")
        'a?[31mb?c'
    """
    shown = _replaced(str(text)[: limit + 1], "", lambda c: "?")
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def plain_lines(text: str) -> str:
    r"""Give text of several lines without what ``plain`` takes out; line breaks stay.

    Example:
        >>> plain_lines("a\x1b[31mb\nc")
        'a?[31mb\nc'
    """
    return _replaced(text, "\n", lambda c: "?")


def escaped(text: str) -> str:
    r"""Write what ``plain`` takes out as JSON does, so that JSON keeps its meaning.

    Line breaks and tabs stay.

    Example:
        >>> print(escaped('["a\x9b2Jb"]\n'), end="")
        ["a\u009b2Jb"]
    """
    lines = text.split("\n")  # most are harmless, and told so faster than character by character
    return "\n".join(_replaced(line, "\t", _json_escape) for line in lines)


def shortened(text: str, limit: int) -> str:
    """Leave out the middle of a text that is longer than ``limit`` characters.

    Example:
        >>> shortened("unknown arch 'aaaaaaaaaaaaaaaa'", 25)
        "unknown arch '[...]aaaaa'"
    """
    if len(text) <= limit:
        return text
    tail = (limit - 5) // 3
    return text[: limit - 5 - tail] + "[...]" + text[len(text) - tail :]


def told(value: object, limit: int = 200) -> str:
    """Put a value of a file on one line, as ``plain`` does, with a word for what is not there.

    Example:
        >>> told(None), told([None, 0.5]), told("None")
        ('none', '[none, 0.5]', 'None')
    """
    return plain(value if isinstance(value, str) else _NONE.sub("none", str(value)), limit)


def _replaced(text: str, keep: str, shown: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        shown(c) if unicodedata.category(c) in _UNSAFE and c not in keep else c for c in text
    )


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
