"""Reads what tables look like in LaTeX: a second implementation of what they are written by."""

import re

SYMBOLS = {
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<",
    "textgreater": ">", "textbar": "|", "quad": "  ",
}  # fmt: skip
MATHS = {
    "$-$": "-", "$\\pm$\\,": "± ", "$\\pm$": "±", "$\\Delta$": "Δ", "$\\uparrow$": "↑",
    "$\\downarrow$": "↓", "$\\rightarrow$": "→",
}  # fmt: skip
SILENT = ("textbf", "underline", "scriptsize", "raggedright", "strut", "allowbreak")


def shown_by_latex(source: str) -> str:
    """Give the text that LaTeX would set; raise for what is no plain text."""
    source = re.sub(r"\\parbox\[t\]\{0\.\d+\\linewidth\}", "", source)
    source = source.replace(r"\shortstack[r]", "").replace(r" \\ ", "")
    text, depth, at = "", 0, 0
    while at < len(source):
        sign = source[at]
        command = re.match(r"\\([a-zA-Z]+) ?", source[at:])
        maths = next((m for m in MATHS if source.startswith(m, at)), "")
        if maths:
            text += MATHS[maths]
            at += len(maths)
        elif source.startswith(r"\symbol{34}", at):
            text += '"'
            at += len(r"\symbol{34}")
        elif command:
            name = command[1]
            assert name in SYMBOLS or name in SILENT, name
            text += SYMBOLS.get(name, "")
            at += command.end()
        elif sign == "\\":
            assert source[at + 1] in "&%$#_{}", source[at:]
            text += source[at + 1]
            at += 2
        elif sign in "{}":
            depth += 1 if sign == "{" else -1
            assert depth >= 0
            at += 1
        else:
            assert sign not in "&%$#_^~", source[at:]
            assert not (sign in "-'`" and source[at + 1 : at + 2] == sign), source[at:]
            text += sign
            at += 1
    assert depth == 0
    return text


def rows_in_latex(source: str) -> list[list[str]]:
    """Split the rows between the rules into cells, and check what stands around them."""
    opened = re.findall(r"\\begin\{(\w+)\}", source)
    assert opened == list(reversed(re.findall(r"\\end\{(\w+)\}", source)))
    (kinds,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{(.*)\}", source)
    columns = len(re.findall("[lr]", kinds))
    body = source[source.index(r"\toprule") : source.index(r"\bottomrule")]
    rows = []
    for line in body.splitlines()[1:]:
        if line.strip() in ("", r"\midrule", r"\endhead"):
            continue
        assert line.endswith(r" \\")
        assert line.strip()[:1] not in ("[", "*")  # they would be options of the row before
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)&", line.strip()[:-2])])
        assert len(rows[-1]) == columns
    return rows
