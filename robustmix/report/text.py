"""Text from reports, made safe to show: a report may be a stranger's."""

import re
import unicodedata
from collections.abc import Sequence

from rich.cells import cell_len

from robustmix.text import plain as plain

BARS = "▁▂▃▄▅▆▇█"

_MARKDOWN = {ord(c): f"\\{c}" for c in "\\`*_[]<>|#~&$"}
_CALLS = re.compile(r"(?<!\w)(@|\\#)(?=\w)")
"""What makes hosts of Markdown call a person or link an issue, however it is escaped."""

_INTERVAL = re.compile(r"\\\[([-+\d., %]*\d[-+\d., %]*)\\\](?![(\[:])")
"""Numbers in brackets, which no link begins with unless more follows."""

_LINE_START = re.compile(r"^\s*([-+=]|\d+(?=[.)]))")
"""What is no text where a line begins with it: lists, headings and rules."""


def markdown(text: object, limit: int = 200) -> str:
    r"""Write text so that Markdown and HTML show it as it is, also in a cell of a table.

    Backslashes keep it readable where it is not rendered, as HTML's entities would not.

    Example:
        >>> print(markdown("<b>|a_mean, @me"))
        \<b\>\|a\_mean, @<!-- -->me
    """
    shown = _CALLS.sub(r"\1<!-- -->", plain(text, limit).translate(_MARKDOWN))
    return _INTERVAL.sub(r"[\1]", shown)


def markdown_item(text: object, limit: int = 1000) -> str:
    r"""Write a text as an item of a list in Markdown.

    Example:
        >>> print(markdown_item("1. a - b"))
        - 1\. a - b
    """
    shown = markdown(text, limit)
    start = _LINE_START.match(shown)
    if start is None:
        return f"- {shown.strip()}"
    at = start.end() - (0 if start[1].isdigit() else 1)
    return f"- {(shown[:at] + chr(92) + shown[at:]).strip()}"


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",  # no command of the usual encoding's sets it
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "Δ": r"$\Delta$",
    **dict.fromkeys(BARS, ""),  # no font of LaTeX's has them
}
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))
"""Combining characters and what LaTeX writes them with."""

_LIGATURES = re.compile(r"([-'`?!,])(?=[-'`,])")
"""Signs that LaTeX's fonts would join to another."""


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
    return _LIGATURES.sub(r"\1{}", shown)


def spreadsheet(text: object, limit: int = 200) -> str:
    """Write text so that no spreadsheet takes it for a formula.

    Example:
        >>> spreadsheet("=1+1"), spreadsheet("clean")
        ("'=1+1", 'clean')
    """
    shown = plain(text, limit)
    return "'" + shown if shown[:1] in ("=", "+", "-", "@") else shown


def sparkline(values: Sequence[float]) -> str:
    """Draw values in [0, 1] as a row of small bars.

    Example:
        >>> sparkline([0.0, 0.5, 1.0])
        '▁▅█'
    """
    return "".join(BARS[min(len(BARS) - 1, int(value * len(BARS)))] for value in values)


def folded(head: str, width: int) -> list[str]:
    """Break the head of a column where its parts end; a part that is too long stays whole.

    Example:
        >>> folded("corruption@paper-adautomix.acc_mean_all19 ↑", 12)
        ['corruption', '@paper-', 'adautomix', '.acc_mean', '_all19 ↑']
    """
    lines = [""]
    for word in re.findall(r"[@._\[/:]?[^@._\-\[/: ]+[-\] :]*", head) or [head]:
        if lines[-1] and cell_len((lines[-1] + word).rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]
