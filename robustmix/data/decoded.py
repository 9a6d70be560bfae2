"""Images of files kept decoded, the last that were used, up to a bound; read before they are used.

An evaluation looks at a block of images under one condition after another. Kept here, each image
of the block is decoded once.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from robustmix.data.threads import thread_pool
from robustmix.later import Tensor, torch


class _Kept(NamedTuple):
    image: Tensor
    """uint8 (3, H, W), written by ``job``."""

    job: "Future[None]"


class DecodedImages:
    """Decoded images by their places among the files.

    Args:
        load: writes the image of a place into a tensor uint8 (3, H, W); run in threads.
        shape: of one image.
        most: images that are kept, begun ones included; those of a batch that is taken are beyond.
    """

    def __init__(
        self, load: Callable[[int, Tensor], None], shape: tuple[int, int, int], most: int
    ) -> None:
        self._load, self._shape, self.most = load, shape, most
        self._kept: dict[int, _Kept] = {}  # the last used at the end
        self.decoded = 0
        """How many images were decoded, or begun."""

        self.taken = 0
        """How many were taken."""

    def __len__(self) -> int:
        return len(self._kept)

    def expect(self, places: Sequence[int]) -> None:
        """Begin to decode images that will be taken soon, the first ones first."""
        self._use(places[: self.most])

    def take(self, places: Sequence[int]) -> Tensor:
        """Return images uint8 (n, 3, H, W).

        Raises:
            Exception: what ``load`` raised of the first that failed.
        """
        used = self._use(places)
        self.taken += len(used)
        try:
            for kept in used:
                kept.job.result()
        except BaseException:
            for place in places:  # asked for again, it fails again for its own reason
                self._kept.pop(place, None)
            raise
        return torch.stack([kept.image for kept in used])

    def close(self) -> None:
        """Give up what has not begun, and keep nothing."""
        for kept in self._kept.values():
            kept.job.cancel()
        self._kept.clear()

    def _use(self, places: Iterable[int]) -> list[_Kept]:
        used = []
        for place in places:
            kept = self._kept.pop(place, None)
            if kept is None:
                self.decoded += 1
                image = torch.empty(self._shape, dtype=torch.uint8)
                kept = _Kept(image, thread_pool().submit(self._load, place, image))
            self._kept[place] = kept
            used.append(kept)
        for place in list(self._kept)[: max(0, len(self._kept) - self.most)]:
            del self._kept[place]
        return used
