"""What a corruption is: its constants, its arithmetic, and what is random in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

from robustmix.corruptions.names import Profile
from robustmix.errors import UsageError
from robustmix.later import Tensor
from robustmix.tables import Row

Constant = TypeVar("Constant")
Draws = TypeVar("Draws")

Severities: TypeAlias = Mapping[Profile, tuple[Constant, Constant, Constant, Constant, Constant]]
"""The constant of severities 1 to 5, for each profile."""


@dataclass(frozen=True, kw_only=True)
class Corruption(Generic[Draws]):
    """One corruption of the table.

    ``Draws`` is the NamedTuple of tensors that holds everything random, or None for a
    deterministic corruption.
    """

    name: str

    constants: Severities[object]
    """Severity constants by profile; their meaning stands beside the table."""

    apply: Callable[[Tensor, Draws, int, Profile], Tensor]
    """(images uint8 (N, 3, H, W), draws, severity, profile) -> images uint8 (N, 3, H, W)."""

    draw: Callable[[Tensor, Tensor, int, Profile], Draws] | None = None
    """(keys int64 (N,), images uint8 (N, 3, H, W), severity, profile) -> draws; None if nothing is
    random. The images give the shape and the device; shot noise also needs their values."""

    @property
    def deterministic(self) -> bool:
        """Whether nothing in it is random."""
        return self.draw is None


def as_corruption(name: str, row: Row, thing: object) -> Corruption[Any]:
    """Return what was registered as a corruption called ``name``, which its draws depend on.

    Args:
        name: what it is called in the table.
        row: what the table knows of it.
        thing: a ``Corruption``, or a function (images uint8 (N, 3, H, W), severity) -> images of
            the same type and shape. A function must not draw: a sample would depend on its batch.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(thing, Corruption):
        return thing if thing.name == name else replace(thing, name=name)
    if not callable(thing):
        raise UsageError(
            f"corruption '{name}' is a {type(thing).__name__}",
            "give a Corruption, or a function (images, severity) -> images",
            code="E-REGISTER",
        )
    function = thing

    def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
        # A copy, for a function that works in place would change the caller's clean images.
        result: Tensor = function(images.clone(), severity)
        return result

    return Corruption(name=name, constants={}, apply=apply)
