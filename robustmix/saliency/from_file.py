"""Saliency maps by sample id, made elsewhere: e.g. the attention of a self-supervised network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustmix.arrays import UNREADABLE, Array, load_arrays
from robustmix.errors import IntakeError
from robustmix.files import atomic_path, file_digest, regular_file
from robustmix.later import F, Tensor, torch

LARGEST = 2**32
"""Bytes of maps that a small file may hold: masks are nearly empty."""


@dataclass(frozen=True, eq=False)
class SaliencyFile:
    """The maps of a file."""

    name: str
    """File name without its folder."""

    sha256: str
    places: dict[str, int]
    """Sample id -> row of ``maps``."""

    maps: NDArray[np.float32]
    """(N, h, w), not negative."""

    def check(self, sample_ids: Sequence[str]) -> None:
        """Raise unless there is a map for every sample.

        Raises:
            IntakeError: samples have no map; the first are named.
        """
        missing = [sample_id for sample_id in sample_ids if sample_id not in self.places]
        if missing:
            raise IntakeError(
                f"{self.name} has no map for {len(missing)} of {len(sample_ids)} samples, "
                f"e.g. {missing[0]}",
                "make the maps for this data set and split",
                code="E-SALIENCY-FILE",
            )

    def take(self, sample_ids: Sequence[str], size: tuple[int, int]) -> Tensor:
        """Return the maps of some samples, float32 (n, H, W), in the size of the images.

        A map whose size divides the image's is enlarged in blocks, which keeps its numbers; any
        other is resized bilinearly.
        """
        self.check(sample_ids)
        rows = self.maps[[self.places[sample_id] for sample_id in sample_ids]]
        return enlarge(torch.from_numpy(rows), size)


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N, h, w) in another size: in blocks where that is exact, else bilinearly."""
    if tuple(maps.shape[1:]) == size:
        return maps
    if size[0] % maps.shape[1] == 0 and size[1] % maps.shape[2] == 0:
        return F.interpolate(maps.unsqueeze(1), size, mode="nearest").squeeze(1)
    return F.interpolate(maps.unsqueeze(1), size, mode="bilinear", align_corners=False).squeeze(1)


def load_maps(path: Path) -> SaliencyFile:
    """Read an npz of maps.

    It holds two arrays, ``sample_ids`` (N,) and ``maps`` (N, h, w), as ``save_maps`` writes them;
    or one array (h, w) a sample, called by the sample's id.

    Raises:
        IntakeError: the file is missing, damaged, or its maps are not finite and not negative.
    """
    try:
        arrays = read_npz(path)
        ids = names_of(arrays["sample_ids"]) if "maps" in arrays else list(arrays)
        maps = arrays["maps"] if "maps" in arrays else np.stack(list(arrays.values()))
    except UNREADABLE as error:
        raise _bad(path, f"is not a readable npz of maps ({type(error).__name__})") from error
    if maps.ndim != 3 or len(maps) != len(ids) or maps.size == 0 or maps.dtype.kind not in "biuf":
        raise _bad(path, f"holds {len(ids)} ids and maps of shape {maps.shape}")
    if len(set(ids)) != len(ids):
        raise _bad(path, "names a sample twice")
    values = np.asarray(maps, dtype=np.float32)
    if not np.isfinite(values).all() or values.min() < 0:
        raise _bad(path, "holds maps that are negative, NaN or infinite")
    places = {sample_id: row for row, sample_id in enumerate(ids)}
    return SaliencyFile(path.name, file_digest(path), places, values)


def read_npz(path: Path) -> dict[str, Array]:
    """Read every array of an npz of a user's.

    Raises:
        IntakeError: it is not there, or no file.
        ValueError: also what else ``UNREADABLE`` lists.
    """
    regular_file(path, what="npz", code="E-SALIENCY-FILE")
    return load_arrays(path, small=LARGEST)


def names_of(array: Array) -> list[str]:
    """Return the sample ids that an array holds.

    Raises:
        ValueError: it is no list of texts or whole numbers.
    """
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise ValueError("no list of names")
    return [str(name) for name in array.tolist()]


def save_maps(path: Path, sample_ids: Sequence[str], maps: NDArray[np.floating]) -> None:
    """Write maps (N, h, w) by sample id, atomically, for ``--saliency-file``."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, sample_ids=np.array(list(sample_ids)), maps=maps.astype(np.float32)
        )


def _bad(path: Path, what: str) -> IntakeError:
    return IntakeError(
        f"{path} {what}",
        "give an npz with sample_ids (N,) and maps (N, h, w), not negative",
        code="E-SALIENCY-FILE",
    )
