"""The CIFAR-100 test images, read straight from the archive's file without unpickling it."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

_PATH = Path(os.environ.get("ROBUSTMIX_DATA", "")) / "cifar-100-python" / "test"
_PIXELS_START = 329_703  # of the pickled file: what stands before the array's bytes

needs_cifar100 = pytest.mark.skipif(
    "ROBUSTMIX_DATA" not in os.environ or not _PATH.is_file(),
    reason="needs cifar-100-python/test (set ROBUSTMIX_DATA)",
)


def cifar100_test(indices: Tensor | None = None) -> Tensor:
    """Return test images uint8 (n, 3, 32, 32) in the official order; all 10 000 by default."""
    pixels = np.memmap(_PATH, np.uint8, "r", offset=_PIXELS_START, shape=(10_000, 3, 32, 32))
    chosen = torch.arange(len(pixels)) if indices is None else indices
    return torch.from_numpy(np.asarray(pixels[chosen.numpy()]))
