"""Image files of every depth and mode become the 8-bit RGB that they show."""

import os
import resource
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from PIL import Image

from robustmix.data.augment import Augment
from robustmix.data.datasets import load_dataset
from robustmix.data.decode import open_rgb, read_header, white_level
from robustmix.data.images import ImageSet
from robustmix.data.loader import augmented
from robustmix.data.protocol import TestTransform
from robustmix.errors import IntakeError

STORED = [0, 128, 129, 4095, 30000, 65406, 65407, 65535]
SHOWN = [0, 0, 1, 16, 117, 254, 255, 255]
"""v / 257, rounded."""


def grey(path: Path, white: dict[str, float] | None = None) -> list[int]:
    shown = np.array(open_rgb(path, white))
    assert shown.dtype == np.uint8
    assert (shown == shown[:, :, :1]).all()
    return shown[0, :, 0].tolist()  # type: ignore[no-any-return]


def save(path: Path, values: ArrayLike, kind: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], dtype=kind)).save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "tiff", "pgm"])
@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_sixteen_bits_are_divided_by_257(tmp_path: Path, ending: str, kind: str) -> None:
    if ending == "pgm":
        path = tmp_path / "a.pgm"
        path.write_bytes(b"P5 8 1 65535\n" + struct.pack(">8H", *STORED))
    else:
        path = save(tmp_path / f"a.{ending}", STORED, kind)
    assert grey(path) == SHOWN
    assert read_header(path).mode == "I;16"


def test_numbers_of_other_depths_go_by_what_the_file_says(tmp_path: Path) -> None:
    twelve = [0, 16, 500, 4095]
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 4095\n" + struct.pack(">4H", *twelve))
    (tmp_path / "a.tif").write_bytes(twelve_bit_tiff(twelve))
    expected = [round(value * 255 / 4095) for value in twelve]
    assert grey(tmp_path / "a.pgm") == grey(tmp_path / "a.tif") == expected == [0, 1, 31, 255]


def twelve_bit_tiff(values: Sequence[int]) -> bytes:
    data = int("".join(f"{value:012b}" for value in values), 2).to_bytes(
        len(values) * 3 // 2, "big"
    )
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: 1, 279: 6}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def test_white_may_be_zero(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([STORED], dtype=np.uint16))
    image.save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert grey(tmp_path / "a.tif") == [255 - value for value in SHOWN]


def png(depth: int, kind: int, width: int, height: int, raw: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_colours_of_sixteen_bits_are_counted(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 8000, 30000, 65535, 0, 257, 40000)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(16, 2, 2, 2, row * 2))
    data = load_dataset(f"folder:{tmp_path}", "test")
    assert data.notes == ("2 of 2 images converted to RGB (2 RGB;16B)",)
    assert data.pixels.take(torch.tensor([0]))[0, :, 1].T.tolist() == [[31, 117, 255], [0, 1, 156]]


def folder(root: Path, dark: ArrayLike, bright: ArrayLike, kind: str, split: str = "test") -> Path:
    for name, values in (("a", dark), ("b", bright)):
        rows = np.broadcast_to(np.array(values, dtype=kind), (2, 2))
        path = root / split / name / "0.tif"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.ascontiguousarray(rows)).save(path)
    return root


def first_rows(data: ImageSet) -> list[list[int]]:
    return data.pixels.take(torch.arange(len(data)))[:, 0, 0].tolist()


@pytest.mark.parametrize(
    ("kind", "dark", "bright", "shown", "note"),
    [
        ("i4", [3, 40], [90, 200], [[3, 40], [90, 200]], "2 I of 0 to 255"),
        ("i4", [3, 40], [257, 65535], [[0, 0], [1, 255]], "2 I of 0 to 65535"),
        ("f4", [0, 0.25], [0.5, 1], [[0, 64], [128, 255]], "2 F of 0 to 1"),
        ("f4", [0, 0.25], [40.4, 254.6], [[0, 0], [40, 255]], "2 F of 0 to 255"),
        ("f4", [0, 257], [4096, 65535], [[0, 1], [16, 255]], "2 F of 0 to 65535"),
    ],
)
def test_wider_numbers_are_read_in_the_range_of_all_files(
    tmp_path: Path, kind: str, dark: ArrayLike, bright: ArrayLike, shown: list[list[int]], note: str
) -> None:
    data = load_dataset(f"folder:{folder(tmp_path, dark, bright, kind)}", "test")
    assert first_rows(data) == shown
    assert data.notes == (f"2 of 2 images converted to RGB ({note})",)


def test_dark_files_of_one_split_are_read_like_the_bright_ones_of_the_other(tmp_path: Path) -> None:
    folder(tmp_path, [3, 40], [90, 200], "i4", "test")
    folder(tmp_path, [3, 40], [90, 60000], "i4", "train")
    assert first_rows(load_dataset(f"folder:{tmp_path}", "test")) == [[0, 0], [0, 1]]
    assert first_rows(load_dataset(f"folder:{tmp_path}", "train")) == [[0, 0], [0, 233]]


@pytest.mark.parametrize(
    ("kind", "bright", "why"),
    [
        ("i4", [0, 256], "its numbers go to 256"),
        ("i4", [0, 4095], "its numbers go to 4095"),
        ("i4", [0, 65536], "its numbers go to 65536"),
        ("i4", [-1, 5], "are no grey levels"),
        ("f4", [0, 1.02], "its numbers go to 1.02"),
        ("f4", [0, 260], "its numbers go to 260"),
        ("f4", [0, np.nan], "are no grey levels"),
        ("f4", [0, np.inf], "are no grey levels"),
        ("f4", [-0.1, 1], "are no grey levels"),
    ],
)
def test_ranges_without_a_white_are_refused(
    tmp_path: Path, kind: str, bright: ArrayLike, why: str
) -> None:
    with pytest.raises(IntakeError, match=rf"{tmp_path}/test/b/0\.tif: .*{why}") as caught:
        load_dataset(f"folder:{folder(tmp_path, [0, 1], bright, kind)}", "test")
    assert (caught.value.code, caught.value.exit_code) == ("E-DATA", 3)


def test_a_file_alone_whose_white_is_not_known_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", [0.1, 0.8], "f4")
    with pytest.raises(IntakeError, match="mode F does not say which number is white"):
        open_rgb(path)
    assert grey(path, {"F": white_level("F", 0.8, path)}) == [26, 204]


def test_training_sees_the_same_numbers(tmp_path: Path) -> None:
    folder(tmp_path, [0.25, 0.25], [0.75, 0.75], "f4", "train")
    data = load_dataset(f"folder:{tmp_path}", "train", test_transform=TestTransform(resize=70))
    boxes = Augment(kind="random-resized-crop", size=3)
    taken = augmented(data.pixels, torch.arange(2), boxes, torch.Generator().manual_seed(0))
    assert [set(image[0].flatten().tolist()) for image in taken] == [{64}, {191}]
    assert data.pixels.take(torch.arange(2))[:, 0, 0, 0].tolist() == [64, 191]


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_colours_are_divided_by_alpha(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow reads such modes of some files and writes them into none."""
    save(tmp_path / "a.png", [1], "u1")
    image = Image.new("RGBA", (1, 1), (200, 200, 200, 128))
    premultiplied = (image if mode == "RGBa" else image.convert("LA")).convert(mode)
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: premultiplied)
    np.testing.assert_allclose(np.array(open_rgb(tmp_path / "a.png"))[0, 0], 200, atol=1)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("content", [EPS, b"\0" * 64, b"GIF87a", b"P6 3 3 255 "], ids=repr)
def test_other_formats_are_not_even_tried(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.check_call", started)
    monkeypatch.setattr("subprocess.Popen", started)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(IntakeError, match=r"cannot decode .*/a\.jpg: ") as caught:
        open_rgb(tmp_path / "a.jpg")
    assert "a program" not in str(caught.value)


def test_a_format_under_another_name_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (9, 80, 200)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array(open_rgb(tmp_path / "a.jpg"))[1, 2].tolist() == [9, 80, 200]


@pytest.mark.parametrize(
    ("width", "height"), [(8193, 8193), (2**31 - 1, 2**31 - 1), (2**26 + 1, 1)]
)
def test_huge_images_are_refused_before_they_are_decoded(
    tmp_path: Path, width: int, height: int
) -> None:
    (tmp_path / "a.png").write_bytes(png(8, 0, width, height))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IntakeError, match="pixels") as caught:
        open_rgb(tmp_path / "a.png")
    assert caught.value.code == "E-DATA"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


def test_narrow_images_are_not_enlarged_without_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "train" / name / "0.png", [7] * 60_000, "u1")
    with pytest.raises(IntakeError, match=r"256x15360000 pixels|15360000x256 pixels"):
        load_dataset(f"folder:{tmp_path}", "train")
    same = TestTransform()
    data = load_dataset(f"folder:{tmp_path}", "train", test_transform=same)
    enlarged = Augment(kind="random-resized-crop", size=3, resize=2000)
    with pytest.raises(IntakeError, match="120000000x2000 pixels"):
        augmented(data.pixels, torch.arange(1), enlarged, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_pipes_and_devices_are_not_opened(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "a" / "0.png", [7], "u1")
    path = tmp_path / "b" / "0.png"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(IntakeError, match=rf"cannot read image {path}: ") as caught:
        load_dataset(f"folder:{tmp_path}", "test")
    assert caught.value.code == "E-DATA"
