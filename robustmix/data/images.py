"""An image set: uint8 pixels, labels, stable sample ids, and what is known about their files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from robustmix.later import Tensor, torch
from robustmix.upload import uploaded


@runtime_checkable
class Pixels(Protocol):
    """Where the pixels of an image set come from."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image: (3, H, W)."""
        ...

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, H, W) for int64 indices (n,), on the pixels' device."""
        ...

    def to(self, device: torch.device) -> Pixels:
        """Return the same pixels, kept on ``device`` where that makes sense."""
        ...


@dataclass(frozen=True, eq=False)
class TensorPixels:
    """Pixels held in memory, on any device: uint8 (N, 3, H, W)."""

    images: Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, H, W), on the device they live on."""
        (there,) = uploaded((indices,), self.images.device)
        return self.images.index_select(0, there)

    def to(self, device: torch.device) -> TensorPixels:
        """Return the pixels on ``device``."""
        return TensorPixels(self.images.to(device))


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file that an image set was read from."""

    name: str
    """Name relative to the data folder."""

    sha256: str
    verified: bool
    """Whether its checksum is the one of the manifest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """One split of a data set, in the archive's order."""

    name: str
    split: str
    pixels: Pixels
    labels: Tensor
    """int64 (N,), on the CPU."""

    sample_ids: tuple[str, ...]
    """``<dataset>/<split>/<official index or relative path>``, stable across machines."""

    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    """Training normalisation of the data set, in [0, 1] pixel units."""

    std: tuple[float, float, float]
    transform: str = "none"
    """What the loader did to the stored pixels, e.g. ``resize256-bicubic+centercrop224``."""

    own_transform: str | None = None
    """What it would have done unasked; None where it was not told what to do."""

    files: tuple[FileRecord, ...] = ()
    superclass: tuple[int, ...] | None = None
    """Coarse label of each class (CIFAR-100 only)."""

    notes: tuple[str, ...] = ()
    """What a report should warn of, e.g. images converted from other colour modes."""

    layout: str = ""
    """Which arrangement of its files a set read by name was found in; empty where there is one."""

    partial_of: int | None = None
    """How many images the split has officially, where some are not here; None: all are."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.pixels.size

    @property
    def order_sha256(self) -> str:
        """SHA-256 of the sample ids in their order, joined by newlines."""
        return lines_sha256(self.sample_ids)

    @property
    def class_names_sha256(self) -> str:
        """SHA-256 of the class names in their order, joined by newlines."""
        return lines_sha256(self.class_names)

    def subset(self, indices: Sequence[int] | Tensor) -> ImageSet:
        """Return the images at ``indices``, in that order; ids stay what they are."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return replace(
            self,
            pixels=SubsetPixels(self.pixels, chosen),
            labels=self.labels[chosen],
            sample_ids=tuple(self.sample_ids[i] for i in chosen.tolist()),
        )

    def to(self, device: torch.device) -> ImageSet:
        """Return the set with its pixels on ``device``."""
        return replace(self, pixels=self.pixels.to(device))


def lines_sha256(lines: Sequence[str]) -> str:
    """Return the SHA-256 of some names in their order, joined by newlines."""
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


@dataclass(frozen=True, eq=False)
class SubsetPixels:
    """A choice of the images of other pixels."""

    pixels: Pixels
    chosen: Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.pixels.size

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, H, W)."""
        return self.pixels.take(self.chosen[indices.cpu()])

    def to(self, device: torch.device) -> SubsetPixels:
        """Return the pixels on ``device``."""
        return SubsetPixels(self.pixels.to(device), self.chosen)


@dataclass(frozen=True, eq=False)
class JoinedPixels:
    """Pixels of one source behind those of another, all of one size."""

    first: Pixels
    second: Pixels

    def __post_init__(self) -> None:
        assert self.first.size == self.second.size, "they are prepared alike"

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.first.size

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, H, W)."""
        where = indices.cpu()
        behind = where >= len(self.first)
        if not bool(behind.any()):
            return self.first.take(where)
        if bool(behind.all()):
            return self.second.take(where - len(self.first))
        found = self.second.take(where[behind] - len(self.first))
        images = found.new_empty((len(where), *self.size))
        # Places, not masks: how many a mask of a GPU chooses is waited for.
        places = uploaded((behind.nonzero().flatten(), (~behind).nonzero().flatten()), found.device)
        images[places[0]] = found
        images[places[1]] = self.first.take(where[~behind]).to(found.device)
        return images

    def to(self, device: torch.device) -> JoinedPixels:
        """Return the pixels on ``device``."""
        return JoinedPixels(self.first.to(device), self.second.to(device))


def joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return the images of one set followed by another's; all else is as in the first."""
    return replace(
        first,
        pixels=JoinedPixels(first.pixels, second.pixels),
        labels=torch.cat([first.labels, second.labels]),
        sample_ids=(*first.sample_ids, *second.sample_ids),
    )
