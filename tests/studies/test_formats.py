import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from robustmix.errors import UsageError
from robustmix.report.text import folded
from robustmix.studies.formats import FORMATS, render
from robustmix.studies.formats.words import caption
from robustmix.studies.layout import Layout
from robustmix.studies.results import RunResult
from robustmix.studies.run_reports import Value
from robustmix.studies.table import Table
from robustmix.studies.tabulate import printed_figures, tabulate
from tests.studies.runs import result

COLUMNS = Layout(metrics=("clean.top1", "fgsm@paper-adautomix.error"))
PAPER_FGSM = "fgsm@paper-adautomix.error"


def run(method: str, seed: int, top1: float, error: float | None = None) -> RunResult:
    value = Value(
        value=top1, unit="fraction", direction="higher", report=Path("runs/x/report.json")
    )
    values = {"clean.top1": value}
    if error is not None:
        values[PAPER_FGSM] = Value(value=error, unit="fraction", direction="lower")
    return replace(result(method, seed), values=values)


def whole() -> Table:
    """AdAutoMix 81.50 +- 0.42 of two runs, MixUp 78.40 of one, CutMix of none."""
    return tabulate(
        [
            run("adautomix", 0, 0.812, 0.75),
            run("adautomix", 1, 0.818, 0.77),
            run("mixup", 0, 0.784, 0.74),
            result("cutmix", 0, complete=False, why="failed: error[E-MEMORY]: memory ran out"),
        ],
        COLUMNS,
        title="Poster, Table 3",
        source="Qin et al. 2024",
        figure_of=printed_figures(["poster-t3"]),
    )


def reduced() -> Table:
    runs = [
        replace(run(m, 0, 0.3 + i / 10), reduced=("2 of 200 epochs",)) for i, m in enumerate("ab")
    ]
    named = [
        replace(one, labels={**one.labels, "method": method})
        for one, method in zip(runs, ("mixup", "cutmix"), strict=True)
    ]
    return tabulate(named, COLUMNS, figure_of=printed_figures())


STEERING = "\x1b[31m\u202e\x9b"
HOSTILE = (
    f"=cmd|'x'!A1 <script>alert(1)</script> \\input{{/etc/passwd}} | **b** $x$ & % # _ {STEERING}"
)


def hostile() -> Table:
    """Names that are code in some format; the second run breaks no layout either."""
    runs = [replace(run("a", 0, 0.5), labels={"method": HOSTILE}), run("Müller 猫 ±", 0, 0.25)]
    return tabulate(runs, Layout(), title=HOSTILE, source=HOSTILE, notes=[HOSTILE])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_format_has_a_file_and_a_test_of_it() -> None:
    for name in FORMATS:
        assert render(whole(), name)
    with pytest.raises(UsageError, match="unknown format 'xls'"):
        render(whole(), "xls")


def test_markdown_as_it_is_written() -> None:
    lines = render(whole(), "md").splitlines()
    assert lines[:7] == [
        "**Poster, Table 3**",
        "",
        "| method | clean.top1 ↑ | fgsm@paper-adautomix.error ↓ |",
        "|---|--:|--:|",
        r"| adautomix | **81.50** ± 0.42 (n=2) \[81.55 -0.05\*\] | *76.00* ± 1.41 (n=2) "
        r"\[75.66 +0.34\*\] |",
        r"| mixup | *78.40* (n=1) [78.52 -0.12] | **74.00** (n=1) |",
        r"| cutmix | [79.45] |  |",
    ]
    assert "3 of 4 runs are complete" in lines[-1]


def test_terminal_as_it_is_written() -> None:
    assert render(whole(), "terminal").splitlines() == [
        "Poster, Table 3",
        "                                    fgsm@paper-",
        "method          clean.top1 ↑  adautomix.error ↓",
        "─" * 48,
        "adautomix  81.50±0.42¹ (n=2)  76.00±1.41² (n=2)",
        "              [81.55 -0.05*]     [75.66 +0.34*]",
        "mixup           78.40² (n=1)       74.00¹ (n=1)",
        "               [78.52 -0.12]",
        "cutmix",
        "                     [79.45]",
        "Mean ± standard deviation over n = 1 to 2 runs. Fractions in percent. clean.top1",
        "of a run: median of the last ten epochs. In brackets what was published (Qin et",
        "al. 2024) and our difference to it in points; * where the published figure lies",
        "in the 95 % interval over our seeds.",
        "¹ best, ² second of a column.",
        "3 of 4 runs are complete",
    ]


def test_csv_reads_back() -> None:
    rows = rows_of(render(whole(), "csv", where=Path("runs/table.csv")))
    assert len(rows) == 6
    first = rows[0]
    assert float(first["mean"]) == pytest.approx(0.815, abs=1e-15)
    assert [float(x) for x in first["values"].split()] == [0.812, 0.818]
    assert (first["seeds"], first["n"], first["rank"]) == ("0 1", "2", "1")
    assert (first["published"], first["stat"]) == ("0.8155", "unknown")
    assert first["source"] == "AdAutoMix poster Table 3"
    assert float(first["difference"]) == pytest.approx(-0.0005, abs=1e-12)
    assert first["inside"] == "true"
    assert first["reports"] == "x/report.json"
    missing = rows[4]
    assert (missing["mean"], missing["std"], missing["n"], missing["difference"]) == (
        "",
        "",
        "0",
        "",
    )
    assert missing["missing"] == "failed: error[E-MEMORY]: memory ran out"


def test_json_reads_back() -> None:
    document = json.loads(render(whole(), "json", where=Path("table.json")))
    assert document["kind"] == "robustmix.table"
    cell = document["rows"][0]["cells"][0]
    assert cell["mean"] == pytest.approx(0.815, abs=1e-15)
    assert [one["value"] for one in cell["seeds"]] == [0.812, 0.818]
    assert cell["published"]["value"] == 0.8155
    assert cell["seeds"][0]["report"] == "runs/x/report.json"
    empty = document["rows"][2]["cells"][0]
    assert (empty["mean"], empty["difference"]) == (None, None)
    assert empty["missing"] == "failed: error[E-MEMORY]: memory ran out"


def test_where_sources_disagree_the_files_say_so() -> None:
    table = tabulate([run("automix", 0, 0.801)], Layout(), figure_of=printed_figures(["poster-t3"]))
    said = json.loads(render(table, "json"))["rows"][0]["cells"][0]
    assert said["published"]["printed"] == "80.02"
    assert {one["printed"] for one in said["others"]} >= {"80.12"}
    assert "DISAGREES" in said["disagreement"]
    assert "80.12" in rows_of(render(table, "csv"))[0]["disagreement"]
    assert "DISAGREES: 80.12" in render(table, "html")


@pytest.mark.parametrize("name", FORMATS)
def test_reduced_runs_are_called_so_and_have_no_difference(name: str) -> None:
    table = reduced()
    text = render(table, name)
    assert "reduced" in text
    assert "2 of 200 epochs" in text
    # 30.00 - 78.52 and 40.00 - 79.45, whoever might have taken them.
    for difference in ("48.52", "0.4852", "39.45", "0.3945"):
        assert difference not in text
    assert "reduced" not in render(whole(), name).replace('"reduced": []', "").replace(
        ",reduced,", ","
    )


def test_hostile_names_are_text() -> None:
    text = render(hostile(), "csv")
    assert rows_of(text)[0]["row"].startswith("'=cmd")
    text = render(hostile(), "md")
    assert "<script>" not in text
    assert "**b**" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    for name in FORMATS:
        assert not {"\x1b", "\u202e", "\x9b"} & set(render(hostile(), name))
    text = render(hostile(), "html")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    text = render(hostile(), "latex")
    assert r"\input{" not in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert r"M\"{u}ller ? $\pm$" in text


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize(
    "title", ["mixup", "a very long name of a method that nobody would give one"]
)
def test_the_terminal_has_80_columns(count: int, title: str) -> None:
    metrics = ["clean.top1", "corruption@paper-adautomix.acc_mean_all19", "x.y"] * 3
    metrics = list(dict.fromkeys(f"{path}{i}" for i, path in enumerate(metrics[:count])))
    values = {path: Value(value=0.5, unit="fraction", direction="higher") for path in metrics}
    runs = [replace(result(m, s), values=values) for m in (title, "b") for s in (0, 1)]
    text = render(tabulate(runs, Layout(metrics=tuple(metrics))), "terminal")
    assert max(map(cell_len, text.splitlines())) <= 80
    # Nothing is cut: every figure is there, and every head can be put together again.
    assert text.count("50.00±0.00") == 2 * count
    assert "…" not in text


def test_heads_are_broken_where_their_parts_end() -> None:
    head = "corruption@paper-adautomix.acc_mean_all19[groups:noise] ↑"
    for width in (5, 12, 20, 100):
        lines = folded(head, width)
        assert "".join(lines).replace(" ", "") == head.replace(" ", "")
    assert folded(head, 100) == [head]
    assert all(len(line) <= 12 for line in folded(head, 12))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
@pytest.mark.parametrize("make", [whole, reduced, hostile])
def test_latex_compiles(make: "object", tmp_path: Path) -> None:
    assert callable(make)
    body = render(make(), "latex")
    (tmp_path / "table.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"{body}\\end{{document}}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000
    assert "Missing character" not in (tmp_path / "table.log").read_text(errors="replace")


def test_latex_marks_best_and_second() -> None:
    text = render(whole(), "latex")
    assert r"\textbf{81.50} {\scriptsize $\pm$\,0.42} (n=2) {\scriptsize [81.55 $-$0.05*]}" in text
    assert r"\underline{78.40} (n=1) {\scriptsize [78.52 $-$0.12]}" in text
    assert r"cutmix & {\scriptsize [79.45]} & " in text
    assert re.search(r"\\toprule.*\\midrule.*\\bottomrule", text, re.DOTALL)


def test_the_caption_says_of_which_epochs_clean_accuracy_is() -> None:
    def said(*statistics: str) -> str:
        one = run("mixup", 0, 0.5)
        runs = [
            replace(one, statistic=name, labels={**one.labels, "method": str(at)})
            for at, name in enumerate(statistics)
        ]
        return caption(tabulate(runs, Layout()))

    assert "clean.top1 of a run: median of the last ten epochs." in said("median-last10")
    both = said("median-last10", "best-last10")
    assert "of a run: median of the last ten epochs or best of the last ten epochs." in both
    assert "epochs; of a lone report: its checkpoint." in said("median-last10", "")
    assert "clean.top1" not in said("")


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_called_best_of_one(name: str) -> None:
    words = "best" if name == "terminal" else "Best in bold"
    assert (words in render(whole(), name)) is (name not in ("csv", "json"))
    alone = tabulate([run("mixup", 0, 0.5)], Layout(), title="One")
    assert words not in render(alone, name)
