"""The same pictures resized to a square without keeping their shape, whatever else is done to them.

Where objects are localised nothing may be cut off, and boxes are in pixels of the pictures as they
are stored.
"""

from __future__ import annotations

from dataclasses import replace

from robustmix.data.decode import read_header
from robustmix.data.file_pixels import FilePixels, KeptFiles
from robustmix.data.images import Pixels, SubsetPixels
from robustmix.data.preparation import TestTransform
from robustmix.data.resized import ResizedPixels


def squashed(pixels: Pixels, side: int) -> Pixels:
    """Give the same pictures, each resized as a whole to a square, bilinearly as Pillow does.

    Args:
        pixels: where they come from. Those in memory that nothing is done to stay as they are.
        side: of the square, in pixels.
    """
    transform = TestTransform(resize=side, interpolation="bilinear", crop_mode="squash")
    if isinstance(pixels, SubsetPixels):
        return replace(pixels, pixels=squashed(pixels.pixels, side))
    if isinstance(pixels, FilePixels):
        return replace(pixels, size=(3, side, side), transform=transform, kept=None)
    if isinstance(pixels, KeptFiles):
        return FilePixels(pixels.paths, (3, side, side), transform)
    if isinstance(pixels, ResizedPixels):
        return ResizedPixels(pixels.pixels, None, transform=transform)
    return pixels


def stored_size(pixels: Pixels, position: int) -> tuple[int, int]:
    """Give width and height of a picture as it is stored.

    Raises:
        IntakeError: its file cannot be read.
    """
    while isinstance(pixels, SubsetPixels | ResizedPixels):
        if isinstance(pixels, SubsetPixels):
            position = int(pixels.chosen[position])
        pixels = pixels.pixels
    if isinstance(pixels, FilePixels):
        header = read_header(pixels.paths[position])
        return header.width - 2 * pixels.border, header.height - 2 * pixels.border
    if isinstance(pixels, KeptFiles):
        return read_header(pixels.paths[position])[:2]
    return pixels.size[2], pixels.size[1]
