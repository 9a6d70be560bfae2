"""Saliency maps by sample id, made elsewhere: e.g. the attention of a self-supervised network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustmix.arrays import UNREADABLE, Array, load_arrays
from robustmix.errors import IntakeError
from robustmix.files import atomic_path, expanded, file_digest, regular_file
from robustmix.later import F, Tensor, torch
from robustmix.saliency.missing_samples import told_missing
from robustmix.text import plain

LARGEST = 2**32
"""Bytes of maps that a small file may hold: masks are nearly empty."""


MOST_RECORD = 20_000
"""Characters of what a file says of itself."""


@dataclass(frozen=True, kw_only=True)
class MapsRecord:
    """What maps were made of, and how; a file of others need not say it."""

    source: str
    """Of the table of sources, e.g. ``attention``."""

    choice: str = ""
    """Which head, or which class, where the source has a choice."""

    model: str
    model_sha256: str
    """Over the weights."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Normalisation of the images that the model saw, in [0, 1] pixel units."""

    normalised_as: str = ""
    """The model whose normalisation that is, if it is another's."""

    dataset: str
    split: str
    transform: str
    """How the images were prepared."""

    height: int
    width: int
    """Of the images."""

    n: int
    order_sha256: str
    """Over the ids."""

    pixels_sha256: str
    """Over what is stored of the images, see ``robustmix.data.content``."""

    seed: int
    version: str

    def told(self) -> str:
        """Say in a line what the maps are."""
        choice = f" ({self.choice})" if self.choice else ""
        as_if = f", normalised as {self.normalised_as}" if self.normalised_as else ""
        return plain(f"{self.source}{choice} of {self.model}{as_if}", 300)

    def as_json(self) -> str:
        """Give the record as a file holds it."""
        return json.dumps(self.as_dict(), sort_keys=True)

    def as_dict(self) -> dict[str, object]:
        """Give the record by names."""
        return asdict(self)

    @classmethod
    def of_json(cls, text: str) -> "MapsRecord":
        """Read it back; what newer versions add is left.

        Raises:
            ValueError, TypeError: it is no record.
        """
        found = json.loads(text) if len(text) <= MOST_RECORD else None
        if not isinstance(found, dict):
            raise ValueError("no record of maps")
        known = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        for name, value in known.items():
            if name in ("mean", "std"):
                known[name] = tuple(map(float, value))
            elif not isinstance(value, int if name in _COUNTS else str):
                raise TypeError(f"{name} of another type")
        return cls(**known)


_COUNTS = ("height", "width", "n", "seed")


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

    record: MapsRecord | None = None
    """What the file says of itself; None for one of others."""

    def check_images(self, dataset: str, split: str, transform: str, size: tuple[int, int]) -> None:
        """Raise unless the maps are of such images, as far as the file says.

        Args:
            dataset: name of the data set.
            split: of it.
            transform: how its images are prepared.
            size: their height and width.

        Raises:
            IntakeError: they are of others.
        """
        if self.record is None:
            return
        record = self.record
        for what, made, wanted in (
            ("data set", _called(record.dataset, record.split), _called(dataset, split)),
            ("size", f"{record.height}x{record.width}", f"{size[0]}x{size[1]}"),
            ("preparation", record.transform, transform),
        ):
            if made != wanted:
                raise IntakeError(
                    f"the maps of {self.name} are of images of another {what}: {plain(made, 120)}, "
                    f"evaluated are {plain(wanted, 120)}",
                    "make them for these images: `robustmix saliency make` with --like MODEL, or "
                    "with the same options of images as this command",
                    code="E-SALIENCY-FILE",
                )

    def check_content(self, order_sha256: str, pixels_sha256: str) -> None:
        """Raise if the file is of the same samples, but of other images under their ids.

        Raises:
            IntakeError: it is.
        """
        record = self.record
        if record is None or record.order_sha256 != order_sha256:
            return  # of more or fewer samples, which have another hash
        if record.pixels_sha256 != pixels_sha256:
            raise IntakeError(
                f"the maps of {self.name} were made of other images with the same ids",
                "make them anew",
                code="E-SALIENCY-FILE",
            )

    def check(self, sample_ids: Sequence[str]) -> None:
        """Raise unless there is a map for every sample.

        Raises:
            IntakeError: samples have no map; the first are named.
        """
        missing = told_missing("map", sample_ids, self.places)
        if missing:
            raise IntakeError(
                f"{self.name} {missing}",
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


def _called(dataset: str, split: str) -> str:
    """Name a split; a folder may be called otherwise elsewhere."""
    kind, _, name = dataset.partition(":")
    return f"{kind}/{split}" if kind == "folder" and name else f"{dataset}/{split}"


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
    or one array (h, w) a sample, called by the sample's id. Beside ``maps``, ``record`` may say in
    JSON what they are (``MapsRecord``).

    Raises:
        IntakeError: the file is missing, damaged, or its maps are not finite and not negative.
    """
    path = expanded(path)
    try:
        arrays = read_npz(path)
        ids = names_of(arrays["sample_ids"]) if "maps" in arrays else list(arrays)
        maps = arrays["maps"] if "maps" in arrays else np.stack(list(arrays.values()))
        record = _record_in(arrays) if "maps" in arrays else None
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
    return SaliencyFile(path.name, file_digest(path), places, values, record)


def _record_in(arrays: Mapping[str, Array]) -> MapsRecord | None:
    found = arrays.get("record")
    if found is None:
        return None
    if found.shape != (1,) or found.dtype.kind != "U":
        raise ValueError("no record of maps")
    return MapsRecord.of_json(str(found[0]))


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


def save_maps(
    path: Path,
    sample_ids: Sequence[str],
    maps: NDArray[np.floating],
    record: MapsRecord | None = None,
) -> None:
    """Write maps (N, h, w) by sample id, atomically, for ``--saliency-file``."""
    arrays: dict[str, Array] = {
        "sample_ids": np.array(list(sample_ids)),
        "maps": maps.astype(np.float32),
    }
    if record is not None:
        arrays["record"] = np.array([record.as_json()])
    with atomic_path(expanded(path)) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # a flag is no name of ours


def _bad(path: Path, what: str) -> IntakeError:
    return IntakeError(
        f"{path} {what}",
        "give an npz with sample_ids (N,) and maps (N, h, w), not negative",
        code="E-SALIENCY-FILE",
    )
