"""In which order images of files are looked at, so that conditions share what is decoded."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from robustmix.data.images import Pixels
from robustmix.data.reading import expect, kept_decoded, stored_files
from robustmix.data.threads import AHEAD
from robustmix.errors import UsageError

IMAGE_MEMORY = 1024
"""MiB of images of files that stay decoded unless something else is asked for."""

MOST_MEMORY = 1 << 24
"""MiB that may be asked for."""

OVERLAP = 2
"""Batches by which a span may reach into the one before: units and batches do not end with it."""


def checked_image_memory(asked: int | None, pixels: Pixels) -> int:
    """Return how many MiB of decoded images are kept.

    Args:
        asked: None for what is usual.
        pixels: what will be evaluated.

    Raises:
        UsageError: so many cannot be meant, or no image is decoded.
    """
    if asked is None:
        return IMAGE_MEMORY
    if not 0 <= asked <= MOST_MEMORY:
        raise UsageError(f"expected --image-memory from 0 to {MOST_MEMORY} (MiB), got {asked}")
    if stored_files(pixels) is None:
        raise UsageError(
            "--image-memory has no effect: the images are in memory, not in files",
            "leave it out",
            code="E-UNUSED-OPTION",
        )
    return asked


@dataclass
class Reading:
    """Spans of samples whose images stay decoded together, and what is read ahead in them."""

    pixels: Pixels
    batch: int
    """Samples of the largest batch."""

    room: int | None
    """Images that stay decoded; None if there is nothing to decode."""

    taking: set[str] = field(default_factory=set)
    """The work that takes images; some does not, such as that on files of its own."""

    @classmethod
    def of(cls, pixels: Pixels, batch: int) -> "Reading":
        """Plan for images that may be kept decoded."""
        kept = kept_decoded(pixels)
        return cls(pixels, batch, None if kept is None else kept.most)

    @property
    def count(self) -> int:
        """Batches that are read ahead."""
        if self.room is None:
            return 0
        return min(AHEAD, max(0, self.room // self.batch - OVERLAP - 1))

    def spans(self, n: int) -> Iterator[tuple[int, int]]:
        """Cut ``n`` samples into spans that stay decoded; into one if no batch would.

        Yields:
            Where each begins, and where it ends.
        """
        size = n if self.room is None else self.room - (OVERLAP + self.count) * self.batch
        size = size if size >= self.batch else n
        for start in range(0, n, max(1, size)):
            yield start, min(start + size, n)

    @contextlib.contextmanager
    def ahead(self, work: str, later: Tensor) -> Iterator[None]:
        """Read ahead while a batch is worked on, if that kind of work takes images.

        Args:
            work: the kind.
            later: the samples of the batch and all that follow.
        """
        kept = kept_decoded(self.pixels)
        if kept is None:
            yield
            return
        if self.count and work in self.taking:
            expect(self.pixels, later[: (1 + self.count) * self.batch])
        before = kept.taken
        yield
        if kept.taken > before:
            self.taking.add(work)
