"""Reading ahead in images of any source: those in memory need none of it."""

from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from robustmix.data.augmented import Begun, begin_taking
from robustmix.data.decoded import DecodedImages
from robustmix.data.file_pixels import FilePixels
from robustmix.data.images import Pixels, SubsetPixels
from robustmix.data.resized import ResizedPixels
from robustmix.data.threads import AHEAD, ahead


class _Some(NamedTuple):
    indices: Tensor
    images: Begun

    def cancel(self) -> None:
        self.images.cancel()


def in_order(
    pixels: Pixels, chunks: Iterable[Tensor], *, pinned: bool = False
) -> Generator[tuple[Tensor, Tensor]]:
    """Yield indices with their images, uint8 (n, 3, H, W); files are read some batches ahead.

    Close it where it is left before its end.

    Args:
        pixels: where the images come from.
        chunks: indices, int64 (n,) each.
        pinned: see ``begin_taking``.
    """
    begun = (_Some(some, begin_taking(pixels, some, pinned=pinned)) for some in chunks)
    for one in ahead(begun, AHEAD):
        yield one.indices, one.images.result()


def stored_files(pixels: Pixels) -> FilePixels | None:
    """Return the files that images are read from whenever they are taken; None if there are none.

    Example:
        >>> import torch
        >>> from robustmix.data.images import TensorPixels
        >>> stored_files(TensorPixels(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))) is None
        True
    """
    while isinstance(pixels, SubsetPixels | ResizedPixels):
        pixels = pixels.pixels
    return pixels if isinstance(pixels, FilePixels) else None


def keeping_decoded(pixels: Pixels, most_bytes: int) -> Pixels:
    """Return the same images, of which those of files stay decoded up to a bound.

    Args:
        pixels: where they come from.
        most_bytes: of decoded images, all together.
    """
    if isinstance(pixels, SubsetPixels | ResizedPixels):
        return replace(pixels, pixels=keeping_decoded(pixels.pixels, most_bytes))
    if not isinstance(pixels, FilePixels):
        return pixels
    channels, height, width = pixels.size
    return pixels.keeping(most_bytes // (channels * height * width))


def kept_decoded(pixels: Pixels) -> DecodedImages | None:
    """Return where images stay decoded; None if they do not."""
    files = stored_files(pixels)
    return None if files is None else files.kept


def expect(pixels: Pixels, indices: Tensor) -> None:
    """Begin to decode images that will be taken soon, where they then stay decoded."""
    while isinstance(pixels, SubsetPixels | ResizedPixels):
        if isinstance(pixels, SubsetPixels):
            indices = pixels.chosen[indices]
        pixels = pixels.pixels
    if isinstance(pixels, FilePixels) and pixels.kept is not None:
        pixels.kept.expect(indices.tolist())
