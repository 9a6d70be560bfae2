"""From what was asked for to the suites that run: by name or protocol, with options, in order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from robustmix.errors import UsageError, unknown_option
from robustmix.evaluation.options import Option
from robustmix.evaluation.protocols import ProtocolScene, suites_of_protocols
from robustmix.evaluation.suite import Suite
from robustmix.evaluation.suites.registry import (
    find_suite,
    name_of,
    names_of_all,
    suite_names,
)

DEFAULT_SUITES = ("clean", "calibration")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A suite with its place in a report: under which key, and over which of the samples."""

    suite: Suite
    preset: str | None = None
    """The protocol behind the ``@`` of the key; None for the plain name."""

    of: tuple[str, ...] = ()
    """The protocols that ask for it; none if it was asked for by itself."""

    limit: int | None = None
    """Most samples it is run over, the first of the seeded order; None: all that are evaluated."""

    @property
    def name(self) -> str:
        """Name in the table of suites."""
        return name_of(self.suite)

    @property
    def key(self) -> str:
        """Where the report has it: ``fgsm``, or ``fgsm@paper-adautomix``."""
        return self.name + (f"@{self.preset}" if self.preset else "")


Wanted = str | Sequence[str | Suite | Planned] | Mapping[str, Mapping[str, object]]
"""Names with commas between them; names, suites and those with a place of their own; or names and
the options of each."""


def plan(
    wanted: Wanted | None = None,
    *,
    protocols: Sequence[str] = (),
    scene: ProtocolScene | None = None,
    options: Mapping[str, object] | None = None,
) -> list[Planned]:
    """Choose the suites to run, in order, with the options that were given.

    Args:
        wanted: names (``all`` included), suites, or those with a place of their own. With
            protocols, names choose among their suites, and those that no protocol has are added
            as they are without one. None for what the protocols have, or the default suites.
        protocols: names of protocols.
        scene: what protocols need to know of the images.
        options: options by name, as text or as Python values; each acts on every suite that has
            it.

    Raises:
        UsageError: a name is unknown or named twice, an option is invalid, or no suite that is
            asked for has it.
    """
    names = None if wanted is None else _spelled(wanted)
    given, used = dict(options or {}), set[str]()
    if protocols:
        asked = None if names is None else [one for one in names if isinstance(one, str)]
        placed = [
            Planned(suite=found.suite, preset=found.preset, of=found.of, limit=found.limit)
            for found in suites_of_protocols(
                protocols,
                scene or ProtocolScene(),
                asked,
                change=lambda suite: _with(suite, given, used),
            )
        ]
        present = {item.name for item in placed}
        loose = [one for one in names or () if not isinstance(one, str) or one not in present]
        chosen = _distinct([*placed, *map(_placed, loose)])
    else:
        chosen = _distinct(map(_placed, DEFAULT_SUITES if names is None else names))
    if not chosen:
        raise UsageError("no suite was asked for", "give --suite clean,corruption")
    return _ordered(_with_options(chosen, given, used))


def _spelled(wanted: Wanted) -> list[str | Suite | Planned]:
    """Take a text apart at its commas, and replace ``all`` by the names it stands for."""
    if isinstance(wanted, Mapping):
        return [_with_own(name, options) for name, options in wanted.items()]
    if isinstance(wanted, str):
        wanted = [name.strip() for name in wanted.split(",") if name.strip()]
    return [one for item in wanted for one in (names_of_all() if item == "all" else [item])]


def _with_own(name: str, options: Mapping[str, object]) -> Suite:
    """Give a suite with options that are its alone.

    Raises:
        UsageError: it has no such option.
    """
    used: set[str] = set()
    suite = _with(find_suite(name), options, used)
    for unused in options:
        if unused not in used:
            raise unused_option(unused, [name])
    return suite


def _placed(item: str | Suite | Planned) -> Planned:
    if isinstance(item, Planned):
        return item
    if not (isinstance(item, str) or hasattr(item, "with_options")):
        raise UsageError(f"{item!r:.80} is no suite", "give names: --suite clean,fgsm")
    return Planned(suite=find_suite(item) if isinstance(item, str) else item)


def _distinct(items: Iterable[Planned]) -> list[Planned]:
    chosen: dict[str, Planned] = {}
    for item in items:
        if item.key in chosen:
            raise UsageError(f"suite '{item.key}' is asked for twice", "name it once")
        chosen[item.key] = item
    return list(chosen.values())


def _with_options(
    chosen: list[Planned], given: Mapping[str, object], used: set[str]
) -> list[Planned]:
    """Set options, and add the suites that others want beside them, with the options left.

    What a suite wants beside it follows its own options already; the rest, such as how many images
    a check takes, is set on the wanted one.
    """
    done = [replace(item, suite=_with(item.suite, given, used)) for item in chosen]
    keys = {item.key for item in done}
    for item in [*done]:
        for name, suite in item.suite.wants().items():
            if name not in keys:
                keys.add(name)
                own = {option.name for option in item.suite.options()}
                left = {key: value for key, value in given.items() if key not in own}
                done.append(Planned(suite=_with(suite, left, used)))
    if "clean" not in keys:
        done.append(Planned(suite=_with(find_suite("clean"), given, used)))
    unused = [name for name in given if name not in used]
    if unused:
        raise unused_option(unused[0], [item.name for item in done])
    return done


def _with(suite: Suite, given: Mapping[str, object], used: set[str]) -> Suite:
    """Set the options that a suite has, and note which these are."""
    known = {option.name: option for option in suite.options()}
    values = {name: known[name].value(value) for name, value in given.items() if name in known}
    used.update(values)  # not |=, which makes a new set of keys and leaves the caller's
    return suite.with_options(**values) if values else suite


def unused_option(name: str, present: Sequence[str]) -> UsageError:
    """Make the error for an option that no suite has which is asked for."""
    flag = "--" + name.replace("_", "-")
    having = [suite for suite, options in every_option().items() if name in options]
    if not having:
        known = {option.flag for options in every_option().values() for option in options.values()}
        return unknown_option(flag, known, "see `robustmix eval --help-all`")
    # What was asked for by itself: the checks beside attacks have the options of attacks too.
    first = next((name for name in having if name != "masking"), having[0])
    return UsageError(
        f"{flag} is an option of {', '.join(having)}, and none of these is run: "
        f"{', '.join(dict.fromkeys(present))} {'are' if len(present) > 1 else 'is'}",
        f"add --suite {first}, or leave {flag} out",
        code="E-UNUSED-OPTION",
    )


def every_option() -> dict[str, dict[str, Option]]:
    """Give the options of every suite by their names."""
    return {
        name: {option.name: option for option in find_suite(name).options()}
        for name in suite_names()
    }


def _ordered(items: Iterable[Planned]) -> list[Planned]:
    order = {name: i for i, name in enumerate(suite_names())}
    # Of one name, that without a protocol behind it comes first.
    return sorted(
        items,
        key=lambda item: (order.get(item.name, len(order)), item.name, item.preset is not None),
    )
