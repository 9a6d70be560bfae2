"""A table as data, and the one place that writes tables as Markdown, LaTeX or CSV."""

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from robustmix.errors import unknown_name
from robustmix.report.text import folded, latex, markdown, markdown_item, spreadsheet

SHEET_FORMATS = {
    "md": "Markdown",
    "latex": "LaTeX with booktabs",
    "csv": "CSV, figures as they are shown",
}
"""Name of a format, with a line of help."""

Stress = Literal["", "best", "second", "bold", "small"]

HEAD = 14
"""Characters of a line in the head of a column of numbers, in LaTeX."""

WIDE = 5
"""Tables of more columns are set smaller in LaTeX."""

LONG_CELL = 40
"""Characters of a text that LaTeX must break."""

LINE = 85
"""Characters of a line of LaTeX's, about."""

GAP = 0.03
"""Share of a line that stands between two columns."""

LEAST_SHARE = 0.26
"""Of a line, for the columns of long texts together."""

LONG_TABLE = 40
"""Rows that no page of LaTeX's holds with a title."""

LONG_TEXT = 2000

_MD = {"": "", "small": "", "bold": "**", "best": "**", "second": "*"}
_LATEX = {
    "": "%s",
    "small": r"{\scriptsize %s}",
    "bold": r"\textbf{%s}",
    "best": r"\textbf{%s}",
    "second": r"\underline{%s}",
}


@dataclass(frozen=True)
class Span:
    """A piece of a cell that stands out; pieces are joined as they are, spaces are their own."""

    text: str
    stress: Stress = ""


Shown: TypeAlias = str | Sequence[Span]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of texts under heads. What is in it may be a stranger's: each format escapes it."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Shown]]
    numbers: Collection[int] = ()
    """Columns that are set to the right, and whose heads may be broken."""

    title: Shown = ""
    caption: Sequence[str] = ()
    """Sentences that belong to the title: what the figures are."""

    notes: Sequence[str] = ()
    """What stands below."""

    def __post_init__(self) -> None:
        """Refuse rows that are not as wide as the heads."""
        if any(len(row) != len(self.heads) for row in self.rows):
            raise ValueError("a row has a cell under each head")


def render_sheet(sheet: Sheet, format: str) -> str:
    r"""Write a table with its title and notes; CSV has the table alone.

    Args:
        sheet: the table.
        format: a key of ``SHEET_FORMATS``.

    Raises:
        UsageError: there is no such format.

    Example:
        >>> sheet = Sheet(heads=["a_b", "n"], rows=[["x & y", "-1"]], numbers=[1])
        >>> print(render_sheet(sheet, "md"), end="")
        | a\_b | n |
        |---|--:|
        | x \& y | -1 |
        >>> print(render_sheet(sheet, "csv"), end="")
        a_b,n
        x & y,-1
    """
    writers = {"md": _markdown, "latex": _latex, "csv": _csv}
    if format not in writers:
        raise unknown_name("format", format, writers)
    return writers[format](sheet)


def plain_text(cell: Shown) -> str:
    """Give the text of a cell without what makes it stand out."""
    return cell if isinstance(cell, str) else "".join(span.text for span in cell)


def _spans(cell: Shown) -> Sequence[Span]:
    return [Span(cell)] if isinstance(cell, str) else cell


# Markdown


def markdown_cell(cell: Shown) -> str:
    """Write a cell as Markdown."""
    shown = "".join(
        _MD[span.stress] + markdown(span.text, LONG_TEXT) + _MD[span.stress]
        for span in _spans(cell)
        if span.text
    )
    return shown.strip()


def markdown_rows(sheet: Sheet) -> list[str]:
    """Write the lines of the table alone."""
    rule = ["--:" if at in sheet.numbers else "---" for at in range(len(sheet.heads))]
    return [
        _piped([markdown_cell(head) for head in sheet.heads]),
        f"|{'|'.join(rule)}|",
        *(_piped([markdown_cell(cell) for cell in row]) for row in sheet.rows),
    ]


def _piped(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(sheet: Sheet) -> str:
    title = sheet.title
    title = markdown_cell([Span(title, "bold")] if isinstance(title, str) else title)
    lines = [title, ""] if title else []
    lines += markdown_rows(sheet)
    below = [markdown_item(text) for text in (*sheet.caption, *sheet.notes) if text]
    return "\n".join(lines + ([""] if below else []) + below) + "\n"


# LaTeX


def _latex(sheet: Sheet) -> str:
    long = len(sheet.rows) > LONG_TABLE
    caption = _sentences([_latex_cell(sheet.title), *(latex(s, LONG_TEXT) for s in sheet.caption)])
    broken = _broken(sheet)
    columns = "".join("r" if at in sheet.numbers else "l" for at in range(len(sheet.heads)))
    heads = _ended([_latex_head(text, at in sheet.numbers) for at, text in enumerate(sheet.heads)])
    body = []
    for row in sheet.rows:
        cells = [_latex_cell(cell, at in sheet.numbers) for at, cell in enumerate(row)]
        body.append(_ended([_parbox(c, broken.get(at)) for at, c in enumerate(cells)]))
    notes = [latex(note, LONG_TEXT) for note in sheet.notes if note]
    small = [r"\small", r"\setlength{\tabcolsep}{4pt}"] if len(sheet.heads) > WIDE else []
    below = [r"\par\smallskip\footnotesize\raggedright", r"\par ".join(notes)] if notes else []
    if long:
        lines = [
            "{" + "".join(small),
            rf"\begin{{longtable}}{{{columns}}}",
            *([rf"  \caption{{{caption}}} \\"] if caption else []),
            *(r"  \toprule", heads, r"  \midrule", r"  \endhead"),
            *body,
            *(r"  \bottomrule", r"\end{longtable}", *below),
            "}",
        ]
    else:
        lines = [
            r"\begin{table}",
            r"  \centering",
            *(f"  {line}" for line in small),
            *([rf"  \caption{{{caption}}}", r"  \smallskip"] if caption else []),
            rf"  \begin{{tabular}}{{{columns}}}",
            *(r"  \toprule", heads, r"  \midrule"),
            *body,
            *(r"  \bottomrule", r"  \end{tabular}"),
            *(f"  {line}" for line in below),
            r"\end{table}",
        ]
    packages = r"% \usepackage{booktabs,longtable}" if long else r"% \usepackage{booktabs}"
    return "\n".join([packages, *lines]) + "\n"


def _sentences(texts: Sequence[str]) -> str:
    return " ".join(t if t.endswith((".", "!", "?")) else f"{t}." for t in texts if t.strip())


def _broken(sheet: Sheet) -> dict[int, float]:
    """Give the columns of long texts, with their share of a line: others leave them the rest."""
    longest = {
        at: max((len(plain_text(row[at])) for row in sheet.rows), default=0)
        for at in range(len(sheet.heads))
    }
    long = [at for at, n in longest.items() if at not in sheet.numbers and n > LONG_CELL]
    taken = sum(n for at, n in longest.items() if at not in long) / LINE
    share = max(LEAST_SHARE, 0.95 - taken - GAP * len(longest)) / max(1, len(long))
    return dict.fromkeys(long, share)


def _parbox(cell: str, share: float | None) -> str:
    if share is None or not cell:
        return cell
    breakable = re.sub(r"(\\_|[./,])(?=\w)", r"\1\\allowbreak{}", cell)
    return rf"\parbox[t]{{{share:.2f}\linewidth}}{{\raggedright\strut {breakable}\strut}}"


def _ended(cells: Sequence[str]) -> str:
    # After the end of the row before, a bracket or a star would be an option of it.
    first = "{}" + cells[0] if cells[0][:1] in ("[", "*") else cells[0]
    return f"    {' & '.join([first, *cells[1:]])} \\\\"


def _latex_head(text: str, number: bool) -> str:
    lines = folded(text, HEAD) if number else [text]
    shown = [latex(line) for line in lines]
    if len(shown) == 1:
        return shown[0]
    stacked = r" \\ ".join("{}" + one if one[:1] in ("[", "*") else one for one in shown)
    return rf"\shortstack[r]{{{stacked}}}"


def _latex_cell(cell: Shown, number: bool = False) -> str:
    shown = ""
    for span in _spans(cell):
        text = latex(span.text, LONG_TEXT)
        if number:  # a hyphen is no sign
            text = re.sub(r"(?<![\w}])-(?=\d)", "$-$", text).replace(r"$\pm$ ", r"$\pm$\,")
        bare = text.strip()
        shown += text.replace(bare, _LATEX[span.stress].replace("%s", bare), 1) if bare else text
    indented = shown.startswith("  ")  # a name below another's
    return r"\quad " * indented + shown.strip()


# CSV


def _csv(sheet: Sheet) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([spreadsheet(head) for head in sheet.heads])
    for row in sheet.rows:
        writer.writerow([_csv_cell(plain_text(cell)) for cell in row])
    return buffer.getvalue()


def _csv_cell(text: str) -> str:
    # Figures are no formulas, whatever sign they begin with; a dash says that there is none.
    if text == "-":
        return ""
    return text if re.fullmatch(r"[-+]?[\d.]+( %)?", text) else spreadsheet(text, LONG_TEXT)
