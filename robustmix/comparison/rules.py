"""Rules of a gate: read from TOML or a flag, with units that cannot be misread."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from robustmix.comparison.paths import MetricPath, parse_path
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.files import expanded
from robustmix.metrics.metric import Unit
from robustmix.report.text import plain
from robustmix.toml_files import read_toml

Kind = Literal["absolute", "no-drop", "significant", "non-inferiority", "improvement"]
KINDS: tuple[Kind, ...] = get_args(Kind)

GATES: dict[str, Kind] = {
    "point": "no-drop",
    "significant": "significant",
    "non-inferiority": "non-inferiority",
    "improvement": "improvement",
}
"""What ``--gate`` calls the kinds of rules against a baseline."""

DEFAULT_MARGIN = "1pp"
MOST_PERCENT = 1000
"""Of the baseline's value: an error may grow to so much more of itself and still be allowed."""

MOST: dict[Unit, float] = {
    "fraction": 1, "percent": 100, "nats": 100, "score": 100, "pixels": 1000, "images": 10**9,
}  # fmt: skip
"""A loss that is as large as this or larger cannot happen, so a rule that allows it cannot fail."""

_SUSPICIOUS = 0.2
"""A tolerance of a fraction above this is taken for a slip of the unit."""

_MOST_RULES = 1000


@dataclass(frozen=True)
class Amount:
    """A number with its unit, as it was written."""

    number: float
    unit: Literal["", "%", "pp"] = ""

    def __str__(self) -> str:
        return f"{self.number:g}{' ' if self.unit else ''}{self.unit}"

    def of(self, unit: Unit, base: float, *, what: str) -> float:
        """Convert the amount to the unit of a metric.

        Args:
            unit: of the metric.
            base: what a percentage is taken of, the baseline's value.
            what: how to call it in a message.

        Raises:
            UsageError: percentage points of something that is no percentage, a bare number that is
                probably one, or so much that no loss is larger.
        """
        self.check_loss(what)
        if self.unit == "%":
            return abs(base) * self.number / 100
        if self.unit == "" and self.number >= MOST[unit] and unit != "fraction":
            raise _boundless(f"{what} {self} {unit}")
        if self.unit == "pp":
            if unit not in ("fraction", "percent"):
                raise _ambiguous(f"{what} {self} of a metric in {unit}", "write a plain number")
            return self.number / 100 if unit == "fraction" else self.number
        if unit == "fraction" and self.number > _SUSPICIOUS:
            raise _ambiguous(
                f"{what} {self.number:g} of a fraction",
                f"did you mean {self.number:g}pp (points) or {self.number:g}% (of the value)?",
            )
        return self.number

    def check_loss(self, what: str) -> None:
        """Refuse an amount that no loss exceeds, whatever the metric.

        Raises:
            UsageError: it is one.
        """
        most = {"pp": 100, "%": MOST_PERCENT}.get(self.unit, math.inf)
        if self.number >= most and (self.unit == "pp" or self.number > most):
            raise _boundless(f"{what} {self}")


def _boundless(what: str) -> UsageError:
    return UsageError(
        f"{what} allows every loss, so the rule could not fail",
        "give what the metric may lose, such as 0.5pp",
        code="E-MARGIN",
    )


def _ambiguous(what: str, hint: str) -> UsageError:
    return UsageError(f"cannot tell what is meant by {what}", hint, code="E-UNIT")


def parse_amount(value: object, what: str) -> Amount:
    """Read an amount: ``0.005``, ``"1%"`` or ``"0.5pp"``.

    Raises:
        UsageError: it is no number, negative or not finite.

    Example:
        >>> parse_amount("0.5pp", "margin")
        Amount(number=0.5, unit='pp')
    """
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    found = re.fullmatch(r"([0-9.eE+-]+)\s*(%|pp)?", text, re.ASCII)
    try:
        number = float(found[1]) if found and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if found is None or not (math.isfinite(number) and number >= 0):
        raise UsageError(
            f"cannot read {what} '{plain(value, 40)}'", "write 0.005, 0.5pp or 1%", code="E-UNIT"
        )
    unit: Literal["", "%", "pp"] = "%" if found[2] == "%" else "pp" if found[2] else ""
    return Amount(number, unit)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One condition that a report must meet."""

    path: MetricPath
    kind: Kind
    limit: float | None = None
    """``absolute``: in the unit of the metric."""

    operator: Literal[">=", "<=", ">", "<", ""] = ""
    """``absolute``: as written; empty follows the direction of the metric."""

    tolerances: tuple[Amount, ...] = ()
    """``no-drop``: losses that are allowed."""

    loosest: bool = False
    """Whether the largest tolerance decides; else every one must hold."""

    margin: Amount = field(default_factory=lambda: parse_amount(DEFAULT_MARGIN, "margin"))
    """``non-inferiority``: loss that would not matter."""

    def __post_init__(self) -> None:
        self.margin.check_loss("the margin")
        for amount in self.tolerances:
            amount.check_loss("the tolerance")

    def __str__(self) -> str:
        words: dict[str, str] = {
            "absolute": f"{self.operator or 'limit'} {self.limit}",
            "no-drop": " or ".join(map(str, self.tolerances)) or "0"
            if self.loosest
            else " and ".join(map(str, self.tolerances)) or "0",
            "significant": "",
            "non-inferiority": f"margin {self.margin}",
            "improvement": "",
        }
        return f"{self.path} {self.kind} {words[self.kind]}".strip()


@dataclass(frozen=True, kw_only=True)
class RuleSet:
    """All rules of a gate and how they are tested."""

    rules: tuple[Rule, ...]
    alpha: float = 0.05
    correction: Literal["holm", "bh"] = "holm"
    strict: bool = False
    is_default: bool = False

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if len(self.rules) > _MOST_RULES:
            raise UsageError(f"{len(self.rules)} rules are more than {_MOST_RULES}")

    @property
    def compares(self) -> bool:
        """Whether any rule holds the report against a baseline."""
        return any(rule.kind != "absolute" for rule in self.rules)


def check_alpha(alpha: object) -> None:
    """Refuse a level outside (0, 0.5].

    Raises:
        UsageError: it is no such number.
    """
    number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not number or not 0 < float(str(alpha)) <= 0.5:
        raise UsageError(f"alpha is a level in (0, 0.5], got {plain(alpha, 40)}", "write 0.05")


_ASSERTION = re.compile(r"(.+?)\s*(>=|<=|>|<)\s*(\S+)")


def parse_assertion(text: str) -> Rule:
    """Read a rule such as ``corruption.acc_mean_all19>=0.50``.

    Raises:
        UsageError: it is no metric, comparison and number.

    Example:
        >>> str(parse_assertion("clean.top1>=0.8"))
        'clean.top1 absolute >= 0.8'
    """
    found = _ASSERTION.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"cannot read the rule '{plain(text)}'", "write suite.metric>=0.5", code="E-RULE"
        )
    operators: dict[str, Literal[">=", "<=", ">", "<"]] = {
        ">=": ">=", "<=": "<=", ">": ">", "<": "<",
    }  # fmt: skip
    limit = parse_limit(found[3])
    return Rule(
        path=parse_path(found[1]), kind="absolute", limit=limit, operator=operators[found[2]]
    )


def parse_limit(value: object) -> float:
    """Read the limit of an absolute rule: ``0.5`` or ``50pp``.

    Raises:
        UsageError: it is no number, or per cent, which could be of anything.
    """
    negative = str(value).strip().startswith("-")
    bare = str(value).strip()[1:] if negative else value
    amount = parse_amount(bare, "limit")
    if amount.unit == "%":
        raise _ambiguous(f"the limit {amount}", f"write {amount.number / 100:g}")
    number = amount.number / 100 if amount.unit == "pp" else amount.number
    return -number if negative else number


def load_rules(path: Path | str) -> RuleSet:
    """Read rules from a TOML file.

    Raises:
        IntakeError: the file is missing or no TOML.
        UsageError: a key, kind, unit or metric is invalid.
    """
    try:
        value = read_toml(expanded(path), what="rules")
    except IntakeError as error:
        raise IntakeError(
            f"cannot read the rules in {path}: {plain(error.message)}",
            "see docs/ci.md",
            code="E-RULES",
        ) from None
    return rules_from(value)


_KEYS: dict[Kind, frozenset[str]] = {
    "absolute": frozenset({"limit"}),
    "no-drop": frozenset({"tolerance", "any"}),
    "significant": frozenset(),
    "non-inferiority": frozenset({"margin"}),
    "improvement": frozenset(),
}


def rules_from(value: Mapping[str, Any]) -> RuleSet:
    """Read rules from the content of a TOML file.

    Raises:
        UsageError: a key, kind, unit or metric is invalid.
    """
    _check_keys(value, {"alpha", "correction", "strict", "rule"}, "rules key")
    entries = value.get("rule", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UsageError("rules are a list of tables", "write [[rule]]", code="E-RULE")
    if not entries:
        raise UsageError("the file has no rule", "write [[rule]]", code="E-RULE")
    correction, strict = value.get("correction", "holm"), value.get("strict", False)
    if correction not in ("holm", "bh"):
        raise unknown_name("correction", plain(correction, 40), ["holm", "bh"])
    if not isinstance(strict, bool):
        raise UsageError(f"strict is true or false, got {plain(strict, 40)}", code="E-RULE")
    return RuleSet(
        rules=tuple(_rule(entry) for entry in entries),
        alpha=value.get("alpha", 0.05),
        correction="bh" if correction == "bh" else "holm",
        strict=strict,
    )


def _check_keys(value: Mapping[str, Any], known: set[str], what: str) -> None:
    for key in value:
        if key not in known:
            raise unknown_name(what, plain(key, 40), known)


def _rule(entry: Mapping[str, Any]) -> Rule:
    kind = entry.get("kind", "non-inferiority")
    if kind not in KINDS:
        raise unknown_name("rule kind", plain(kind, 40), KINDS)
    _check_keys(entry, {"metric", "kind", *_KEYS[kind]}, f"key of a {kind} rule")
    path = parse_path(str(entry.get("metric", "")))
    if kind == "absolute":
        if "limit" not in entry:
            raise UsageError(f"the rule for {path} has no limit", "add limit = 0.5", code="E-RULE")
        return Rule(path=path, kind=kind, limit=parse_limit(entry["limit"]))
    if kind == "no-drop":
        given = entry.get("tolerance", 0)
        amounts = given if isinstance(given, list) else [given]
        loosest = entry.get("any", False)
        if not isinstance(loosest, bool):
            raise UsageError(f"any is true or false, got {plain(loosest, 40)}", code="E-RULE")
        tolerances = tuple(parse_amount(amount, "tolerance") for amount in amounts)
        return Rule(path=path, kind=kind, tolerances=tolerances, loosest=loosest)
    if kind == "non-inferiority":
        margin = parse_amount(entry.get("margin", DEFAULT_MARGIN), "margin")
        return Rule(path=path, kind=kind, margin=margin)
    return Rule(path=path, kind=kind)
