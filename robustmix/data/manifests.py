"""The one table of data sets, and the manifest of each: archives, classes, normalisation, terms."""

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias

from robustmix.data.augment import Augment
from robustmix.data.preparation import TestTransform
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.files import expanded
from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.data.images import ImageSet

_STRICT: dict[str, object] = {"extra": "forbid"}  # read by pydantic: a misspelt key is an error

Split: TypeAlias = Literal["train", "test"]


def _check_digest(name: str, kind: str, digest: str | None, length: int) -> None:
    if digest is not None and not re.fullmatch(f"[0-9a-f]{{{length}}}", digest):
        raise ValueError(f"{name}: {kind} is {length} lower-case hexadecimal digits, got {digest}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestFile:
    """A file of a data set, as distributed or after extraction; None is "not known"."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = _STRICT

    path: str
    """Path below the data folder, with forward slashes."""

    bytes: int | None = None
    bytes_exact: bool = True
    """False where sources only give the size approximately."""

    md5: str | None = None
    sha256: str | None = None
    origin: str | None = None
    """Where it can be had."""

    optional: bool = False
    into: str | None = None
    """Of an archive: the folder below the data folder that it is unpacked into; None: it is not."""

    def __post_init__(self) -> None:
        _check_digest(self.path, "md5", self.md5, 32)
        _check_digest(self.path, "sha256", self.sha256, 64)
        if self.bytes is not None and self.bytes <= 0:
            raise ValueError(f"{self.path}: expected bytes > 0, got {self.bytes}")
        if self.path.startswith("/") or ".." in self.path.split("/"):
            raise ValueError(f"{self.path}: a path below the data folder is relative")


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """Mean and standard deviation per channel (R, G, B), in [0, 1] pixel units."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = _STRICT

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(0 < value < 1 for value in self.mean + self.std):
            raise ValueError(f"{self.name}: mean and std are in (0, 1), got {self.mean} {self.std}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Images of each split with labels; None where there is no such split."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = _STRICT

    train: int | None = None
    val: int | None = None
    test: int | None = None
    test_unlabelled: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One data set."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = _STRICT

    name: str
    title: str
    loadable: bool
    """Whether ``load_dataset`` reads it by this name."""

    num_classes: int
    superclasses: int | None = None
    counts: Counts
    image_size: tuple[int, int] | None
    """Height and width; None where images differ."""

    archives: tuple[ManifestFile, ...]
    files: tuple[ManifestFile, ...] = ()
    """Files after extraction whose checksums are known."""

    layout: tuple[str, ...]
    """What lies below the data folder after extraction."""

    homes: tuple[str, ...] = ()
    """Folders below the data folder that it is looked for in, in this order; ``.`` is itself."""

    marks: tuple[str, ...] = ()
    """Patterns of paths below its home, of which one is there if the data set is."""

    joined_with_val: bool = False
    """Whether published numbers are of training on ``train`` and ``val`` together."""

    split_sha256: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the ids and labels of an official split, where somebody has computed it; see
    ``split_digest``."""

    class_names_source: str
    normalisations: tuple[Normalisation, ...]
    """The first is the one that training and evaluation use by default."""

    train_augment: Augment | None
    eval_transform: str
    """How test images are prepared, as ``TestTransform.text`` writes it."""

    clean_of: str | None = None
    """For a corrupted set: the data set whose test images were corrupted."""

    terms: str
    citation: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"{self.name}: expected num_classes >= 2, got {self.num_classes}")
        if not self.normalisations:
            raise ValueError(f"{self.name}: expected at least one normalisation")
        try:
            TestTransform.parse(self.eval_transform)
        except ValueError as error:
            raise ValueError(f"{self.name}: eval_transform: {error}") from None
        for digest in self.split_sha256.values():
            _check_digest(self.name, "the sha256 of a split", digest, 64)
        paths = [file.path for file in self.archives + self.files]
        if len(set(paths)) != len(paths):
            raise ValueError(f"{self.name}: a path occurs twice")

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation used by default."""
        return self.normalisations[0]

    def split_count(self, split: Split) -> int | None:
        """Return how many images ``load_dataset`` reads of a split; None if nobody says.

        Example:
            >>> load_manifest("imagenet-1k").split_count("test")
            50000
        """
        counts = self.counts
        if split == "test":
            return counts.val if counts.test is None else counts.test
        if self.joined_with_val and counts.train is not None:
            return counts.train + (counts.val or 0)
        return counts.train

    @property
    def test_transform(self) -> TestTransform:
        """How test images are prepared."""
        return TestTransform.parse(self.eval_transform)

    def file(self, path: str) -> ManifestFile:
        """Return the extracted file at ``path``.

        Raises:
            KeyError: the manifest does not know such a file.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise KeyError(path)


Loader: TypeAlias = "Callable[[Manifest, Split, Path], ImageSet]"
"""(manifest, split, data folder) -> one split, in the archive's order."""

ManifestSource: TypeAlias = Manifest | Mapping[str, object] | str | Path
"""A manifest, or what it is made from: the JSON text's values, or the path of the file."""


@dataclass(frozen=True)
class DatasetRow(Row):
    """One data set that is read by name."""

    manifest: ManifestSource | None = None
    """None: the one that comes with robustmix."""


DATASETS: Table[Loader, DatasetRow] = Table(
    "dataset",
    DatasetRow,
    {
        "cifar10": DatasetRow("robustmix.data.archives:load_cifar", "CIFAR-10, 10 classes"),
        "cifar100": DatasetRow("robustmix.data.archives:load_cifar", "CIFAR-100, 100 classes"),
        "imagenet-1k": DatasetRow(
            "robustmix.data.sets.imagenet:load", "ImageNet-1k (ILSVRC 2012), 1,000 classes"
        ),
        "tiny-imagenet": DatasetRow(
            "robustmix.data.sets.tiny_imagenet:load", "Tiny-ImageNet, 200 classes at 64x64"
        ),
        "cub-200-2011": DatasetRow(
            "robustmix.data.sets.cub:load", "Caltech-UCSD Birds, 200 species"
        ),
        "fgvc-aircraft": DatasetRow(
            "robustmix.data.sets.aircraft:load_variants", "FGVC-Aircraft, 100 variants"
        ),
        "fgvc-aircraft-family": DatasetRow(
            "robustmix.data.sets.aircraft:load_families", "FGVC-Aircraft, 70 families"
        ),
        "fgvc-aircraft-manufacturer": DatasetRow(
            "robustmix.data.sets.aircraft:load_manufacturers", "FGVC-Aircraft, 30 manufacturers"
        ),
        "stanford-cars": DatasetRow(
            "robustmix.data.sets.cars:load", "Stanford Cars, 196 models by year"
        ),
        "inaturalist-2017": DatasetRow(
            "robustmix.data.sets.inaturalist:load_2017", "iNaturalist 2017, 5,089 species"
        ),
        "inaturalist-2018": DatasetRow(
            "robustmix.data.sets.inaturalist:load_2018", "iNaturalist 2018, 8,142 species"
        ),
        "places205": DatasetRow("robustmix.data.sets.places205:load", "Places, 205 scenes"),
        "oxford-pets": DatasetRow("robustmix.data.sets.pets:load", "Oxford-IIIT Pet, 37 breeds"),
        "flowers102": DatasetRow(
            "robustmix.data.sets.flowers102:load", "Oxford Flowers, 102 species"
        ),
        "svhn": DatasetRow("robustmix.data.sets.svhn:load", "Street View House Numbers, 10 digits"),
        "digits": DatasetRow(
            "robustmix.data.digits:load_digits",
            "Optical recognition of handwritten digits (scikit-learn), enlarged to 32x32, "
            "10 classes",
        ),
    },
)
"""Data sets that are read by name; ``folder:PATH`` reads any folder of images."""


def list_manifests() -> list[str]:
    """Return the names of all manifests, sorted.

    Example:
        >>> "cifar100" in list_manifests()
        True
    """
    return sorted({*_packaged_names(), *DATASETS})


def load_manifest(name: str) -> Manifest:
    """Return the manifest called ``name``.

    Raises:
        UsageError: there is none of that name.
        IntakeError: that of a data set of others cannot be read, or is of another one.

    Example:
        >>> load_manifest("cifar100").counts.test
        10000
    """
    if DATASETS.origin(name) is not None:
        return manifest_of(name, DATASETS.row(name).manifest)
    if name not in _packaged_names():
        raise unknown_name("dataset", name, list_manifests())
    return _packaged(name)


class LookedFor(NamedTuple):
    """What tells whether a data set is here."""

    files: tuple[str, ...]
    """Paths below the data folder that it is read from; all are needed."""

    homes: tuple[str, ...]
    """See ``Manifest``."""

    marks: tuple[str, ...]


def looked_for(name: str) -> LookedFor:
    """Return what is looked for below the data folder to find a data set.

    That of a packaged manifest is read without being checked, which lists do not wait for.

    Raises:
        UsageError: there is no manifest of that name.
    """
    if DATASETS.origin(name) is None and name in _packaged_names():
        said: dict[str, Any] = json.loads(_packaged_text(name))
        needed = (str(file["path"]) for file in said.get("files", []) if not file.get("optional"))
        homes, marks = (tuple(map(str, said.get(key, ()))) for key in ("homes", "marks"))
        return LookedFor(tuple(needed), homes, marks)
    manifest = load_manifest(name)
    needed = (file.path for file in manifest.files if not file.optional)
    return LookedFor(tuple(needed), manifest.homes, manifest.marks)


def manifest_of(name: str, source: ManifestSource | None) -> Manifest:
    """Return the manifest of a data set that others register.

    Args:
        name: what the data set is called.
        source: as ``DatasetRow`` has it.

    Raises:
        UsageError: robustmix has a manifest of this name and another one is given, or it has none
            and none is given.
        IntakeError: it cannot be read, lacks something, or is of another data set.
    """
    if name in _packaged_names():
        if source is not None:
            raise UsageError(
                f"robustmix has a manifest of {name} already",
                "leave manifest out",
                code="E-MANIFEST",
            )
        return _packaged(name)
    if source is None:
        raise UsageError(
            f"data set '{name}' has no manifest", "give manifest=PATH or a dict", code="E-MANIFEST"
        )
    try:
        manifest = source if isinstance(source, Manifest) else parse_manifest(_text_of(source))
    except (OSError, ValueError) as error:
        raise _bad_manifest(name, _first_of(error)) from error
    if manifest.name != name:
        raise _bad_manifest(name, f"it calls itself {manifest.name}")
    if not manifest.loadable:
        raise _bad_manifest(name, "it says that the data set is not loadable")
    return manifest


def _text_of(source: Mapping[str, object] | str | Path) -> str:
    if isinstance(source, Mapping):
        return json.dumps(source)
    return expanded(source).read_text(encoding="utf-8")


def _first_of(error: Exception) -> str:
    from pydantic import ValidationError  # not needed to list names

    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"].removeprefix("Value error, ")


def _bad_manifest(name: str, why: str) -> IntakeError:
    return IntakeError(
        f"the manifest of data set '{name}' cannot be used: {why}",
        "write it like those in robustmix/data_manifests",
        code="E-MANIFEST",
    )


@functools.cache
def _packaged_names() -> frozenset[str]:
    folder = files("robustmix") / "data_manifests"
    found = (entry.name for entry in folder.iterdir())
    return frozenset(name.removesuffix(".json") for name in found if name.endswith(".json"))


def _packaged_text(name: str) -> str:
    return (files("robustmix") / "data_manifests" / f"{name}.json").read_text(encoding="utf-8")


@functools.cache
def _packaged(name: str) -> Manifest:
    manifest = parse_manifest(_packaged_text(name))
    if manifest.name != name:
        raise ValueError(f"the manifest {name}.json calls itself {manifest.name}")
    return manifest


def parse_manifest(text: str) -> Manifest:
    """Return the manifest that a JSON text holds.

    Raises:
        ValueError: a key is missing, misspelt or has an impossible value.
    """
    from pydantic import TypeAdapter  # not needed to list names

    return TypeAdapter(Manifest).validate_json(text, strict=True)
