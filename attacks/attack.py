"""What an attack is: one call that gives images, and the outcome behind it; and its options."""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, Protocol, Union, cast, get_args, get_origin

from robustmix.attacks.harness import CountingModel, verify
from robustmix.attacks.outcome import Outcome
from robustmix.errors import IncompleteError, UsageError
from robustmix.later import Tensor, torch
from robustmix.rng import sample_keys
from robustmix.types import Model

P = ParamSpec("P")
Parameters = Mapping[str, inspect.Parameter]

COMMON = ("eps", "norm", "seed", "keys")
"""What every attack can be told; all other keyword arguments are its own options."""


class Attack(Protocol[P]):
    """An attack: a function ``(model, images, labels, *, eps, ...)`` with an ``outcome`` beside it.

    The model takes pixels in [0, 1] and is in eval mode; images are float (N, C, H, W) in [0, 1],
    labels int64 (N,). ``eps``, the radius of the ball in [0, 1] pixel units, is all that must be
    given. Randomness follows from ``keys``, one 64-bit key a sample, or else from ``seed`` and the
    position in the batch.
    """

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """Give adversarial images in the ball and [0, 1], same shape as the clean, detached."""
        ...

    @property
    def outcome(self) -> Callable[P, Outcome]:
        """The same call, which gives all that the attack knows."""
        ...


def attack(search: Callable[P, Outcome]) -> Attack[P]:
    """Make an attack of a function that gives an outcome; to be used as a decorator.

    The result is a plain function, so that ``help`` shows its own arguments.
    """

    @functools.wraps(search)
    def images(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        return search(*args, **kwargs).images

    return _with_outcome(images, search, search)


def attack_of(function: Callable[P, Tensor]) -> Attack[P]:
    """Make an attack of a function that gives images and knows no more; also a decorator.

    It is called with ``norm``, ``seed`` and ``keys`` only where it has such arguments. One that has
    ``seed`` but no ``keys`` draws for its whole batch: its seed follows from the first sample's
    key. What it gives is checked and scored for the outcome; its passes are counted and shared
    equally. What is an attack already is returned as it is.

    Args:
        function: ``(model, images, labels, *, eps, ...) -> images``.
    """
    if hasattr(function, "outcome"):
        return function
    takes = inspect.signature(function).parameters
    plain = cast(Callable[..., Tensor], function)

    @functools.wraps(function)
    def images(model: Model, images: Tensor, labels: Tensor, **knobs: Any) -> Tensor:
        found = plain(model, images, labels, **_accepted(takes, knobs, images))
        if not isinstance(found, Tensor):
            raise IncompleteError(
                f"the attack {_name(plain)} returned {type(found).__name__}, not images",
                "return the adversarial images, a tensor of the same shape",
                code="E-ATTACK-RESULT",
            )
        return found.detach()

    def outcome(model: Model, clean: Tensor, labels: Tensor, **knobs: Any) -> Outcome:
        counting, n = CountingModel(model), len(clean)
        raw = images(counting, clean, labels, **knobs)
        success = torch.zeros(n, dtype=torch.bool, device=clean.device)
        if n:
            ball = {name: knobs.get(name, _default(takes, name)) for name in ("norm", "eps")}
            success = verify(model, clean, labels, raw, **ball).success
        shares = [
            torch.full((n,), passes / max(n, 1), dtype=torch.float64, device=clean.device)
            for passes in (counting.forwards, counting.backwards)
        ]
        return Outcome(images=raw, success=success, forwards=shares[0], backwards=shares[1])

    made = _with_outcome(
        cast(Callable[P, Tensor], images), cast(Callable[P, Outcome], outcome), function
    )
    cast(Any, made).plain = True
    return made


def _with_outcome(
    images: Callable[P, Tensor], outcome: Callable[P, Outcome], written: Callable[P, object]
) -> Attack[P]:
    # Set apart from __wrapped__, whose annotation may be that of an outcome.
    signature = inspect.signature(written)
    made = cast(Any, images)
    made.__signature__ = signature.replace(return_annotation=Tensor)
    made.__annotations__ = made.__annotations__ | {"return": Tensor}
    made.outcome = outcome
    return cast(Attack[P], images)


def _accepted(takes: Parameters, knobs: Mapping[str, Any], images: Tensor) -> dict[str, Any]:
    """Give the keyword arguments that a function has, of those that every attack can be told."""
    given = {name: knob for name, knob in knobs.items() if name in takes or name not in COMMON}
    keys = knobs.get("keys")
    if "keys" not in takes and "seed" in takes and keys is not None and len(images):
        given["seed"] = int(keys[0]) % 2**31
    return given


def _default(takes: Parameters, name: str) -> Any:
    known = takes[name].default if name in takes else inspect.Parameter.empty
    return {"norm": "linf"}.get(name) if known is inspect.Parameter.empty else known


def own_keys(keys: Tensor | None, seed: int, images: Tensor) -> Tensor:
    """Give one key a sample, int64 (N,), on the images' device: those given or the seed's."""
    if keys is None:
        keys = sample_keys(seed, "attacks", "", 0, [str(i) for i in range(len(images))])
    return keys.to(images.device)


def norms_in(attack: Attack[...]) -> tuple[str, ...]:
    """Read off an attack's signature in which norms it works, its default first.

    Without an argument ``norm``, or where the type of that says nothing, the default is the only
    one; without a default it is linf.
    """
    usual = str(_default(inspect.signature(attack).parameters, "norm"))
    choices = get_args(_hints(attack).get("norm"))
    return (usual, *(choice for choice in choices if choice != usual))


def is_plain(attack: Attack[...]) -> bool:
    """Tell whether it is made of a function that gives images and knows no more.

    What it costs is known of whole batches alone, hence depends on who comes together.
    """
    return getattr(attack, "plain", False) is True


def draws_by_batch(attack: Attack[...]) -> bool:
    """Tell whether one stream serves a whole batch, so that results depend on who comes together.

    So it is for attacks that can be given a seed but no keys.
    """
    takes = inspect.signature(attack).parameters
    return "seed" in takes and "keys" not in takes


@dataclass(frozen=True, kw_only=True)
class Option:
    """A keyword argument of an attack, beside those that all have."""

    name: str

    hint: Any
    """int, float, bool, str or a Literal; that it may be None as well is not said here."""

    default: Any
    help: str
    """From the ``Args`` of the docstring, on one line."""


def options_of(attack: Attack[...]) -> tuple[Option, ...]:
    """Read an attack's own options off its signature and docstring.

    Arguments that only a program can give, such as tensors, are left out; of a type such as
    ``Tensor | int | None`` what remains is ``int``.

    Raises:
        UsageError: an argument without a default, beside ``eps``, or annotations that name nothing.
    """
    hints = _hints(attack)
    told = arguments_in(attack.__doc__ or "")
    found = []
    for name, parameter in inspect.signature(attack).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY or name in COMMON:
            continue
        if parameter.default is parameter.empty:
            raise UsageError(
                f"the attack {_name(attack)} needs {name}, which nobody gives it",
                f"give {name} a default",
                code="E-ATTACK-SIGNATURE",
            )
        hint = _simple(hints.get(name, type(parameter.default)))
        if hint is not None:
            help = told.get(name, "")
            found.append(Option(name=name, hint=hint, default=parameter.default, help=help))
    return tuple(found)


def _name(function: Callable[..., object]) -> str:
    return str(getattr(_written(function), "__name__", type(function).__name__))


def _written(function: Any) -> Any:
    """Find the function that someone wrote below decorators and partials."""
    while hasattr(function, "__wrapped__") or isinstance(function, functools.partial):
        partial = isinstance(function, functools.partial)
        function = function.func if partial else function.__wrapped__
    return function


def _hints(attack: Attack[...]) -> dict[str, Any]:
    function = _written(attack)
    try:
        return typing.get_type_hints(
            function if inspect.isroutine(function) else type(function).__call__
        )
    except NameError as error:
        raise UsageError(
            f"the annotations of the attack {_name(function)} cannot be read: {error}",
            "import what they name outside TYPE_CHECKING",
            code="E-ATTACK-SIGNATURE",
        ) from None


def _simple(hint: Any) -> Any:
    """Give what is left of a type without None and tensors, if a flag can have it, else None."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    left = [member for member in members if member not in (type(None), Tensor)]
    if len(left) != 1:
        return None
    return left[0] if left[0] in (int, float, bool, str) or get_origin(left[0]) is Literal else None


def arguments_in(docstring: str) -> dict[str, str]:
    """Read the ``Args`` of a docstring in Google's style: name -> text on one line.

    Example:
        >>> arguments_in('''Do.
        ...
        ...     Args:
        ...         steps: how many
        ...             in all.
        ...     ''')
        {'steps': 'how many in all.'}
    """
    found: dict[str, str] = {}
    name, inside = "", False
    for line in inspect.cleandoc(docstring).splitlines():
        entry = re.match(r" {4}(\w+)(?: \([^)]*\))? ?: *(.*)", line)
        if not line.startswith(" "):
            inside = (inside and not line) or line in ("Args:", "Arguments:")
        elif inside and entry:
            name = entry[1]
            found[name] = entry[2]
        elif inside and name:
            found[name] += " " + line.strip()
    return {name: " ".join(text.split()).replace("``", "") for name, text in found.items()}
