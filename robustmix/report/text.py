"""Text from reports, made safe to show: a report may be a stranger's."""

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
