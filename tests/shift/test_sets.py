"""The readers of shift sets: each trap of their layouts."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustmix.data.manifests import load_manifest
from robustmix.data.shift.cifar import open_cifar10_1
from robustmix.data.shift.conditions import (
    CIFAR_C_BAR,
    IMAGENET_3DCC,
    IMAGENET_C_BAR,
    open_imagenet_3dcc,
    open_imagenet_c_bar,
)
from robustmix.data.shift.registry import CORRUPTED, SHIFTS, place_of
from robustmix.data.shift.sets import Conditions, ShiftSet
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError
from tests.shift.made import (
    SIDE,
    cifar10_1,
    cifar10_2,
    cifar_c_bar,
    cifar_like,
    folders,
    imagenet_like,
    objectnet,
    picture,
)

WNIDS = imagenet_wnids()
LIKE = imagenet_like([0, 1, 2])


def opened(name: str, data_dir: Path, like: object = LIKE) -> ShiftSet:
    place = place_of(name, data_dir)
    assert place is not None
    found = SHIFTS[name](name, place, like)  # type: ignore[arg-type]
    assert isinstance(found, ShiftSet)
    return found


@pytest.mark.parametrize("name", SHIFTS)
def test_data_where_looks_where_the_suite_reads(name: str) -> None:
    manifest, places = load_manifest(name), SHIFTS.row(name).places
    both = itertools.product(manifest.homes, manifest.marks)
    looked = {mark if home == "." else f"{home}/{mark}" for home, mark in both}
    assert set(places) <= looked
    assert {place.rpartition("/")[2] for place in places} == set(manifest.marks)


def test_every_set_has_a_manifest_of_the_same_data_set() -> None:
    for name in SHIFTS:
        assert load_manifest(name).clean_of == SHIFTS.row(name).clean_of
        assert SHIFTS.row(name).places
    assert not set(CORRUPTED) & set(SHIFTS)


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_a_class_is_its_place_among_the_1000_and_not_among_the_folders(
    name: str, tmp_path: Path
) -> None:
    folders(tmp_path / name, {WNIDS[6]: 2, WNIDS[11]: 1, WNIDS[988]: 3})
    found = opened(name, tmp_path)
    assert found.images.labels.tolist() == [6, 6, 11, 988, 988, 988]
    assert found.classes == (6, 11, 988)
    assert found.images.sample_ids[2] == f"{name}/shift/{WNIDS[11]}/0000.jpg"
    assert found.notes == ("it has 3 classes, 200 were published",)
    assert found.images.pixels.size == (3, SIDE, SIDE)


def test_a_folder_that_is_no_class_is_refused(tmp_path: Path) -> None:
    folders(tmp_path / "imagenet-a", {WNIDS[6]: 1, "n99999999": 1})
    with pytest.raises(IntakeError, match="none of the 1,000"):
        opened("imagenet-a", tmp_path)


@pytest.mark.parametrize("variant", ["matched-frequency", "threshold0.7", "top-images"])
def test_v2_folders_are_numbers_and_not_text(variant: str, tmp_path: Path) -> None:
    root = tmp_path / f"imagenetv2-{variant}-format-val"
    folders(root, {"0": 1, "10": 1, "9": 2, "100": 1, "999": 1}, ".jpeg")
    found = opened(f"imagenet-v2-{variant}", tmp_path)
    label = dict(zip(found.images.sample_ids, found.images.labels.tolist(), strict=True))
    assert label == {
        f"imagenet-v2-{variant}/shift/{k}/{i:04d}.jpeg": k
        for k, n in ((0, 1), (10, 1), (9, 2), (100, 1), (999, 1))
        for i in range(n)
    }
    assert found.classes is None
    assert found.expected == 10_000


@pytest.mark.parametrize("folder", ["1000", "n01440764", "-1", "007", "1.5"])
def test_v2_folders_that_are_no_class_numbers(folder: str, tmp_path: Path) -> None:
    folders(tmp_path / "imagenetv2-top-images-format-val", {"7": 1, folder: 1}, ".jpeg")
    with pytest.raises(IntakeError, match="0 to 999"):
        opened("imagenet-v2-top-images", tmp_path)


def test_sketch_is_of_all_outputs_and_has_50889_images(tmp_path: Path) -> None:
    folders(tmp_path / "sketch", {WNIDS[134]: 1, WNIDS[517]: 2}, ".JPEG")
    found = opened("imagenet-sketch", tmp_path)
    assert found.images.labels.tolist() == [134, 517, 517]  # the two cranes
    assert found.classes is None
    assert found.expected == 50_889


def test_a_cmyk_picture_and_one_in_grey(tmp_path: Path) -> None:
    root = folders(tmp_path / "sketch", {WNIDS[0]: 1}, ".JPEG")
    Image.new("CMYK", (30, 28), (0, 255, 0, 0)).save(root / WNIDS[0] / "b.JPEG")
    Image.new("L", (30, 28), 77).save(root / WNIDS[0] / "c.JPEG")
    images = opened("imagenet-sketch", tmp_path).images.pixels.take(torch.arange(3))
    assert images.shape == (3, 3, SIDE, SIDE)
    assert (images[2] == 77).all()


def test_objectnet_outputs_stand_for_objects_and_the_rest_for_none(tmp_path: Path) -> None:
    counts = {"alarm_clock": 2, "banana": 1, "zip_tie": 2, "air_freshener": 1}
    objectnet(tmp_path / "objectnet-1.0", {"alarm_clock": [409, 530], "banana": [954]}, counts)
    found = opened("objectnet", tmp_path)
    assert found.mapping is not None
    assert {i: m for i, m in enumerate(found.mapping) if m != -1} == {409: 0, 530: 0, 954: 1}
    # Known objects first, then the others, each sorted.
    assert found.images.labels.tolist() == [0, 0, 1, 2, 3, 3]
    assert found.images.sample_ids[3] == "objectnet/shift/air_freshener/000.png"
    assert "3 outputs stand for 2 objects, 125 for 113 were published" in found.notes


def test_objectnets_border_is_cut_off_before_anything_else(tmp_path: Path) -> None:
    objectnet(tmp_path / "objectnet-1.0", {"banana": [954]}, {"banana": 1})
    image = opened("objectnet", tmp_path).images.pixels.take(torch.arange(1))[0]
    path = tmp_path / "objectnet-1.0" / "images" / "banana" / "000.png"
    inner = Image.open(path).crop((2, 2, 31, 33))  # of 33 x 35
    assert inner.size == (29, 31)
    whole = np.array(inner.resize((27, 28), Image.Resampling.BICUBIC))
    expected = whole[2 : 2 + SIDE, round((27 - SIDE) / 2) :][:, :SIDE]  # round(1.5) is 2
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("damage", ["missing", "word", "twice", "json"])
def test_damaged_mappings_of_objectnet(damage: str, tmp_path: Path) -> None:
    root = objectnet(tmp_path / "objectnet-1.0", {"a": [1], "b": [2]}, {"a": 1, "b": 1})
    table = root / "mappings" / "objectnet_to_imagenet_1k.json"
    if damage == "missing":
        table.unlink()
    elif damage == "word":
        table.write_text('{"A": "no such word"}')
    elif damage == "twice":
        table.write_text('{"A": "word 1, of class 1", "B": "word 1, of class 1"}')
    else:
        table.write_text("[" * 100_000)
    with pytest.raises(IntakeError):
        opened("objectnet", tmp_path)


@pytest.mark.parametrize("folder", ["", "CIFAR-10.1", "CIFAR-10.1/datasets"])
def test_cifar10_1_and_its_labels_md5(folder: str, tmp_path: Path) -> None:
    data = cifar10_1(tmp_path / folder)
    found = opened("cifar10.1-v6", tmp_path, cifar_like(5))
    assert found.images.labels.tolist() == data.labels.tolist()
    assert torch.equal(
        found.images.pixels.take(torch.arange(50)), data.pixels.take(torch.arange(50))
    )
    assert found.notes == (
        "cifar10.1_v6_labels.npy is not the published file (md5 09a97fb7c430502fcbd69d95093a3f85)",
    )
    assert found.expected == 2000


def test_labels_with_the_published_md5_are_taken_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10_1(tmp_path, "v4")
    known = "6b7b8e6d26b5addd368440d9e0a24ead"
    monkeypatch.setattr("robustmix.data.shift.cifar.file_digest", lambda path, kind: known)
    found = open_cifar10_1("cifar10.1-v4", tmp_path / "cifar10.1_v4_data.npy", cifar_like(5))
    assert found.notes == ()
    assert found.expected == 2021


def test_cifar10_2_opens_no_pickle(tmp_path: Path) -> None:
    data = cifar10_2(tmp_path)
    found = opened("cifar10.2", tmp_path, cifar_like(5))
    assert found.images.labels.tolist() == data.labels.tolist()
    assert found.images.sample_ids[-1] == "cifar10.2/shift/39"


@pytest.mark.parametrize("labels", [[0, 10], [-1, 2], [0.5, 1.0], [1]])
def test_labels_that_are_none(labels: list[float], tmp_path: Path) -> None:
    np.save(tmp_path / "cifar10.1_v6_data.npy", np.zeros((2, 32, 32, 3), np.uint8))
    np.save(tmp_path / "cifar10.1_v6_labels.npy", np.array(labels))
    with pytest.raises(IntakeError, match="labels"):
        opened("cifar10.1-v6", tmp_path, cifar_like(5))


def test_cifars_c_bar_has_other_names_than_imagenets() -> None:
    assert len(CIFAR_C_BAR) == len(IMAGENET_C_BAR) == 10
    assert set(CIFAR_C_BAR) & set(IMAGENET_C_BAR) == {
        "blue_noise_sample", "brownish_noise", "checkerboard_cutout", "inverse_sparkles",
        "sparkles",
    }  # fmt: skip
    assert "transverse_chromatic_abberation" in CIFAR_C_BAR  # so spelt
    assert len(IMAGENET_3DCC) == 12


@pytest.mark.parametrize("lacking", [CIFAR_C_BAR[3], "labels"])
def test_a_c_bar_that_lacks_a_file_is_refused(lacking: str, tmp_path: Path) -> None:
    data = cifar_like(20)
    folder = cifar_c_bar(tmp_path / "CIFAR-10-C-Bar", data, CIFAR_C_BAR)
    (folder / f"{lacking}.npy").unlink()
    with pytest.raises(IntakeError, match=lacking):
        SHIFTS["cifar10-c-bar"]("cifar10-c-bar", folder, data)


def small_imagenet() -> tuple[object, list[str]]:
    """Two classes in the place of the thousand, for folders of every condition."""
    from dataclasses import replace

    like = replace(imagenet_like([0, 1, 1]), class_names=WNIDS[:2])
    return like, [one.rpartition("/")[2] for one in like.sample_ids]


def write_conditions(root: Path, names: tuple[str, ...], severities: list[str]) -> list[int]:
    """Write conditions whose pictures are of one grey level each, which is returned."""
    _, files = small_imagenet()
    levels: list[int] = []
    for name in names:
        for severity in severities:
            level = 3 * len(levels) + 1
            levels.append(level)
            for file, wnid in zip(files, (WNIDS[0], WNIDS[1], WNIDS[1]), strict=True):
                path = root / name / severity / wnid / file
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (224, 224), (level,) * 3).save(path, "PNG")
    return levels


@pytest.mark.parametrize(
    "severities",
    [["1", "2", "3", "4", "5"], ["0.80", "2.35", "4.00", "9.25", "10.00"], ["1.0", "2.0", "4.0",
     "9.0", "10.0"]],
)  # fmt: skip
def test_imagenet_c_bar_as_downloaded_and_as_generated(
    severities: list[str], tmp_path: Path
) -> None:
    levels = write_conditions(tmp_path, IMAGENET_C_BAR, severities)
    like, _ = small_imagenet()
    found = open_imagenet_c_bar("imagenet-c-bar", tmp_path, like)  # type: ignore[arg-type]
    assert isinstance(found, Conditions)
    taken = [
        int(found.files.take(name, severity, [2])[0, 0, 0, 0])
        for name in found.names
        for severity in range(1, 6)
    ]
    assert taken == levels  # so the severities rise as the values do: 10.00 after 9.25


@pytest.mark.parametrize(
    "severities", [["0.80", "2.35", "4.00", "9.25"], ["a", "b", "c", "d", "e"]]
)
def test_folders_that_are_no_severities(severities: list[str], tmp_path: Path) -> None:
    write_conditions(tmp_path, IMAGENET_C_BAR, severities)
    like, _ = small_imagenet()
    with pytest.raises(IntakeError, match="neither"):
        open_imagenet_c_bar("imagenet-c-bar", tmp_path, like)  # type: ignore[arg-type]


def test_imagenet_3dcc_has_numbered_folders_alone(tmp_path: Path) -> None:
    like, _ = small_imagenet()
    write_conditions(tmp_path, IMAGENET_3DCC, ["1", "2", "3", "4", "5"])
    assert open_imagenet_3dcc("imagenet-3dcc", tmp_path, like).names == IMAGENET_3DCC  # type: ignore[arg-type]
    (tmp_path / "flash" / "3").rename(tmp_path / "flash" / "3.0")
    with pytest.raises(IntakeError, match="flash"):
        open_imagenet_3dcc("imagenet-3dcc", tmp_path, like)  # type: ignore[arg-type]


def test_an_image_too_small_for_the_crop_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    folders(tmp_path / "sketch", {WNIDS[3]: 1})
    small = replace(LIKE, transform="centercrop24")
    picture(tmp_path / "sketch" / WNIDS[3] / "0000.jpg", np.random.default_rng(0), (20, 40))
    with pytest.raises(IntakeError, match="transform"):
        opened("imagenet-sketch", tmp_path, small)
