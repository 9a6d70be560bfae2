"""Pictures resized as a whole, and the size that they are stored in."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from robustmix.data.file_pixels import FilePixels, KeptFiles
from robustmix.data.images import SubsetPixels, TensorPixels
from robustmix.data.preparation import TestTransform
from robustmix.data.resized import ResizedPixels
from robustmix.data.squashed import squashed, stored_size


def pictures(folder: Path) -> tuple[Path, ...]:
    rng, paths = np.random.default_rng(0), []
    for number, shape in enumerate(((23, 41, 3), (64, 17, 3))):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
        paths.append(path)
    return tuple(paths)


def by_pillow(path: Path, border: int = 0) -> np.ndarray:
    with Image.open(path) as image:
        cut = image.crop((border, border, image.width - border, image.height - border))
        small = cut.resize((13, 13), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


def test_files_are_squashed_whatever_was_cut_off_before(tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    transform = TestTransform(resize=16, crop=11)
    files = FilePixels(paths, (3, 11, 11), transform)
    for border in (0, 2):
        framed = FilePixels(paths, (3, 11, 11), transform, border=border)
        found = squashed(framed.keeping(9), 13)
        assert found.size == (3, 13, 13)
        for place, path in enumerate(paths):
            got = found.take(torch.tensor([place]))[0].numpy()
            assert np.array_equal(got, by_pillow(path, border))
        assert stored_size(framed, 0) == (41 - 2 * border, 23 - 2 * border)
    subset = SubsetPixels(SubsetPixels(files, torch.tensor([1, 0])), torch.tensor([0]))
    got = squashed(subset, 13).take(torch.tensor([0]))[0].numpy()
    assert np.array_equal(got, by_pillow(paths[1]))
    assert stored_size(subset, 0) == (17, 64)


def test_what_is_in_memory_of_files_is_read_again(tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    kept = KeptFiles(torch.zeros(2, 3, 11, 11, dtype=torch.uint8), paths)
    assert np.array_equal(
        squashed(kept, 13).take(torch.tensor([1]))[0].numpy(), by_pillow(paths[1])
    )
    assert stored_size(kept, 1) == (17, 64)


def test_pictures_in_memory_are_what_they_are_before_they_are_resized() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    stored = TensorPixels(images)
    assert squashed(stored, 8) is stored
    enlarged = ResizedPixels(stored, 16, crop=13)
    found = squashed(enlarged, 13).take(torch.tensor([1]))[0]
    picture = Image.fromarray(images[1].permute(1, 2, 0).numpy())
    want = np.asarray(picture.resize((13, 13), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(found.numpy(), want)
    assert stored_size(enlarged, 1) == (8, 8)
