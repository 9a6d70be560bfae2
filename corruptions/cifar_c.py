"""Reader of the official CIFAR-10-C and CIFAR-100-C folders.

A folder holds ``labels.npy`` and one ``<corruption>.npy`` a corruption, uint8 (50000, 32, 32, 3):
five severities of the 10 000 test images in the archive's order, one after the other. The arrays
stay on disk, mapped into memory; only the images asked for are read.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.corruptions.names import SEVERITIES, canonical_name
from robustmix.corruptions.registry import CORRUPTIONS
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.files import expanded, regular_file
from robustmix.later import Tensor, torch

CLASSES = {"cifar10": 10, "cifar100": 100}
"""Data sets that a corrupted test set was released for, and their numbers of classes."""

OFFICIAL_IMAGES = 10_000
"""Images of one severity in the released folders."""

_BLOCKS = len(SEVERITIES)
_EXTRACT = "extract the released archive again"


@dataclass(frozen=True, kw_only=True, eq=False)
class CifarC:
    """An official corrupted test set that passed its intake checks."""

    folder: Path
    dataset: str
    labels: Tensor
    """int64 (n,), of one severity: the same for all."""

    arrays: Mapping[str, NDArray[np.uint8]]
    """Corruption -> its memory-mapped file, uint8 (5 n, H, W, 3), in canonical order."""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        dataset: str,
        clean_images: Tensor | None = None,
        clean_labels: Tensor | None = None,
        clean_indices: Tensor | None = None,
        n: int = OFFICIAL_IMAGES,
        classes: int | None = None,
        size: tuple[int, int] = (32, 32),
        names: Sequence[str] | None = None,
    ) -> "CifarC":
        """Open a folder and check that it is what it claims to be.

        Args:
            folder: holds ``labels.npy`` and the corruptions' files; a part of them will do.
            dataset: whose test set was corrupted: ``"cifar10"`` or ``"cifar100"``, or any other
                with ``classes``, of a generated set.
            clean_images: images of that test set, uint8 (m, 3, H, W). With them the pixels are
                checked too: a permuted or foreign set does not resemble them.
            clean_labels: their labels, any integer type (m,).
            clean_indices: their positions in the test set, integers in [0, n), (m,); None means
                that they are the complete set in the archive's order.
            n: images a severity; other than 10 000 only for a generated set.
            classes: number of classes, if ``dataset`` is none of the two.
            size: height and width of the images, likewise.
            names: the corruptions of a set that has others than the benchmark's.

        Raises:
            IntakeError: a file is missing, damaged or belongs to another set.
            UsageError: no corrupted test set of ``dataset`` was released.
        """
        folder = expanded(folder)
        if dataset not in CLASSES and classes is None:
            raise unknown_name("corrupted data set", dataset, CLASSES)
        if not folder.is_dir():
            raise IntakeError(
                f"no folder {folder}", "download and extract the released archive there"
            )
        labels = _read_labels(folder / "labels.npy", CLASSES.get(dataset, classes or 0), n)
        paths = {name: folder / f"{name}.npy" for name in names or CORRUPTIONS}
        arrays = {name: _map_images(path, n, size) for name, path in paths.items() if path.exists()}
        if not arrays:
            such = "brightness" if names is None else names[0]
            raise IntakeError(f"no corruption file such as {such}.npy in {folder}", _EXTRACT)
        opened = cls(folder=folder, dataset=dataset, labels=labels, arrays=arrays)
        positions = torch.arange(n) if clean_indices is None else clean_indices.cpu()
        if clean_labels is not None:
            opened._check_labels(clean_labels.cpu(), positions)
        if clean_images is not None and "brightness" in arrays:
            opened._check_pixels(clean_images.cpu(), positions)
        return opened

    @property
    def available(self) -> tuple[str, ...]:
        """The corruptions whose files are there, in canonical order."""
        return tuple(self.arrays)

    @property
    def paired(self) -> bool:
        """Whether a corrupted image was made from the clean one of the same index: always."""
        return True

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, name: str, severity: int, indices: Tensor | Sequence[int]) -> Tensor:
        """Return the corrupted images at ``indices`` of the test set.

        Args:
            name: a corruption or an alias of one.
            severity: 1 to 5.
            indices: positions in the test set, integers in [0, n).

        Returns:
            uint8 (len(indices), 3, H, W), on the CPU.

        Raises:
            IntakeError: the corruption's file is missing.
            UsageError: the name, the severity or an index does not exist.
        """
        name = name if name in self.arrays else canonical_name(name)
        if name not in self.arrays:
            raise IntakeError(
                f"no file {self.folder / name}.npy", f"{_EXTRACT}, or leave the corruption out"
            )
        if severity not in SEVERITIES:
            raise UsageError(f"expected a severity of 1 to 5, got {severity}")
        rows = torch.as_tensor(indices, dtype=torch.int64).cpu()
        # A position outside would silently be an image of another severity.
        if bool(((rows < 0) | (rows >= len(self))).any()):
            raise UsageError(f"expected indices in 0 to {len(self) - 1}, got {rows.tolist()}")
        taken = self.rows(name, rows.numpy() + (severity - 1) * len(self))
        return torch.from_numpy(taken).permute(0, 3, 1, 2).contiguous()

    def rows(self, name: str, which: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """Return rows of a corruption's file as they are stored, uint8 (n, H, W, 3).

        The file is mapped anew: what is read through a mapping stays in the process's memory until
        the mapping goes, and one pass over all files would end with 2.9 GB.
        """
        kept: Any = self.arrays[name]
        mapped = np.memmap(kept.filename, np.uint8, "r", offset=kept.offset, shape=kept.shape)
        return np.array(mapped[which])

    def _check_labels(self, clean: Tensor, positions: Tensor) -> None:
        if not torch.equal(self.labels[positions], clean.to(torch.int64)):
            raise IntakeError(
                f"{self.folder / 'labels.npy'} differs from the clean labels of {self.dataset}",
                "the folder belongs to another data set, or one of the two is in another order",
            )

    def _check_pixels(self, clean: Tensor, positions: Tensor) -> None:
        assert len(clean) == len(positions), "one position a clean image"
        similar = torch.cat(
            [
                correlation(self.take("brightness", 1, positions[i : i + 500]), clean[i : i + 500])
                for i in range(0, len(positions), 500)
            ]
        )
        mean = float(similar.nanmean())
        if mean <= 0.9:
            raise IntakeError(
                f"{self.folder / 'brightness.npy'} does not show the clean images of "
                f"{self.dataset}: mean correlation {mean:.3f}, expected above 0.9",
                "one of the two is in another order (class-sorted copies are common) "
                "or of another data set",
            )


def correlation(images: Tensor, others: Tensor) -> Tensor:
    """Return Pearson's r of each pair of images, float64 (N,); NaN where one is constant.

    Example:
        >>> a = torch.tensor([[1, 2, 4], [5, 5, 5]])
        >>> correlation(a, 9 - 2 * a).tolist()
        [-1.0, nan]
    """
    a, b = (x.flatten(1).to(torch.float64) for x in (images, others))
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()


def load_array(path: Path) -> NDArray[np.generic]:
    """Map an npy file into memory; nothing but plain arrays is opened.

    Raises:
        IntakeError: it is missing, or no such file.
    """
    if not os.path.lexists(path):
        raise IntakeError(f"no file {path}", _EXTRACT)
    regular_file(path, hint=_EXTRACT)
    try:
        # Unlike ``np.load`` this opens nothing but plain arrays: no pickle, no zip file.
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises nearly anything for a damaged header
        raise IntakeError(f"cannot read {path}: {error}", _EXTRACT) from error


def _read_labels(path: Path, classes: int, n: int) -> Tensor:
    labels = load_array(path)
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (_BLOCKS * n,):
        raise IntakeError(
            f"{path}: expected {_BLOCKS * n} integers, got {labels.dtype} {labels.shape}", _EXTRACT
        )
    blocks = torch.from_numpy(labels.astype(np.int64)).reshape(_BLOCKS, n)
    low, high = int(blocks.min()), int(blocks.max())
    if low < 0 or high >= classes:
        raise IntakeError(
            f"{path}: expected labels in 0 to {classes - 1}, got {low} to {high}",
            "the folder belongs to another data set",
        )
    if not bool((blocks == blocks[0]).all()):
        raise IntakeError(f"{path}: the labels of the five severities differ", _EXTRACT)
    return blocks[0].clone()


def _map_images(path: Path, n: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    images = load_array(path)
    expected = (_BLOCKS * n, *size, 3)
    if images.dtype != np.uint8 or images.shape != expected:
        raise IntakeError(
            f"{path}: expected uint8 {expected}, got {images.dtype} {images.shape}", _EXTRACT
        )
    return images.view(np.uint8)
