"""Steps that are compiled: what a method computes is traced whole; what it draws is not.

A step has few variants, which the truth values and integers among its draws choose (adversarial or
not, two or three images, the grid); each is traced once. Numbers that differ from step to step are
tensors and trace nothing anew. Where the processor decides in the middle of a step, what comes
before and what comes after are graphs of their own. An incomplete batch is not compiled.
"""

import os
import shutil
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import torch
from torch.utils._pytree import tree_map_only

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.method import (
    Method,
    SplitMethod,
    StepResult,
    at_once,
    split_step,
    splits,
)

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
    """Return the training step of a method, compiled; None if ``why_eager`` has a reason.

    Args:
        method: whose ``compute``, and whatever its ``decide`` runs, is traced, each in one piece.
        size: images in a batch; others are computed eagerly.
        mode: of inductor; see ``compile_mode``.
        backend: of ``torch.compile``; other backends than inductor have no modes.
        otherwise: told why a step cannot be compiled here; it and all that follow are then
            computed eagerly. None: that is an error.
    """
    if why_eager(method) is not None:
        return None
    from torch._dynamo.exc import TorchDynamoException  # takes a second

    settings: dict[str, Any] = {"mode": mode} if backend == "inductor" else {}
    limits = {"recompile_limit": VARIANTS} | _gradients_are_traced()
    traced: dict[str, Callable[..., Any]] = {}
    given_up = on_cuda = False

    def run(part: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal given_up
        name = part.__name__
        if given_up:
            return part(*arguments)
        if name not in traced:
            traced[name] = torch.compile(
                part, fullgraph=True, dynamic=False, backend=backend, **settings
            )
        if on_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            with torch._dynamo.config.patch(limits):
                found = traced[name](*arguments)
        except TorchDynamoException as error:
            if otherwise is None:
                raise
            given_up = True
            otherwise(" ".join(str(error).split("\n\n")[0].split())[:200])
            return part(*arguments)
        # What comes before the loss is needed after the next graph, which writes over it.
        return _copied(found) if on_cuda and name != "compute" else found

    def step(batch: Batch) -> StepResult:
        nonlocal on_cuda
        whole, on_cuda = len(batch.labels) == size, batch.images.device.type == "cuda"
        return split_step(cast(SplitMethod, method), batch, run if whole else at_once)

    return step


def why_eager(method: object) -> str | None:
    """Return why the steps of a method are not compiled, or None.

    A method says so itself, for some of its options, by ``eager_because``.
    """
    if not splits(method):
        return "it has no draw and compute to take apart"
    reason: str | None = getattr(method, "eager_because", None)
    return reason


def _copied(found: Any) -> Any:
    return tree_map_only(torch.Tensor, torch.Tensor.clone, found)


def _gradients_are_traced() -> dict[str, Any]:
    """Return the setting that lets a part take gradients itself; torch 2.6 has none yet."""
    name = "trace_autograd_ops"
    return {name: True} if hasattr(torch._dynamo.config, name) else {}
