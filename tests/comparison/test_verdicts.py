"""What suites say in words: never lost, changes told, and what got worse is not shown to hold."""

import io

import pytest
from rich.console import Console

from robustmix.comparison.check import check
from robustmix.comparison.compare import compare, compare_groups
from robustmix.comparison.document import VerdictRow
from robustmix.comparison.markdown import check_markdown, comparison_markdown
from robustmix.comparison.measure import Options
from robustmix.comparison.paths import parse_path
from robustmix.comparison.rules import rules_from
from robustmix.comparison.tables import check_notes, comparison_tables
from robustmix.report.schema import SuitePart, VerdictPart
from tests.comparison.reports import base, report_of, said, sibling, with_verdict

QUICK = Options(replicates=400, function_replicates=200)
CLEAN, SUSPICIOUS = said("clean", "pass", "skip"), said("suspicious", "pass", "warn")
MASKED, UNKNOWN = said("masked", "warn", "fail"), said("not_assessable")


def warnings(a: VerdictPart, b: VerdictPart) -> list[str]:
    document = compare(with_verdict(base(), a), with_verdict(sibling(), b), options=QUICK)
    return [w for w in document.comparisons[0].warnings if w.startswith("W-VERDICT")]


def test_a_changed_verdict_is_told_once_for_all_it_is_on() -> None:
    assert warnings(CLEAN, MASKED) == ["W-VERDICT: masking of fgsm is clean in A and masked in B"]
    assert warnings(MASKED, UNKNOWN) == [
        "W-VERDICT: masking of fgsm is masked in A and not assessable in B"
    ]
    assert warnings(CLEAN, CLEAN) == []


def test_a_suite_of_words_alone_has_its_row() -> None:
    document = compare(with_verdict(base(), CLEAN), with_verdict(sibling(), MASKED), options=QUICK)
    (comparison,) = document.comparisons
    assert comparison.verdicts == [
        VerdictRow(suite="fgsm", title="masking", a="clean", b="masked"),
        VerdictRow(suite="masking", title="masking", a="clean", b="masked"),
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(*comparison_tables(document))
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    at = lines.index(["masking"])
    assert lines[at + 1] == ["clean", "->", "masked", "changed"]
    assert "| masking: masking | clean | masked | - | - | - | - | changed |" in comparison_markdown(
        document
    )


def test_every_suite_of_both_reports_is_in_the_comparison() -> None:
    a, b = with_verdict(base(), CLEAN), with_verdict(sibling(), CLEAN)
    for report in (a, b):
        report.content.suites["quiet"] = SuitePart(kind="quiet", status="ok")
    (comparison,) = compare(a, b, options=QUICK).comparisons
    named = {row.suite for row in comparison.metrics} | {row.suite for row in comparison.verdicts}
    assert named == set(a.content.suites) - {"quiet"}
    assert any(w.startswith("W-SUITE: suite quiet has nothing") for w in comparison.warnings)
    (alone,) = compare(a, b, suites=["clean"], options=QUICK).comparisons
    assert alone.verdicts == []
    asked = compare(a, b, metrics=[parse_path("clean.top1")], options=QUICK).comparisons[0]
    assert asked.verdicts == []


def test_verdicts_of_other_parameters_are_not_put_beside_each_other() -> None:
    a, b = with_verdict(base(), CLEAN), with_verdict(sibling(), MASKED, eps="8/255")
    (comparison,) = compare(a, b, options=QUICK).comparisons
    assert [row.suite for row in comparison.verdicts] == ["fgsm"]
    told = "W-SUITE: suite masking is not compared: protocol of masking: eps 1/255 against 8/255"
    assert told in comparison.warnings


def test_several_runs_list_what_they_say() -> None:
    a = [with_verdict(base(), CLEAN), with_verdict(report_of(name="again"), MASKED)]
    (comparison,) = compare_groups(a, [with_verdict(sibling(), CLEAN)], options=QUICK).comparisons
    assert [(row.a, row.b) for row in comparison.verdicts] == [("clean, masked", "clean")] * 2
    lone = compare_groups(a[:1], [sibling()], options=QUICK).comparisons[0]
    assert "W-SUITE: suite masking is in A only" in lone.warnings


@pytest.mark.parametrize(
    ("a", "b", "worse"),
    [
        (CLEAN, MASKED, True),
        (CLEAN, SUSPICIOUS, True),
        (SUSPICIOUS, MASKED, True),
        (MASKED, SUSPICIOUS, False),
        (CLEAN, UNKNOWN, False),
        (UNKNOWN, MASKED, False),
        (MASKED, MASKED, False),
    ],
)
def test_a_verdict_that_got_worse_is_no_pass_and_no_failure(
    a: VerdictPart, b: VerdictPart, worse: bool
) -> None:
    pair = with_verdict(report_of(name="again"), b), with_verdict(base(), a)
    document = check(*pair, options=QUICK)
    rows = [result for result in document.rules if result.kind == "verdict"]
    assert len(rows) == worse
    assert document.verdict == ("inconclusive" if worse else "pass")
    assert document.exit_code == 0
    assert check(*pair, strict=True, options=QUICK).exit_code == worse
    for result in rows:
        before, now = a.verdict, b.verdict
        assert result.rule == f"masking of fgsm: {before} -> {now}"
        assert (result.outcome, result.message) == ("inconclusive", f"so {now}")
    changed = a.verdict != b.verdict
    assert sum(w.startswith("W-VERDICT") for w in document.warnings) == changed


def test_rules_that_do_not_speak_of_the_suite_are_not_touched() -> None:
    pair = with_verdict(report_of(name="again"), MASKED), with_verdict(base(), CLEAN)
    for metric, doubted in (("clean.top1", False), ("fgsm.robust_acc", True)):
        rules = rules_from({"rule": [{"metric": metric, "kind": "no-drop"}]})
        document = check(*pair, rules, strict=True, options=QUICK)
        assert document.exit_code == doubted
        assert any(w.startswith("W-VERDICT") for w in document.warnings)


def test_what_no_default_rule_watches_is_named() -> None:
    a, b = with_verdict(base(), CLEAN), with_verdict(report_of(name="again"), CLEAN)
    b.content.suites["quiet"] = SuitePart(kind="quiet", status="ok")
    del b.content.suites["calibration"]
    b.content.run.config = {}  # else it says that the suite was run
    document = check(b, a, options=QUICK)
    assert sorted(document.notes) == [
        "not gated: calibration: the candidate does not have it",
        "not gated: masking (clean -> clean): no accuracy",
        "not gated: quiet: the baseline does not have it",
    ]
    assert set(document.notes) <= set(check_notes(document))
    assert "Not gated: quiet: the baseline does not have it." in check_markdown(document)
    # Whoever takes the accuracy of a suite out of what it shows is named too.
    a.content.suites["fgsm"].shown.gated = []
    assert "not gated: fgsm (clean -> clean), masking (clean -> clean): no accuracy" in (
        check(b, a, options=QUICK).notes
    )
