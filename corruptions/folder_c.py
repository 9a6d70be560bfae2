"""Reader of the official ImageNet-C and Tiny-ImageNet-C folders.

Images lie in ``<corruption>/<severity>/<class>/<file>``, the corruptions side by side or in one
folder a downloaded archive. They have their final size: nothing is resized.
"""

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from robustmix.corruptions.names import NAMES, SEVERITIES, canonical_name
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.files import expanded, regular_file
from robustmix.later import Tensor, torch

SIDES = {"tiny-imagenet": 64, "imagenet-1k": 224}
"""Data sets that a corrupted test set was released for as folders, and the side of its images."""

PAIRED = frozenset({"imagenet-1k"})
"""Those whose corrupted images are made from the clean test images and bear their names."""

_EXTRACT = "extract the released archives again"
_WORKERS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderC:
    """An official corrupted test set of image files that passed its intake checks."""

    folder: Path
    dataset: str
    roots: Mapping[str, Path]
    """Corruption -> the folder of its severities, in canonical order."""

    severities: tuple[int, ...]
    files: tuple[str, ...]
    """``<class>/<file>`` for each clean image, the same under every corruption and severity."""

    conditions: Mapping[tuple[str, int], Path]
    """(corruption, severity) -> the folder of its classes."""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        dataset: str,
        class_names: Sequence[str],
        clean_labels: Tensor,
        clean_files: Sequence[str],
        names: Sequence[str] = NAMES,
        severities: Sequence[int] = SEVERITIES,
        by_value: bool = False,
    ) -> "FolderC":
        """Open a folder and check that it holds the corrupted images of a clean test set.

        Tiny-ImageNet-C was made from other photographs than Tiny-ImageNet's test set: its images
        are then given to the clean ones of the same class in the order of their names, so that
        labels agree, but no image is a corrupted form of its clean one.

        Args:
            folder: holds the corruptions' folders, or folders that hold them.
            dataset: whose test set was corrupted, ``"tiny-imagenet"`` or ``"imagenet-1k"``.
            class_names: names of the class folders (WordNet ids), in the order of the labels.
            clean_labels: classes of the whole clean test set, any integer type (N,).
            clean_files: their file names.
            names: corruptions that will be read; those that are not there are left out.
            severities: likewise.
            by_value: whether the folders of the severities may bear the five values of the
                corruption's parameter, which rise with it, in the place of 1 to 5.

        Raises:
            IntakeError: a folder is missing, or its classes, numbers or names of files are not
                those of the clean set, or differ from one condition to another.
            UsageError: no folders of corrupted images were released for ``dataset``.
        """
        folder = expanded(folder)
        if dataset not in SIDES:
            raise unknown_name("corrupted data set", dataset, SIDES)
        if not folder.is_dir():
            raise IntakeError(
                f"no folder {folder}", "download and extract the released archives there"
            )
        ordered = [
            *(name for name in NAMES if name in names),
            *(n for n in names if n not in NAMES),
        ]
        roots = {name: root for name in ordered if (root := _find(folder, name))}
        if not roots:
            raise IntakeError(f"no folder of a corruption such as {names[0]} in {folder}", _EXTRACT)
        conditions = {
            (name, severity): place
            for name, root in roots.items()
            for severity, place in _severity_folders(root, severities, by_value).items()
        }
        first, *others = conditions.values()
        listing = class_listing(first, class_names)
        files = assigned(first, listing, dataset, class_names, clean_labels, clean_files)
        for other in others:
            if (found := class_listing(other, class_names)) != listing:
                raise IntakeError(_difference(other, found, first, listing), _EXTRACT)
        return cls(
            folder=folder,
            dataset=dataset,
            roots=roots,
            severities=tuple(severities),
            files=files,
            conditions=conditions,
        )

    @property
    def available(self) -> tuple[str, ...]:
        """The corruptions whose folders are there, in canonical order."""
        return tuple(self.roots)

    @property
    def paired(self) -> bool:
        """Whether a corrupted image was made from the clean one of the same index."""
        return self.dataset in PAIRED

    def __len__(self) -> int:
        return len(self.files)

    def take(self, name: str, severity: int, indices: Tensor | Sequence[int]) -> Tensor:
        """Return the corrupted images that belong to ``indices`` of the clean test set.

        Args:
            name: a corruption or an alias of one.
            severity: one of those that were opened.
            indices: positions in the clean test set, integers in [0, N).

        Returns:
            uint8 (len(indices), 3, side, side), on the CPU.

        Raises:
            IntakeError: the corruption is missing, or a file is no image or of another size.
            UsageError: the name, the severity or an index does not exist.
        """
        name = name if name in self.roots else canonical_name(name)
        if name not in self.roots:
            raise IntakeError(
                f"no folder {name} in {self.folder}", f"{_EXTRACT}, or leave the corruption out"
            )
        if severity not in self.severities:
            raise UsageError(f"expected a severity of {self.severities}, got {severity}")
        places = torch.as_tensor(indices, dtype=torch.int64).tolist()
        if any(not 0 <= place < len(self) for place in places):
            raise UsageError(f"expected indices in 0 to {len(self) - 1}, got {places}")
        root, side = self.conditions[name, severity], SIDES[self.dataset]
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            images = list(pool.map(lambda place: _read(root / self.files[place], side), places))
        return torch.stack(images) if images else torch.zeros(0, 3, side, side, dtype=torch.uint8)


def _find(folder: Path, name: str) -> Path | None:
    """Return the folder of a corruption: in ``folder``, or in a folder of one archive."""
    places = [folder / name, *sorted(folder.glob(f"*/{name}"))]
    return next((place for place in places if place.is_dir()), None)


def _severity_folders(root: Path, severities: Sequence[int], by_value: bool) -> dict[int, Path]:
    """Return the folder of each severity: of its number, or of the value it was made with."""
    plain = {severity: root / str(severity) for severity in severities}
    if not by_value or all(place.is_dir() for place in plain.values()):
        return plain
    with os.scandir(root) as entries:
        found = [entry.name for entry in entries if entry.is_dir()]
    values = {float(name): name for name in found if re.fullmatch(r"\d{1,4}(\.\d{1,6})?", name)}
    if len(values) != len(SEVERITIES) or len(found) != len(values):
        raise IntakeError(
            f"{root} has neither the folders 1 to 5 nor five that bear values", _EXTRACT
        )
    rising = [values[value] for value in sorted(values)]
    return {severity: root / rising[severity - 1] for severity in severities}


def class_listing(condition: Path, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Return the sorted names of the files of every class folder.

    Raises:
        IntakeError: there is no folder, or its classes are others.
    """
    if not condition.is_dir():
        raise IntakeError(f"no folder {condition}", _EXTRACT)
    with os.scandir(condition) as entries:
        found = {entry.name for entry in entries if entry.is_dir()}
    if found != set(class_names):
        missing, extra = sorted(set(class_names) - found), sorted(found - set(class_names))
        what = f"lacks the class {missing[0]}" if missing else f"has the class {extra[0]} besides"
        raise IntakeError(
            f"{condition} {what}: {len(found)} classes, the clean set has {len(class_names)}",
            "the folder belongs to another data set, or was not extracted to the end",
        )
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        listed = pool.map(lambda name: sorted(os.listdir(condition / name)), class_names)
    return dict(zip(class_names, listed, strict=True))


def assigned(
    condition: Path,
    listing: Mapping[str, list[str]],
    dataset: str,
    class_names: Sequence[str],
    clean_labels: Tensor,
    clean_files: Sequence[str],
) -> tuple[str, ...]:
    """Return ``<class>/<file>`` for each clean image: of its name, or the next of its class.

    Raises:
        IntakeError: a class has another number of files, or a name is missing.
    """
    labels = clean_labels.tolist()
    counts = np.bincount(labels, minlength=len(class_names))
    for label, name in enumerate(class_names):
        if len(listing[name]) != counts[label]:
            raise IntakeError(
                f"{condition / name} holds {len(listing[name])} images, the clean set has "
                f"{counts[label]} of that class",
                "the folder belongs to another test set, or was not extracted to the end",
            )
    if dataset not in PAIRED:
        left = {name: iter(files) for name, files in listing.items()}
        return tuple(f"{class_names[y]}/{next(left[class_names[y]])}" for y in labels)
    stems = {name: {PurePosixPath(f).stem: f for f in files} for name, files in listing.items()}
    chosen = []
    for label, clean in zip(labels, clean_files, strict=True):
        name, stem = class_names[label], PurePosixPath(clean).stem
        if stem not in stems[name]:
            raise IntakeError(
                f"{condition / name} has no image called {stem}, as the clean set has",
                "the folder was made from another test set, or labels are in another order",
            )
        chosen.append(f"{name}/{stems[name][stem]}")
    return tuple(chosen)


def _difference(
    condition: Path,
    found: Mapping[str, list[str]],
    first: Path,
    expected: Mapping[str, list[str]],
) -> str:
    name = next(name for name in expected if found[name] != expected[name])
    odd = sorted(set(found[name]) ^ set(expected[name]))[0]
    return f"{condition / name} does not hold the same files as {first / name}, e.g. {odd}"


def _read(path: Path, side: int) -> Tensor:
    from PIL import Image

    regular_file(path, what="image", hint=_EXTRACT)
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as opened:  # some others start programs
            image = opened.convert("RGB")
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise IntakeError(f"cannot decode {path}: {_reason(error)}", _EXTRACT) from error
    if image.size != (side, side):
        raise IntakeError(
            f"{path} has {image.width}x{image.height} pixels, expected {side}x{side}",
            "the released images have their final size; they are not resized again",
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _reason(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)) or type(error).__name__
