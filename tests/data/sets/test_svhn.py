"""SVHN in its official form: two MATLAB files, checked before they are opened."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat

from robustmix.data import load_dataset
from robustmix.data.manifests import Counts, Manifest, load_manifest
from robustmix.data.sets import svhn
from robustmix.errors import IntakeError

LABELS = [10, 1, 9, 2, 10]


def images(n: int = len(LABELS)) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (32, 32, 3, n), dtype=np.uint8)


def written(root: Path, home: str = "svhn", **arrays: Any) -> Manifest:
    """Write a test file, compressed as the official ones are, and a manifest that knows it."""
    stored: Mapping[str, Any] = {"X": images(), "y": np.array([LABELS], np.uint8).T} | arrays
    file: Any = io.BytesIO()  # which the stubs do not know that it takes
    savemat(file, dict(stored), do_compression=True)
    place = root / home / "test_32x32.mat"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(file.getvalue())
    official = load_manifest("svhn")
    known = replace(
        official.archives[1], md5=hashlib.md5(file.getvalue(), usedforsecurity=False).hexdigest()
    )
    return replace(
        official, archives=(official.archives[0], known), counts=Counts(test=len(LABELS))
    )


@pytest.mark.parametrize("home", ["svhn", "SVHN", "."])
def test_ten_is_the_digit_nought_and_channels_come_first(tmp_path: Path, home: str) -> None:
    data = svhn.load(written(tmp_path, home), "test", tmp_path)
    assert data.labels.tolist() == [0, 1, 9, 2, 0]
    assert data.sample_ids[4] == "svhn/test/4"
    assert data.class_names == tuple("0123456789")
    taken, stored = data.pixels.take(torch.arange(5)).numpy(), images()
    for i, channel, row, column in [(0, 0, 0, 0), (4, 2, 31, 5), (2, 1, 7, 30)]:
        assert taken[i, channel, row, column] == stored[row, column, channel, i]
    assert data.files[0].verified


def test_another_file_under_the_name_is_refused_unopened(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(IntakeError, match="md5") as caught:
        load_dataset("svhn", "test", data_dir=tmp_path)
    assert caught.value.code == "E-CHECKSUM"


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"no test_32x32\.mat or train_32x32\.mat"):
        load_dataset("svhn", "test", data_dir=tmp_path)
    with pytest.raises(IntakeError, match=r"train_32x32\.mat"):
        svhn.load(written(tmp_path), "train", tmp_path)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"X": images(4)}, "4 images and 5 labels"),
        ({"X": images().astype(np.float32)}, "uint8"),
        ({"X": images()[:31]}, "uint8"),
        ({"y": [0, 1, 2, 3, 4]}, "not of 1 to 10"),
        ({"y": [1.5, 1, 2, 3, 4]}, "not of 1 to 10"),
        ({"y": "digits"}, "no list of labels"),
    ],
)
def test_what_is_no_set_of_digits_is_refused(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    manifest = written(tmp_path, **arrays)
    with pytest.raises(IntakeError, match=said):
        svhn.load(manifest, "test", tmp_path)


def test_a_file_of_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = written(tmp_path)
    monkeypatch.setattr(svhn, "MOST_BYTES", 1000)
    with pytest.raises(IntakeError, match=r"test_32x32\.mat"):
        svhn.load(manifest, "test", tmp_path)
