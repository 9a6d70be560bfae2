"""Small values of the processor, brought to a device in one copy that nothing waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from robustmix.later import Tensor, torch

ALIGNMENT = 16
"""Bytes that every tensor in a joint copy begins at a multiple of; at least a number's size."""

T = TypeVar("T")


def uploaded(values: T, device: torch.device) -> T:
    """Return nested tuples of values with every tensor and every float as a tensor on a device.

    A float becomes a float64 tensor without axes, which computes as the float does: beside a
    float32 tensor it is rounded to float32 first, alone it stays float64 (float32 on Apple's GPU,
    which has no other). Annotations go on saying float. Integers, truth values and None stay what
    they are: they choose what is computed, where tensors are only computed with.

    Args:
        values: named or plain tuples, nested, of tensors on the CPU, floats and other values.
        device: where the tensors are wanted. A GPU copies them in one piece from pinned memory,
            while the processor goes on; for the CPU they stay where they are. What is on another
            device already stays there.

    Example:
        >>> uploaded((0.5, torch.arange(2), True), torch.device("cpu"))
        (tensor(0.5000, dtype=torch.float64), tensor([0, 1]), True)
    """
    tensors = list(_tensors(values))
    if device.type == "mps":
        tensors = [t.float() if t.dtype == torch.float64 else t for t in tensors]
    if device.type != "cpu":
        here = [tensor for tensor in tensors if tensor.device.type == "cpu"]
        there = iter(_copied(here, device) if here else ())
        tensors = [next(there) if t.device.type == "cpu" else t for t in tensors]
    found: T = _filled(values, iter(tensors))
    return found


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, float):
        yield torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)


def _filled(value: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(value, (Tensor, float)):
        return next(tensors)
    if isinstance(value, tuple):
        items = [_filled(item, tensors) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def _copied(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    begins, length = [], 0
    for tensor in tensors:
        begins.append(length)
        length += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    here = torch.empty(length, dtype=torch.uint8, pin_memory=device.type == "cuda")

    def part(joint: Tensor, tensor: Tensor, begin: int) -> Tensor:
        return joint[begin : begin + tensor.nbytes].view(tensor.dtype).view(tensor.shape)

    for tensor, begin in zip(tensors, begins, strict=True):
        part(here, tensor, begin).copy_(tensor)
    # Its memory is not used for anything else before the copy is done: torch sees to that.
    there = here.to(device, non_blocking=True)
    return [part(there, tensor, begin) for tensor, begin in zip(tensors, begins, strict=True)]
