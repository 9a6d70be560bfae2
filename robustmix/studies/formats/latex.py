"""A table for LaTeX: booktabs, best in bold, second underlined, as the papers print theirs."""

from pathlib import Path

from robustmix.metrics.metric import Unit
from robustmix.report.text import latex
from robustmix.studies.formats import words
from robustmix.studies.table import Cell, Column, Table

HEAD = 14
"""Characters of a line in the head of a column."""

WIDE = 4
"""Tables of more columns are set smaller."""

RANKS = {1: r"\textbf{%s}", 2: r"\underline{%s}", None: "%s"}


def text(table: Table, base: Path) -> str:
    """Write a ``table`` environment; what is a stranger's is escaped."""
    heads = [latex(table.heading), *(_head(column) for column in table.columns)]
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        *([r"  \small", r"  \setlength{\tabcolsep}{4pt}"] if len(table.columns) > WIDE else []),
        rf"  \caption{{{_caption(table)}}}",
        r"  \smallskip",
        rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"    \toprule",
        _line(heads),
        r"    \midrule",
    ]
    for row in table.rows:
        cells = zip(row.cells, table.columns, strict=True)
        lines.append(_line([latex(row.title), *(_cell(*pair, table) for pair in cells)]))
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _caption(table: Table) -> str:
    reduced = words.reduced_words(table)
    title = latex(table.title) + (r" (\textbf{reduced})" if reduced else "") + "."
    said = [words.caption(table), "Best in bold, second underlined." if table.ranked else ""]
    said += [f"{one[0].upper()}{one[1:]}." for one in (reduced, words.progress_words(table)) if one]
    return " ".join([title, *(latex(one, 2000) for one in said if one)])


def _line(cells: list[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _head(column: Column) -> str:
    lines = words.folded(f"{column.title} {words.arrow(column)}".strip(), HEAD)
    stacked = r" \\ ".join(latex(line) for line in lines)
    return rf"\shortstack[r]{{{stacked}}}"


def _cell(cell: Cell, column: Column, table: Table) -> str:
    said = []
    if cell.mean is not None:
        figure, _, spread = words.shown(cell, column.unit).partition(" ± ")
        # Only the mean is bold: it is what is the best.
        said.append(RANKS[cell.rank] % latex(figure))
        if spread:
            said.append(rf"{{\scriptsize$\pm$\,{latex(spread)}}}")
        said.append(latex(words.count(cell, table) + words.marks(cell, table)).strip())
    if cell.published is not None:
        said.append(_beside(cell, cell.published.printed, column.unit))
    return " ".join(filter(None, said))


def _beside(cell: Cell, printed: str, unit: Unit) -> str:
    change = words.change(cell, unit).replace("-", "$-$").replace("+", "$+$")
    inside = "*" if cell.inside else ""
    return rf"{{\scriptsize[{latex(printed)}{f' {change}' if change else ''}{inside}]}}"
