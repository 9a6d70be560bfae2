"""Flags of suites on the command line: read off the suites' dataclasses, never written here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, get_origin

from rich import box
from rich.table import Table

from robustmix.errors import UsageError, unknown_option

if TYPE_CHECKING:
    from robustmix.evaluation.options import Option


def split_words(
    words: Sequence[str], suites: Sequence[str], others: Iterable[str]
) -> tuple[list[str], dict[str, object]]:
    """Tell the options of suites from the other words of a command line.

    Args:
        words: what the command itself does not know, in the order it was typed.
        suites: names that are asked for; attacks of other packages have options of their own.
        others: the flags of the command itself, for suggestions.

    Returns:
        The words that are no options, and the options by name: text, or on and off for switches.

    Raises:
        UsageError: no suite has such an option, a value is missing, or it is given twice.
    """
    if not any(word.startswith("-") for word in words):
        return list(words), {}
    known = _known(suites)
    rest: list[str] = []
    given: dict[str, object] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return rest + queue, given
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        flag, equals, value = word.partition("=")
        option, on = _named(flag, known, others)
        if option.is_switch:
            if equals:
                raise UsageError(f"{flag} takes no value", f"write {flag} alone")
            given[option.name] = on
        elif equals:
            _note(given, option, value)
        elif not queue:
            raise UsageError(f"{flag} needs a value", f"write {option.spelling}")
        else:
            _note(given, option, queue.pop(0))
    return rest, given


def _known(suites: Sequence[str]) -> dict[str, "Option"]:
    from robustmix.evaluation.plan import every_option
    from robustmix.evaluation.suites.registry import find_suite

    known = {name: one for options in every_option().values() for name, one in options.items()}
    for name in suites:
        if ":" in name:
            known |= {one.name: one for one in find_suite(name).options()}
    return known


def _named(
    flag: str, known: Mapping[str, "Option"], others: Iterable[str]
) -> tuple["Option", bool]:
    """Find the option of a flag, and whether the flag switches it on."""
    name = flag.removeprefix("--").replace("-", "_")
    if flag.startswith("--") and name in known:
        return known[name], True
    negated = known.get(name.removeprefix("no_")) if name.startswith("no_") else None
    if flag.startswith("--no-") and negated is not None and negated.is_switch:
        return negated, False
    flags = [*(option.flag for option in known.values()), *others]
    raise unknown_option(flag, flags, "see robustmix eval --help-all")


def _note(given: dict[str, object], option: "Option", value: str) -> None:
    before = given.get(option.name)
    if before is None:
        given[option.name] = value
    elif get_origin(option.hint) is tuple:
        given[option.name] = f"{before},{value}"  # lists may be given piece by piece
    else:
        raise UsageError(f"{option.flag} is given twice", "give it once")


def options_table(name: str) -> Table:
    """Show the options of one suite: flag, what it is, default."""
    from robustmix.evaluation.suites.registry import find_suite, suite_rows

    told = suite_rows().get(name)
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{name}: {told.help}" if told is not None else name,
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("option", overflow="fold", max_width=34)
    table.add_column("what it is")
    for option in find_suite(name).options():
        default = option.default_text
        table.add_row(option.spelling, option.help + (f" [default: {default}]" if default else ""))
    if not table.rows:
        table.add_row("-", "it has no options")
    return table


def options_page() -> str:
    """Write the page of docs on every option of every suite, as Markdown."""
    from robustmix.evaluation.suites.registry import find_suite, suite_rows

    lines = [
        "# Options of the suites",
        "",
        "Every option is a flag of `robustmix eval` and an argument of `robustmix.evaluate`, with",
        "`_` for `-`. It acts on every suite of the run that has it; if none has, it is an error.",
        "This page is written by `python scripts/options_page.py` from the suites themselves.",
    ]
    for name, row in suite_rows().items():
        lines += ["", f"## {name}", "", f"{row.help[:1].upper()}{row.help[1:]}.", ""]
        options = find_suite(name).options()
        lines += (
            ["| option | what it is | default |", "|---|---|---|"] if options else ["No options."]
        )
        for option in options:
            cells = (f"`{option.spelling}`", option.help, option.default_text)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
