"""CUB, Aircraft, Cars, Pets and Flowers in their official layouts and file formats."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from robustmix.data import load_dataset
from robustmix.data.manifests import DATASETS, Counts, load_manifest
from robustmix.data.sets import mat_files
from robustmix.errors import IntakeError
from robustmix.saliency.object_regions import load_regions
from tests.data.sets.pictures import labels_of, picture, read, read_as_whole, write

BIRDS = [f"{number:03d}.Bird_{number * 7 % 200}" for number in range(1, 201)]


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """CUB: image numbers and class numbers from 1 on; class 2 has an image of each split."""
    home = tmp_path / "CUB_200_2011"
    files = [f"{BIRDS[1]}/a_1.jpg", f"{BIRDS[1]}/a_2.jpg", f"{BIRDS[199]}/b_3.jpg"]
    write(home / "images.txt", *(f"{n} {file}" for n, file in enumerate(files, 1)))
    write(home / "image_class_labels.txt", "1 2", "2 2", "3 200")
    write(home / "train_test_split.txt", "1 1", "2 0", "3 0")
    write(home / "classes.txt", *(f"{n} {name}" for n, name in enumerate(BIRDS, 1)))
    write(
        home / "bounding_boxes.txt",
        "1 2.0 3.0 4.0 5.0",
        "2 60.0 27.0 325.0 304.0",
        "3 1.0 2.0 3.0 4.0",
    )
    picture(home / "images" / files[0], size=(256, 300))
    picture(home / "images" / files[1], size=(512, 512), mode="L")
    picture(home / "images" / files[2], size=(300, 256))
    return tmp_path


def test_birds_have_the_number_less_one_and_the_official_split(birds: Path) -> None:
    train, test = (read("cub-200-2011", split, birds) for split in ("train", "test"))
    assert labels_of(train) == {f"{BIRDS[1]}/a_1.jpg": 1}
    assert labels_of(test) == {f"{BIRDS[1]}/a_2.jpg": 1, f"{BIRDS[199]}/b_3.jpg": 199}
    assert test.class_names == tuple(BIRDS)
    assert test.notes == ("1 of 2 images converted to RGB (1 L)",)
    assert (train.partial_of, test.partial_of) == (5_994, 5_794)
    assert test.transform == "resize256-bilinear+centercrop224"


def test_the_boxes_of_birds_are_found_by_their_ids(birds: Path) -> None:
    data = load_dataset("cub-200-2011", "test", data_dir=birds, allow_partial=True)
    regions = load_regions(birds / "CUB_200_2011", data)
    # 512 pixels become 256, of which the crop takes away 16 on each side.
    assert regions.boxes[data.sample_ids[0]] == (14.0, -2.5, 162.5, 152.0)


@pytest.mark.parametrize(
    ("name", "lines", "told"),
    [
        ("image_class_labels.txt", ["1 1", "2 2", "3 200"], "image 1, .* is said to be of class 1"),
        ("image_class_labels.txt", ["1 2", "2 2"], "is not of the images of images.txt"),
        ("classes.txt", [f"{n} {b}" for n, b in enumerate(BIRDS)], "number its classes from 1 on"),
        ("images.txt", ["1 ../../x.jpg", "2 x", "3 y"], "image 1, "),
    ],
)
def test_lists_of_birds_that_do_not_agree(
    birds: Path, name: str, lines: list[str], told: str
) -> None:
    write(birds / "CUB_200_2011" / name, *lines)
    with pytest.raises(IntakeError, match=told):
        read("cub-200-2011", "train", birds)


VARIANTS = [f"A{number:03d}" for number in range(72)] + ["F-16A/B", "F/A-18"]
VARIANTS += [f"Z {number:03d}" for number in range(26)]


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    home = tmp_path / "fgvc-aircraft-2013b" / "data"
    write(home / "variants.txt", *VARIANTS)
    write(home / "families.txt", *(f"family {n}" for n in reversed(range(70))))
    write(home / "manufacturers.txt", *(f"maker {n}" for n in reversed(range(30))))
    train = {"0034309": "F/A-18", "1025794": "Z 003"}
    test = {"0000001": "F-16A/B", "0056978": "Z 025"}
    for part, rows in (("trainval", train), ("test", test)):
        write(home / f"images_variant_{part}.txt", *(f"{n} {name}" for n, name in rows.items()))
        write(home / f"images_family_{part}.txt", *(f"{n} family 3" for n in rows))
        write(home / f"images_manufacturer_{part}.txt", *(f"{n} maker 28" for n in rows))
        for number in rows:
            picture(home / "images" / f"{number}.jpg")
    return tmp_path


def test_planes_are_numbered_by_the_lines_of_the_list(planes: Path) -> None:
    train, test = (read("fgvc-aircraft", split, planes) for split in ("train", "test"))
    assert labels_of(train) == {"0034309": 73, "1025794": 77}
    assert labels_of(test) == {"0000001": 72, "0056978": 99}
    assert train.sample_ids[0] == "fgvc-aircraft/trainval/0034309"
    assert train.class_names[73] == "F/A-18"
    assert (train.partial_of, test.partial_of) == (6_667, 3_333)


@pytest.mark.parametrize(("level", "label"), [("family", 66), ("manufacturer", 1)])
def test_the_levels_are_sets_of_their_own(planes: Path, level: str, label: int) -> None:
    """Their lists look alike; families and makers here are not in the order of their names."""
    data = read(f"fgvc-aircraft-{level}", "test", planes)
    assert labels_of(data) == {"0000001": label, "0056978": label}
    assert data.name == f"fgvc-aircraft-{level}"


def test_a_list_of_another_level_is_refused(planes: Path) -> None:
    home = planes / "fgvc-aircraft-2013b" / "data"
    (home / "images_family_test.txt").rename(home / "images_variant_test.txt")
    with pytest.raises(IntakeError, match=r"'family 3' is not in variants\.txt"):
        read("fgvc-aircraft", "test", planes)


CARS = [f"Car {number}" for number in range(196)]
CARS[162] = "Ram C/V Cargo Van Minivan 2012"
BOX = [(f"bbox_{name}", "u2") for name in ("x1", "y1", "x2", "y2")]


def annotations(rows: list[tuple[object, ...]], *fields: tuple[str, str]) -> np.ndarray:
    """Make MATLAB's 1 x N struct array."""
    boxed = [(1, 2, 30, 40, *row) for row in rows]
    return np.array(boxed, dtype=[*BOX, *fields]).reshape(1, -1)


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    home = tmp_path / "stanford_cars"
    (home / "devkit").mkdir(parents=True)
    names = np.array(CARS, dtype=object).reshape(1, -1)
    savemat(home / "devkit" / "cars_meta.mat", {"class_names": names})
    fields = ("class", "u1"), ("fname", "O")
    train = annotations([(163, "00001.jpg"), (1, "00002.jpg")], *fields)
    savemat(home / "devkit" / "cars_train_annos.mat", {"annotations": train})
    blind = annotations([("00001.jpg",), ("00002.jpg",)], ("fname", "O"))
    savemat(home / "devkit" / "cars_test_annos.mat", {"annotations": blind})
    test = annotations([(196, "00001.jpg"), (2, "00002.jpg")], *fields)
    savemat(home / "cars_test_annos_withlabels.mat", {"annotations": test}, do_compression=True)
    for folder, colour in (("cars_train", 20), ("cars_test", 200)):
        for number in (1, 2):
            picture(home / folder / f"{number:05d}.jpg", colour + number)
    return tmp_path


def test_cars_have_the_number_less_one_and_ids_with_the_split(cars: Path) -> None:
    train, test = (read("stanford-cars", split, cars) for split in ("train", "test"))
    assert labels_of(train) == {"00001": 162, "00002": 0}
    assert labels_of(test) == {"00001": 195, "00002": 1}
    assert not {*train.sample_ids} & {*test.sample_ids}
    assert train.class_names[162] == "Ram C/V Cargo Van Minivan 2012"
    means = [data.pixels.take(torch.tensor([0])).float().mean() for data in (train, test)]
    torch.testing.assert_close(torch.stack(means), torch.tensor([21.0, 201.0]), atol=1.5, rtol=0)


def test_labels_of_test_cars_are_found_in_the_devkit_too(cars: Path) -> None:
    beside = read("stanford-cars", "test", cars)
    home = cars / "stanford_cars"
    labels = home / "cars_test_annos_withlabels.mat"
    labels.rename(home / "devkit" / labels.name)
    inside = read("stanford-cars", "test", cars)
    assert inside.layout == "cars_test with devkit/cars_test_annos_withlabels.mat"
    assert inside.files == beside.files
    (home / "devkit" / labels.name).unlink()
    with pytest.raises(IntakeError, match="the classes of the test images are not there"):
        read("stanford-cars", "test", cars)


def test_merged_cars_keep_numbers_of_their_own(cars: Path) -> None:
    home = cars / "merged"
    names = np.array(CARS, dtype=object).reshape(1, -1)
    fields = ("relative_im_path", "O"), ("class", "u1"), ("test", "u1")
    rows = [("car_ims/000001.jpg", 1, 0), ("car_ims/000002.jpg", 163, 1)]
    for name, *_ in rows:
        picture(home / name)
    merged = annotations([(name, label, test) for name, label, test in rows], *fields)
    savemat(home / "cars_annos.mat", {"annotations": merged, "class_names": names})
    assert labels_of(read("stanford-cars", "train", home)) == {"car_ims/000001": 0}
    assert labels_of(read("stanford-cars", "test", home)) == {"car_ims/000002": 162}


def test_the_whole_set_by_another_list_is_refused(cars: Path) -> None:
    """Of the labels of the test images the checksum is known; here they are made up."""
    data = read("stanford-cars", "test", cars)
    assert data.notes[0].startswith("cars_test_annos_withlabels.mat is not the official list: md5")
    whole = replace(load_manifest("stanford-cars"), counts=Counts(test=2))
    with pytest.raises(IntakeError) as error:
        DATASETS["stanford-cars"](whole, "test", cars)
    assert error.value.code == "E-CHECKSUM"


BREEDS = [f"Breed_{chr(65 + n % 26)}{n}" for n in range(37)]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    home = tmp_path / "oxford-iiit-pet"
    trainval = [f"{name}_{n}" for n, name in enumerate(BREEDS)]
    rows = [f"{file} {n} 1 1" for n, file in enumerate(trainval, 1)]
    write(home / "annotations" / "trainval.txt", *rows)
    odd = {"P": "GIF", "RGBA": "PNG", "L": "JPEG"}
    for file, (mode, form) in zip(trainval, odd.items(), strict=False):
        picture(home / "images" / f"{file}.jpg", mode=mode, form=form)
    write(home / "images" / "Breed_A0_0.mat", "left over")
    picture(home / "images" / "Breed_A0_999.jpg")
    return tmp_path


def test_pets_of_odd_formats_are_read_and_counted(pets: Path) -> None:
    data = read("oxford-pets", "train", pets)
    assert labels_of(data) == {f"{BREEDS[n]}_{n}": n for n in range(3)}
    assert data.class_names == tuple(BREEDS)
    assert data.notes == ("3 of 3 images converted to RGB (1 L, 1 P, 1 RGBA)",)
    assert data.pixels.take(torch.arange(3)).shape == (3, 3, 224, 224)
    assert data.partial_of == 3_680


def test_a_pet_of_another_class_than_its_name_is_refused(pets: Path) -> None:
    rows = [f"{name}_{n} {max(n, 1)} 1 1" for n, name in enumerate(BREEDS)]
    write(pets / "oxford-iiit-pet" / "annotations" / "trainval.txt", *rows)
    with pytest.raises(IntakeError, match="'Breed_B1_1' is said to be of class 1, 'Breed_A0'"):
        read("oxford-pets", "train", pets)


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    home = tmp_path / "flowers-102"
    for number in range(1, 10):
        picture(home / "jpg" / f"image_{number:05d}.jpg")
    labels = np.array([[77, 1, 102, 5, 6, 7, 8, 9, 10]], dtype=np.uint8)
    savemat(home / "imagelabels.mat", {"labels": labels})
    parts = {"trnid": [[3, 1]], "valid": [[9]], "tstid": [[2, 4, 5, 6, 7, 8]]}
    savemat(home / "setid.mat", {k: np.array(v, dtype=np.uint16) for k, v in parts.items()})
    return tmp_path


def test_flowers_are_labelled_by_image_number_from_one_on(flowers: Path) -> None:
    train = read("flowers102", "train", flowers)
    assert labels_of(train) == {"image_00001": 76, "image_00003": 101, "image_00009": 9}
    test = read("flowers102", "test", flowers)
    assert labels_of(test) == {f"image_{n:05d}": n for n in (4, 5, 6, 7, 8)} | {"image_00002": 0}
    assert (train.partial_of, test.partial_of) == (2_040, 6_149)


def test_flowers_in_two_splits_are_refused(flowers: Path) -> None:
    parts = {"trnid": [1, 2], "valid": [2], "tstid": [3, 4, 5, 6, 7, 8, 9]}
    savemat(flowers / "flowers-102" / "setid.mat", {k: np.array([v]) for k, v in parts.items()})
    with pytest.raises(IntakeError, match="does not have each of the 9 images in one split"):
        read("flowers102", "train", flowers)


@pytest.mark.parametrize("content", [b"", b"x" * 200, b"MATLAB 5.0 MAT-file" + b" " * 181])
def test_a_damaged_mat_file_is_one_line(flowers: Path, content: bytes) -> None:
    (flowers / "flowers-102" / "setid.mat").write_bytes(content)
    with pytest.raises(IntakeError, match=r"setid\.mat (is no readable MATLAB 5 file|has no)"):
        read("flowers102", "train", flowers)


def test_a_mat_file_that_unpacks_to_far_more_is_not_unpacked(
    flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mat_files, "MOST_UNPACKED", 2**16)
    bomb = {"trnid": np.zeros((1, 2**16), dtype=np.uint8)}
    savemat(flowers / "flowers-102" / "setid.mat", bomb, do_compression=True)
    assert (flowers / "flowers-102" / "setid.mat").stat().st_size < 1000
    with pytest.raises(IntakeError, match=r"setid\.mat .* unpacks to more than 65,536 bytes"):
        read("flowers102", "train", flowers)


def test_whole_sets_have_no_gap(flowers: Path, pets: Path) -> None:
    assert read_as_whole("flowers102", "train", flowers, train=2, val=1).partial_of is None
    some = pets / "oxford-iiit-pet" / "annotations" / "trainval.txt"
    for line in some.read_text().splitlines():
        picture(pets / "oxford-iiit-pet" / "images" / f"{line.split()[0]}.jpg")
    assert read_as_whole("oxford-pets", "train", pets, train=37).partial_of is None
