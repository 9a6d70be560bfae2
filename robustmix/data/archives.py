"""The official CIFAR archives, checked before they are unpickled and unpickled without trust.

Each file's checksum must be the manifest's; only then is it read, by an unpickler that imports and
calls nothing: the three names that the official files mention stand for inert records.
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from robustmix.data.images import FileRecord, ImageSet, TensorPixels
from robustmix.data.manifests import Manifest, ManifestFile, Split
from robustmix.errors import IntakeError
from robustmix.files import regular_file

MOST_BYTES = 2**30
"""Of a file that is read before its checksum is known; the largest official one has 155 MB."""

_EXTRACT = "extract the official archive again"


class Layout(NamedTuple):
    """Where one archive keeps what: paths below the data folder, and keys of the dictionaries."""

    batches: dict[Split, tuple[str, ...]]
    meta: str
    labels: str
    names: str
    coarse_labels: str | None = None
    coarse_names: str | None = None


LAYOUTS: dict[str, Layout] = {
    "cifar10": Layout(
        batches={
            "train": tuple(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
            "test": ("cifar-10-batches-py/test_batch",),
        },
        meta="cifar-10-batches-py/batches.meta",
        labels="labels",
        names="label_names",
    ),
    "cifar100": Layout(
        batches={"train": ("cifar-100-python/train",), "test": ("cifar-100-python/test",)},
        meta="cifar-100-python/meta",
        labels="fine_labels",
        names="fine_label_names",
        coarse_labels="coarse_labels",
        coarse_names="coarse_label_names",
    ),
}


class _ArrayRecord:
    """What stands in a pickle for a numpy array: it only keeps the state it is given."""

    def __init__(self) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def rows(self, path: Path) -> Tensor:
        """Return the array as uint8 (N, 3072), if it is one."""
        match self.state:
            case (1, (int() as n, int() as width), _ByteType(), False, bytes() as raw) if (
                len(raw) == n * width > 0
            ):
                return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(n, width)
        raise _damaged(path, "its data is not a plain uint8 array")


class _ByteType:
    """What stands in a pickle for numpy's dtype; only ``u1`` can be made."""

    def __setstate__(self, state: object) -> None:
        """Byte order and field layout, of which uint8 has none."""


def _reconstruct(kind: object, shape: object, code: object) -> _ArrayRecord:
    if kind is not _ArrayRecord:
        raise pickle.UnpicklingError("an array of an unexpected class")
    return _ArrayRecord()


def _dtype(code: object, align: object, copy: object) -> _ByteType:
    if code not in (b"u1", "u1"):
        raise pickle.UnpicklingError(f"an array of type {code!r}, expected u1")
    return _ByteType()


_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _ArrayRecord,
    ("numpy", "dtype"): _dtype,
}


class _InertUnpickler(pickle.Unpickler):
    """Builds lists, dictionaries, strings, numbers and array records; refuses all else."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to an outside object")


def unpickle(content: bytes, path: Path) -> dict[str, object]:
    """Return the dictionary that a CIFAR pickle holds, without importing or calling anything.

    Args:
        content: the file's bytes.
        path: where they are from, for the error message.

    Returns:
        Keys as text; strings are bytes, as they are stored.

    Raises:
        IntakeError: the pickle names anything but uint8 arrays, is damaged, or is no dictionary.
    """
    try:
        value = _InertUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise _damaged(path, f"cannot be read safely: {error}") from error
    if not isinstance(value, dict):
        raise _damaged(path, "it holds no dictionary")
    return {_text(key, path): item for key, item in value.items()}


def load_cifar(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return one split of CIFAR-10 or CIFAR-100 in the order of its archive.

    Args:
        manifest: checksums and counts; its name selects the layout.
        split: ``train`` or ``test``.
        root: the data folder, in which the archive was extracted.

    Returns:
        uint8 (N, 3, 32, 32) in memory; the id of image i is ``<name>/<split>/<i>``.

    Raises:
        IntakeError: a file is missing (``E-DATA``), has another checksum (``E-CHECKSUM``), or does
            not hold what it should (``E-DATA``).
    """
    layout = LAYOUTS[manifest.name]
    meta, meta_record = _read_checked(manifest, layout.meta, root)
    names = _names(meta, layout.names, manifest.num_classes, root / layout.meta)
    images, labels, coarse, records = [], [], [], []
    for path in layout.batches[split]:
        batch, record = _read_checked(manifest, path, root)
        records.append(record)
        images.append(_pixels(batch, manifest, root / path))
        labels.append(_labels(batch, layout.labels, manifest.num_classes, root / path))
        if layout.coarse_labels and manifest.superclasses:
            found = _labels(batch, layout.coarse_labels, manifest.superclasses, root / path)
            coarse.append(found)
        if any(len(kind[-1]) != len(images[-1]) for kind in (labels, coarse) if kind):
            raise _damaged(root / path, "it has not one label for each image")
    pixels = images[0] if len(images) == 1 else torch.cat(images)  # saves a copy of 150 MB
    targets = torch.cat(labels)
    expected = getattr(manifest.counts, split)
    if len(pixels) != expected:
        raise _damaged(root / path, f"it holds {len(pixels)} images, expected {expected}")
    return ImageSet(
        name=manifest.name,
        split=split,
        pixels=TensorPixels(pixels),
        labels=targets,
        sample_ids=tuple(f"{manifest.name}/{split}/{index}" for index in range(len(pixels))),
        class_names=names,
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
        files=(meta_record, *records),
        superclass=_superclass(targets, torch.cat(coarse), manifest, root) if coarse else None,
    )


def _read_checked(
    manifest: Manifest, path: str, root: Path
) -> tuple[dict[str, object], FileRecord]:
    """Read a file once, compare its checksum, and only then unpickle those same bytes."""
    known = manifest.file(path)
    place = root / path
    try:
        place.stat()
        regular_file(place, hint=_EXTRACT, code="E-DATA", limit=max(known.bytes or 0, MOST_BYTES))
        content = place.read_bytes()
    except OSError as error:
        raise _missing(manifest, place, root, error) from error
    sha256 = check_content(content, known, place)
    return unpickle(content, place), FileRecord(name=path, sha256=sha256, verified=True)


def check_content(content: bytes, known: ManifestFile, place: Path) -> str:
    """Return the SHA-256 of a file's content after comparing it with the manifest.

    Raises:
        IntakeError: size or checksum differ (``E-CHECKSUM``), or the manifest knows no checksum.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    if known.sha256 is not None:
        kind, expected, found = "SHA-256", known.sha256, sha256
    elif known.md5 is not None:
        kind, expected = "md5", known.md5
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    else:
        raise ValueError(f"no checksum of {known.path} is known")
    if found != expected:
        size = f"; it has {len(content):,} bytes"
        size += f", expected {known.bytes:,}" if known.bytes is not None else ""
        raise IntakeError(
            f"{place} is damaged or another file: {kind} {found}, expected {expected}{size}",
            _EXTRACT,
            code="E-CHECKSUM",
        )
    return sha256


def _missing(manifest: Manifest, place: Path, root: Path, error: OSError) -> IntakeError:
    archive = manifest.archives[0]
    if (root / archive.path).is_file():
        hint = f"extract it: tar -xzf {root / archive.path} -C {root}"
    else:
        digest = f"md5 {archive.md5}, " if archive.md5 else ""
        hint = (
            f"extract {archive.path} ({digest}{archive.origin}) into {root}, "
            "or point --data-dir or ROBUSTMIX_DATA at the folder that holds it"
        )
    expected = manifest.file(place.relative_to(root).as_posix()).md5
    return IntakeError(
        f"{manifest.title} is not there: cannot read {place} "
        f"({error.strerror or error}; expected md5 {expected})",
        hint,
        code="E-DATA",
    )


def _damaged(path: Path, what: str) -> IntakeError:
    return IntakeError(f"{path}: {what}", _EXTRACT, code="E-DATA")


def _text(value: object, path: Path) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, str):
        return value
    raise _damaged(path, f"found {value!r}, expected a name")


def _pixels(batch: dict[str, object], manifest: Manifest, path: Path) -> Tensor:
    data = batch.get("data")
    if not isinstance(data, _ArrayRecord) or manifest.image_size is None:
        raise _damaged(path, "it has no array called data")
    rows = data.rows(path)
    height, width = manifest.image_size
    if rows.shape[1] != 3 * height * width:
        raise _damaged(path, f"its rows have {rows.shape[1]} values, expected {3 * height * width}")
    return rows.view(-1, 3, height, width)


def _labels(batch: dict[str, object], key: str, classes: int, path: Path) -> Tensor:
    labels = batch.get(key)
    if not isinstance(labels, list) or not all(
        type(label) is int and 0 <= label < classes for label in labels
    ):
        raise _damaged(path, f"{key} is not a list of numbers from 0 to {classes - 1}")
    return torch.tensor(labels, dtype=torch.int64)


def _names(meta: dict[str, object], key: str, classes: int, path: Path) -> tuple[str, ...]:
    names = meta.get(key)
    if not isinstance(names, list) or len(names) != classes:
        raise _damaged(path, f"{key} is not a list of {classes} names")
    return tuple(_text(name, path) for name in names)


def _superclass(fine: Tensor, coarse: Tensor, manifest: Manifest, root: Path) -> tuple[int, ...]:
    """Return the coarse label of each class, as the images have it."""
    of_class = torch.full((manifest.num_classes,), -1, dtype=torch.int64)
    of_class[fine] = coarse
    if bool((of_class < 0).any()) or not torch.equal(of_class[fine], coarse):
        raise _damaged(root, "a class is missing or belongs to two superclasses")
    return tuple(of_class.tolist())
