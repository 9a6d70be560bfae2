"""JPEG files of every kind: the pixels are Pillow's, and only plain ones are torchvision's work."""

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from robustmix.data import jpeg
from robustmix.data.decode import decode_rgb, open_rgb
from robustmix.errors import IntakeError

Pixels: TypeAlias = NDArray[np.uint8]

ODD = (83, 59)
"""Width and height that are no multiples of a block."""


def picture(size: tuple[int, int] = ODD, seed: int = 0) -> Image.Image:
    """Edges, smooth parts and noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(int)
    noise = rng.integers(-25, 25, smooth.shape)
    smooth[: size[1] // 3, : size[0] // 2] = (255, 0, 0)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def coded(mode: str = "RGB", size: tuple[int, int] = ODD, **options: Any) -> bytes:
    file = io.BytesIO()
    picture(size).convert(mode).save(file, "JPEG", **{"quality": 85, **options})
    return file.getvalue()


def edited(change: Callable[[bytearray, int], None]) -> bytes:
    """A 4:2:2 file of 64x64 with its frame header, which begins at the place given, changed."""
    data = bytearray(coded(size=(64, 64), subsampling=1))
    change(data, data.index(b"\xff\xc0"))
    return bytes(data)


def upright(data: bytearray, header: int) -> None:
    data[header + 11] = 0x12  # the first component: one wide, two high


def extended(data: bytearray, header: int) -> None:
    data[header + 1] = 0xC1


def turned() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return coded(exif=exif)


PLAIN: dict[str, Callable[[], bytes]] = {
    "4:4:4": lambda: coded(subsampling=0),
    "4:2:2": lambda: coded(subsampling=1),
    "4:2:0": lambda: coded(subsampling=2),
    "coarse": lambda: coded(quality=5),
    "fine": lambda: coded(quality=100, subsampling=0),
    "one pixel": lambda: coded(size=(1, 1)),
    "one row": lambda: coded(size=(300, 1), subsampling=2),
    "restarts": lambda: coded(restart_marker_blocks=2),
    "optimised": lambda: coded(optimize=True),
    "orientation": turned,
    "profile and comment": lambda: coded(icc_profile=b"x" * 70_000, comment=b"\xff\xda" * 50),
    "red, green, blue": lambda: coded(keep_rgb=True, subsampling=0),
}

OTHERS: dict[str, Callable[[], bytes]] = {
    "progressive": lambda: coded(progressive=True),
    "grey": lambda: coded("L"),
    "four inks": lambda: coded("CMYK"),
    "4:4:0": lambda: edited(upright),
    "extended": lambda: edited(extended),
    "more behind": lambda: coded() + b"\0" * 9,
    "cut off": lambda: coded()[:-400],
    "no end": lambda: coded()[:-2],
    "two starts": lambda: b"\xff\xd8\xff" + coded()[2:],
}


def pillows(path: Path) -> Pixels:
    return np.asarray(open_rgb(path))


def same(path: Path) -> Pixels | str:
    """Decode a file in both ways; what they agree on: pixels, or why it is refused."""
    found: list[Pixels | str] = []
    for decode in (pillows, decode_rgb):
        try:
            found.append(decode(path))
        except IntakeError as error:
            found.append(error.line())
    pillow, ours = found
    assert type(pillow) is type(ours), (pillow, ours)
    if isinstance(pillow, str) or isinstance(ours, str):
        assert pillow == ours
    else:
        assert np.array_equal(pillow, ours)
        assert ours.dtype == np.uint8
    return pillow


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether torchvision decoded each file that was given to it."""
    calls: list[bool] = []
    decoded = jpeg._decoded

    def watched(data: bytearray) -> Pixels | None:
        pixels = decoded(data)
        calls.append(pixels is not None)
        return pixels

    assert all(jpeg._agree(sampling) for sampling in jpeg.SAMPLINGS)
    monkeypatch.setattr(jpeg, "_decoded", watched)
    return calls


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_files_are_decoded_sooner_to_the_same_pixels(
    kind: str, tmp_path: Path, made: list[bool]
) -> None:
    path = tmp_path / "a.png"  # whatever a file is called
    path.write_bytes(PLAIN[kind]())
    assert not isinstance(same(path), str)
    assert made == [True]


@pytest.mark.parametrize("kind", OTHERS)
def test_all_others_are_pillows(kind: str, tmp_path: Path, made: list[bool]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(OTHERS[kind]())
    same(path)
    assert made == []


def test_damaged_files_have_the_same_pixels_or_are_refused_alike(tmp_path: Path) -> None:
    rng, path, refused = random.Random(0), tmp_path / "a.jpg", 0
    for whole in (coded(subsampling=0), coded(subsampling=2, restart_marker_blocks=3)):
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(rng.choice([1, 1, 3])):
                data[rng.randrange(2, len(data) - 2)] = rng.randrange(256)
            path.write_bytes(data)
            refused += isinstance(same(path), str)
        for cut in range(0, len(whole), 37):
            path.write_bytes(whole[:cut] + b"\xff\xd9")
            refused += isinstance(same(path), str)
    assert refused > 50


def test_where_the_decoders_differ_pillow_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another libjpeg in torchvision, by one grey level: it is found out and not used."""
    decoded = jpeg._decoded

    def another(data: bytearray) -> Pixels | None:
        pixels = decoded(data)
        return None if pixels is None else pixels ^ np.uint8(1)

    monkeypatch.setattr(jpeg, "_decoded", another)
    jpeg._agree.cache_clear()
    try:
        path = tmp_path / "a.jpg"
        path.write_bytes(coded())
        assert not isinstance(same(path), str)
    finally:
        jpeg._agree.cache_clear()


def test_without_torchvisions_decoder_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_UNCHANGED", "another signature")
    assert jpeg._decoded(bytearray(coded())) is None


def test_the_size_is_checked_before_anything_is_decoded(tmp_path: Path, made: list[bool]) -> None:
    data = bytearray(coded())
    header = data.index(b"\xff\xc0")
    data[header + 5 : header + 9] = b"\x21\x00\x21\x00"
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(IntakeError, match="8448x8448 pixels, more than"):
        decode_rgb(tmp_path / "a.jpg")
    assert made == []
