import hashlib
import itertools
import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR100

from robustmix.data.archives import load_cifar, unpickle
from robustmix.data.datasets import load_dataset
from robustmix.data.manifests import ManifestFile, load_manifest
from robustmix.errors import IntakeError
from tests.data.fake_cifar import batch, good_files, meta, python2_pickle, write_archive


def standard_unpickle(content: bytes) -> dict[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.core has moved
        value = pickle.loads(content, encoding="latin1")
    assert isinstance(value, dict)
    return value


def test_the_made_up_archive_is_a_pickle_as_others_read_it() -> None:
    ours = batch(5, seed=2)
    theirs = standard_unpickle(python2_pickle(ours))
    assert list(theirs) == list(ours)
    assert theirs["fine_labels"] == ours["fine_labels"]
    np.testing.assert_array_equal(theirs["data"], ours["data"])


@pytest.mark.parametrize(("split", "n", "seed"), [("train", 7, 1), ("test", 5, 2)])
def test_images_labels_and_ids_come_in_the_order_of_the_archive(
    tmp_path: Path, split: str, n: int, seed: int
) -> None:
    manifest = write_archive(tmp_path, good_files())
    data = load_cifar(manifest, split, tmp_path)  # type: ignore[arg-type]

    written = batch(n, seed)
    pixels = np.asarray(written["data"]).reshape(n, 3, 32, 32)
    np.testing.assert_array_equal(data.pixels.take(torch.arange(n)).numpy(), pixels)
    assert data.labels.tolist() == written["fine_labels"]
    assert data.sample_ids == tuple(f"cifar100/{split}/{i}" for i in range(n))
    assert data.class_names == ("ant", "bee", "cat")
    assert data.superclass == (0, 0, 1)
    assert [record.name for record in data.files] == [
        "cifar-100-python/meta",
        f"cifar-100-python/{split}",
    ]
    assert all(record.verified for record in data.files)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, protocol: int
) -> None:
    target = tmp_path / "ran"
    bomb = pickle.dumps({"data": Bomb(target)}, protocol=protocol)
    manifest = write_archive(tmp_path, {**good_files(), "test": bomb})

    with pytest.raises(IntakeError, match="cannot be read safely: it names") as caught:
        load_cifar(manifest, "test", tmp_path)

    assert caught.value.exit_code == 3
    assert not target.exists()
    pickle.loads(bomb)
    assert target.exists(), "the bomb would have gone off elsewhere"


@pytest.mark.parametrize(
    "payload",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\nload\n.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nK\0U\1btR.",
        b"\x80\2}(U\4datacnumpy\ndtype\nU\1OK\0K\1\x87Ru.",  # an array of objects
        b"\x80\2K\1Q.",  # a reference to something outside
        b"\x80\2]q\0(h\0h\0e.",
        b"\x80\2}",
        b"",
        b"\x89PNG",
    ],
)
def test_other_pickles_are_refused(payload: bytes) -> None:
    with pytest.raises(IntakeError):
        unpickle(payload, Path("test"))


def test_the_checksum_is_compared_before_anything_is_unpickled(tmp_path: Path) -> None:
    manifest = write_archive(tmp_path, good_files())
    target = tmp_path / "ran"
    place = tmp_path / "cifar-100-python" / "test"
    place.write_bytes(pickle.dumps(Bomb(target)))

    with pytest.raises(IntakeError) as caught:
        load_cifar(manifest, "test", tmp_path)

    assert caught.value.code == "E-CHECKSUM"
    assert not target.exists()
    message = caught.value.line()
    assert str(place) in message
    assert str(manifest.file("cifar-100-python/test").md5) in message
    assert "extract the official archive again" in message


@pytest.mark.parametrize("kind", ["a pipe, socket or device", "a folder", "at most"])
def test_only_a_file_of_a_sensible_size_is_read(tmp_path: Path, kind: str) -> None:
    manifest = write_archive(tmp_path, good_files())
    place = tmp_path / "cifar-100-python" / "test"
    place.unlink()
    if kind == "a folder":
        place.mkdir()
    elif kind == "at most":
        with open(place, "wb") as file:
            file.truncate(2**40)  # takes no space
    else:
        os.mkfifo(place)
    with pytest.raises(IntakeError, match=rf"cannot read file {place}: it .*{kind}") as caught:
        load_cifar(manifest, "test", tmp_path)
    assert caught.value.code == "E-DATA"


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_one_flipped_bit_is_found(tmp_path: Path, position: int) -> None:
    manifest = write_archive(tmp_path, good_files())
    place = tmp_path / "cifar-100-python" / "train"
    content = bytearray(place.read_bytes())
    content[position] ^= 1
    place.write_bytes(content)
    with pytest.raises(IntakeError, match="damaged or another file"):
        load_cifar(manifest, "train", tmp_path)
    load_cifar(manifest, "test", tmp_path)  # which does not read that file


def test_a_missing_file_says_where_it_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IntakeError) as caught:
        load_dataset("cifar100", "test", data_dir=tmp_path)
    assert caught.value.code == "E-DATA"
    assert caught.value.exit_code == 3
    assert caught.value.line() == (
        f"error[E-DATA]: CIFAR-100 is not there: cannot read {tmp_path}/cifar-100-python/meta "
        "(No such file or directory; expected md5 7973b15100ade9c7d40fb424638fde48); extract "
        "cifar-100-python.tar.gz (md5 eb9058c3a382ffc7106e4002c42a8d85, "
        f"https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz) into {tmp_path}, "
        "or point --data-dir or ROBUSTMIX_DATA at the folder that holds it"
    )


def test_an_archive_that_was_not_extracted_gets_the_command(tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.touch()
    with pytest.raises(IntakeError) as caught:
        load_dataset("cifar10", "train", data_dir=tmp_path)
    assert caught.value.hint == f"extract it: tar -xzf {archive} -C {tmp_path}"


BROKEN = {
    "no data": {"data": "text"},
    "fewer values a row": {"data": np.zeros((5, 3071), np.uint8)},
    "no images": {"data": np.zeros((0, 3072), np.uint8), "fine_labels": []},
    "fewer images": {"data": np.zeros((4, 3072), np.uint8)},
    "label too large": {"fine_labels": [0, 1, 2, 3, 0]},
    "negative label": {"fine_labels": [0, 1, -1, 0, 1]},
    "labels as text": {"fine_labels": ["0", "1", "2", "0", "1"]},
    "fewer labels": {"fine_labels": [0, 1, 2, 0]},
    "fewer coarse labels": {"coarse_labels": [0, 0, 1, 0]},
    "a class in two superclasses": {"coarse_labels": [0, 0, 1, 1, 0]},
    "a class without images": {"fine_labels": [0, 1, 1, 0, 1]},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_of_the_right_checksum_must_still_hold_what_it_should(
    tmp_path: Path, change: dict[str, object]
) -> None:
    content = python2_pickle({**batch(5, seed=2), **change})  # type: ignore[dict-item]
    manifest = write_archive(tmp_path, {**good_files(), "test": content})
    with pytest.raises(IntakeError) as caught:
        load_cifar(manifest, "test", tmp_path)
    assert caught.value.code == "E-DATA"


def test_the_number_of_images_must_be_the_manifests(tmp_path: Path) -> None:
    manifest = write_archive(tmp_path, {**good_files(), "test": python2_pickle(batch(8, seed=2))})
    with pytest.raises(IntakeError, match="it holds 8 images, expected 5"):
        load_cifar(manifest, "test", tmp_path)


def test_the_number_of_names_must_be_the_manifests(tmp_path: Path) -> None:
    names = {**meta(), "fine_label_names": ["ant", "bee"]}
    manifest = write_archive(tmp_path, {**good_files(), "meta": python2_pickle(names)})
    with pytest.raises(IntakeError, match="not a list of 3 names"):
        load_cifar(manifest, "test", tmp_path)


def test_a_manifest_without_checksums_opens_nothing(tmp_path: Path) -> None:
    manifest = write_archive(tmp_path, good_files())
    bare = replace(manifest, files=tuple(ManifestFile(path=f.path) for f in manifest.files))
    with pytest.raises(ValueError, match="no checksum"):
        load_cifar(bare, "test", tmp_path)


def test_the_official_meta_of_cifar10_is_understood() -> None:
    """Written out here as Python 2 framed it, each value memoised; its md5 is the official one."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode() + memo()

    def memo() -> bytes:
        return b"q" + bytes([next(places)])

    places = itertools.count(1)
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    content = b"\x80\2}" + memo() + b"(" + text("num_cases_per_batch") + b"M\x10'"
    content += text("label_names") + b"]" + memo() + b"("
    content += b"".join(text(name) for name in names) + b"e"
    content += text("num_vis") + b"M\x00\x0cu."
    known = load_manifest("cifar10").file("cifar-10-batches-py/batches.meta")
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == known.md5

    meta_of_cifar10 = unpickle(content, Path("batches.meta"))
    assert meta_of_cifar10["label_names"] == [name.encode() for name in names]
    assert meta_of_cifar10["num_vis"] == 3072


@pytest.mark.parametrize(("split", "offset", "n"), [("test", 329703, 10000)])
def test_the_official_archive_agrees_with_torchvision_and_with_its_raw_bytes(
    cifar100_root: Path, split: str, offset: int, n: int
) -> None:
    data = load_dataset("cifar100", "test", data_dir=cifar100_root)

    raw = np.memmap(
        cifar100_root / "cifar-100-python" / split, np.uint8, "r", offset, (n, 3, 32, 32)
    )
    everything = data.pixels.take(torch.arange(n)).numpy()
    assert (everything == raw).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = CIFAR100(str(cifar100_root), train=False, download=False)
    assert (everything.transpose(0, 2, 3, 1) == theirs.data).all()
    assert data.labels.tolist() == theirs.targets
    assert list(data.class_names) == theirs.classes
    assert data.superclass is not None
    assert sorted(data.superclass) == sorted(list(range(20)) * 5)
    assert data.superclass[0] == 4  # apple: fruit and vegetables
    assert data.sample_ids[9999] == "cifar100/test/9999"
    assert data.labels.bincount().tolist() == [100] * 100


def test_the_manifest_has_the_statistics_of_the_official_training_images(
    cifar100_root: Path,
) -> None:
    data = load_dataset("cifar100", "train", data_dir=cifar100_root)
    assert data.labels.bincount().tolist() == [500] * 100
    # A tenth of the images, for time: the error of the mean is below 0.002.
    pixels = data.pixels.take(torch.arange(0, 50000, 10)).float() / 255
    own = load_manifest("cifar100").normalisations[1]
    assert own.name == "statistics"
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor(own.mean), atol=5e-3, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.tensor(own.std), atol=5e-3, rtol=0)
    assert data.mean == (0.4914, 0.4822, 0.4465)
    assert data.std == (0.2023, 0.1994, 0.2010)
