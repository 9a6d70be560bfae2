"""``robustmix data``, on a small set in archives made as the official ones are."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.data import manifests
from robustmix.data.manifests import DATASETS, Counts, load_manifest
from robustmix.data.shift.registry import SHIFTS
from tests.data.sets.pictures import picture, write

BREEDS = [f"Breed_{chr(65 + n % 26)}{n}" for n in range(37)]


def packed(folder: Path, target: Path) -> str:
    """Pack a folder, and return the archive's md5."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(stream.getvalue())
    return hashlib.md5(stream.getvalue(), usedforsecurity=False).hexdigest()


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archives of a set of pets with one image a breed and split, which the manifest knows."""
    home = tmp_path / "made"
    for part, first in (("trainval", 0), ("test", 100)):
        names = [f"{breed}_{first + n}" for n, breed in enumerate(BREEDS)]
        rows = [f"{name} {n} 1 1" for n, name in enumerate(names, 1)]
        write(home / "annotations" / f"{part}.txt", *rows)
        for n, name in enumerate(names):
            picture(home / "images" / f"{name}.jpg", mode="L" if n == 3 else "RGB")
    folder = tmp_path / "downloads"
    sums = {one: packed(home / one, folder / f"{one}.tar.gz") for one in ("images", "annotations")}
    known = load_manifest("oxford-pets")
    archives = tuple(
        replace(file, md5=sums[file.path.partition(".")[0]]) for file in known.archives
    )
    small = replace(known, counts=Counts(train=37, test=37), archives=archives)
    packaged = manifests._packaged
    monkeypatch.setattr(
        manifests, "_packaged", lambda name: small if name == "oxford-pets" else packaged(name)
    )
    return folder


def test_archives_become_a_set_that_is_verified(
    downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    command = ["data", "prepare", "oxford-pets", "--from", str(downloads), "--data-dir", str(root)]
    assert run(command) == 0
    captured = capsys.readouterr()
    assert "Terms: CC BY-SA 4.0" in captured.err
    lines = captured.out.splitlines()
    assert "oxford-pets/train: 37 of 37 images in images with annotations/trainval.txt" in lines
    assert "  1 of 37 images converted to RGB (1 L)" in lines
    assert sorted(path.name for path in (root / "oxford-iiit-pet").iterdir()) == [
        "annotations",
        "images",
    ]
    assert run(["data", "where", "oxford-pets", "--data-dir", str(root)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(root / "oxford-iiit-pet")]
    assert run(command) == 0
    assert "is there already" in capsys.readouterr().err


def test_a_damaged_archive_is_found_before_anything_is_unpacked(
    downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (downloads / "annotations.tar.gz").write_bytes(b"another")
    root = tmp_path / "data"
    command = ["data", "prepare", "oxford-pets", "--from", str(downloads), "--data-dir", str(root)]
    assert run(command) == 3
    assert "error[E-CHECKSUM]" in capsys.readouterr().err
    assert not root.exists()


def test_a_missing_archive_is_named_with_its_address_and_terms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "prepare", "flowers102", "--data-dir", str(tmp_path)]) == 3
    told = capsys.readouterr().err
    assert "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz" in told
    assert "Terms: Research use" in told
    assert list(tmp_path.iterdir()) == []


def test_verify_exits_with_3_where_something_is_missing(
    downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    command = ["data", "prepare", "oxford-pets", "--from", str(downloads), "--data-dir", str(root)]
    assert run(command) == 0
    (root / "oxford-iiit-pet" / "images" / f"{BREEDS[5]}_5.jpg").unlink()
    verify = ["data", "verify", "oxford-pets", "--data-dir", str(root)]
    capsys.readouterr()
    assert run(verify) == 3
    assert "36 of the 37 images of oxford-pets/train are here" in capsys.readouterr().err
    assert run([*verify, "--allow-partial", "--json"]) == 0
    train, test = json.loads(capsys.readouterr().out)["splits"]
    assert (train["images"], train["official"], train["verified"]) == (36, 37, False)
    assert (test["images"], test["official"]) == (37, 37)


def test_list_and_info_say_what_the_manifests_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "list", "--json", "--data-dir", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [*DATASETS, *SHIFTS]
    aircraft = {key: rows["fgvc-aircraft"][key] for key in ("classes", "train", "test", "here")}
    assert aircraft == {"classes": 100, "train": 6667, "test": 3333, "here": False}
    for name in DATASETS:
        assert run(["data", "info", name, "--data-dir", str(tmp_path)]) == 0
        assert load_manifest(name).title in " ".join(capsys.readouterr().out.split())
    assert run(["data", "info", "imagenet", "--data-dir", str(tmp_path)]) == 2
    assert "did you mean 'imagenet-" in capsys.readouterr().err


def test_where_something_is_not_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cifar10", "places205", "digits"):
        assert run(["data", "where", name, "--data-dir", str(tmp_path)]) == 3
    assert run(["data", "where", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path)]
