"""What is wrong with a value of a recipe, in the words of this program."""

import typing
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robustmix.errors import UsageError, unknown_name
from robustmix.training.recipe_tables import TABLES


def invalid(key: str, want: str, value: object) -> UsageError:
    """Return the error of a key whose value is not what it has to be."""
    return UsageError(f"{key}: expected {want}, got {value!r}", code="E-RECIPE")


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "tuple": "a list",
    "dict": "a table",
    "finite_number": "a finite number",
}


def complaint(error: ValidationError, of: type) -> UsageError:
    """Return the first complaint of pydantic in the words of this program.

    Args:
        error: of the values of a recipe.
        of: what was to be made of them.
    """
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UsageError):  # of __post_init__
        return cause
    place = [str(part) for part in first["loc"] if isinstance(part, str)]
    key = ".".join(place[: 2 if place[0] in TABLES else 1])
    value, kind = first["input"], first["type"]
    if kind == "literal_error":
        choices = typing.get_args(_hint(of, key))
        return unknown_name(f"value of {key}:", str(value), map(str, choices), code="E-RECIPE")
    if kind in ("too_long", "missing"):
        size = len(typing.get_args(_hint(of, key)))
        return invalid(key, f"{size} values", _whole(error, key))
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return invalid(key, _bounds(of, key) or first["msg"].partition("should be ")[2], value)
    plain = kind.removesuffix("_type").removesuffix("_from_float")
    return invalid(key, _TYPES.get(plain, plain), value)


def _whole(error: ValidationError, key: str) -> object:
    for item in error.errors():
        if isinstance(item["input"], tuple | list):
            return list(item["input"])
    return error.errors()[0]["input"]


def _hint(of: type, key: str) -> Any:
    head, _, tail = key.partition(".")
    return typing.get_type_hints(TABLES[head] if tail else of)[tail or head]


def _bounds(of: type, key: str) -> str:
    """Return what bounds a key has, in words."""
    head, _, tail = key.partition(".")
    table: dict[str, Any] = TypeAdapter(of).json_schema()["properties"][head]
    if tail:
        return ""
    choices = [table, *table.get("anyOf", [])]
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    said = [
        f"{text} {c[name] if isinstance(c[name], int) else format(c[name], 'g')}"
        for c in choices
        for name, text in words.items()
        if name in c
    ]
    text = " and ".join(said)
    return f"a number {text}" if text.startswith("above") else text
