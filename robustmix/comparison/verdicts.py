"""What suites say in words, beside each other: whether a verdict changed, and whether it got worse.

A verdict is not a number, so nothing is tested; but a suite that has nothing else must be seen, and
an attack's accuracy means less where its gradients turn out to be hidden.
"""

from collections.abc import Iterator, Sequence

from robustmix.comparison.document import VerdictRow
from robustmix.comparison.open_report import Source
from robustmix.comparison.paths import completed
from robustmix.report.schema import VerdictPart
from robustmix.report.text import plain

_GRAVITY = ("pass", "warn", "fail")


def verdict_rows(a: Sequence[Source], b: Sequence[Source]) -> list[VerdictRow]:
    """Put the verdicts of two sides, of one run or several each, beside each other.

    Of several runs the different verdicts are listed. A verdict that a side lacks is no row: that
    suites did not run is said elsewhere.
    """
    left, right = _verdicts(a), _verdicts(b)
    return [
        VerdictRow(suite=suite, title=title, a=_words(told), b=_words(right[suite, title]))
        for (suite, title), told in left.items()
        if (suite, title) in right
    ]


def _verdicts(side: Sequence[Source]) -> dict[tuple[str, str], list[VerdictPart]]:
    found: dict[tuple[str, str], list[VerdictPart]] = {}
    for source in side:
        for suite, part in completed(source.content):
            for verdict in part.verdicts:
                found.setdefault((suite, plain(verdict.title, 60)), []).append(verdict)
    return found


def _words(told: Sequence[VerdictPart]) -> str:
    return plain(", ".join(dict.fromkeys(one.verdict.replace("_", " ") for one in told)), 60)


def verdict_warnings(rows: Sequence[VerdictRow], names: tuple[str, str]) -> list[str]:
    """Say which verdicts changed; suites of which the same is said share a line.

    Args:
        rows: the verdicts.
        names: how to call the sides.
    """
    return [
        f"W-VERDICT: {subject(changed)} is {changed[0].a} in {names[0]} and {changed[0].b} in "
        f"{names[1]}"
        for changed in alike([row for row in rows if row.a != row.b])
    ]


def alike(rows: Sequence[VerdictRow]) -> list[list[VerdictRow]]:
    """Group verdicts that say the same: one of attacks is told of each of them."""
    groups: dict[tuple[str, str, str], list[VerdictRow]] = {}
    for row in rows:
        groups.setdefault((row.title, row.a, row.b), []).append(row)
    return list(groups.values())


def subject(rows: Sequence[VerdictRow]) -> str:
    """Name what a verdict is on: ``masking of fgsm, pgd``, or ``masking`` alone."""
    title = rows[0].title
    suites = [row.suite for row in rows if row.suite.partition("@")[0] != title]
    return plain(f"{title} of {', '.join(suites)}" if suites else title, 150)


def worse(a: Source, b: Source, rows: Sequence[VerdictRow]) -> Iterator[tuple[VerdictRow, str]]:
    """Yield the verdicts whose gravest check is graver in the second report, with its reason.

    The words are each suite's own; what its checks found orders them. A verdict without checks, as
    on too few images, is neither better nor worse.
    """
    left, right = _verdicts([a]), _verdicts([b])
    for row in rows:
        before, now = left[row.suite, row.title][0], right[row.suite, row.title][0]
        if 0 <= _grade(before) < _grade(now):
            yield row, now.reason


def _grade(verdict: VerdictPart) -> int:
    """Give the place of the gravest check in the order of gravity, -1 without checks."""
    grades = [_GRAVITY.index(one.status) for one in verdict.checks if one.status in _GRAVITY]
    return max(grades, default=-1)
