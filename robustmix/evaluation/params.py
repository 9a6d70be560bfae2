"""Parameters of a prepared suite as JSON and back, by the types of its fields alone."""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from fractions import Fraction
from typing import Any, TypeVar, Union, get_args, get_origin

_SKIP, _OMIT, _ENCODE, _DECODE, _KEY = "unrecorded", "omit_default", "encode", "decode", "key"

Thing = TypeVar("Thing")


def unrecorded(default: Any = MISSING) -> Any:
    """Declare a field of a prepared suite that no number depends on, or that holds open files."""
    return field(default=default, repr=False, compare=False, metadata={_SKIP: True})


def recorded(
    default: Any = MISSING,
    *,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    omit_default: bool = False,
    key: str = "",
) -> Any:
    """Declare a recorded field whose JSON form its type does not say.

    Args:
        default: of the field.
        encode: value -> JSON.
        decode: JSON -> value.
        omit_default: leave it out of the record where it has its default, as older reports do.
        key: what the record calls it, where a field cannot be called so.
    """
    metadata: dict[str, Any] = {_OMIT: omit_default, _KEY: key}
    if encode is not None:
        metadata[_ENCODE] = encode
    if decode is not None:
        metadata[_DECODE] = decode
    return field(default=default, metadata=metadata)


def encode_params(prepared: Any) -> dict[str, Any]:
    """Give the recorded fields of a dataclass as JSON-like values."""
    found = {}
    for one in fields(prepared):
        value = getattr(prepared, one.name)
        if one.metadata.get(_SKIP) or (one.metadata.get(_OMIT) and value == one.default):
            continue
        found[_key(one)] = one.metadata.get(_ENCODE, encode)(value)
    return found


def read_params(kind: type[Thing], params: Mapping[str, Any]) -> Thing:
    """Make a dataclass of its recorded fields; fields that newer versions added have defaults.

    Raises:
        KeyError, TypeError, ValueError: the values are not those of such a dataclass.
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if one.metadata.get(_SKIP) or (_key(one) not in params and _has_default(one)):
            continue
        decoder = one.metadata.get(_DECODE)
        value = params[_key(one)]
        values[one.name] = decoder(value) if decoder else decode(hints[one.name], value)
    return kind(**values)


def encode(value: Any) -> Any:
    """Give a value as JSON: tuples are lists, fractions their exact names, dataclasses objects."""
    if isinstance(value, Fraction):
        return exact_name(value)
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return encode_params(value)
    return value


def decode(hint: Any, value: Any) -> Any:
    """Make a value of a type from its JSON.

    Raises:
        TypeError, ValueError: it is not of that type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return value
    if origin in (Union, types.UnionType):
        return _decode_union(arguments, value)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{value!r} is none of {arguments}")
        return value
    if origin in (tuple, list) or hint is tuple:
        return _decode_sequence(origin or tuple, arguments, value)
    if origin in (dict, Mapping) or origin is types.MappingProxyType:
        return {key: decode(arguments[1], item) for key, item in value.items()}
    if hint is Fraction:
        return read_fraction(value) if isinstance(value, str) else Fraction(value)
    if is_dataclass(hint):
        return read_params(typing.cast(type[Any], hint), value)
    return _checked(hint, value)


def _decode_union(arguments: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in arguments:
        return None
    for hint in arguments:
        if hint is not type(None):
            try:
                return decode(hint, value)
            except (TypeError, ValueError, KeyError):
                continue
    raise ValueError(f"{value!r} is none of {arguments}")


def _decode_sequence(kind: Any, arguments: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise TypeError(f"expected a list, got {value!r}")
    if not arguments or arguments[-1] is Ellipsis or kind is list:
        hint = arguments[0] if arguments else Any
        return kind(decode(hint, item) for item in value)
    return kind(decode(hint, item) for hint, item in zip(arguments, value, strict=True))


def _checked(hint: Any, value: Any) -> Any:
    """Give a plain value, refusing another type; an integer may stand for a float."""
    wide = (int, float) if hint is float else hint
    if not isinstance(value, wide) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"expected {hint}, got {value!r}")
    return hint(value)


def _key(one: "Field[Any]") -> str:
    return str(one.metadata.get(_KEY) or one.name)


def _has_default(one: "Field[Any]") -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def read_fraction(text: str) -> Fraction:
    """Read a number exactly, ``8/255`` or ``0.03``; text may be a stranger's.

    Raises:
        ValueError, ZeroDivisionError: it is no number, or written too long.
    """
    # The exact value of 1e999999999 takes minutes and gigabytes to make.
    if len(text) > 40 or len(text.lower().partition("e")[2]) > 3:
        raise ValueError("no number is written so long")
    return Fraction(text.strip())


def eps_name(eps: Fraction) -> str:
    """Name a radius as conditions do: ``8/255`` where that is exact, else the decimal.

    Example:
        >>> eps_name(Fraction(8, 255)), eps_name(Fraction(1, 10))
        ('8/255', '0.1')
    """
    levels = eps * 255
    return f"{levels.numerator}/255" if levels.denominator == 1 else f"{float(eps):g}"


def exact_name(number: Fraction) -> str:
    """Name a fraction as records do: its name, or the fraction itself where that is rounded.

    Example:
        >>> exact_name(Fraction(8, 255)), exact_name(Fraction(1, 10)), exact_name(Fraction(1, 7))
        ('8/255', '0.1', '1/7')
    """
    name = eps_name(number)
    return name if Fraction(name) == number else str(number)
