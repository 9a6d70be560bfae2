"""Which folders are splits and which are classes; what could be both is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from robustmix.data.datasets import load_dataset
from robustmix.data.listing import list_folder
from robustmix.data.manifests import Split
from robustmix.errors import IntakeError


def arrange(root: Path, *files: str) -> Path:
    for name in files:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    return root


def split_tree(root: Path, train: str, test: str) -> Path:
    return arrange(
        root, *(f"{split}/{name}/1.png" for split in (train, test) for name in ("ant", "bee"))
    )


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("TRAIN", "Val"),
        ("Training", "Validation"),
        ("trainset", "testset"),
        ("train_images", "test-images"),
        ("Training Data", "Testing Data"),
        ("train2017", "val2017"),
        ("train_split", "valid"),
    ],
)
def test_splits_are_known_by_their_names(tmp_path: Path, train: str, test: str) -> None:
    split_tree(tmp_path, train, test)
    for split, folder in (("train", train), ("test", test)):
        listing = list_folder(tmp_path, split)  # type: ignore[arg-type]
        assert listing.root == tmp_path / folder
        assert listing.classes == ("ant", "bee")
        assert listing.files == ("ant/1.png", "bee/1.png")
        assert listing.notes == ()


def test_test_comes_before_validation(tmp_path: Path) -> None:
    split_tree(tmp_path, "Train", "Validation")
    split_tree(tmp_path, "Train", "Testing")
    assert list_folder(tmp_path, "test").root == tmp_path / "Testing"


def refused(path: Path, split: Split, text: str) -> None:
    with pytest.raises(IntakeError, match=text) as caught:
        list_folder(path, split)
    assert (caught.value.code, caught.value.exit_code) == ("E-DATA", 3)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (["Train/a/1.png", "training/a/1.png"], "several train splits .Train, training."),
        (["my-train/a/1.png", "my-test/a/1.png"], "look like splits, not like classes"),
        (["imagenetTrain/1.png", "imagenetVal/1.png"], "look like splits, not like classes"),
        (["fold1/x/1.png", "fold1/y/1.png", "fold2/x/1.png", "fold2/y/1.png"], "look like splits"),
        ([f"part_{i}/{c}/1.png" for i in range(7) for c in "xy"], "look like splits"),
        ([f"{s}/{c}/1.png" for s in ("oefen", "toets") for c in "xy"], "look like splits"),
        (
            ["cat/train/1.png", "cat/test/1.png", "dog/train/1.png"],
            "/cat holds splits .test and tr",
        ),
        (["train_images/1.png", "test_images/1.png"], "test_images holds 1 image and no class fol"),
    ],
)
def test_what_may_be_splits_is_not_taken_for_classes(
    tmp_path: Path, files: list[str], text: str
) -> None:
    refused(arrange(tmp_path, *files), "test", text)


@pytest.mark.parametrize(
    "classes",
    [
        ["bus", "train", "zebra"],
        ["invalid", "valid"],
        ["Train station", "Test tube", "Vase", "Tree", "Rat"],
        ["contest", "protest"],
        ["part_1", "part_2"],
    ],
)
def test_classes_may_have_such_names(tmp_path: Path, classes: list[str]) -> None:
    arrange(tmp_path, *(f"{name}/1.png" for name in classes))
    assert list_folder(tmp_path, "test").classes == tuple(sorted(classes))


def test_classes_may_have_folders_inside(tmp_path: Path) -> None:
    arrange(tmp_path, "ant/front/1.png", "ant/side/1.png", "bee/front/1.png", "bee/2.png")
    assert len(list_folder(tmp_path, "test").files) == 4


@pytest.mark.parametrize(
    ("files", "split", "text"),
    [
        (
            ["train/a/1.png", "train/b/1.png", "test/1.png", "test/2.jpg"],
            "test",
            "/test holds 2 images and no class folders, so they have no labels; put each into",
        ),
        (["train/a/1.png", "train/b/1.png", "val/1.png"], "test", "/val holds 1 image and no"),
        (["train/1.png", "test/a/1.png", "test/b/1.png"], "train", "/train holds 1 image and no"),
        (["Test/1.png", "a/1.png"], "test", "/Test holds 1 image and no class folders"),
        (["train/a/1.png", "test/readme.txt"], "test", "/test has not two class folders"),
        (["1.png", "2.png", "3.jpg"], "test", "holds 3 images and no class folders"),
        (["Annotations/x.xml", "Data/CLS-LOC/train/n1/1.JPEG", "Data/CLS-LOC/val/1.JPEG"], "test",
         "Annotations holds no images; the splits are in .*/Data/CLS-LOC: give that folder"),
        (["set/train/a/1.png", "set/test/a/1.png"], "test", "the splits are in .*/set: give that"),
        (["set/train/a/1.png", "set/test/a/1.png"], "train", "the splits are in .*/set: give that"),
        (["a/1.txt", "b/2.txt"], "test", "/a holds no images; known extensions"),
    ],
)  # fmt: skip
def test_images_without_a_label_are_refused(
    tmp_path: Path, files: list[str], split: Split, text: str
) -> None:
    refused(arrange(tmp_path, *files), split, text)


def test_imagenets_own_folder_is_read_once_its_validation_images_are_sorted(tmp_path: Path) -> None:
    arrange(tmp_path, "train/n1/1.JPEG", "train/n2/2.JPEG", "test/3.JPEG", "test/4.JPEG")
    arrange(tmp_path, "val/5.JPEG")
    refused(tmp_path, "test", "/val holds 1 image and no class folders")
    (tmp_path / "val" / "5.JPEG").unlink()
    arrange(tmp_path, "val/n1/5.JPEG", "val/n2/6.JPEG")
    listing = list_folder(tmp_path, "test")
    assert listing.files == ("n1/5.JPEG", "n2/6.JPEG")
    assert listing.notes == (
        "test holds no class folders and so no labels: the images are those of val",
    )


def test_tiny_imagenet_as_unpacked_says_where_its_labels_are(tmp_path: Path) -> None:
    arrange(tmp_path, "train/n1/images/1.JPEG", "train/n2/images/2.JPEG", "test/images/3.JPEG")
    arrange(tmp_path, "val/images/4.JPEG", "val/val_annotations.txt")
    assert list_folder(tmp_path, "train").files == ("n1/images/1.JPEG", "n2/images/2.JPEG")
    refused(
        tmp_path,
        "test",
        r"/val/images holds 1 image and no class folders, .*as .*/val/val_annotations\.txt says",
    )


# Links


def test_linked_folders_are_followed_and_counted(tmp_path: Path) -> None:
    shared = arrange(tmp_path / "shared", "x/1.png", "x/2.png", "x/deep/3.png")
    root = arrange(tmp_path / "set", "ant/0.png", "bee/1.png")
    (root / "ant" / "more").symlink_to(shared / "x")
    (root / "cow").symlink_to(shared / "x")  # the class itself: as if it were there
    listing = list_folder(root, "test")
    assert listing.files == (
        *("ant/0.png", "ant/more/1.png", "ant/more/2.png", "ant/more/deep/3.png", "bee/1.png"),
        *("cow/1.png", "cow/2.png", "cow/deep/3.png"),
    )
    assert listing.labels == (0, 0, 0, 0, 1, 2, 2, 2)
    assert listing.notes == ("3 of 8 images lie in linked folders",)


def test_links_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    root = arrange(tmp_path / "set", "test/ant/0.png", "test/bee/1.png", "test/ant/in/2.png")
    (root / "test/ant/self").symlink_to(root / "test/ant")
    (root / "test/ant/in/up").symlink_to(root / "test")  # would make bees ants
    (root / "test/ant/again").symlink_to(root / "test/ant/in")
    (root / "test/ant/loop").symlink_to(root / "test/ant/loop")
    shared = arrange(tmp_path / "shared", "3.png")
    for name in ("a", "b", "c"):
        (shared / name).symlink_to(shared)
        (root / "test/bee" / name).symlink_to(shared)
    listing = list_folder(root, "test")
    assert listing.files == ("ant/0.png", "ant/in/2.png", "bee/1.png", "bee/a/3.png")
    assert listing.notes == (
        "1 of 4 images lie in linked folders",
        "8 links to folders that are read anyway were not followed",
    )


def test_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    arrange(tmp_path, "ant/1.png", "ant/.ipynb_checkpoints/1-checkpoint.png", "bee/2.png")
    assert list_folder(tmp_path, "test").files == ("ant/1.png", "bee/2.png")


def test_images_of_other_endings_are_counted(tmp_path: Path) -> None:
    arrange(tmp_path, "ant/1.png", "ant/2.GIF", "bee/3.png", "bee/4.jfif", "bee/5.gif", "bee/6.txt")
    assert list_folder(tmp_path, "test").notes == (
        "3 files were passed over, whose endings are not read (2 .gif, 1 .jfif)",
    )


def test_notes_reach_the_report(tmp_path: Path) -> None:
    for name in ("ant/1.png", "bee/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    arrange(tmp_path, "ant/3.gif")
    assert load_dataset(f"folder:{tmp_path}", "test").notes == (
        "1 files were passed over, whose endings are not read (1 .gif)",
    )


@pytest.mark.parametrize("locked", ["", "test", "test/ant", "test/ant/in"])
def test_folders_that_may_not_be_read_are_named(
    tmp_path: Path, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No image is left out without a word; root may read all, so the call is changed."""
    arrange(tmp_path, "test/ant/0.png", "test/ant/in/1.png", "test/bee/2.png")
    true = os.scandir

    def scandir(path: os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
        if Path(path) == tmp_path / locked:
            raise PermissionError(13, "Permission denied")
        return true(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(IntakeError, match=f"cannot read {tmp_path / locked}: Permission denied;"):
        list_folder(tmp_path, "test")


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", "~nobody-of-this-name/x"])
def test_paths_that_cannot_be_are_data_errors(path: str) -> None:
    with pytest.raises(IntakeError) as caught:
        load_dataset(f"folder:{path}", "test")
    assert caught.value.code == "E-DATA"
