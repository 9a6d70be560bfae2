"""How a check says what is wrong."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Device: TypeAlias = torch.device


class CheckFailed(Exception):
    """A self-test found another answer than the known one."""


def expect(holds: bool, otherwise: str) -> None:
    """Raise CheckFailed with the sentence ``otherwise`` unless the first argument is true."""
    if not holds:
        raise CheckFailed(otherwise)


def expect_close(found: npt.ArrayLike, known: npt.ArrayLike, what: str, *, within: float) -> None:
    """Raise CheckFailed unless all numbers are equal up to ``within``."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(known, dtype=np.float64)
    if a.shape != b.shape or not bool((np.abs(a - b) <= within).all()):
        raise CheckFailed(f"{what} is {_short(a)}, expected {_short(b)}")


def expect_same(found: Tensor, known: Tensor, what: str) -> None:
    """Raise CheckFailed unless both tensors are equal bit for bit."""
    if found.shape != known.shape or not torch.equal(found, known):
        raise CheckFailed(f"{what}: the two results differ")


def expect_refusal(refused: bool, what: str) -> None:
    """Raise CheckFailed if something was accepted that must be refused."""
    expect(refused, f"{what} was accepted")


def refuses(
    error: type[Exception], call: Callable[..., object], *arguments: object, **named: object
) -> bool:
    """Tell whether a call raises this error."""
    try:
        call(*arguments, **named)
    except error:
        return True
    return False


def _short(values: npt.NDArray[np.float64]) -> str:
    shown = [f"{v:.8g}" for v in values.ravel()[:6]]
    return (", ".join(shown) + (", ..." if values.size > 6 else "")) or "nothing"
