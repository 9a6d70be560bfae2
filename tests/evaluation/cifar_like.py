"""Images in the number and size of CIFAR's, and a corrupted set of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from robustmix.corruptions import SEVERITIES
from robustmix.data.images import ImageSet, TensorPixels
from tests.evaluation.tiny import MEAN, STD


def cifar_like(n: int = 10_000) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return ImageSet(
        name="cifar100", split="test",
        pixels=TensorPixels(coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)),
        labels=torch.randint(100, (n,), generator=generator),
        sample_ids=tuple(f"cifar100/test/{i}" for i in range(n)),
        class_names=tuple(map(str, range(100))), mean=MEAN, std=STD,
    )  # fmt: skip


def cifar_c(root: Path, data: ImageSet, severities: Sequence[int] = SEVERITIES) -> Path:
    """Write a CIFAR-100-C with one file, brighter by one level a severity; others are black."""
    folder = root / "CIFAR-100-C"
    folder.mkdir()
    rows = data.pixels.take(torch.arange(len(data))).permute(0, 2, 3, 1).numpy()
    n = len(rows)
    array = np.lib.format.open_memmap(
        folder / "brightness.npy", mode="w+", dtype=np.uint8, shape=(5 * n, *rows.shape[1:])
    )
    for s in severities:
        array[(s - 1) * n : s * n] = np.minimum(rows, 255 - s) + np.uint8(s)
    array.flush()
    np.save(folder / "labels.npy", np.tile(data.labels.numpy().astype(np.uint8), 5))
    return folder
