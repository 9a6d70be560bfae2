from pathlib import Path
from typing import Any

import pytest

from robustmix.comparison.rules import (
    Amount,
    load_rules,
    parse_amount,
    parse_assertion,
    parse_limit,
    rules_from,
)
from robustmix.errors import IntakeError, UsageError


@pytest.mark.parametrize(
    ("text", "unit", "base", "expected"),
    [
        ("0.005", "fraction", 0.8, 0.005),
        (0.005, "fraction", 0.8, 0.005),
        ("0.5pp", "fraction", 0.8, 0.005),
        ("0.5 pp", "fraction", 0.8, 0.005),
        ("1%", "fraction", 0.8, 0.008),
        ("1%", "nats", -2.0, 0.02),
        ("20pp", "fraction", 0.8, 0.2),
        ("30pp", "fraction", 0.8, 0.3),
        ("0.3", "nats", 1.0, 0.3),
        ("2pp", "percent", 80.0, 2.0),
        (0, "fraction", 0.8, 0.0),
        ("5e-3", "fraction", 0.8, 0.005),
    ],
)
def test_units(text: object, unit: Any, base: float, expected: float) -> None:
    assert parse_amount(text, "tolerance").of(unit, base, what="it") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["0.5", "2", 1, 0.21])
def test_trap_29_a_bare_number_that_may_be_points_is_refused(text: object) -> None:
    with pytest.raises(UsageError, match=r"did you mean .*pp \(points\) or .*%"):
        parse_amount(text, "tolerance").of("fraction", 0.8, what="a tolerance")


def test_points_of_what_has_none_are_refused() -> None:
    with pytest.raises(UsageError, match="of a metric in nats"):
        Amount(1.0, "pp").of("nats", 1.0, what="the margin")


@pytest.mark.parametrize(
    "value", ["", "abc", "-0.1", "nan", "inf", "1e999", "0.5ppp", "1 %%", True, None, [1], "pp"]
)
def test_what_is_no_amount(value: object) -> None:
    with pytest.raises(UsageError, match="cannot read margin"):
        parse_amount(value, "margin")


@pytest.mark.parametrize(("text", "limit"), [("0.5", 0.5), ("50pp", 0.5), (82, 82.0), ("-1", -1)])
def test_limits(text: object, limit: float) -> None:
    assert parse_limit(text) == limit


def test_a_limit_in_percent_could_be_of_anything() -> None:
    with pytest.raises(UsageError, match=r"limit 50 %; write 0\.5"):
        parse_limit("50%")


@pytest.mark.parametrize(
    ("text", "operator", "limit"),
    [
        ("corruption.acc_mean_all19>=0.50", ">=", 0.5),
        ("clean.error <= 0.2", "<=", 0.2),
        ("corruption.acc[fog/3]>0.1", ">", 0.1),
    ],
)
def test_assertions(text: str, operator: str, limit: float) -> None:
    rule = parse_assertion(text)
    assert (rule.kind, rule.operator, rule.limit) == ("absolute", operator, limit)


@pytest.mark.parametrize("text", ["clean.top1", "clean.top1==0.5", "top1>=0.5", "clean.top1>=x"])
def test_what_is_no_assertion(text: str) -> None:
    with pytest.raises(UsageError):
        parse_assertion(text)


FILE = """
alpha = 0.01
correction = "bh"
strict = true

[[rule]]
metric = "clean.top1"

[[rule]]
metric = "clean.top1"
kind = "no-drop"
tolerance = ["0.005", "1%"]
any = true

[[rule]]
metric = "corruption.acc[fog/3]"
kind = "absolute"
limit = 0.5
"""


def test_a_file_of_rules(tmp_path: Path) -> None:
    path = tmp_path / "robustmix-check.toml"
    path.write_text(FILE)
    rules = load_rules(path)
    assert (rules.alpha, rules.correction, rules.strict) == (0.01, "bh", True)
    assert [str(rule) for rule in rules.rules] == [
        "clean.top1 non-inferiority margin 1 pp",
        "clean.top1 no-drop 0.005 or 1 %",
        "corruption.acc[fog/3] absolute limit 0.5",
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "the file has no rule"),
        ({"rule": "x"}, "a list of tables"),
        ({"rules": []}, "unknown rules key 'rules'; did you mean 'rule'?"),
        ({"alpha": 0, "rule": [{"metric": "a.b"}]}, "alpha is a level"),
        ({"alpha": "0.05", "rule": [{"metric": "a.b"}]}, "alpha is a level"),
        ({"alpha": True, "rule": [{"metric": "a.b"}]}, "alpha is a level"),
        ({"strict": 1, "rule": [{"metric": "a.b"}]}, "strict is true or false"),
        ({"correction": "bonferroni", "rule": [{"metric": "a.b"}]}, "unknown correction"),
        ({"rule": [{}]}, "cannot read the metric ''"),
        ({"rule": [{"metric": "a.b", "kind": "no-drops"}]}, "did you mean 'no-drop'?"),
        ({"rule": [{"metric": "a.b", "tolerance": 1}]}, "unknown key of a non-inferiority rule"),
        ({"rule": [{"metric": "a.b", "kind": "absolute"}]}, "has no limit"),
        ({"rule": [{"metric": "a.b", "kind": "no-drop", "any": 1}]}, "any is true or false"),
        ({"rule": [{"metric": "a.b"}] * 1001}, "1001 rules are more than 1000"),
    ],
)
def test_rules_that_cannot_be_meant(value: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        rules_from(value)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["[[rule]", "\x00", "a = " + "[" * 5000])
def test_a_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(IntakeError, match="cannot read the rules"):
        load_rules(path)
    with pytest.raises(IntakeError, match="cannot read the rules"):
        load_rules(tmp_path / "nowhere.toml")
