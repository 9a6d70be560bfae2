import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits as embedded_digits

from robustmix.data import digits
from robustmix.data.datasets import load_dataset
from robustmix.data.manifests import Split, load_manifest
from robustmix.errors import IntakeError


def small_images() -> npt.NDArray[np.uint8]:
    stream = np.random.default_rng(0)
    return stream.integers(0, 17, (3, 8, 8), dtype=np.uint8)


def enlarge_with_fractions(image: npt.NDArray[np.uint8]) -> list[list[int]]:
    """The same interpolation, pixel by pixel with exact fractions."""

    def at(row: int, column: int) -> int:
        return int(image[min(max(row, 0), 7), min(max(column, 0), 7)])

    result = []
    for i in range(32):
        y = Fraction(2 * i + 1, 8) - Fraction(1, 2)
        row, v = y.numerator // y.denominator, y - y.numerator // y.denominator
        line = []
        for j in range(32):
            x = Fraction(2 * j + 1, 8) - Fraction(1, 2)
            column, u = x.numerator // x.denominator, x - x.numerator // x.denominator
            value = (1 - v) * ((1 - u) * at(row, column) + u * at(row, column + 1))
            value += v * ((1 - u) * at(row + 1, column) + u * at(row + 1, column + 1))
            scaled = value * 255 / 16 + Fraction(1, 2)
            line.append(scaled.numerator // scaled.denominator)
        result.append(line)
    return result


def test_enlarging_is_exact() -> None:
    for image, enlarged in zip(small_images(), digits.enlarge(small_images()), strict=True):
        assert enlarged.tolist() == enlarge_with_fractions(image)


def test_enlarging_is_pillows_bilinear_within_rounding() -> None:
    images = small_images()
    for image, enlarged in zip(images, digits.enlarge(images), strict=True):
        scaled = Image.fromarray(image.astype(np.float32) * (255 / 16))
        theirs = np.asarray(scaled.resize((32, 32), Image.Resampling.BILINEAR))
        assert float(np.abs(theirs - enlarged).max()) <= 0.5 + 1e-4


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (8, 128), (16, 255)])
def test_flat_images_stay_flat_and_half_grey_rounds_up(value: int, expected: int) -> None:
    enlarged = digits.enlarge(np.full((1, 8, 8), value, dtype=np.uint8))
    assert (enlarged == expected).all()  # 8 * 255 / 16 = 127.5


def test_splits_are_disjoint_complete_sorted_and_stratified() -> None:
    labels = embedded_digits().target.astype(np.int64)
    parts = digits.split_digits(labels)
    train, test = parts["train"].tolist(), parts["test"].tolist()
    assert (len(train), len(test)) == (1297, 500)
    assert sorted(train + test) == list(range(1797))
    assert train == sorted(train)
    assert test == sorted(test)
    share = np.bincount(labels) * 500 / 1797
    assert (np.abs(np.bincount(labels[test]) - share) < 1).all()


PIXELS: dict[Split, str] = {
    "train": "e3a54d776b33f11f9d7c38a5f64821732d2caa80ae8391e7a0af3be2d8321e29",
    "test": "6549a3586ffbdeee138b3be9da2cb90ec9cd70aa01d8a4022f61d2354a872756",
}


@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_labels_and_ids_never_change(split: Split) -> None:
    data = load_dataset("digits", split)
    pixels = data.pixels.take(torch.arange(len(data)))
    content = pixels.numpy().tobytes() + data.labels.numpy().tobytes()
    content += "\n".join(data.sample_ids).encode()
    assert hashlib.sha256(content).hexdigest() == PIXELS[split]


def test_ids_are_the_original_indices() -> None:
    bunch = embedded_digits()
    data = load_dataset("digits", "test")
    for place in (0, 17, 499):
        prefix, split, index = data.sample_ids[place].split("/")
        assert (prefix, split) == ("digits", "test")
        assert int(data.labels[place]) == bunch.target[int(index)]
        image = data.pixels.take(torch.tensor([place]))[0].numpy()
        enlarged = digits.enlarge(bunch.images[int(index)][None].astype(np.uint8))
        np.testing.assert_array_equal(image, np.repeat(enlarged, 3, axis=0))
    assert data.class_names == tuple("0123456789")
    assert data.num_classes == 10


def test_the_manifest_has_the_training_statistics() -> None:
    data = load_dataset("digits", "train")
    pixels = data.pixels.take(torch.arange(len(data))).double() / 255
    own = load_manifest("digits")
    expected = torch.tensor([own.normalisation.mean, own.normalisation.std], dtype=torch.float64)
    measured = torch.stack([pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0)])
    torch.testing.assert_close(measured, expected, atol=5e-7, rtol=0)
    assert (data.mean, data.std) == (own.normalisation.mean, own.normalisation.std)
    assert own.counts.train == len(data)
    assert own.counts.test == len(load_dataset("digits", "test"))


def test_other_embedded_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "SOURCE_SHA256", "0" * 64)
    with pytest.raises(IntakeError) as caught:
        digits.load_digits(load_manifest("digits"), "test", Path())
    assert caught.value.code == "E-CHECKSUM"
