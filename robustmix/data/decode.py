"""Image files made 8-bit RGB, whatever they store; strangers' files within bounds.

EXIF orientation is ignored, as the reference loaders (torchvision, timm) do: what the file stores
is what the network sees.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustmix.data.jpeg import plain_jpeg
from robustmix.errors import IntakeError, RobustmixError
from robustmix.files import regular_file
from robustmix.later import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever a file is called; some others start programs."""

MOST_PIXELS = 2**26
"""Of one image, stored or resized: 200 MB as RGB."""

WHITE = {
    "I": ((0.0, 255.0), (4096.0, 65535.0)),
    "F": ((0.0, 1.0), (16.0, 255.0), (4096.0, 65535.0)),
}
"""Modes whose files do not say which number is white: what may be, and from where on the greatest
number of all files makes it so. What lies between would be nearly black."""

_SAVE = "save it with 8 or 16 bits"
_DEPTHS = {"I;12": 4095.0}
_WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262  # of TIFF


class Header(NamedTuple):
    """What an image file says of itself."""

    width: int
    height: int
    mode: str
    """Pillow's, with the depth where it is above 8 bits: ``RGB``, ``I;16``, ``RGB;16B``, ``F``."""


def undecodable(path: Path, why: str, hint: str = "replace or remove the file") -> IntakeError:
    """Make the error for an image file that cannot be used."""
    return IntakeError(f"cannot decode {path}: {why}", hint, code="E-DATA")


def _opened(path: Path) -> contextlib.AbstractContextManager[Image.Image]:
    regular_file(path, what="image", hint="replace or remove it", code="E-DATA")
    return _decoded(path, path)


@contextlib.contextmanager
def _decoded(source: Path | io.BytesIO, path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(source, formats=FORMATS) as image:
            check_area(path, image.width, image.height)
            yield image
    except RobustmixError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        from PIL import UnidentifiedImageError

        unknown = isinstance(error, UnidentifiedImageError)
        why = f"not an image ({', '.join(FORMATS)})" if unknown else str(error)
        raise undecodable(path, why or type(error).__name__) from error


def check_area(path: Path, width: int, height: int) -> None:
    """Refuse an image that has too many pixels, as it is stored or as it would be resized.

    Raises:
        IntakeError: it has.
    """
    if width * height > MOST_PIXELS:
        raise undecodable(path, f"{width}x{height} pixels, more than {MOST_PIXELS:,}")


def read_header(path: Path) -> Header:
    """Return size and colour mode without decoding the pixels.

    Raises:
        IntakeError: the file is no image, or has too many pixels.
    """
    with _opened(path) as image:
        return Header(image.width, image.height, _mode(image))


def _mode(image: Image.Image) -> str:
    if image.mode.startswith("I;") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return "I;16"  # of the last two the greatest number is known, and scaled to 16 bits
    raw = _raw_mode(image)
    return raw if image.mode not in WHITE and ";16" in raw else image.mode


def _raw_mode(image: Image.Image) -> str:
    """Return what the decoder is told of the stored numbers, e.g. ``RGB;16B``."""
    tile = getattr(image, "tile", None)
    args = tile[0][3] if tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def greatest(path: Path) -> float:
    """Return the greatest number that an image file stores.

    Raises:
        IntakeError: it cannot be decoded, or holds negative numbers, NaN or infinity.
    """
    with _opened(path) as image:
        stored = np.asarray(image)
    if not np.isfinite(stored).all() or stored.min() < 0:
        raise undecodable(path, f"its numbers are no grey levels (mode {image.mode})", _SAVE)
    return float(stored.max())


def white_level(mode: str, top: float, path: Path) -> float:
    """Return the number that is white in all files of a mode.

    Args:
        mode: one of ``WHITE``.
        top: the greatest number of all files.
        path: one that holds it.

    Raises:
        IntakeError: the range is none of [0, 1] (``F`` only), 8 and 16 bits.

    Example:
        >>> white_level("I", 41_000, Path("a.tif"))
        65535.0
    """
    found = [white for least, white in WHITE[mode] if least <= top <= white]
    if not found:
        why = f"its numbers go to {top:g} (mode {mode}): no range of 8 or 16 bits or of 0 to 1"
        raise undecodable(path, why, _SAVE)
    return found[0]


def open_rgb(path: Path, white: Mapping[str, float] | None = None) -> Image.Image:
    """Return the decoded image, converted to 8-bit RGB, EXIF orientation ignored.

    16-bit numbers are divided by 257 and rounded; alpha is dropped.

    Args:
        path: the file.
        white: the number that is white, for each mode of ``WHITE`` that may occur.

    Raises:
        IntakeError: the file is no image, is cut off, or does not say which number is white.
    """
    with _opened(path) as image:
        return _rgb(path, image, white)


def decode_rgb(path: Path, white: Mapping[str, float] | None = None) -> NDArray[np.uint8]:
    """Return the pixels of ``open_rgb``, uint8 (H, W, 3), plain JPEG files sooner than there.

    Raises:
        IntakeError: as ``open_rgb``.
    """
    with _opened(path) as image:
        pixels = plain_jpeg(image)
        return np.asarray(_rgb(path, image, white)) if pixels is None else pixels


def bytes_rgb(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return the pixels of an encoded image that is in memory, uint8 (H, W, 3).

    Raises:
        IntakeError: see ``open_rgb``.
    """
    path = Path(name)
    with _decoded(io.BytesIO(data), path) as image:
        return np.asarray(_rgb(path, image, None))


def _rgb(path: Path, image: Image.Image, white: Mapping[str, float] | None) -> Image.Image:
    mode = _mode(image)
    if mode in WHITE:
        top = None if white is None else white.get(mode)
        if top is None:
            raise undecodable(path, f"mode {mode} does not say which number is white", _SAVE)
        return _grey(image, top)
    if mode == "I;16":
        return _grey(image, _DEPTHS.get(_raw_mode(image), 65535.0))
    if image.mode in ("La", "RGBa"):  # colours multiplied by alpha, which Pillow divides out
        return image.convert(image.mode.upper()).convert("RGB")
    if isinstance(image.info.get("transparency"), bytes):
        # The same colours as in one step, without Pillow's warning about the lost alpha.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image, white: float) -> Image.Image:
    stored = np.asarray(image).astype(np.float64)
    grey = (np.clip(stored / white, 0, 1) * 255 + 0.5).astype(np.uint8)
    tags: Mapping[int, object] = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # which Pillow heeds up to 8 bits only
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB")
