"""Plain JPEG files decoded by torchvision, which is faster than Pillow and gives the same pixels.

Both have libjpeg-turbo inside, but not the same release of it, and call it differently. So only the
commonest kind of file is decoded here, each kind only after a picture of it has given the same
pixels in both, once in a process; all others, and whatever torchvision refuses, are Pillow's.
"""

from __future__ import annotations

import io
import os
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from robustmix.later import Image, torch

Sampling: TypeAlias = tuple[tuple[int, int], ...]
"""Horizontal and vertical sampling factor of each component."""

SAMPLINGS: dict[Sampling, int] = {
    ((1, 1), (1, 1), (1, 1)): 0,
    ((2, 1), (1, 1), (1, 1)): 1,
    ((2, 2), (1, 1), (1, 1)): 2,
}
"""4:4:4, 4:2:2 and 4:2:0, each with Pillow's number for it."""

MOST_BYTES = 2**26
"""Of a file that is read as a whole; Pillow reads others piece by piece."""

_UNCHANGED = 0  # torchvision.io.ImageReadMode: what the file stores
_SOF0, _SOS = 0xC0, 0xDA
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def plain_jpeg(image: Image.Image) -> NDArray[np.uint8] | None:
    """Decode an opened file if it is a plain JPEG: baseline, three components, usual sampling.

    Args:
        image: opened and not loaded; its size has been checked. It can still be loaded afterwards.

    Returns:
        uint8 (H, W, 3), what Pillow decodes; None if that is for Pillow to do.
    """
    file = getattr(image, "fp", None)
    if image.format != "JPEG" or image.mode != "RGB" or file is None:
        return None
    sampling = tuple((layer[1], layer[2]) for layer in getattr(image, "layer", ()))
    if sampling not in SAMPLINGS or not _agree(sampling):
        return None
    size = os.fstat(file.fileno()).st_size
    if size > MOST_BYTES:
        return None
    data = bytearray(size)
    file.seek(0)
    if file.readinto(data) != size:
        return None
    # A file that is cut off does not end so; Pillow says what is wrong with it.
    if not data.endswith(b"\xff\xd9") or not _baseline(data):
        return None
    pixels = _decoded(data)
    return pixels if pixels is not None and pixels.shape[:2] == image.size[::-1] else None


def _baseline(data: bytearray) -> bool:
    """Tell whether the one frame header before the first scan is that of a baseline file."""
    at, found = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SOS:
            return found
        if marker in _ALONE or marker == 0xFF:
            return False  # allowed, but no encoder writes it
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header
            if marker != _SOF0 or found:
                return False
            found = True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _decoded(data: bytearray) -> NDArray[np.uint8] | None:
    try:
        import torchvision.io  # noqa: F401 (slow; it makes the operator)

        # The operator itself: newer releases warn of the function around it.
        decode = torch.ops.image.decode_jpeg
        pixels = decode(torch.frombuffer(data, dtype=torch.uint8), _UNCHANGED, False)
    except (ImportError, AttributeError, RuntimeError):  # a release without it, or a damaged file
        return None
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        return None
    array: NDArray[np.uint8] = pixels.permute(1, 2, 0).numpy()
    return array


@cache
def _agree(sampling: Sampling) -> bool:
    """Tell whether both decoders give the same pixels of a made picture with edges and noise."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(61), np.arange(83))[:, :, None] * np.array([1, 2, 3]) % 256
    noise = rng.integers(-60, 60, ramp.shape)
    picture = Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85, subsampling=SAMPLINGS[sampling])
    ours = _decoded(bytearray(file.getvalue()))
    with Image.open(file) as theirs:
        return ours is not None and np.array_equal(ours, np.asarray(theirs))
