import json
import subprocess
import sys
from dataclasses import asdict
from importlib.resources import files
from typing import cast

import pytest
from torchvision import datasets as tv

from robustmix.data.manifests import (
    DATASETS,
    Manifest,
    list_manifests,
    load_manifest,
    parse_manifest,
)
from robustmix.errors import UsageError

ALL = [
    "cifar10",
    "cifar10-c",
    "cifar10-c-bar",
    "cifar10-p",
    "cifar10.1-v4",
    "cifar10.1-v6",
    "cifar10.2",
    "cifar100",
    "cifar100-c",
    "cifar100-c-bar",
    "cifar100-p",
    "cub-200-2011",
    "digits",
    "fgvc-aircraft",
    "fgvc-aircraft-family",
    "fgvc-aircraft-manufacturer",
    "flowers102",
    "imagenet-1k",
    "imagenet-3dcc",
    "imagenet-a",
    "imagenet-c",
    "imagenet-c-bar",
    "imagenet-p",
    "imagenet-r",
    "imagenet-sketch",
    "imagenet-v2-matched-frequency",
    "imagenet-v2-threshold0.7",
    "imagenet-v2-top-images",
    "inaturalist-2017",
    "inaturalist-2018",
    "objectnet",
    "oxford-pets",
    "places205",
    "stanford-cars",
    "svhn",
    "tiny-imagenet",
    "tiny-imagenet-c",
    "tiny-imagenet-p",
]
CLASSES_AND_IMAGES = {
    # classes, train, val, test
    "cifar10": (10, 50_000, None, 10_000),
    "cifar100": (100, 50_000, None, 10_000),
    "cub-200-2011": (200, 5_994, None, 5_794),
    "digits": (10, 1_297, None, 500),
    "fgvc-aircraft": (100, 3_334, 3_333, 3_333),
    "fgvc-aircraft-family": (70, 3_334, 3_333, 3_333),
    "fgvc-aircraft-manufacturer": (30, 3_334, 3_333, 3_333),
    "flowers102": (102, 1_020, 1_020, 6_149),
    "imagenet-1k": (1000, 1_281_167, 50_000, None),
    "inaturalist-2017": (5089, 579_184, 95_986, None),
    "inaturalist-2018": (8142, 437_513, 24_426, None),
    "oxford-pets": (37, 3_680, None, 3_669),
    "places205": (205, 2_448_873, 20_500, None),
    "stanford-cars": (196, 8_144, None, 8_041),
    "svhn": (10, 73_257, None, 26_032),
    "tiny-imagenet": (200, 100_000, 10_000, None),
}


def text_of(name: str) -> str:
    return (files("robustmix") / "data_manifests" / f"{name}.json").read_text(encoding="utf-8")


def changed(change: dict[str, object], name: str = "cifar100") -> str:
    return json.dumps({**json.loads(text_of(name)), **change})


def test_every_data_set_has_a_manifest() -> None:
    assert list_manifests() == ALL


@pytest.mark.parametrize("name", ALL)
def test_each_manifest_is_valid_and_says_under_which_terms(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == name
    assert manifest.terms
    assert manifest.citation
    assert manifest.class_names_source
    assert (manifest.train_augment is None) == (manifest.clean_of is not None)


@pytest.mark.parametrize("name", CLASSES_AND_IMAGES)
def test_classes_and_counts(name: str) -> None:
    manifest = load_manifest(name)
    counts = manifest.counts
    found = (manifest.num_classes, counts.train, counts.val, counts.test)
    assert found == CLASSES_AND_IMAGES[name]


def test_corrupted_sets_have_the_classes_of_the_clean_ones() -> None:
    for name, conditions in [
        ("cifar10-c", 95),
        ("cifar100-c", 95),
        ("tiny-imagenet-c", 75),
        ("imagenet-c", 95),
    ]:
        manifest = load_manifest(name)
        clean = load_manifest(cast(str, manifest.clean_of))
        assert manifest.num_classes == clean.num_classes
        assert manifest.counts.test == conditions * cast(int, clean.counts.test or clean.counts.val)
        assert manifest.normalisations == clean.normalisations


def test_loadable_says_what_can_be_loaded() -> None:
    assert {name for name in ALL if load_manifest(name).loadable} == set(DATASETS)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [("fgvc-aircraft", 6_667, 3_333), ("flowers102", 2_040, 6_149), ("imagenet-1k", None, 50_000)],
)
def test_what_is_read_of_a_split_is_what_published_numbers_are_of(
    name: str, train: int | None, test: int
) -> None:
    manifest = load_manifest(name)
    assert manifest.split_count("test") == test
    assert manifest.split_count("train") == (train or manifest.counts.train)


def test_the_levels_of_aircraft_differ_in_nothing_but_their_classes() -> None:
    whole = asdict(load_manifest("fgvc-aircraft"))
    own = {"name", "title", "num_classes", "layout", "marks", "class_names_source", "notes"}
    for level in ("family", "manufacturer"):
        one = asdict(load_manifest(f"fgvc-aircraft-{level}"))
        assert {key for key in whole if whole[key] != one[key]} == own


@pytest.mark.parametrize(("name", "theirs"), [("cifar10", tv.CIFAR10), ("cifar100", tv.CIFAR100)])
def test_cifar_checksums_are_torchvisions(name: str, theirs: type[tv.CIFAR10]) -> None:
    manifest = load_manifest(name)
    (archive,) = manifest.archives
    assert (archive.path, archive.md5, archive.origin) == (
        theirs.filename,
        theirs.tgz_md5,
        theirs.url,
    )
    expected = dict([*theirs.train_list, *theirs.test_list])
    expected[theirs.meta["filename"]] = theirs.meta["md5"]
    found = {file.path.removeprefix(f"{theirs.base_folder}/"): file.md5 for file in manifest.files}
    assert found == expected


def test_svhn_has_the_checksums_of_torchvision() -> None:
    manifest = load_manifest("svhn")
    theirs = {
        file: md5 for _, file, md5 in (tv.SVHN.split_list[part] for part in ("train", "test"))
    }
    assert {file.path: file.md5 for file in manifest.archives} == theirs


def test_cifar_c_has_a_checksum_for_each_corruption_and_the_labels() -> None:
    ten, hundred = load_manifest("cifar10-c"), load_manifest("cifar100-c")
    names = {file.path.removeprefix("CIFAR-10-C/") for file in ten.files}
    assert names == {file.path.removeprefix("CIFAR-100-C/") for file in hundred.files}
    assert len(names) == 20
    assert {"labels.npy", "fog.npy", "speckle_noise.npy"} < names
    sums = [file.md5 for file in ten.files + hundred.files]
    assert None not in sums
    assert len(set(sums)) == 40
    assert ten.file("CIFAR-10-C/fog.npy").md5 == "7b397314b5670f825465fbcd1f6e9ccd"
    assert hundred.file("CIFAR-100-C/labels.npy").md5 == "bb4026e9ce52996b95f439544568cdb2"


def test_cifar100_is_normalised_as_the_published_configurations_do() -> None:
    first, second = load_manifest("cifar100").normalisations
    assert (first.name, first.std) == ("openmixup", (0.2023, 0.1994, 0.2010))
    assert (second.name, second.std) == ("statistics", (0.2673, 0.2564, 0.2762))


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 1},
        {"num_classes": "100"},
        {"normalisations": []},
        {"normalisations": [{"name": "x", "mean": [125, 123, 114], "std": [0.2, 0.2, 0.2]}]},
        {"normalisations": [{"name": "x", "mean": [0.5], "std": [0.2, 0.2, 0.2]}]},
        {"licence": "misspelt key"},
        {"files": [{"path": "train", "md5": "16019D7E3DF5F24257CDDD939B257F8D"}]},
        {"files": [{"path": "train", "md5": "16019d7e"}]},
        {"files": [{"path": "train", "sha256": "16019d7e3df5f24257cddd939b257f8d"}]},
        {"files": [{"path": "train", "bytes": 0}]},
        {"files": [{"path": "../train"}]},
        {"files": [{"path": "/train"}]},
        {"files": [{"path": "train"}, {"path": "train"}]},
        {"train_augment": {"kind": "crop-flip", "pad": 4}},
        {"train_augment": {"kind": "crop"}},
        {"counts": {"train": 5, "trial": 5}},
    ],
)
def test_impossible_manifests_are_refused(change: dict[str, object]) -> None:
    assert isinstance(parse_manifest(changed({})), Manifest)
    with pytest.raises(ValueError, match="validation error"):
        parse_manifest(changed(change))


def test_a_missing_key_is_refused() -> None:
    incomplete = json.loads(text_of("cifar100"))
    del incomplete["terms"]
    with pytest.raises(ValueError, match="terms"):
        parse_manifest(json.dumps(incomplete))


def test_a_file_that_is_not_known_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        load_manifest("cifar100").file("cifar-100-python/validation")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar100'"):
        load_manifest("cifr100")


def test_manifests_need_no_torch() -> None:
    code = (
        "import sys, robustmix.data as d; d.list_manifests(); d.load_manifest('cifar100'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
