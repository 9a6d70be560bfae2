"""Tables as Markdown, LaTeX and CSV, read back by parsers that are not ours or written anew."""

import csv
import io
import random
import re
from collections.abc import Sequence

import pytest
from markdown_it import MarkdownIt

from robustmix.errors import UsageError
from robustmix.report.sheet import LONG_TABLE, SHEET_FORMATS, Sheet, Span, render_sheet
from robustmix.report.text import latex, markdown, markdown_item
from tests.report.latex_reader import rows_in_latex, shown_by_latex

SIGNS = "_&%#${}~^\\[]*-'`\"<>|!?@()+=.:,/;1a B"
HOSTILE = [
    "_ & % # $ { } ~ ^ \\",
    "[x] *y* **z** _w_ `c` ~~s~~",
    "\\input{/etc/passwd} \\\\ \\end{table} %",
    "<script>alert(1)</script> &lt; &#95; <b>",
    "| a || b | \\| c \\",
    "[a](http://x) ![i](j) [r]: http://y",
    "1. one", "- item", "+ more", "# head", "=====", "> quote", "* star", "-1", "--x---y", "'' ``",
    "@someone #12 a#1 fgsm@quick", "$x$ $$y$$ \\(z\\)", "[-1.00, 2.5](x)", "a_mean[by_severity:5]",
]  # fmt: skip


def random_names(n: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices(SIGNS, k=rng.randint(1, 12))) for _ in range(n)]


def squeezed(text: str) -> str:
    return " ".join(text.split())


def sheet(name: str, *, title: str = "t", rows: int = 2, note: str = "") -> Sheet:
    return Sheet(
        title=title,
        heads=[name, f"{name}.n", "said"],
        rows=[[name, "-1.5 %", [Span(name, "best"), Span(" ± 2", "small")]]] * rows,
        numbers=[1],
        caption=[note],
        notes=[note],
    )


# Markdown, by markdown-it


def shown_by_markdown(source: str) -> list[str]:
    """Give the text of every cell, paragraph and heading; there is nothing but text in them."""
    parser = MarkdownIt("gfm-like", {"linkify": False, "html": True})
    found = []
    for token in parser.parse(source):
        assert token.type != "html_block" or token.content.startswith("<!--"), token
        if token.type == "inline":
            text = ""
            for child in token.children or []:
                if child.type == "html_inline":
                    assert child.content == "<!-- -->"
                    continue
                assert child.type in ("text", "text_special", "strong_open", "strong_close"), child
                text += child.content
            found.append(text)
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_names_as_they_are(name: str) -> None:
    cells = shown_by_markdown(render_sheet(sheet(name, title=name, note=name), "md"))
    whole = squeezed(name)
    row = [whole, "-1.5 %", f"{whole} ± 2"]
    expected = [whole, whole, f"{whole}.n", "said", *row, *row, whole, whole]
    assert [squeezed(cell) for cell in cells] == expected


def test_markdown_shows_any_signs_as_they_are() -> None:
    for name in random_names(400):
        if not name.strip():
            continue
        assert [squeezed(t) for t in shown_by_markdown(markdown_item(name))] == [squeezed(name)]
        table = f"| h | i |\n|---|---|\n| {markdown(name)} | x |\n"
        cells = [squeezed(cell) for cell in shown_by_markdown(table)]
        assert cells == ["h", "i", squeezed(name), "x"]


def test_markdown_has_no_entities_and_calls_nobody() -> None:
    text = "".join(render_sheet(sheet(name), "md") for name in HOSTILE)
    assert re.findall(r"(?<!\\)&", text) == []
    assert re.findall(r"(?<!\w)@\w|(?<![\w\\])#\d|(?<!\w)\\#\d", text) == []
    assert markdown("corruption.acc_mean_all19") == r"corruption.acc\_mean\_all19"
    assert markdown("[-4.00, -0.10]") == "[-4.00, -0.10]"


# LaTeX, by a reader of what is written


def test_latex_sets_names_as_they_are() -> None:
    for name in [*HOSTILE, *random_names(60)]:
        sets_as_it_is(name)


def sets_as_it_is(name: str) -> None:
    source = render_sheet(sheet(name, title=name, note=name), "latex")
    head, *rows = rows_in_latex(source)
    whole = squeezed(name)
    assert squeezed(shown_by_latex(head[0])) == whole
    for row in rows:
        told = [squeezed(shown_by_latex(cell)) for cell in row]
        assert told == [whole, "-1.5 %", squeezed(f"{name} ± 2")]
    assert shown_by_latex(latex(name)) == name
    # Metamorphic: a name changes nothing but itself.
    plain = render_sheet(sheet("x" * len(name), title="t"), "latex")
    assert len(rows_in_latex(plain)) == len(rows) + 1


@pytest.mark.parametrize("rows", [1, LONG_TABLE, LONG_TABLE + 1])
def test_long_tables_may_break_across_pages(rows: int) -> None:
    source = render_sheet(sheet("a", rows=rows), "latex")
    assert (r"\begin{longtable}" in source) == (rows > LONG_TABLE)
    assert ("longtable" in source.splitlines()[0]) == (rows > LONG_TABLE)
    assert len(rows_in_latex(source)) == rows + 1


def test_latex_breaks_long_texts_where_they_have_room() -> None:
    long = Sheet(heads=["a", "n", "said"], numbers=[1], rows=[["x", "1", "many words " * 20]])
    source = render_sheet(long, "latex")
    box = r"\\parbox\[t\]\{(0\.\d+)\\linewidth\}(.*)"
    ((share, text),) = re.findall(box, rows_in_latex(source)[1][2])
    assert 0.2 <= float(share) < 0.95
    assert squeezed(shown_by_latex(text)) == squeezed("many words " * 20)


# CSV, by Python's reader


@pytest.mark.parametrize("name", [*HOSTILE, "=cmd()", "-2.32", "+0.1", "-", 'a,b"c'])
def test_csv_reads_back_and_is_no_formula(name: str) -> None:
    rows = list(csv.reader(io.StringIO(render_sheet(sheet(name, title=name, note=name), "csv"))))
    assert len(rows) == 3
    cell = rows[1][0]
    assert rows[1] == [cell, "-1.5 %", rows[1][2]]
    number = re.fullmatch(r"[-+][\d.]+", name)
    assert cell == ("" if name == "-" else f"'{name}" if name[0] in "=+-@" and not number else name)


def test_a_table_is_whole() -> None:
    with pytest.raises(ValueError, match="a cell under each head"):
        Sheet(heads=["a", "b"], rows=[["1"]])
    with pytest.raises(UsageError, match="did you mean 'latex'"):
        render_sheet(sheet("a"), "latx")
    formats: Sequence[str] = list(SHEET_FORMATS)
    assert all(render_sheet(sheet("a"), name) for name in formats)
