"""CIFAR-10-P and CIFAR-100-P: one array a perturbation, uint8 (10000, pictures, 32, 32, 3).

How many pictures a sequence has is read off the array: 31 mostly, 21 of motion_blur, 16 of
translate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.corruptions.cifar_c import correlation, load_array
from robustmix.data.images import Pixels
from robustmix.data.perturbed.names import is_noise, stored_name
from robustmix.errors import IntakeError
from robustmix.later import Tensor, torch

MOST_PICTURES = 1000
_AGAIN = "extract the released archive again"
_COMPARED = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySequences:
    """The sequences of CIFAR's test images."""

    arrays: Mapping[str, NDArray[np.uint8]]
    """Perturbation -> its memory-mapped file, uint8 (N, pictures, H, W, 3)."""

    @classmethod
    def open(
        cls, folder: Path, names: Sequence[str], difficulty: int, clean: Pixels
    ) -> "ArraySequences":
        """Open the files of some perturbations, and check that they are of the clean images.

        Args:
            folder: holds the files.
            names: perturbations.
            difficulty: 1 to 3.
            clean: the whole test set, as it is stored.

        Raises:
            IntakeError: a file is missing, damaged, or of other images.
        """
        arrays = {
            name: _opened(folder / f"{stored_name(name, difficulty)}.npy", clean) for name in names
        }
        opened = cls(arrays=arrays)
        for name in [name for name in names if is_noise(name)][:1]:
            opened._check_resemblance(folder, name, clean)
        return opened

    def pictures(self, name: str) -> int:
        """Give how many pictures a sequence has."""
        return int(self.arrays[name].shape[1])

    def take(self, name: str, indices: Tensor) -> Tensor:
        """Read sequences uint8 (n, pictures, 3, H, W) for positions in the test set, on the CPU."""
        kept: Any = self.arrays[name]
        # Mapped anew, for what is read through a mapping stays in memory until that goes.
        mapped = np.memmap(kept.filename, np.uint8, "r", offset=kept.offset, shape=kept.shape)
        rows = np.array(mapped[indices.cpu().numpy()])
        return torch.from_numpy(rows).permute(0, 1, 4, 2, 3).contiguous()

    def _check_resemblance(self, folder: Path, name: str, clean: Pixels) -> None:
        count = min(_COMPARED, len(clean))
        places = torch.arange(count) * len(clean) // count
        first = self.take(name, places)[:, 0]
        mean = float(correlation(first, clean.take(places).cpu()).nanmean())
        if mean <= 0.9:
            raise IntakeError(
                f"the first pictures of {folder / name}.npy are not the clean images: mean "
                f"correlation {mean:.3f}, expected above 0.9",
                "one of the two is of another data set or in another order",
                code="E-DATA",
            )


def _opened(path: Path, clean: Pixels) -> NDArray[np.uint8]:
    stored = load_array(path)
    channels, height, width = clean.size
    fits = stored.ndim == 5 and stored.shape[::4] == (len(clean), channels)
    if stored.dtype != np.uint8 or not fits or stored.shape[2:4] != (height, width):
        raise IntakeError(
            f"{path}: expected uint8 ({len(clean)}, pictures, {height}, {width}, {channels}), got "
            f"{stored.dtype} {stored.shape}",
            _AGAIN,
            code="E-DATA",
        )
    if not 2 <= stored.shape[1] <= MOST_PICTURES:
        raise IntakeError(
            f"{path}: {stored.shape[1]} pictures are no sequence", _AGAIN, code="E-DATA"
        )
    return stored.view(np.uint8)
