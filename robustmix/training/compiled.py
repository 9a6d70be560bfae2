"""Steps that are compiled: what a method computes is traced whole; what it draws is not.

A step has few variants, which the truth values and integers among its draws choose (adversarial or
not, a plain mixture or not); each is traced once. Numbers that differ from step to step are tensors
and trace nothing anew. An incomplete batch is not compiled.
"""

import os
import shutil
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import torch

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.method import Method, SplitMethod, StepResult, splits
from robustmix.upload import uploaded

Asked: TypeAlias = Literal["auto", "on", "off"]
"""``auto`` is on for CUDA and off elsewhere."""

Step: TypeAlias = Callable[[Batch], StepResult]

VARIANTS = 64
"""Traces of one step at most; a method with more draws integers that should be tensors."""


def compile_mode(asked: Asked, device: torch.device) -> str | None:
    """Return how steps are compiled, a mode of ``torch.compile``, or None where they are not.

    Raises:
        UsageError: it is asked for, and what it needs is not here.
    """
    if asked == "off" or (asked == "auto" and device.type != "cuda"):
        return None
    if device.type == "cuda":
        return "reduce-overhead"  # CUDA graphs
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        raise UsageError(
            "compile = on needs a C++ compiler on this machine, and there is none",
            "install g++, or leave compile off",
            code="E-COMPILE",
        )
    return "default"


def compiled_step(
    method: Method,
    size: int,
    mode: str,
    *,
    backend: str | Callable[..., Any] = "inductor",
    otherwise: Callable[[str], None] | None = None,
) -> Step | None:
    """Return the training step of a method, compiled; None if it is not in two parts.

    Args:
        method: whose ``compute`` is traced, in one piece.
        size: images in a batch; others are computed eagerly.
        mode: of inductor; see ``compile_mode``.
        backend: of ``torch.compile``; other backends than inductor have no modes.
        otherwise: told why a step cannot be compiled here; it and all that follow are then
            computed eagerly. None: that is an error.
    """
    if not splits(method):
        return None
    from torch._dynamo.exc import TorchDynamoException  # takes a second

    parts = cast(SplitMethod, method)
    settings: dict[str, Any] = {"mode": mode} if backend == "inductor" else {}
    compute = torch.compile(
        parts.compute, fullgraph=True, dynamic=False, backend=backend, **settings
    )

    given_up = False

    def step(batch: Batch) -> StepResult:
        nonlocal given_up
        draws = uploaded(parts.draw(batch), batch.images.device)
        if given_up or len(batch.labels) != size:
            return parts.compute(batch, draws)
        if batch.images.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            with torch._dynamo.config.patch(recompile_limit=VARIANTS):
                made: StepResult = compute(batch, draws)
        except TorchDynamoException as error:
            if otherwise is None:
                raise
            given_up = True
            otherwise(" ".join(str(error).split("\n\n")[0].split())[:200])
            return parts.compute(batch, draws)
        return made

    return step
