"""What a step draws where its batch has parts, as so many processes would each have one.

All parts have the same weights, numbers of sources and turns of the adversary; partners are drawn
within a part, from a stream of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np


class StepDraws(np.random.Generator):
    """The stream of what a method draws; within ``of_parts`` partners come from other streams."""

    def __init__(self, bit_generator: np.random.PCG64) -> None:
        super().__init__(bit_generator)
        self._parts: tuple[np.random.Generator, ...] = ()

    @property
    def in_parts(self) -> bool:
        """Whether partners are to be drawn by ``each_part``."""
        return bool(self._parts)

    def permutation(self, x: Any, axis: int = 0) -> Any:
        """Return a permutation of a count, which ``of_parts`` leaves every place in its part."""
        if not self._parts or not isinstance(x, int):
            return super().permutation(x, axis)
        return self.each_part(x, lambda n, stream: stream.permutation(n))

    def each_part(
        self, n: int, draw: Callable[[int, np.random.Generator], np.ndarray[Any, Any]]
    ) -> np.ndarray[Any, Any]:
        """Return partners of a batch, int64 (n,), drawn in each part by itself.

        Args:
            n: images that are computed together; of fewer than two a part, all are one part.
            draw: (number of images, a part's own stream) -> their partners, places in the part.
        """
        streams = self._parts if n >= 2 * len(self._parts) else self._parts[:1]
        found = np.empty(n, dtype=np.int64)
        for j, stream in enumerate(streams):
            places = np.arange(j, n, len(streams))
            found[places] = places[draw(len(places), stream)]
        return found

    @contextmanager
    def of_parts(self, key: int, parts: Sequence[int]) -> Iterator[None]:
        """Draw as some parts of a step do; afterwards the stream is where it was.

        Args:
            key: of the step; what all parts have in common is drawn from it.
            parts: their numbers, of which place i of what is computed together is i % len(parts).
        """
        kept = self.bit_generator.state
        self.bit_generator.state = np.random.PCG64(np.random.SeedSequence([key])).state
        self._parts = tuple(np.random.default_rng([key, 1 + part]) for part in parts)
        try:
            yield
        finally:
            self.bit_generator.state = kept
            self._parts = ()
