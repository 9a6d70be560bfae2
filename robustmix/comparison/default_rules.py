"""The rules of a gate that is given none: one for each accuracy of the baseline."""

from collections.abc import Sequence

from robustmix.comparison.open_report import Source
from robustmix.comparison.pair import own_choice
from robustmix.comparison.paths import accuracy_paths
from robustmix.comparison.rules import (
    DEFAULT_MARGIN,
    GATES,
    Amount,
    Kind,
    Rule,
    RuleSet,
    parse_amount,
)
from robustmix.errors import IncompleteError, UsageError
from robustmix.report.text import plain


def gate_kind(
    own_rules: bool,
    baseline: bool,
    gate: Kind | None,
    margin: Amount | None,
    tolerances: Sequence[Amount],
) -> Kind:
    """Choose the kind of the default rules, refusing options that would do nothing.

    Args:
        own_rules: whether rules were given, so that there are no default ones.
        baseline: whether there is a baseline.
        gate: see ``check``, as for the other arguments.
        margin: likewise.
        tolerances: likewise.

    Raises:
        UsageError: who gives a margin must not get a gate without it.
    """
    given = {"--gate": gate, "--margin": margin, "--tolerance": tolerances or None}
    names = " and ".join(name for name, value in given.items() if value is not None)
    if names and own_rules:
        raise UsageError(
            "--gate, --margin and --tolerance are of the default rules", "leave out --rules"
        )
    if names and not baseline:
        raise UsageError(
            f"{names} is of rules against a baseline, and there is none",
            "add --baseline REPORT, or leave it out",
        )
    kind = gate or ("no-drop" if tolerances and margin is None else "non-inferiority")
    called = next(name for name, of in GATES.items() if of == kind)
    if margin is not None and kind != "non-inferiority":
        hint = "write --tolerance" if kind == "no-drop" else "leave it out"
        raise UsageError(f"--margin is of --gate non-inferiority, not of --gate {called}", hint)
    if tolerances and kind != "no-drop":
        hint = "write --margin" if kind == "non-inferiority" else "leave it out"
        raise UsageError(f"--tolerance is of --gate point, not of --gate {called}", hint)
    return kind


def default_rules(
    baseline: Source | None,
    *,
    asserted: bool,
    kind: Kind,
    margin: Amount | None,
    tolerances: Sequence[Amount],
) -> RuleSet:
    """Make the rules where none are given: no accuracy is worse by a point, if not told otherwise.

    Args:
        baseline: whose accuracies are watched, but those on patches that each model chooses itself.
        asserted: whether absolute rules are given, which without a baseline are all that there is.
        kind: of the rules.
        margin: of rules of the kind ``non-inferiority``; a point if None.
        tolerances: of rules of the kind ``no-drop``.

    Raises:
        UsageError: there is nothing to check.
        IncompleteError: the baseline has no accuracy.
    """
    if baseline is None:
        if not asserted:
            raise UsageError(
                "there is nothing to check", "give --baseline, --rules or --metric", code="E-RULES"
            )
        return RuleSet(rules=())
    watched = [path for path in accuracy_paths(baseline.content) if not own_choice(baseline, path)]
    if not watched:
        raise IncompleteError(
            f"the baseline {plain(baseline.label)} has no accuracy to hold a report against",
            "evaluate it with the suite clean at least, or give --rules",
            code="E-NOTHING",
        )
    allowed = margin or parse_amount(DEFAULT_MARGIN, "margin")
    rules = [
        Rule(path=path, kind=kind, margin=allowed, tolerances=tuple(tolerances)) for path in watched
    ]
    return RuleSet(rules=tuple(rules), is_default=True)
