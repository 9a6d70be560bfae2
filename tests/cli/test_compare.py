import json
from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.comparison.document import ComparisonDocument
from tests.comparison.reports import base, damaged, saved, sibling
from tests.report.latex_reader import rows_in_latex, shown_by_latex


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reports")
    for name, report in (("a", base()), ("b", sibling()), ("c", damaged())):
        saved(report, place / name)
    return place


FAST = ["--replicates", "200"]


def test_the_table_is_the_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(folder / "a"), str(folder / "c"), *FAST]) == 0
    out, err = capsys.readouterr()
    rows = out.splitlines()
    assert max(map(len, rows)) <= 100
    assert rows[0].strip() == "base -> damaged"
    assert rows[2].split() == [
        "metric", "A", "B", "Δ", "95", "%", "of", "Δ", "p", "MDD", "verdict",
    ]  # fmt: skip
    (top1,) = (row for row in rows if row.strip().startswith("top1"))
    assert top1.split()[-1] == "worse"
    assert "W-SEEDS" in err


def test_json_alone_is_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(folder / "a"), str(folder / "b"), str(folder / "c"), *FAST]
    assert run([*command, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    document = ComparisonDocument.model_validate_json(out)
    assert [one.b[0].name for one in document.comparisons] == ["sibling", "damaged"]
    assert document.kind == "robustmix.comparison"
    assert "base -> sibling" in err
    assert str(folder) not in out
    assert run([*command, "--json", "-"]) == 0
    assert capsys.readouterr().out == out  # the same bytes again


def test_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(folder / "a"), str(folder / "b"), *FAST]
    options = ["--json", "x.json", "--markdown", "x.md", "--csv", "x.csv", "--latex", "x.tex"]
    paths = [str(tmp_path / o) if "." in o else o for o in options]
    assert run([*command, *paths, "--suite", "clean", "--margin", "2pp"]) == 0
    document = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert document["margin"] == 0.02
    assert {row["suite"] for row in document["comparisons"][0]["metrics"]} == {"clean"}
    assert (tmp_path / "x.md").read_text(encoding="utf-8").startswith("<!-- robustmix compare -->")
    _, *rows = rows_in_latex((tmp_path / "x.tex").read_text(encoding="utf-8"))
    metrics = [row["path"] for row in document["comparisons"][0]["metrics"]]
    assert [shown_by_latex(row[0]) for row in rows] == metrics
    assert (tmp_path / "x.csv").read_text(encoding="utf-8").startswith("side_a,side_b,path,suite")
    assert "base -> sibling" in capsys.readouterr().out


def test_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = [f"old={folder / 'a'},{folder / 'b'}", f"new={folder / 'c'}"]
    command = ["compare", "--group", sides[0], "--group", sides[1], "--metric", "clean.top1", *FAST]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "base, sibling -> damaged" in out
    assert "W-FEW-RUNS" in err


def test_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(folder / "a"), str(folder / "b"), "--all", *FAST]) == 0
    out, err = capsys.readouterr()
    assert "acc[brightness/4] ↑" in out
    assert "not tested: " in err


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["A"], 2, "error[E-USAGE]: expected two reports or more"),
        ([], 2, "error[E-USAGE]: expected two reports or more"),
        (["A", "nowhere"], 3, "error[E-INTAKE]: there is no report at nowhere"),
        (["A", "A", "--metric", "top1"], 2, "error[E-METRIC-PATH]: cannot read the metric 'top1'"),
        (["A", "A", "--suite", "pgd"], 2, "error[E-NOTHING]: the reports have no metric in common"),
        (["A", "A", "--alpha", "5"], 2, "error[E-USAGE]: alpha is a level"),
        (["A", "A", "--margin", "1"], 2, "error[E-UNIT]: cannot tell what is meant by --margin 1"),
        (["A", "A", "--correction", "none"], 2, "error[E-USAGE]: unknown correction 'none'"),
        (["A", "A", "--group", "x"], 2, "error[E-GROUP]: expected --group twice"),
        (["A", "A", "--replicates", "5"], 2, "error[E-USAGE]: expected --replicates from 100"),
        (["A", "A", "--json", "-", "--csv", "-"], 2, "error[E-USAGE]: two results cannot both"),
        (["A", "A", "--json", "/proc/x/y"], 4, "error[E-WRITE]: cannot write /proc/x/y"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_an_exit_code(
    folder: Path,
    arguments: list[str],
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(folder / "a") if one == "A" else one for one in arguments]
    assert run(["compare", *given]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(line), err


def test_incompatible_reports_exit_5_and_name_the_difference(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(sibling(), tmp_path)
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"'))
    assert run(["compare", str(folder / "a"), str(path)]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error[E-INCOMPATIBLE]: base and sibling cannot be compared: ")
    assert "split: test against train" in line
