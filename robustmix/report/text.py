"""Text from reports, made safe to show: a report may be a stranger's."""

import unicodedata
from collections.abc import Sequence

from robustmix.text import plain as plain

BARS = "▁▂▃▄▅▆▇█"

_MARKDOWN = {ord(c): f"&#{ord(c)};" for c in "&<>|`*_[]()!#@\\~"}


def markdown(text: object, limit: int = 200) -> str:
    """Write text so that Markdown and HTML show it as it is, also in a cell of a table.

    Example:
        >>> markdown("<b>|x")
        '&#60;b&#62;&#124;x'
    """
    return plain(text, limit).translate(_MARKDOWN)


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))
"""Combining characters and what LaTeX writes them with."""


def latex(text: object, limit: int = 400) -> str:
    r"""Write text so that LaTeX typesets it as it is, with any font and encoding.

    Letters with accents are written with commands; what else is not ASCII becomes ``?``.

    Example:
        >>> latex("50 % of a_b, é, 猫")
        "50 \\% of a\\_b, \\'{e}, ?"
    """
    shown = ""
    for character in plain(text, limit):
        base, *marks = list(unicodedata.normalize("NFD", character))
        if character in _LATEX:
            shown += _LATEX[character]
        elif character.isascii():
            shown += character
        elif base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
            shown += f"\\{_ACCENTS[marks[0]]}{{{base}}}"
        else:
            shown += "?"
    return shown


def spreadsheet(text: object) -> str:
    """Write text so that no spreadsheet takes it for a formula.

    Example:
        >>> spreadsheet("=1+1"), spreadsheet("clean")
        ("'=1+1", 'clean')
    """
    shown = plain(text)
    return "'" + shown if shown[:1] in ("=", "+", "-", "@") else shown


def sparkline(values: Sequence[float]) -> str:
    """Draw values in [0, 1] as a row of small bars.

    Example:
        >>> sparkline([0.0, 0.5, 1.0])
        '▁▅█'
    """
    return "".join(BARS[min(len(BARS) - 1, int(value * len(BARS)))] for value in values)
