"""What continuous integration reads: byte for byte, or against the schema of its readers."""

import csv
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from rich.console import Console

from robustmix.comparison.check import overall
from robustmix.comparison.compare import compare
from robustmix.comparison.document import CheckDocument, Outcome, ReportRef, RuleResult, Settings
from robustmix.comparison.formatting import show, show_change, show_p, show_range
from robustmix.comparison.github import (
    SUMMARY_BYTES,
    annotations,
    append_summary,
    escape_data,
    escape_property,
    summary_path,
    wanted,
)
from robustmix.comparison.junit import junit_xml
from robustmix.comparison.markdown import (
    CHECK_MARKER,
    COMPARE_MARKER,
    check_markdown,
    comparison_markdown,
)
from robustmix.comparison.measure import Options
from robustmix.comparison.tables import (
    check_csv,
    check_latex,
    check_notes,
    check_table,
    comparison_csv,
    comparison_latex,
    comparison_notes,
    comparison_tables,
)
from robustmix.errors import UsageError
from robustmix.report.text import markdown
from tests.comparison.reports import base, sibling
from tests.report.latex_reader import rows_in_latex, shown_by_latex

SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))
EVIL = "<script>alert(1)</script>|`x`\x1b[31m\u202e]]>&\ud800::error::\r\n@someone"


def rule(outcome: Outcome, suite: str = "clean", metric: str = "top1", **fields: Any) -> RuleResult:
    return RuleResult(
        rule=f"{suite}.{metric} no-drop 0",
        kind="no-drop",
        path=f"{suite}.{metric}",
        suite=suite,
        outcome=outcome,
        **{
            "message": "82.32 -> 80.00 (-2.32 points), loss allowed 0.00",
            "unit": "fraction",
            "direction": "higher",
            "n": 100,
            "value": 0.8,
            "baseline": 0.8232,
            "delta": -0.0232,
            "ci": (-0.04, -0.001),
            "ci_method": "newcombe",
            "limit": 0.0,
            "seconds": 0.25,
            **fields,
        },
    )


def document(*rules: RuleResult, strict: bool = False, name: str = "new") -> CheckDocument:
    reference = ReportRef(
        name=name, sha256="a" * 64, run_id="r", model="m.pth", state_sha256="s", dataset="digits",
        n=100, presets=[],
    )  # fmt: skip
    outcome = overall(rules)
    codes = {"pass": 0, "inconclusive": int(strict), "fail": 1, "incomplete": 4, "incompatible": 5}
    return CheckDocument(
        verdict=outcome,
        exit_code=codes[outcome],
        strict=strict,
        candidate=reference,
        baseline=reference.model_copy(update={"name": "old", "sha256": "b" * 64}),
        settings=Settings(
            alpha=0.05, correction="holm", replicates=1, function_replicates=1, seed=0, power=0.8
        ),
        rules=list(rules),
    )


OUTCOMES: tuple[Outcome, ...] = ("pass", "fail", "inconclusive", "incomplete", "incompatible")


def test_junit_fits_the_schema_and_adds_up() -> None:
    rules = [rule(outcome, suite, EVIL) for outcome in OUTCOMES for suite in ("clean", "fgsm@a")]
    for strict in (False, True):
        text = junit_xml(document(*rules, strict=strict))
        SCHEMA.validate(text)
        root = ET.fromstring(text)
        assert root.attrib == {
            "name": "robustmix check", "tests": "10", "time": "2.500",
            "failures": "4" if strict else "2", "errors": "4",
        }  # fmt: skip
        for suite in root:
            kinds = [child.tag for case in suite for child in case if child.tag != "system-out"]
            assert suite.get("tests") == "5" == str(len(suite))
            assert suite.get("failures") == str(kinds.count("failure"))
            assert suite.get("errors") == "2" == str(kinds.count("error"))
            assert suite.get("skipped") == str(kinds.count("skipped"))
        assert {case.get("classname") for case in root.iter("testcase")} == {
            "robustmix.clean",
            "robustmix.fgsm@a",
        }


def test_junit_byte_for_byte() -> None:
    assert junit_xml(document(rule("fail"))) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="robustmix check" tests="1" failures="1" errors="0" time="0.250">\n'
        '  <testsuite name="clean" tests="1" failures="1" errors="0" skipped="0" time="0.250">\n'
        '    <testcase classname="robustmix.clean" name="clean.top1 no-drop 0" time="0.250">\n'
        '      <failure message="82.32 -&gt; 80.00 (-2.32 points), loss allowed 0.00" '
        'type="fail">82.32 -&gt; 80.00 (-2.32 points), loss allowed 0.00</failure>\n'
        "      <system-out>outcome: fail\nvalue: 0.8\nbaseline: 0.8232\nlimit: 0.0\n"
        "interval: -0.04 to -0.001\ninterval by: newcombe\nn: 100\nunit: fraction</system-out>\n"
        "    </testcase>\n"
        "  </testsuite>\n"
        "</testsuites>\n"
    )


def test_github_commands_byte_for_byte() -> None:
    found = annotations(
        document(
            rule("pass", "shuffle"),
            rule("inconclusive", "pgd"),
            rule("fail", "clean", message="100 %\nof: a, b"),
            rule("pass", "clean", "top5"),
            rule("incomplete", "fgsm@a:b,c", message="gone"),
        )
    )
    assert found == [
        "::error title=robustmix fgsm@a%3Ab%2Cc::fgsm@a:b,c.top1 no-drop 0: incomplete, gone",
        "::error title=robustmix clean::clean.top1 no-drop 0: fail, 100 %25%0Aof: a, b",
        "::warning title=robustmix pgd::pgd.top1 no-drop 0: inconclusive, "
        "82.32 -> 80.00 (-2.32 points), loss allowed 0.00",
    ]
    assert escape_data("a%0A\r\n") == "a%250A%0D%0A"
    assert escape_property("a:b,c\n%") == "a%3Ab%2Cc%0A%25"


def test_github_shows_ten_of_each_and_counts_the_rest() -> None:
    many = [rule("fail", f"s{i:02d}", delta=-i / 100) for i in range(14)]
    many += [rule("inconclusive", f"t{i:02d}") for i in range(10)]
    found = annotations(document(*many))
    errors = [line for line in found if line.startswith("::error")]
    assert len(errors) == 10
    assert [line.split("::")[1] for line in errors][:2] == [
        "error title=robustmix s13",
        "error title=robustmix s12",
    ]
    assert errors[-1] == "::error title=robustmix others::5 more suites: s04, s03, s02, s01, s00"
    assert len(found) == 20
    assert all("\n" not in line for line in found)


def test_one_annotation_a_suite_with_its_worst_rules_first() -> None:
    rules = [rule("inconclusive", metric=f"m{i}") for i in range(7)] + [rule("fail", metric="bad")]
    (line,) = annotations(document(*rules))
    assert line.startswith("::error title=robustmix clean::clean.bad no-drop 0: fail")
    assert line.endswith("%0Aand 3 more rules")
    assert annotations(document(*rules[:1], strict=True))[0].startswith("::error")


def test_when_github_is_talked_to() -> None:
    assert wanted("on", {})
    assert wanted("auto", {"GITHUB_ACTIONS": "true"})
    assert not wanted("auto", {"GITHUB_ACTIONS": "false"})
    assert not wanted("off", {"GITHUB_ACTIONS": "true"})
    with pytest.raises(UsageError, match="auto, on or off"):
        wanted("yes", {})
    assert summary_path({}) is None
    assert summary_path({"GITHUB_STEP_SUMMARY": "x"}) == Path("x")


def test_the_summary_is_appended_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    append_summary(document(rule("pass")), path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n" + CHECK_MARKER)
    many = [rule("pass", metric=f"m{i:05d}" + "x" * 150) for i in range(6000)] + [rule("fail")]
    append_summary(document(*many), path)
    assert 0.5 * SUMMARY_BYTES < path.stat().st_size <= SUMMARY_BYTES
    text = path.read_text(encoding="utf-8")
    assert "| ❌ | clean.top1 no-drop 0 |" in text  # what fails stays
    assert "more rules are not shown." in text
    path.write_bytes(b"x" * (SUMMARY_BYTES - 10))
    append_summary(document(rule("pass")), path)
    assert path.stat().st_size == SUMMARY_BYTES - 10
    append_summary(document(rule("pass")), tmp_path)  # a folder: nothing to fail over


def test_markdown_byte_for_byte() -> None:
    assert check_markdown(document(rule("fail", p_adjusted=0.0004))) == (
        "<!-- robustmix check -->\n"
        "### ❌ robustmix check: fail\n"
        "\n"
        "new (aaaaaaaa) against old (bbbbbbbb): a rule is violated.\n"
        "\n"
        "|  | rule | baseline | value | change | 95 % interval | p | n |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|\n"
        "| ❌ | clean.top1 no-drop 0 | 82.32 | 80.00 | -2.32 | [-4.00, -0.10] "
        "| \\<.001 | 100 |\n"
        "\n"
        "<sub>Fractions in percent, differences in points; paired by image; p adjusted after "
        "Holm.</sub>\n"
    )


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_nothing_in_a_name_is_executed(outcome: Outcome) -> None:
    """Names in reports may be a stranger's: no markup, no escape sequence, no new line."""
    evil = document(rule(outcome, suite="clean", metric=EVIL, message=EVIL), name=EVIL)
    text = check_markdown(evil)
    markup = re.findall(r"(?<!\\)<(?!!--|/?sub>).*", text)
    assert markup == []
    assert "@someone" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "no-drop" in line]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [9]
    console = Console(file=io.StringIO(), width=100)
    console.print(check_table(evil), markup=False, highlight=False)
    for line in check_notes(evil):
        console.print(line, markup=False)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert all("\n" not in line for line in annotations(evil))


def test_tables_fit_100_columns() -> None:
    comparison = compare(base(), sibling(), everything=True, options=Options(replicates=200))
    tables = [*comparison_tables(comparison), check_table(document(rule("fail", metric="x" * 150)))]
    for table in tables:
        console = Console(file=io.StringIO(), width=100)
        console.print(table)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert max(map(len, lines)) <= 100
        assert not any("…" in line for line in lines)
    assert any("not tested: clean.nll_max" in line for line in comparison_notes(comparison))


def test_the_comparison_as_markdown_and_csv() -> None:
    comparison = compare(base(), sibling(), options=Options(replicates=200))
    text = comparison_markdown(comparison)
    assert text.startswith(COMPARE_MARKER + "\n### base (")
    rows = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    metrics = comparison.comparisons[0].metrics
    assert [row["path"] for row in rows] == [row.path for row in metrics]
    assert [float(row["delta"]) for row in rows] == [row.delta for row in metrics]
    assert {row["side_a"] for row in rows} == {"base"}
    assert "&#" not in text
    assert all(f"| {markdown(row.path)} |" in text for row in metrics)


def test_the_comparison_as_latex() -> None:
    comparison = compare(base(), sibling(), options=Options(replicates=200))
    text = comparison_latex(comparison)
    head, *rows = rows_in_latex(text)
    assert [shown_by_latex(cell) for cell in head][:3] == ["metric", "A", "B"]
    metrics = comparison.comparisons[0].metrics
    names = [shown_by_latex(row[0]) for row in rows]
    assert names[: len(metrics)] == [row.path for row in metrics]
    for row, cells in zip(metrics, rows, strict=False):
        assert shown_by_latex(cells[3]) == show_change(row.delta, row.unit)
        assert shown_by_latex(cells[4]) == show_range(row.ci, row.unit)
        assert cells[-1] == row.verdict


def test_a_check_as_latex() -> None:
    one = rule("fail", message="$x$")
    head, *rows = rows_in_latex(check_latex(document(one)))
    assert shown_by_latex(head[0]) == "outcome"
    assert [[shown_by_latex(cell) for cell in row][:2] for row in rows] == [["fail", one.rule]]


def test_a_check_as_csv() -> None:
    (row,) = csv.DictReader(io.StringIO(check_csv(document(rule("fail", message="=1+1")))))
    assert (row["outcome"], row["value"], row["message"]) == ("fail", "0.8", "'=1+1")
    assert row["ci"] == "-0.04 -0.001"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show(0.8232, "fraction"), "82.32"),
        (show(8 / 255, "pixels"), "8.000"),
        (show(61.2345, "percent"), "61.23"),
        (show_change(-0.00001, "fraction"), "0.00"),
        (show_change(0.1, "nats"), "+0.1000"),
        (show_change(None, "nats"), "-"),
        (show_range((-0.01, 0.0), "fraction"), "[-1.00, 0.00]"),
        (show_range(None, "fraction"), "-"),
        (show_p(0.9996), "1"),
        (show_p(0.001), ".001"),
    ],
)
def test_numbers_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected
