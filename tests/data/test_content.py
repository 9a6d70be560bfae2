"""Other images under the same names have another hash; other sizes and places have not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustmix.cli.app import run
from robustmix.data import content
from robustmix.data.content import pixels_sha256
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.preparation import TestTransform
from robustmix.errors import IncompatibleError, IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.training.state import data_digest
from tests.evaluation.tiny import tiny_images, tiny_model


@dataclass(frozen=True)
class Lazy:
    """Pixels as others may bring them."""

    images: Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        return 3, 32, 32

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Tensor:
        return self.images[indices]

    def to(self, device: torch.device) -> "Lazy":
        return self


def files(root: Path, side: int = 20, endings: str = "ppm") -> Path:
    stream = np.random.default_rng(0)
    for index in range(12):
        path = root / "test" / f"class {index % 3}" / f"{index}.{endings}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stream.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return root


def loaded(root: Path, img_size: int | None = None) -> ImageSet:
    return load_dataset(f"folder:{root}", "test", img_size=img_size)


def in_memory(_: Path) -> ImageSet:
    return tiny_images(23)


def lazy(_: Path) -> ImageSet:
    images = tiny_images(23)
    return replace(images, pixels=Lazy(images.pixels.take(torch.arange(23))))


def touched(images: ImageSet, root: Path, index: int) -> ImageSet:
    """Return the set after one bit of one image was changed."""
    if not images.name.startswith("folder:"):
        pixels = images.pixels.take(torch.arange(len(images))).clone()
        pixels[index, 2, 7, 19] ^= 1
        kind = type(images.pixels)
        return replace(images, pixels=kind(pixels))  # type: ignore[call-arg]
    path = root / images.sample_ids[index].replace("folder/", "")
    stored = bytearray(path.read_bytes())
    stored[-500] ^= 1
    path.write_bytes(stored)
    return loaded(root, images.input_size[1])


SETS: dict[str, Callable[[Path], ImageSet]] = {
    "in memory": in_memory,
    "lazy": lazy,
    "small files": lambda root: loaded(files(root)),
    "files": lambda root: loaded(files(root), 31),
}


@pytest.mark.parametrize("kind", SETS)
def test_one_bit_of_one_image_changes_the_hash(tmp_path: Path, kind: str) -> None:
    images = SETS[kind](tmp_path)
    before = pixels_sha256(images)
    others = [place for place in range(len(images)) if place != 5]
    rest = pixels_sha256(images.subset(others))
    trained = [
        data_digest(images, images.subset(others)),
        data_digest(images.subset(others), images),
    ]
    assert pixels_sha256(images) == before
    after = touched(images, tmp_path, 5)
    assert after.sample_ids == images.sample_ids
    assert after.files == images.files  # names and sizes are what they were
    assert pixels_sha256(after) != before
    assert pixels_sha256(after.subset(others)) == rest != before
    again = [data_digest(after, after.subset(others)), data_digest(after.subset(others), after)]
    assert again[0] != trained[0]
    assert again[1] != trained[1]


@pytest.mark.parametrize("kind", ["small files", "files"])
def test_every_file_of_a_large_set_is_looked_into(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = SETS[kind](tmp_path)
    whole = pixels_sha256(images)
    monkeypatch.setattr(content, "WHOLE_BYTES", 5000)
    monkeypatch.setattr(content, "PROBE_BYTES", 600)  # of 1213; the byte changed is in the middle
    probes = [pixels_sha256(images)]
    assert probes[0] != whole
    for index in range(12):
        path = tmp_path / images.sample_ids[index].replace("folder/", "")
        stored = bytes(255 - byte for byte in path.read_bytes()[13:])
        path.write_bytes(path.read_bytes()[:13] + stored)
        probes.append(pixels_sha256(loaded(tmp_path, images.input_size[1])))
    assert len(set(probes)) == 13
    for path in tmp_path.rglob("*.ppm"):  # no place is left out in all files
        path.write_bytes(path.read_bytes()[:-200] + bytes(200))
    assert pixels_sha256(loaded(tmp_path, images.input_size[1])) != probes[-1]


def test_a_part_of_the_files_of_a_vast_set_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = SETS["files"](tmp_path)
    monkeypatch.setattr(content, "WHOLE_BYTES", 5000)
    monkeypatch.setattr(content, "PROBED_FILES", 4)
    seen, found = pixels_sha256(images), 0
    for path in tmp_path.rglob("*.ppm"):
        path.write_bytes(path.read_bytes()[:13] + bytes(1200))
        found += pixels_sha256(loaded(tmp_path, 31)) != seen
        seen = pixels_sha256(loaded(tmp_path, 31))
    assert found == 4
    for path in tmp_path.rglob("*.ppm"):  # but sizes are those of all
        path.write_bytes(path.read_bytes() + b"\0")
        assert pixels_sha256(loaded(tmp_path, 31)) != seen
        seen = pixels_sha256(loaded(tmp_path, 31))


@pytest.mark.parametrize("kind", ["in memory", "lazy"])
def test_a_part_of_a_large_set_in_memory_is_looked_at(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = SETS[kind](tmp_path)
    monkeypatch.setattr(content, "WHOLE_BYTES", 7 * 3 * 32 * 32 + 5)
    before = pixels_sha256(images)
    changed = [pixels_sha256(touched(images, tmp_path, i)) != before for i in range(23)]
    assert sum(changed) == 7
    # Which images are looked at hangs on their ids, so that nobody can tell by their places.
    renamed = replace(images, sample_ids=tuple(f"x{i}" for i in range(23)))
    before = pixels_sha256(renamed)
    assert changed != [pixels_sha256(touched(renamed, tmp_path, i)) != before for i in range(23)]


def test_neither_place_nor_size_nor_device_matters(tmp_path: Path) -> None:
    root = files(tmp_path / "here")
    before = {pixels_sha256(loaded(root, side)) for side in (None, 20, 31, 224)}
    root = root.rename(tmp_path / "there")
    assert before == {pixels_sha256(loaded(root))}
    assert before == {pixels_sha256(loaded(root).to(torch.device("cpu")))}
    digits = load_dataset("digits", "test")
    larger = load_dataset("digits", "test", img_size=48)
    cropped = load_dataset("digits", "test", test_transform=TestTransform(crop=20))
    assert pixels_sha256(digits) == pixels_sha256(larger) == pixels_sha256(cropped)
    some = torch.tensor([5, 3, 7])
    assert pixels_sha256(digits.subset(some)) == pixels_sha256(larger.subset(some))
    assert pixels_sha256(digits.subset(some)) != pixels_sha256(digits.subset(some.flip(0)))


def test_shapes_are_told_apart() -> None:
    images = tiny_images(4)
    flat = images.pixels.take(torch.arange(4)).view(4, 3, 64, 16)
    assert pixels_sha256(images) != pixels_sha256(replace(images, pixels=TensorPixels(flat)))


@pytest.mark.parametrize("gone", ["removed", "a folder"])
def test_a_file_that_is_gone_is_named(tmp_path: Path, gone: str) -> None:
    images = loaded(files(tmp_path), 31)
    path = tmp_path / "test" / "class 1" / "4.ppm"
    path.unlink()
    if gone == "a folder":
        path.mkdir()
    with pytest.raises(IntakeError, match=rf"cannot read image {path}: "):
        pixels_sha256(images)


def test_reports_of_other_pixels_are_not_compared(tmp_path: Path) -> None:
    """Names, ids, labels and sizes are equal: nothing but the pixels tells the two apart."""
    images = tiny_images(23)
    other = touched(images, tmp_path, 22)
    for name, data in (("a", images), ("again", images), ("b", other)):
        report = evaluate(tiny_model(), data, ["clean"], out=tmp_path / name)
        assert report.content.dataset.pixels_sha256 == pixels_sha256(data)
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "again")]) == 0
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 5


def test_an_evaluation_is_not_continued_with_other_pixels(tmp_path: Path) -> None:
    images = tiny_images(23)
    stopped = evaluate(
        tiny_model(), images, ["clean"], out=tmp_path, batch_size=5, should_stop=lambda: True
    )
    assert stopped.content.run.status == "interrupted"
    with pytest.raises(IncompatibleError):
        evaluate(tiny_model(), touched(images, tmp_path, 22), ["clean"], out=tmp_path, resume=True)
    again = evaluate(tiny_model(), images, ["clean"], out=tmp_path, resume=True)
    assert again.content.run.status == "success"
