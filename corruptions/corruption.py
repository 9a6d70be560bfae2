"""What a corruption is: its constants, its arithmetic, and what is random in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from torch import Tensor

from robustmix.corruptions.names import Profile

Constant = TypeVar("Constant")
Draws = TypeVar("Draws")

Severities: TypeAlias = Mapping[Profile, tuple[Constant, Constant, Constant, Constant, Constant]]
"""The constant of severities 1 to 5, for each profile."""


@dataclass(frozen=True, kw_only=True)
class Corruption(Generic[Draws]):
    """One corruption of the registry.

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
