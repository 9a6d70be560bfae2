"""ImageNet-1k in every layout: the same few images must be the same data in all of them."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from robustmix.data import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError
from tests.data.sets.pictures import labels_of, picture, read, write

WNIDS = list(imagenet_wnids())
DEVKIT_ORDER = random.Random(2).sample(WNIDS, 1000)
TRUTH = random.Random(3).choices(range(1, 1001), k=50_000)
"""An ILSVRC2012_ID a validation image, as the devkit has it."""

NUMBERS = (1, 2, 30, 49_999)
"""Of the validation images that are there."""


def wnid_of(number: int) -> str:
    return DEVKIT_ORDER[TRUTH[number - 1] - 1]


def stem(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}"


EXPECTED = {stem(number): WNIDS.index(wnid_of(number)) for number in NUMBERS}


def devkit(place: Path) -> None:
    """Write the devkit's two files: 1,000 leaves in their own order, then inner nodes."""
    inner = [f"n0{k:07d}" for k in range(3)]
    wnids = [*DEVKIT_ORDER, *inner]
    names = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    synsets = np.zeros(len(wnids), dtype=names)
    for row, wnid in enumerate(wnids):
        synsets[row] = (row + 1, wnid, "crane", float(wnid in inner) * 2)
    place.mkdir(parents=True)
    savemat(place / "meta.mat", {"synsets": synsets.reshape(-1, 1)}, do_compression=True)
    write(place / "ILSVRC2012_validation_ground_truth.txt", *map(str, TRUTH))


def csv(place: Path) -> None:
    rows = (f"{stem(n)},{wnid_of(n)} 85 1 499 272 {wnid_of(n)} 3 4 50 60 " for n in (30, 1, 49_999))
    write(place / "LOC_val_solution.csv", "ImageId,PredictionString", *rows, _row(2))


def _row(number: int) -> str:
    return f"{stem(number)},{wnid_of(number)} 1 2 3 4 "


def val_list(place: Path) -> None:
    write(place, *(f"{stem(n)}.JPEG {WNIDS.index(wnid_of(n))}" for n in NUMBERS))


def flat(place: Path) -> None:
    for number in NUMBERS:
        picture(place / f"{stem(number)}.JPEG", number % 256)


def by_class(place: Path) -> None:
    for number in NUMBERS:
        picture(place / wnid_of(number) / f"{stem(number)}.JPEG", number % 256)


def torchvision(root: Path) -> None:
    by_class(root / "val")
    write(root / "meta.bin", "not read: it is a pickle")
    write(root / "ILSVRC2012_devkit_t12.tar.gz", "an archive")


def with_devkit(root: Path) -> None:
    flat(root / "imagenet" / "val")
    devkit(root / "imagenet" / "ILSVRC2012_devkit_t12" / "data")


def with_csv(root: Path) -> None:
    flat(root / "imagenet" / "val")
    csv(root / "imagenet")


def with_list(root: Path) -> None:
    flat(root / "imagenet-1k" / "val")
    val_list(root / "imagenet-1k" / "meta" / "val.txt")


def kaggle(root: Path) -> None:
    home = root / "imagenet-object-localization-challenge"
    flat(home / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    flat(home / "ILSVRC" / "Data" / "CLS-LOC" / "test")
    csv(home)
    # Looks like a list of labels and is none: the second column is a running number.
    sets = home / "ILSVRC" / "ImageSets" / "CLS-LOC"
    write(sets / "val.txt", *(f"{stem(n)} {n}" for n in NUMBERS))


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "torchvision": (torchvision, "", "val/<wnid>"),
    "devkit": (with_devkit, "", "val flat with the devkit"),
    "csv": (with_csv, "", "val flat with LOC_val_solution.csv"),
    "list": (with_list, "", "val flat with meta/val.txt"),
    "kaggle": (kaggle, "", "ILSVRC/Data/CLS-LOC/val flat with LOC_val_solution.csv"),
    "inner": (
        kaggle,
        "imagenet-object-localization-challenge/ILSVRC",
        "Data/CLS-LOC/val flat with LOC_val_solution.csv",
    ),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """The test split, which says the layout that it was written in."""
    make, below, layout = LAYOUTS[request.param]
    root = tmp_path_factory.mktemp("imagenet")
    make(root)
    data = read("imagenet-1k", "test", root / below)
    assert data.layout == layout
    return data


def test_every_layout_gives_the_same_labels_ids_and_digest(found: ImageSet) -> None:
    assert list(labels_of(found).items()) == sorted(EXPECTED.items())
    assert found.sample_ids[0] == f"imagenet-1k/val/{stem(1)}"
    assert found.class_names == imagenet_wnids()
    lines = "".join(
        f"imagenet-1k/val/{name}\0{label}\n" for name, label in sorted(EXPECTED.items())
    )
    assert found.files[0].sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert found.transform == "resize256-bicubic+centercrop224"
    assert found.input_size == (3, 224, 224)
    assert found.partial_of == 50_000


def test_the_devkits_numbers_are_no_classes() -> None:
    wrong = {stem(n): TRUTH[n - 1] - 1 for n in NUMBERS}
    assert wrong != EXPECTED


def test_training_images_are_classed_by_rank_among_the_thousand(tmp_path: Path) -> None:
    for wnid in ("n01443537", "n15075141", "n02105855"):
        picture(tmp_path / "train" / wnid / f"{wnid}_17.JPEG")
    train = tmp_path / "train"
    picture(train / "n02105855" / "n02105855_2933.JPEG", mode="RGBA", form="PNG")
    picture(train / "n01443537" / "n01443537_3.JPEG", mode="CMYK")
    picture(train / "n01443537" / "n01443537_4.JPEG", mode="L")
    data = read("imagenet-1k", "train", tmp_path)
    assert labels_of(data) == {
        **{f"n01443537_{k}": 1 for k in (17, 3, 4)},
        "n15075141_17": 999,
        "n02105855_17": WNIDS.index("n02105855"),
        "n02105855_2933": WNIDS.index("n02105855"),
    }
    assert data.notes == ("3 of 6 images converted to RGB (1 CMYK, 1 L, 1 RGBA)",)
    assert data.partial_of == 1_281_167


def test_kaggles_training_folder_is_read_beside_its_flat_val(tmp_path: Path) -> None:
    kaggle(tmp_path)
    base = tmp_path / "imagenet-object-localization-challenge" / "ILSVRC" / "Data" / "CLS-LOC"
    picture(base / "train" / "n01443537" / "n01443537_17.JPEG")
    data = read("imagenet-1k", "train", tmp_path)
    assert labels_of(data) == {"n01443537_17": 1}
    assert data.layout == "ILSVRC/Data/CLS-LOC/train/<wnid>"


def test_sizes_asked_for_scale_the_protocol(tmp_path: Path) -> None:
    torchvision(tmp_path)
    data = load_dataset("imagenet-1k", "test", data_dir=tmp_path, img_size=32, allow_partial=True)
    assert (data.transform, data.input_size) == ("resize36-bicubic+centercrop32", (3, 32, 32))


def lists_disagree(root: Path) -> None:
    with_devkit(root)
    write(root / "imagenet" / "meta" / "val.txt", f"{stem(2)}.JPEG {(EXPECTED[stem(2)] + 1) % 999}")


def no_labels(root: Path) -> None:
    flat(root / "val")


def devkit_of_another_year(root: Path) -> None:
    with_devkit(root)
    place = root / "imagenet" / "ILSVRC2012_devkit_t12" / "data" / "meta.mat"
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("num_children", "f8")]
    savemat(place, {"synsets": np.array([(1, "n01443537", 0.0)] * 2, dtype=kinds)})


def class_in_list_not_sorted(root: Path) -> None:
    flat(root / "val")
    write(root / "val.txt", f"n01443537/{stem(1)}.JPEG 22")


def tiny(root: Path) -> None:
    picture(root / "train" / "n01443537" / "images" / "n01443537_0.JPEG")
    write(root / "val" / "val_annotations.txt", "val_0.JPEG\tn01443537\t0\t0\t1\t1")


def foreign_class(root: Path) -> None:
    by_class(root / "val")
    picture(root / "val" / "n00000001" / f"{stem(5)}.JPEG")


def training_image_in_val(root: Path) -> None:
    by_class(root / "val")
    picture(root / "val" / "n01443537" / "n01443537_17.JPEG")


def bomb(root: Path) -> None:
    with_devkit(root)
    place = root / "imagenet" / "ILSVRC2012_devkit_t12" / "data" / "meta.mat"
    savemat(place, {"synsets": np.zeros(2**28 + 8, dtype=np.uint8)}, do_compression=True)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lists_disagree, "give 1 images different classes"),
        (no_labels, r"is flat and nothing says the classes"),
        (devkit_of_another_year, r"the 1 leaves of .* are not the 1,000 classes"),
        (class_in_list_not_sorted, "has class 22, but n01443537 is 1 in sorted order"),
        (tiny, "holds Tiny-ImageNet"),
        (foreign_class, "n00000001 is none of the 1,000 classes"),
        (training_image_in_val, "is no image of the official val split"),
        pytest.param(bomb, "unpacks to more than", marks=pytest.mark.slow),
    ],
)
def test_what_would_give_wrong_labels_is_refused(
    tmp_path: Path, make: Callable[[Path], None], told: str
) -> None:
    make(tmp_path)
    with pytest.raises(IntakeError, match=told):
        read("imagenet-1k", "test", tmp_path)
