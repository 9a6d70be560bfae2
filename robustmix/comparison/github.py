"""A check as GitHub workflow commands and step summary."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from robustmix.comparison.document import CheckDocument, RuleResult
from robustmix.comparison.markdown import check_markdown
from robustmix.errors import UsageError

ANNOTATIONS = 10
"""Errors, and warnings, that GitHub shows of one step."""

SUMMARY_BYTES = 1024 * 1024
"""What GitHub takes as the summary of one step."""

_RULES_SHOWN = 5


def wanted(mode: str, environment: Mapping[str, str]) -> bool:
    """Tell whether to talk to GitHub: ``on``, ``off``, or ``auto`` by ``GITHUB_ACTIONS``.

    Raises:
        UsageError: another mode.
    """
    if mode not in ("auto", "on", "off"):
        raise UsageError(f"expected --github auto, on or off, got '{mode}'")
    return mode == "on" or (mode == "auto" and environment.get("GITHUB_ACTIONS") == "true")


def escape_data(text: str) -> str:
    r"""Escape the text of a workflow command.

    Example:
        >>> escape_data("100 %\n")
        '100 %25%0A'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape a property of a workflow command.

    Example:
        >>> escape_property("a:b,c")
        'a%3Ab%2Cc'
    """
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def annotations(document: CheckDocument) -> list[str]:
    """Write one workflow command for each suite that does not pass, the gravest first.

    GitHub shows ten errors and ten warnings a step; what is beyond is counted in the last one.
    """
    levels: dict[str, list[tuple[str, str]]] = {"error": [], "warning": []}
    for suite in dict.fromkeys(result.suite for result in document.rules):
        bad = [r for r in document.rules if r.suite == suite and r.outcome != "pass"]
        if not bad:
            continue
        bad.sort(key=_gravity)
        undecided = all(r.outcome == "inconclusive" for r in bad) and not document.strict
        levels["warning" if undecided else "error"].append((suite, _message(bad)))
    commands = []
    for level, found in levels.items():
        order = {r.suite: _gravity(r) for r in sorted(document.rules, key=_gravity, reverse=True)}
        found.sort(key=lambda entry: order[entry[0]])
        for suite, message in _limited(found):
            title = escape_property(f"robustmix {suite}")
            commands.append(f"::{level} title={title}::{escape_data(message)}")
    return commands


def _gravity(result: RuleResult) -> tuple[int, float]:
    """Make a key that puts the worst first."""
    rank = ("incompatible", "incomplete", "fail", "inconclusive", "pass").index(result.outcome)
    delta = result.delta or 0.0
    return rank, delta if result.direction != "lower" else -delta


def _message(bad: Sequence[RuleResult]) -> str:
    lines = [f"{r.rule}: {r.outcome}, {r.message}" for r in bad[:_RULES_SHOWN]]
    if len(bad) > _RULES_SHOWN:
        lines.append(f"and {len(bad) - _RULES_SHOWN} more rules")
    return "\n".join(lines)


def _limited(found: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    if len(found) <= ANNOTATIONS:
        return list(found)
    rest = found[ANNOTATIONS - 1 :]
    names = ", ".join(suite for suite, _ in rest[:10])
    return [*found[: ANNOTATIONS - 1], ("others", f"{len(rest)} more suites: {names}")]


def append_summary(document: CheckDocument, path: Path) -> None:
    """Append a check to the step summary, within what is left of GitHub's limit.

    A summary that cannot be written is no reason to fail: the verdict is in the exit code.
    """
    try:
        used = path.stat().st_size if path.exists() else 0
        left = SUMMARY_BYTES - used - 2
        text = check_markdown(document, limit=max(0, left))
        if len(text.encode("utf-8")) <= left:
            with open(path, "a", encoding="utf-8") as file:
                file.write(text + "\n")
    except OSError:
        return


def summary_path(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Find the file that GitHub takes the step summary from."""
    name = environment.get("GITHUB_STEP_SUMMARY")
    return Path(name) if name else None
