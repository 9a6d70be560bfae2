"""Every option and command that an error, a help text or a page names is one that exists."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

import robustmix
from robustmix.cli.app import app
from robustmix.evaluation.plan import every_option

PACKAGE = Path(robustmix.__file__).parent
ROOT = PACKAGE.parent

OPTION = re.compile(r"(?<!var\()(?<![\w`/-])`?(--[a-z][a-z0-9]*(?:-[a-z0-9]+)*)")
COMMAND = re.compile(r"(?:`|^ {4,})robustmix ([a-z]+)(?: ([a-z]+)\b)?", re.M)
"""In quotes or indented: elsewhere what follows the name is a sentence."""

OTHERS = {
    "--array": "of sbatch",
    "--backend-store-uri": "of mlflow",
    "--exclusive": "of sbatch",
    "--extra-index-url": "of pip",
    "--filters": "of git cat-file",
    "--index-url": "of pip",
    "--local-rank": "of torchrun",
    "--logdir": "of tensorboard",
    "--nnodes": "of torchrun",
    "--noheader": "of squeue",
    "--nproc-per-node": "of torchrun",
    "--parsable": "of sbatch",
    "--rdzv-endpoint": "of torchrun",
    "--standalone": "of torchrun",
    "--user": "of squeue",
}
"""Options of other programs that are started or spoken of."""


@cache
def commands() -> dict[str, dict[str, object]]:
    """Every command, and what stands below a group."""
    top = get_command(app).commands  # type: ignore[attr-defined]
    return {name: dict(getattr(one, "commands", {})) for name, one in top.items()}


@cache
def options() -> frozenset[str]:
    """Every option of every command and suite."""
    own = [option for options in every_option().values() for option in options.values()]
    found = {flag for option in own for flag in re.findall(r"--[a-z0-9-]+", option.spelling)}
    queue = [get_command(app)]
    while queue:
        one = queue.pop()
        queue += list(getattr(one, "commands", {}).values())
        found |= {flag for parameter in one.params for flag in parameter.opts}
        found |= {flag for parameter in one.params for flag in parameter.secondary_opts}
    return frozenset(found)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines and texts of a module's string literals, of f-strings what is fixed.

    What a docstring's example types may be wrong on purpose.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, re.sub(r"^ *>>> .*$", "", node.value, flags=re.M)


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
PAGES = [
    path
    for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
    if path.name != "CHANGELOG.md"  # it tells of what there was, too
    and path.name != "results.md"  # its commands are those of the benchmarks
]


def unknown_in(text: str) -> list[str]:
    """Name what a text speaks of and is not there."""
    wrong = [one for one in OPTION.findall(text) if one not in options() and one not in OTHERS]
    for command, below in COMMAND.findall(text):
        if command not in commands():
            wrong.append(f"robustmix {command}")
        elif below and commands()[command] and below not in commands()[command]:
            wrong.append(f"robustmix {command} {below}")
    return wrong


def test_the_search_finds_what_is_not_there() -> None:
    assert unknown_in(
        "see `robustmix eval --sooth` or `robustmix evall`, `robustmix data lst`"
    ) == [
        "--sooth",
        "robustmix evall",
        "robustmix data lst",
    ]
    assert unknown_in("`robustmix eval --suite fgsm --eps 4/255`, and robustmix is -- a--b") == []
    assert len(options()) > 150


def test_what_the_program_says_exists() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {one}"
        for path in SOURCES
        for line, text in texts_of(path)
        for one in unknown_in(text)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_pages_say_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    # What others added has options of its own; their commands name the file.
    lines = [line for line in text.splitlines() if not re.search(r"--import \w", line)]
    wrong = [f"{one} in: {line}" for line in lines for one in unknown_in(line)]
    assert not wrong, "\n".join(wrong)
