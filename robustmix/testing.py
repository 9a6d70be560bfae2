"""Assertions for test suites of those who train models.

>>> from robustmix.testing import assert_no_regression
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from robustmix.comparison.check import check
from robustmix.comparison.document import CheckDocument
from robustmix.comparison.measure import Options
from robustmix.comparison.rules import Rule, RuleSet, rules_from
from robustmix.report.report import Report

__all__ = ["assert_no_regression"]


def assert_no_regression(
    report: Report | Path | str,
    baseline: Report | Path | str,
    rules: RuleSet | Sequence[Rule] | Mapping[str, object] | Path | str | None = None,
    *,
    strict: bool = False,
    allow_unverified: bool = False,
    options: Options | None = None,
) -> CheckDocument:
    """Fail a test if a report is worse than the rules allow.

    Args:
        report: what was just evaluated, or its file or folder.
        baseline: what it is held against; also ``git:REF:PATH``.
        rules: a TOML file, its content as a dict, rules, or None: no accuracy is worse by a point.
        strict: whether to fail also where the data cannot decide.
        allow_unverified: whether to believe numbers that no per-sample record verifies.
        options: replicates and seed of the statistics.

    Returns:
        What was found, for further assertions.

    Raises:
        AssertionError: a rule is violated, or could not be judged; the message names each.
        RobustmixError: a report or the rules cannot be read.
    """
    __tracebackhide__ = True
    if isinstance(rules, Mapping):
        rules = rules_from(rules)
    elif rules is not None and not isinstance(rules, RuleSet | Path | str):
        rules = RuleSet(rules=tuple(rules))
    document = check(
        report,
        baseline,
        rules,
        strict=strict,
        allow_unverified=allow_unverified,
        options=options,
    )
    if document.exit_code != 0:
        bad = [result for result in document.rules if result.outcome != "pass"]
        lines = [f"{result.outcome}: {result.rule}: {result.message}" for result in bad]
        raise AssertionError("\n".join([f"robustmix check: {document.verdict}", *lines]))
    return document
