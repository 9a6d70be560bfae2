"""Options of suites as flags: read off the fields of their dataclasses, each written once."""

import ast
import dataclasses
import functools
import inspect
import itertools
import reprlib
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

from robustmix.errors import RobustmixError, UsageError, unknown_name
from robustmix.evaluation.params import exact_name, read_fraction
from robustmix.files import expanded

_PARSE, _SHOWN, _FORM = "parse", "shown", "form"

LONGEST = 10_000
"""Most characters of a value, and most values of a list: more is a slip, or meant to do harm."""


def option(
    default: Any,
    *,
    parse: Callable[[str], Any] | None = None,
    shown: str = "",
    form: str = "",
) -> Any:
    """Declare an option whose flag needs more than its type.

    Args:
        default: of the field.
        parse: what is typed -> its value; by the type of the field if not given.
        shown: the default in words, where its value does not say it.
        form: how a value is written, e.g. ``8x8``.
    """
    metadata: dict[str, Any] = {_SHOWN: shown, _FORM: form}
    if parse is not None:
        metadata[_PARSE] = parse
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a suite."""

    name: str
    """Of the field, and of the argument in Python."""

    hint: Any
    default: Any
    help: str
    shown: str = ""
    """The default in words."""

    form: str = ""
    """How a value is written."""

    parse: Callable[[str], Any] | None = None

    @property
    def flag(self) -> str:
        """What is typed on a command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off, and takes no value."""
        return self.hint is bool

    @property
    def spelling(self) -> str:
        """The flag as help shows it, with the form of its value."""
        if self.is_switch:
            return f"{self.flag}/--no-{self.flag[2:]}" if self.default else self.flag
        return f"{self.flag} {self.form or _form(self.hint)}"

    @property
    def default_text(self) -> str:
        """The default as help shows it; empty for a switch that is off."""
        if self.shown or self.default is None or self.default is False:
            return self.shown
        return _written(self.default)

    def value(self, given: object) -> Any:
        """Make the value of what was given: text from a command line, or a Python value.

        Raises:
            UsageError: it is not of the option's type.
        """
        own = self.parse if isinstance(given, str) else None
        try:
            if isinstance(given, str) and len(given) > LONGEST:
                raise ValueError
            return coerced(self.hint, given) if own is None else own(cast(str, given))
        except RobustmixError as error:
            if own is not None:
                raise
            raise UsageError(f"{self.flag}: {error.message}", error.hint, code=error.code) from None
        except (TypeError, ValueError, ArithmeticError):
            text = given if isinstance(given, str) else reprlib.repr(given)
            raise UsageError(
                f"{self.flag} takes {self.form or _form(self.hint)}, got {text[:80]!r}",
                f"write {self.flag} {_example(self)}",
                code="E-OPTION-VALUE",
            ) from None


def options_of(kind: type[Any]) -> tuple[Option, ...]:
    """Read the options of a suite off its dataclass: types, defaults, and what stands below."""
    return _options_of(cast(Any, kind))


@functools.cache
def _options_of(kind: Any) -> tuple[Option, ...]:
    hints, documented = typing.get_type_hints(kind), field_docs(kind)
    return tuple(
        Option(
            name=one.name,
            hint=_bare(hints[one.name]),
            default=one.default if one.default is not MISSING else None,
            help=documented.get(one.name, ""),
            shown=one.metadata.get(_SHOWN, ""),
            form=one.metadata.get(_FORM, ""),
            parse=one.metadata.get(_PARSE),
        )
        for one in dataclasses.fields(kind)
        if one.init
    )


def field_docs(kind: type[Any]) -> dict[str, str]:
    """Give the string below each field of a class and its bases, on one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue  # made at run time: no source, hence nothing to say
        body = getattr(tree.body[0], "body", [])
        for above, below in itertools.pairwise(body):
            if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr):
                value = getattr(below.value, "value", None)
                if isinstance(value, str) and isinstance(above.target, ast.Name):
                    found[above.target.id] = " ".join(value.split()).replace("``", "")
    return found


def coerced(hint: Any, given: object) -> Any:
    """Make a value of a type from text or from a natural Python value.

    Raises:
        TypeError, ValueError: it is none.
        UsageError: it is none of a few choices.
    """
    if callable(unwrap := getattr(given, "tolist", None)):  # of numpy and torch
        given = unwrap()
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Literal:
        if given not in arguments:
            raise unknown_name("value", str(given)[:80], map(str, arguments), code="E-CHOICE")
        return given
    if origin is tuple:
        return _several(arguments, given)
    if origin in (Union, types.UnionType):
        return _any_of(arguments, given)
    return _plain(hint, given)


def _plain(hint: Any, given: object) -> Any:
    if hint is bool or isinstance(given, bool):
        if hint is not bool or not isinstance(given, bool):
            raise TypeError
        return given
    if hint is Fraction:
        if isinstance(given, str):
            return read_fraction(given)
        return Fraction(given) if isinstance(given, int | Fraction) else _nearest(given)
    if hint in (int, float):
        return _number(hint, given)
    if hint in (str, Path):
        if not isinstance(given, str | Path):
            raise TypeError
        return str(given) if hint is str else expanded(given)
    # What a type in brackets holds cannot be checked; text is never meant to be such a thing.
    if isinstance(given, str) if hint is Any or get_origin(hint) else not isinstance(given, hint):
        raise TypeError
    return given


def _number(hint: Any, given: object) -> Any:
    if not isinstance(given, str | int | float) or (hint is int and isinstance(given, float)):
        raise TypeError
    if len(str(given)) > 40:
        raise ValueError
    value = hint(given)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError
    return value


def _nearest(given: object) -> Fraction:
    """Take a float for the simple fraction it was written as: 8/255 in Python is a float."""
    if not isinstance(given, float):
        raise TypeError
    close = Fraction(given).limit_denominator(1000)
    return close if float(close) == given else Fraction(str(given))


def _several(arguments: tuple[Any, ...], given: object) -> tuple[Any, ...]:
    items: list[object]
    if isinstance(given, str):
        items = [item.strip() for item in given.split(",")]
    elif isinstance(given, Iterable) and not isinstance(given, bytes | Mapping | Path):
        items = list(itertools.islice(given, LONGEST + 1))
    else:
        items = [given]
    if len(items) > LONGEST:
        raise ValueError
    if arguments[-1] is Ellipsis:
        return tuple(coerced(arguments[0], item) for item in items if item != "")
    return tuple(coerced(hint, item) for hint, item in zip(arguments, items, strict=True))


def _any_of(arguments: tuple[Any, ...], given: object) -> Any:
    if given is None and type(None) in arguments:
        return None
    error: Exception = TypeError()
    for hint in arguments:
        if hint is not type(None):
            try:
                return coerced(hint, given)
            except (TypeError, ValueError) as one:
                error = one
    raise error


def _bare(hint: Any) -> Any:
    """Take ``| None`` off a type: not to give an option is how it stays None."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [one for one in get_args(hint) if one is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def _form(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Literal:
        return "|".join(map(str, arguments))
    if origin is tuple:
        inner = _form(arguments[0])
        return f"{inner},..." if arguments[-1] is Ellipsis else ",".join([inner] * len(arguments))
    names = {int: "N", float: "X", str: "NAME", Path: "FILE", Fraction: "X"}
    return names.get(hint, "VALUE")


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_written(item) for item in value)
    return exact_name(value) if isinstance(value, Fraction) else str(value)


def _example(one: Option) -> str:
    if one.default_text and one.default not in (None, (), ""):
        return _written(one.default)
    return one.form or _form(one.hint)
