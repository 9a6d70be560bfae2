"""In how many digits a network computes: float32 unless something faster is asked for."""

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

from robustmix.errors import UsageError, unknown_name
from robustmix.later import torch

Precision = Literal["fp32", "tf32", "bf16"]
"""``fp32``; ``tf32``: a GPU multiplies with 10 bits behind the point instead of 23; ``bf16``:
torch's autocast to bfloat16, which has 7."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

ROUNDING: dict[Precision, float] = {"fp32": 1e-4, "tf32": 1e-3, "bf16": 2e-2}
"""Largest difference of a logit between two passes, relative to the largest logit, that is taken
for the rounding of sums in another order."""

_AMPERE = (8, 0)
"""Compute capability of the first GPUs that have either."""


def checked_precision(asked: str, device: "torch.device") -> Precision:
    """Return the precision that was asked for.

    Raises:
        UsageError: there is none of that name, or the device does not have it.
    """
    precision = next((known for known in PRECISIONS if known == asked), None)
    if precision is None:
        raise unknown_name("precision", asked, PRECISIONS)
    if precision == "fp32":
        return precision
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(
            f"--precision tf32 is a way in which NVIDIA's GPUs multiply, and this runs on "
            f"{device.type}",
            "leave it out, or take --precision bf16",
            code="E-PRECISION",
        )
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _AMPERE:
        raise UsageError(
            f"this GPU does not compute in {precision}: it needs compute capability 8.0",
            "leave --precision out",
            code="E-PRECISION",
        )
    return precision


@contextlib.contextmanager
def computing_in(precision: Precision, device: "torch.device") -> Iterator[None]:
    """Let what a network computes within this be of a precision, and nothing else.

    Gradients are computed after it: those of ``bf16`` in the types of the pass, of ``tf32`` in
    float32.
    """
    if precision == "bf16":
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
    elif precision == "tf32":
        with tf32(True):
            yield
    else:
        yield


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let GPUs multiply float32 with 10 bits behind the point, or keep them from it."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
