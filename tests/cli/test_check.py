import json
from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.comparison.document import CheckDocument
from robustmix.report.report import Report
from tests.comparison.reports import DEFAULT_GATE, base, damaged, report_of, saved, sibling
from tests.report.latex_reader import rows_in_latex


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reports")
    reports = {"a": base(), "again": report_of(name="again"), "b": sibling(), "c": damaged()}
    for name, report in reports.items():
        saved(report, place / name)
    return place


@pytest.fixture(autouse=True)
def no_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def check(folder: Path, name: str, *options: str, baseline: str | None = "a") -> int:
    against = [] if baseline is None else ["--baseline", str(folder / baseline)]
    return run(["check", str(folder / name), *against, *options])


@pytest.mark.parametrize("options", [[], ["--tolerance", "0"], ["--gate", "significant"]])
def test_a_report_passes_against_itself(folder: Path, options: list[str]) -> None:
    for name in ("a", "b", "c"):
        assert check(folder, name, *options, baseline=name) == 0
        assert check(folder, name, *options, "--strict", baseline=name) == 0


def test_the_exit_codes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, "again") == 0
    assert "check: pass" in capsys.readouterr().err
    assert check(folder, "c") == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "check: fail"
    assert max(map(len, out.splitlines())) <= 100
    for name in DEFAULT_GATE:  # the rules that nobody wrote are shown
        assert name in out.replace("\n", "")
    assert "no rules were given: non-inferiority of the accuracy of every suite" in err
    assert "alpha 0.05" in err
    assert check(folder, "again", "--metric", "pgd.robust_acc>=0.1") == 4
    assert check(folder, "nowhere") == 3
    assert check(folder, "a", baseline=None) == 2
    other = saved(sibling(), tmp_path)
    other.write_text(other.read_text().replace('"split": "test"', '"split": "train"'))
    assert run(["check", str(other), "--baseline", str(folder / "a")]) == 5


def test_rules_in_a_file_and_on_the_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "robustmix-check.toml"
    rules.write_text('[[rule]]\nmetric = "clean.top1"\nkind = "no-drop"\ntolerance = "90pp"\n')
    assert check(folder, "c", "--rules", str(rules)) == 0
    assert check(folder, "c", "--rules", str(rules), "--metric", "clean.top1>=0.95") == 1
    assert check(folder, "a", "--metric", "clean.top1>=0.5", baseline=None) == 0
    assert check(folder, "a", "--metric", "clean.top1>=50pp", baseline=None) == 0
    capsys.readouterr()
    assert check(folder, "a", "--metric", "clean.top1>=80", baseline=None) == 2
    assert "did you mean 0.8?" in capsys.readouterr().err
    assert check(folder, "c", "--rules", str(rules), "--margin", "1pp") == 2
    assert check(folder, "c", "--gate", "strict") == 2
    assert check(folder, "c", "--margin", "99pp") == 0
    assert check(folder, "c", "--margin", "2") == 2


def test_strict(folder: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nmetric = "clean.top1"\n')
    assert check(folder, "b", "--rules", str(rules)) == 0  # 200 images cannot decide
    assert check(folder, "b", "--rules", str(rules), "--strict") == 1
    rules.write_text('strict = true\n[[rule]]\nmetric = "clean.top1"\n')
    assert check(folder, "b", "--rules", str(rules)) == 1


def test_trap_32_the_baseline_is_never_written_unasked(folder: Path) -> None:
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    for name in ("a", "b", "c"):
        check(folder, name)
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    assert after == before


def test_the_baseline_is_replaced_when_asked(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "ci" / "baseline"
    update = ["--baseline", str(place), "--update-baseline"]
    assert run(["check", str(folder / "a"), *update]) == 0  # there was none
    assert Report.load(place).content.run.name == "base"
    assert run(["check", str(folder / "c"), *update]) == 1  # judged, and replaced all the same
    assert Report.load(place).content.run.name == "damaged"
    assert run(["check", str(folder / "c"), "--baseline", str(place)]) == 0
    broken = saved(sibling(), tmp_path / "broken")
    broken.write_text(broken.read_text().replace('"status": "ok"', '"status": "failed"'))
    assert run(["check", str(broken), *update]) == 4
    assert Report.load(place).content.run.name == "damaged"
    assert run(["check", str(folder / "a"), "--update-baseline"]) == 2


def test_an_incomplete_report_never_becomes_a_first_baseline(folder: Path, tmp_path: Path) -> None:
    broken = saved(sibling(), tmp_path / "broken")
    broken.write_text(broken.read_text().replace('"status": "success"', '"status": "partial"'))
    place = tmp_path / "baseline"
    command = ["check", str(broken), "--baseline", str(place), "--update-baseline"]
    assert run(command) == 4
    assert not place.exists()


def test_outputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("junit.xml", "check.md", "check.csv", "check.tex")
    junit, markdown, csv, latex = (str(tmp_path / name) for name in names)
    files = ["--junit", junit, "--markdown", markdown, "--csv", csv, "--latex", latex]
    assert check(folder, "c", *files, "--json", "-") == 1
    out, err = capsys.readouterr()
    document = CheckDocument.model_validate_json(out)
    assert document.verdict == "fail"
    assert document.exit_code == 1
    assert "check of damaged against base" in err
    assert Path(junit).read_text().startswith("<?xml")
    assert Path(markdown).read_text(encoding="utf-8").startswith("<!-- robustmix check -->\n")
    assert Path(csv).read_text().count("\n") == 5
    assert len(rows_in_latex(Path(latex).read_text(encoding="utf-8"))) == 5


def test_github(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert check(folder, "c") == 1
    commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert commands[0].startswith("::error title=robustmix ")
    assert "### ❌ robustmix check: fail" in summary.read_text(encoding="utf-8")
    size = summary.stat().st_size
    assert check(folder, "c", "--json", "-") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "fail"  # one document, and the commands elsewhere
    assert "\n::error title=robustmix " in err
    assert check(folder, "c", "--github", "off") == 1
    assert "::error" not in capsys.readouterr().out
    assert summary.stat().st_size == 2 * size
    assert check(folder, "nowhere") == 3
    err = capsys.readouterr().err
    assert err.startswith("::error title=robustmix check::error[E-INTAKE]: there is no report at")
