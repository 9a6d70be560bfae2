"""The tables of a recipe beside ``[method]``: which keys they have, and what they are made into."""

import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from robustmix.data.augment import Augment
from robustmix.data.protocol import TestTransform
from robustmix.errors import UsageError

_Level = Annotated[float, Field(gt=0, lt=1)]


def _partial(of: type, hints: Mapping[str, Any]) -> Any:
    """Return the type of a table that holds any of some keys, for pydantic."""
    make: Any = TypedDict  # made at run time, so that a table has the fields of its dataclass
    table = make(of.__name__, dict(hints), total=False)
    table.__pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    return table


def _hints_of(of: type) -> dict[str, Any]:
    hints = typing.get_type_hints(of, include_extras=True)
    return {field.name: hints[field.name] for field in fields(of)}


class _Normalisation:
    """Mean and standard deviation a channel (R, G, B), in [0, 1] pixel units."""

    mean: tuple[_Level, _Level, _Level]
    std: tuple[_Level, _Level, _Level]


if TYPE_CHECKING:
    AugmentTable = Mapping[str, Any]
    NormalisationTable = Mapping[str, Any]
    TransformTable = Mapping[str, Any]
else:
    AugmentTable = _partial(Augment, _hints_of(Augment))
    NormalisationTable = _partial(
        _Normalisation, typing.get_type_hints(_Normalisation, include_extras=True)
    )
    TransformTable = _partial(TestTransform, _hints_of(TestTransform))

TABLES: Mapping[str, type] = {
    "augment": Augment,
    "normalisation": _Normalisation,
    "test_transform": TestTransform,
}
"""Keys that are tables in TOML, besides ``method``, and what they are made into."""


def build_table(key: str, make: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Return what a table is made into; its defaults stand for what is not said.

    Args:
        key: the table's.
        make: what it is made into.
        values: what is said.

    Raises:
        UsageError: a value is impossible.
    """
    try:
        return make(**values)
    except ValueError as error:
        raise UsageError(f"{key}: {error}", code="E-RECIPE") from None
