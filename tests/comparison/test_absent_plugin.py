"""A foreign suite whose plugin is not installed: judged by the columns that its report names."""

import numpy as np
import pytest

from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.comparison.document import CheckDocument, MetricRow
from robustmix.comparison.measure import Options
from robustmix.comparison.paths import parse_path
from robustmix.comparison.rules import parse_assertion, rules_from
from robustmix.errors import IntakeError
from robustmix.evaluation.suites.registry import SUITES
from robustmix.report.report import Report
from robustmix.report.schema import OriginPart
from tests.comparison.reports import base, rows_of, sibling, with_glare

QUICK = Options(replicates=400, function_replicates=200)
MISSING = "needs the plugin glare_suite 1.2, which is not installed"


def row(a: Report, b: Report, metric: str) -> MetricRow:
    (found,) = compare(a, b, metrics=[parse_path(metric)], options=QUICK).comparisons[0].metrics
    return found


def judged(a: Report, b: Report, **rule: object) -> CheckDocument:
    return check(b, a, rules_from({"rule": [rule]}), options=QUICK)


def test_it_is_really_absent() -> None:
    assert "glare" not in SUITES


def test_its_means_are_compared_image_by_image() -> None:
    left, right = rows_of(1), rows_of(2)
    a, b = with_glare(base(), left), with_glare(sibling(), right)
    for metric, at in (("glare.score", 0), ("glare.acc[0.5]", 1), ("glare.acc[1/2]", 1)):
        found = row(a, b, metric)
        only_a = int(((left[at] == 1) & (right[at] == 0)).sum())
        only_b = int(((left[at] == 0) & (right[at] == 1)).sum())
        assert (found.only_a_right, found.only_b_right) == (only_a, only_b)
        assert found.delta == pytest.approx((only_b - only_a) / 200)
        assert found.ci is not None


def test_what_no_column_holds_is_shown_and_not_tested() -> None:
    a, b = with_glare(base(), rows_of(1)), with_glare(sibling(), rows_of(2))
    found = row(a, b, "glare.spread")
    assert (found.a, found.b, found.verdict, found.reason) == (0.25, 0.25, "not tested", MISSING)
    shown = [r.path for r in compare(a, b, options=QUICK).comparisons[0].metrics]
    assert {"glare.score", "glare.spread"} <= set(shown)


def test_it_gates() -> None:
    a = with_glare(base(), rows_of(1))
    again, bad = with_glare(base(), rows_of(1)), with_glare(base(), rows_of(1, loss=0.5))
    document = check(again, a, options=QUICK)
    assert "glare.score" in [result.path for result in document.rules]
    assert document.exit_code == 0
    document = check(bad, a, options=QUICK)
    assert [r.path for r in document.rules if r.outcome == "fail"] == ["glare.score"]


@pytest.mark.parametrize("kind", ["significant", "no-drop"])
def test_what_cannot_be_judged_never_passes(kind: str) -> None:
    a, b = with_glare(base(), rows_of(1)), with_glare(sibling(), rows_of(2))
    document = judged(a, b, metric="glare.spread", kind=kind)
    assert document.exit_code == 4
    assert MISSING in document.rules[0].message
    document = check(b, assertions=[parse_assertion("glare.spread<=0.5")], options=QUICK)
    assert document.exit_code == 4
    assert document.rules[0].message == f"cannot be verified: {MISSING}"
    assert check(b, assertions=[parse_assertion("glare.score>=0.1")]).exit_code == 0


def test_a_column_that_only_the_candidate_names_is_refused() -> None:
    good = rows_of(1)
    bad = np.stack([np.zeros((1, 200)), good[0]])
    a, b = with_glare(base(), good), with_glare(base(), bad, column="bright")
    b.content.suites["glare"].metrics["score"] = a.content.suites["glare"].metrics["score"]
    document = judged(a, b, metric="glare.score", kind="no-drop")
    assert (document.verdict, document.exit_code) == ("incompatible", 5)
    assert document.rules[0].message == "each report makes it from another column"


def test_a_stated_value_that_its_column_does_not_give_is_refused() -> None:
    a, b = with_glare(base(), rows_of(1)), with_glare(base(), rows_of(1, loss=0.5))
    b.content.suites["glare"].metrics["score"] = a.content.suites["glare"].metrics["score"]
    with pytest.raises(IntakeError, match=r"glare\.score is not what the per-sample record gives"):
        check(b, a, options=QUICK)
    with pytest.raises(IntakeError, match=r"glare\.score is not what the per-sample record gives"):
        check(b, assertions=[parse_assertion("glare.score>=0.1")], options=QUICK)


def test_another_version_of_the_plugin_is_told() -> None:
    a, b = with_glare(base(), rows_of(1)), with_glare(sibling(), rows_of(2))
    b.content.suites["glare"].origins[0].version = "1.3"
    told = (
        "W-PLUGIN: suite glare of suite glare is by glare_suite 1.2 in one report and by "
        "glare_suite 1.3 in the other"
    )
    assert told in compare(a, b, options=QUICK).comparisons[0].warnings
    assert told in check(b, a, options=QUICK).warnings
    assert told not in compare(a, a, options=QUICK).comparisons[0].warnings


def test_an_absent_metric_of_a_suite_that_is_here() -> None:
    def with_metric(report: Report) -> Report:
        content = report.content.model_copy(deep=True)
        part = content.suites["clean"]
        part.metrics["mine"], part.metrics["other"] = part.metrics["top1"], part.metrics["top1"]
        part.columns = {"mine": ("clean", "correct")}
        origin = {"kind": "metric", "module": "my_metrics", "version": "0.3"}
        part.origins = [OriginPart(name=f"clean.{name}", **origin) for name in ("mine", "other")]
        return Report(content, report.samples)

    a, b = with_metric(base()), with_metric(sibling())
    assert row(a, b, "clean.mine").p == row(a, b, "clean.top1").p
    told = "needs the plugin my_metrics 0.3, which is not installed"
    assert row(a, b, "clean.other").reason == told
    assert row(a, b, "clean.error").reason is None
