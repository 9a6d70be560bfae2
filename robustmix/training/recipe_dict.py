"""Recipes to and from dictionaries, as TOML and JSON hold them.

A recipe file is flat TOML with four tables: ``[method]`` (a name and the method's options),
``[augment]``, ``[normalisation]`` and ``[test_transform]`` (what the images go through). The copy
that a run writes holds every value that acts, so that it reruns the training whatever later
defaults are.
"""

import functools
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from robustmix.errors import UsageError, nearest, unknown_name
from robustmix.files import expanded, write_text
from robustmix.text import shortened
from robustmix.training.catalogue import flat
from robustmix.training.recipe import INFORMATIVE, Recipe
from robustmix.training.recipe_effect import without_effect
from robustmix.training.recipe_errors import complaint, invalid
from robustmix.training.recipe_tables import TABLES

LAMB_CLIP = 1.0
"""Norm that timm's LAMB clips the gradient to where nothing else is said."""

_KEYS = tuple(f.name for f in fields(Recipe) if f.name != "method_options")


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe as TOML, atomically; ``load_recipe`` gives it back."""
    write_text(expanded(path), tomli_w.dumps(recipe_to_dict(recipe)))


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as TOML and JSON hold it: no None, lists for tuples, tables as tables.

    Keys without effect are left out, so that every key of a recorded recipe acts.
    """
    idle = without_effect(recipe)
    values: dict[str, Any] = {
        key: _plain(getattr(recipe, key))
        for key in _KEYS
        if key not in idle and key not in ("method", *TABLES)
    }
    values["method"] = {"name": recipe.method, **_plain(recipe.method_options)}
    for key in TABLES:
        table = getattr(recipe, key)
        if table is not None:
            values[key] = {k: v for k, v in _plain(table).items() if f"{key}.{k}" not in idle}
    return {key: value for key, value in values.items() if value is not None}


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of such a dictionary; the method's own options stay unchecked.

    Raises:
        UsageError: an unknown key, a value of the wrong type, or an impossible one.
    """
    given = {key: _tuples(value) for key, value in nested(values).items()}
    method = dict(given.pop("method", {}))
    if "name" in method:
        name = method.pop("name")
        if not isinstance(name, str):
            raise invalid("method.name", "a string", name)
        given["method"] = name
    if given.get("optimizer") == "lamb":
        given.setdefault("grad_clip", LAMB_CLIP)
    try:
        return Recipe(**given, method_options=method)
    except ValidationError as error:
        raise complaint(error, Recipe) from None


def recipe_from_record(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a checkpoint records; what an older version recorded in vain is left.

    Raises:
        UsageError: as ``recipe_from_dict``.
    """
    recipe = recipe_from_dict(values)
    idle = without_effect(recipe)
    kept = {
        key: {k: v for k, v in value.items() if f"{key}.{k}" not in idle}
        if isinstance(value, Mapping)
        else value
        for key, value in nested(values).items()
        if key not in idle
    }
    return recipe_from_dict(kept)


def recipe_difference(old: Recipe, new: Recipe) -> str | None:
    """Return the first key in which two recipes differ, as ``key is OLD there, NEW here``.

    What the images go through is compared where the old recipe says it: older versions recorded
    neither normalisation nor test transform.
    """
    old_values, new_values = flat(recipe_to_dict(old)), flat(recipe_to_dict(new))
    unsaid = tuple(f"{key}." for key in TABLES if not getattr(old, key))
    for key in sorted(old_values.keys() | new_values.keys()):
        if key in INFORMATIVE or key.startswith(unsaid):
            continue
        if old_values.get(key) != new_values.get(key):
            there, here = (
                "not set" if value is None else repr(value)
                for value in (old_values.get(key), new_values.get(key))
            )
            return f"{key} is {there} there, {here} here"
    return None


def nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``layer`` with dotted keys as tables and ``method = "x"`` as a table with a name.

    Raises:
        UsageError: a key does not exist, or one of a table is given twice with two values.
    """
    found: dict[str, Any] = {}
    for key, value in layer.items():
        head, dot, tail = key.partition(".")
        table = head in ("method", *TABLES)
        if head not in _KEYS or (dot and not (tail and table)):
            raise _unknown_key(key)
        if head == "method" and not tail and isinstance(value, str):
            tail = "name"
        if table:
            more = {tail: value} if tail else _table(head, value)
            found[head] = _joined(head, found.get(head, {}), more)
        else:
            found[head] = value
    for head in TABLES:
        known = _names(head)
        for tail in found.get(head, {}):
            if tail not in known:
                raise unknown_name(f"{head} key", tail, known)
    return found


def _unknown_key(key: str) -> UsageError:
    near = nearest(key, _KEYS, likeness=0.6)
    hint = (
        f"did you mean '{near}'?"
        if near is not None
        else f"an option of the method is method.{key}; `robustmix recipes schema` has all keys"
    )
    return UsageError(
        f"unknown recipe key '{shortened(key, 100)}'", hint, code="E-UNKNOWN-RECIPE-KEY"
    )


@functools.cache
def _names(table: str) -> tuple[str, ...]:
    return tuple(name for name in typing.get_type_hints(TABLES[table]) if not name.startswith("_"))


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid(key, "a table", value)
    return value


def _joined(table: str, one: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        if key in one and one[key] != value:
            raise UsageError(
                f"{table}.{key} is given twice: {one[key]!r} and {value!r}",
                "give it once",
                code="E-RECIPE",
            )
    return {**one, **more}


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
