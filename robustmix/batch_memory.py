"""How many images fit into a device's memory at once, by their size, without trying."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from robustmix.errors import out_of_memory
from robustmix.models.robust_model import PAD

FORWARD, BACKWARD = 64, 256
"""Memory that an image takes in a network, in float32 copies of it: of ResNet-50 about what its
layers hold without and with gradients. Whether it is enough shows only when it is tried."""

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


def fitting_batch(
    size: tuple[int, ...], device: torch.device, *, most: int, copies: int = BACKWARD
) -> int:
    """Return how many images should fit into half of the memory, a multiple of ``PAD`` or ``most``.

    Args:
        size: channels, height and width of an image as the network sees it.
        device: where the network is.
        most: of images.
        copies: memory that an image takes, see ``FORWARD``.
    """
    channels, height, width = size
    fit = device_memory(device) // 2 // (4 * channels * height * width * copies)
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
