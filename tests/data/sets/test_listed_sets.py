"""iNaturalist and Places205, whose splits and classes only their lists tell."""

import json
from pathlib import Path
from typing import Any

import pytest

from robustmix.data.images import ImageSet
from robustmix.errors import IntakeError
from tests.data.sets.pictures import labels_of, picture, read, write

SPECIES = [
    {"id": n, "name": f"Genus species{n}", "supercategory": "Aves" if n % 2 else "Plantae"}
    for n in range(5089)
]


def coco(path: Path, images: dict[int, tuple[str, int]], categories: list[Any]) -> None:
    """Write a list as iNaturalist's are; of the category nothing but its number is needed."""
    listing = {
        "info": {},
        "images": [{"id": n, "file_name": file, "width": 9} for n, (file, _) in images.items()],
        "annotations": [
            {"id": n, "image_id": n, "category_id": label} for n, (_, label) in images.items()
        ],
        "categories": categories,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listing))


@pytest.fixture
def inat2017(tmp_path: Path) -> Path:
    """Both splits have pictures in one and the same folder."""
    home = tmp_path / "inaturalist-2017"
    train = {7: ("train_val_images/Plantae/Genus species4088/aa.jpg", 4088)}
    val = {8: ("train_val_images/Plantae/Genus species4088/bb.jpg", 4088)}
    val[9] = ("train_val_images/Aves/Genus species11/cc.jpg", 11)
    coco(home / "train2017.json", train, SPECIES)
    coco(home / "val2017.json", val, SPECIES)
    for file, _ in [*train.values(), *val.values()]:
        picture(home / file)
    return tmp_path


def test_one_folder_holds_both_splits_and_the_list_tells_them_apart(inat2017: Path) -> None:
    train, test = (read("inaturalist-2017", split, inat2017) for split in ("train", "test"))
    assert labels_of(train) == {"7": 4088}
    assert labels_of(test) == {"8": 4088, "9": 11}
    assert (train.partial_of, test.partial_of) == (579_184, 95_986)
    folder_order = sorted((s["supercategory"], s["name"]) for s in SPECIES)
    assert folder_order.index(("Plantae", "Genus species4088")) != 4088
    (note,) = train.notes
    assert note.startswith("the order of folders would number ")


def test_torchvisions_folder_and_the_lists_archive_folder_are_found(inat2017: Path) -> None:
    home = inat2017 / "inaturalist-2017"
    before = read("inaturalist-2017", "test", inat2017)
    (home / "train_val_images").rename(home / "2017")
    (home / "train_val2017").mkdir()
    (home / "val2017.json").rename(home / "train_val2017" / "val2017.json")
    after = read("inaturalist-2017", "test", inat2017)
    assert after.layout == "2017 with train_val2017/val2017.json"
    assert after.files == before.files


def test_ids_of_categories_must_be_their_positions(inat2017: Path) -> None:
    shifted = [{**one, "id": int(str(one["id"])) + 1} for one in SPECIES]
    images = {7: ("train_val_images/Plantae/Genus species4088/aa.jpg", 4089)}
    coco(inat2017 / "inaturalist-2017" / "train2017.json", images, shifted)
    with pytest.raises(IntakeError, match="ids of its categories are not their positions"):
        read("inaturalist-2017", "train", inat2017)


NUMBERED = [{"id": n, "name": str(n), "supercategory": "Plantae"} for n in range(8142)]


def inat2018(root: Path, folder_of: dict[int, int]) -> Path:
    """Write 2018's layout: image number -> category, whose folder is a number."""
    home = root / "inaturalist-2018"
    images = {n: (f"train_val2018/Plantae/{folder}/{n}.jpg", n) for n, folder in folder_of.items()}
    for file, _ in images.values():
        picture(home / file)
    coco(home / "train2018.json", images, NUMBERED)
    return home


def test_folders_are_numbers_not_text(tmp_path: Path) -> None:
    home = inat2018(tmp_path, {n: n for n in (0, 2, 10, 8141)})
    data = read("inaturalist-2018", "train", tmp_path)
    assert labels_of(data) == {"0": 0, "2": 2, "10": 10, "8141": 8141}
    as_text = sorted(str(n) for n in range(8142))
    assert sum(int(name) != place for place, name in enumerate(as_text)) == 8140
    assert data.notes == ("classes are named by number: the list does not name the species",)
    (home / "categories.json").write_text(
        json.dumps([{"id": n, "name": f"Genus species{n}"} for n in range(8142)])
    )
    named = read("inaturalist-2018", "train", tmp_path)
    assert named.class_names[8141] == "Genus species8141"
    assert named.notes == ()
    assert labels_of(named) == labels_of(data)


def test_a_folder_of_another_number_is_refused(tmp_path: Path) -> None:
    inat2018(tmp_path, {10: 1})
    with pytest.raises(IntakeError, match=r"Plantae/1/10.jpg' is said to be of category 10"):
        read("inaturalist-2018", "train", tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 3}', "[" * 100_000])
def test_a_damaged_list_is_one_line(tmp_path: Path, text: str) -> None:
    home = inat2018(tmp_path, {3: 3})
    (home / "train2018.json").write_text(text)
    with pytest.raises(IntakeError, match=r"train2018\.json is no "):
        read("inaturalist-2018", "train", tmp_path)


SCENES = [f"c/scene{n}" for n in range(203)]
SCENES = ["a/apartment_building/outdoor", "a/apartment_building/indoor", *SCENES]


@pytest.fixture
def places(tmp_path: Path) -> Path:
    home = tmp_path / "places205"
    rows = [f"{scene}/gsun_{n}.jpg {n}" for n, scene in enumerate(SCENES)]
    write(home / "trainvalsplit_places205" / "val_places205.csv", *reversed(rows))
    images = home / "data" / "vision" / "torralba" / "deeplearning" / "images256"
    for n in (0, 1, 204):
        picture(images / SCENES[n] / f"gsun_{n}.jpg", size=(256, 256))
    return tmp_path


def test_scenes_have_the_number_of_the_list_and_all_folders_below_the_letter(
    places: Path,
) -> None:
    data: ImageSet = read("places205", "test", places)
    assert labels_of(data) == {f"{SCENES[n]}/gsun_{n}.jpg": n for n in (0, 1, 204)}
    assert data.class_names[:3] == (
        "apartment_building/outdoor",
        "apartment_building/indoor",
        "scene0",
    )
    assert data.partial_of == 20_500


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a/apartment_building/outdoor/x.jpg 1", r"is said to be of class 1"),
        ("x.jpg 7", "is said to be of class 7"),
        ("c/scene0/x.jpg 205", "class 205|index 205|has 206 classes"),
        ("c/scene0/x.jpg two", "expected a whole number, got 'two'"),
    ],
)
def test_a_scene_that_cannot_be_meant_is_refused(places: Path, row: str, told: str) -> None:
    path = places / "places205" / "trainvalsplit_places205" / "val_places205.csv"
    write(path, *path.read_text().splitlines(), row)
    with pytest.raises(IntakeError, match=told):
        read("places205", "test", places)
