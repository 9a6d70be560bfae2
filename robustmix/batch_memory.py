"""How many images fit into a device's memory at once, without trying batches of them."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from robustmix.errors import out_of_memory
from robustmix.models.robust_model import PAD, RobustModel

FORWARD, BACKWARD = 64, 256
"""Memory that an image takes in a network, in float32 copies of it: of ResNet-50 about what its
layers hold without and with gradients. Whether it is enough shows only when it is tried."""

_AT_ONCE = 4
"""Outputs of layers that a pass without gradients holds together, those of a block of branches."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")
_Result = TypeVar("_Result")


def device_memory(device: torch.device) -> int:
    """Return the bytes that a device has in all, not what is free: that changes by the minute."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(installed, int(_CGROUP.read_text()))  # of a container
    except (OSError, ValueError):
        return installed


def free_memory(device: torch.device) -> int:
    """Return the bytes of a device that nothing is in; of others than a GPU, those it has in all.

    What torch holds back for tensors to come is free, too.
    """
    if device.type != "cuda":
        return device_memory(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def copies_of(robust: RobustModel, *, gradients: bool) -> int:
    """Return the memory that an image takes in a network, in float32 copies of it.

    One black image is passed through, and the outputs of the layers are counted: all of them where
    there are gradients, else the largest a few times. It is never less than ``BACKWARD`` or
    ``FORWARD``, for what a network does outside of layers is not seen.

    Args:
        robust: the model.
        gradients: whether gradients are asked for.
    """
    sizes = [0]
    least = BACKWARD if gradients else FORWARD

    def count(module: nn.Module, inputs: object, output: object) -> None:
        sizes.extend(leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))

    layers = [layer for layer in robust.net.modules() if next(layer.children(), None) is None]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            robust(torch.zeros(1, *robust.input_size, device=robust.mean.device))
    except Exception:  # the evaluation asks it again, and tells what it says
        return least
    finally:
        for hook in hooks:
            hook.remove()
    seen = sum(sizes) if gradients else _AT_ONCE * max(sizes)
    return max(least, math.ceil(seen / math.prod(image_size(robust))))


def image_size(robust: RobustModel) -> tuple[int, int, int]:
    """Return channels, height and width of an image as the network sees it."""
    height, width = robust.resize or robust.input_size[1:]
    return 3, height, width


def fitting_batch(
    size: tuple[int, ...],
    device: torch.device,
    *,
    most: int,
    copies: int = BACKWARD,
    memory: int | None = None,
) -> int:
    """Return how many images should fit into half of the memory, a multiple of ``PAD`` or ``most``.

    Args:
        size: channels, height and width of an image as the network sees it.
        device: where the network is.
        most: of images.
        copies: memory that an image takes, see ``FORWARD``.
        memory: bytes; ``device_memory`` if None.
    """
    channels, height, width = size
    memory = device_memory(device) if memory is None else memory
    fit = memory // 2 // (4 * channels * height * width * copies)
    return most if fit >= most else max(PAD, fit // PAD * PAD)


def halved(work: Callable[[int], _Result], batch: int, device: torch.device) -> _Result:
    """Do work with a batch, and where memory runs out again with half of it, down to ``PAD``."""
    while True:
        try:
            return work(batch)
        except Exception as error:
            if not out_of_memory(error) or batch <= PAD:
                raise
        # Only here is the failed batch's memory free: the error held on to it.
        batch = max(PAD, batch // 2)
        if device.type == "cuda":
            torch.cuda.empty_cache()
