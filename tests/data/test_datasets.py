from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustmix import data as package
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.location import data_folder
from robustmix.data.verify import DatasetCheck, FileCheck, verify_dataset
from robustmix.errors import UsageError
from tests.data.fake_cifar import good_files, write_archive


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar-100", "did you mean 'cifar100'"),
        ("digit", "did you mean 'digits'"),
        ("folder", "did you mean 'folder:PATH'"),
        ("mnist-like", "choose from cifar10, cifar100, .*, digits, .*, folder:PATH, "),
        ("cifar10-c", "known but not read by name; .*folder:PATH"),
    ],
)
def test_unknown_names_suggest_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_dataset(name, "test")
    assert caught.value.code == "E-UNKNOWN-DATASET"
    assert caught.value.exit_code == 2


def test_unknown_splits_and_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown split 'tset'; did you mean 'test'"):
        load_dataset("digits", "tset")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected 1 <= img_size <= 8192, got 0"):
        load_dataset("digits", "test", img_size=0)


def test_an_image_size_of_its_own_is_pillows_resize_and_is_recorded() -> None:
    small, large = load_dataset("digits", "test"), load_dataset("digits", "test", img_size=57)
    assert large.transform == "resize57-bicubic"
    assert large.input_size == (3, 57, 57)
    assert large.sample_ids == small.sample_ids
    places = torch.tensor([3, 101])
    for stored, resized in zip(small.pixels.take(places), large.pixels.take(places), strict=True):
        image = Image.fromarray(stored.permute(1, 2, 0).numpy())
        expected = np.asarray(image.resize((57, 57), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(resized.permute(1, 2, 0).numpy(), expected)
    assert load_dataset("digits", "test", img_size=32).transform == "none"


def test_the_data_folder_is_the_argument_then_the_variable_then_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTMIX_DATA", str(tmp_path / "variable"))
    assert data_folder(tmp_path / "argument") == tmp_path / "argument"
    assert data_folder(None) == tmp_path / "variable"
    monkeypatch.setenv("ROBUSTMIX_DATA", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert data_folder(None).parts[-2:] == ("robustmix", "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder(Path("~/sets")) == tmp_path / "sets"


def test_subsets_keep_ids_labels_and_pixels_together() -> None:
    data = load_dataset("digits", "test")
    subset = data.subset([7, 3, 3]).subset(torch.tensor([1, 0]))
    assert subset.sample_ids == (data.sample_ids[3], data.sample_ids[7])
    assert subset.labels.tolist() == [int(data.labels[3]), int(data.labels[7])]
    expected = data.pixels.take(torch.tensor([3, 7]))
    assert torch.equal(subset.pixels.take(torch.arange(2)), expected)
    assert len(subset) == len(subset.pixels) == 2
    assert torch.equal(subset.to(torch.device("cpu")).pixels.take(torch.arange(2)), expected)


def test_trap_30_hashes_see_the_order_and_the_names() -> None:
    def named(ids: tuple[str, ...], names: tuple[str, ...]) -> ImageSet:
        digits = load_dataset("digits", "test").subset(list(range(len(ids))))
        return ImageSet(
            name="x",
            split="test",
            pixels=digits.pixels,
            labels=digits.labels,
            sample_ids=ids,
            class_names=names,
            mean=digits.mean,
            std=digits.std,
        )

    first = named(("a", "b"), ("c", "d"))
    # sha256 of the three characters "a", newline, "b"
    expected = "7e18f737311b2dc3"
    assert first.order_sha256.startswith(expected)
    assert named(("b", "a"), ("c", "d")).order_sha256 != first.order_sha256
    assert named(("b", "a"), ("c", "d")).class_names_sha256 == first.class_names_sha256
    assert named(("a", "b"), ("d", "c")).class_names_sha256 != first.class_names_sha256


def by_path(records: tuple[FileCheck, ...]) -> dict[str, FileCheck]:
    return {record.path: record for record in records}


def test_verify_an_empty_folder(tmp_path: Path) -> None:
    check = verify_dataset("cifar100", tmp_path)
    assert {record.status for record in check.records} == {"missing"}
    assert [record.kind for record in check.records] == ["file"] * 3 + ["archive"]
    assert check.intact
    assert not check.complete
    assert list(tmp_path.iterdir()) == []


def test_verify_compares_sizes_first_and_then_checksums(tmp_path: Path) -> None:
    write_archive(tmp_path, good_files())  # right names, wrong content
    same_size = tmp_path / "cifar-100-python" / "meta"
    same_size.write_bytes(bytes(1473))
    check = verify_dataset("cifar100", tmp_path)
    records = by_path(check.records)
    train = records["cifar-100-python/train"]
    assert (train.status, train.expected) == ("wrong size", "155249918")
    assert records["cifar-100-python/meta"].status == "wrong checksum"
    assert not check.intact
    assert not check.complete


def test_verify_the_official_archive(cifar100_root: Path) -> None:
    check = verify_dataset("cifar100", cifar100_root)
    records = by_path(check.records)
    assert all(
        records[f"cifar-100-python/{name}"].status == "ok" for name in ("train", "test", "meta")
    )
    assert check.complete


def test_verify_what_has_no_published_checksum(tmp_path: Path) -> None:
    (tmp_path / "imagesPlaces205_resize.tar.gz").write_bytes(b"x")
    check = verify_dataset("places205", tmp_path)
    assert [record.status for record in check.records] == ["unverifiable", "missing"]
    (tmp_path / "trainvalsplit_places205.tar.gz").write_bytes(b"x")
    assert verify_dataset("places205", tmp_path).complete


def test_verify_passes_over_what_is_optional(tmp_path: Path) -> None:
    records = verify_dataset("tiny-imagenet-c", tmp_path).records
    assert [record.optional for record in records] == [False, True]
    assert verify_dataset("digits", tmp_path).complete  # needs no file at all
    missing = FileCheck(path="extra.tar", kind="archive", status="missing", optional=True)
    there = FileCheck(path="main.tar", kind="archive", status="ok", optional=False)
    assert DatasetCheck(name="x", root=tmp_path, records=(there, missing)).complete
    needed = replace(missing, optional=False)
    assert not DatasetCheck(name="x", root=tmp_path, records=(there, needed)).complete


def test_the_package_shows_what_it_says() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert sorted(package.__all__, key=str.lower) == sorted(set(package.__all__), key=str.lower)
    with pytest.raises(AttributeError, match="no attribute 'load_datset'"):
        _ = package.load_datset
