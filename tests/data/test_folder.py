from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from robustmix.data.augment import Augment
from robustmix.data.datasets import load_dataset
from robustmix.data.file_pixels import FilePixels, resize_shorter
from robustmix.data.folder import load_folder
from robustmix.data.images import TensorPixels
from robustmix.data.listing import list_folder
from robustmix.data.loader import augmented
from robustmix.data.transforms import BOX_UNIFORMS, crop_box
from robustmix.errors import IntakeError, RobustmixError


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    stream = np.random.default_rng(seed)
    return Image.fromarray(stream.integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Images of different sizes, none of them square."""
    for place, (name, size) in enumerate(
        {
            "val/cat/2.png": (70, 50),
            "val/cat/10.jpeg": (33, 41),
            "val/ant/x.png": (47, 90),
            "train/ant/a.png": (61, 37),
            "train/bee/b.png": (20, 30),
            "train/cat/c.png": (20, 31),
        }.items()
    ):
        save(tmp_path / name, picture(*size, seed=place))
    return tmp_path


def test_files_labels_and_ids_are_sorted_and_torchvisions(large: Path) -> None:
    data = load_folder(large, "train", 32)
    theirs = ImageFolder(str(large / "train"))
    assert data.sample_ids == (
        "folder/train/ant/a.png",
        "folder/train/bee/b.png",
        "folder/train/cat/c.png",
    )
    assert [(str(large / "train" / i.removeprefix("folder/train/"))) for i in data.sample_ids] == [
        path for path, _ in theirs.samples
    ]
    assert data.labels.tolist() == theirs.targets
    assert list(data.class_names) == theirs.classes
    assert data.name == f"folder:{large.name}"


def test_test_labels_follow_the_training_classes(large: Path) -> None:
    data = load_folder(large, "test", 32)
    assert data.class_names == ("ant", "bee", "cat")
    assert data.sample_ids == (
        "folder/test/ant/x.png",
        "folder/test/cat/10.jpeg",
        "folder/test/cat/2.png",
    )
    assert data.labels.tolist() == [0, 2, 2]


@pytest.mark.parametrize("img_size", [28, 224])
def test_evaluation_images_are_torchvisions_resize_and_centre_crop(
    large: Path, img_size: int
) -> None:
    data = load_folder(large, "test", img_size)
    resized = int(img_size * 256 / 224)
    theirs = Compose([Resize(resized, InterpolationMode.BICUBIC), CenterCrop(img_size)])
    taken = data.pixels.take(torch.tensor([2, 0]))
    assert taken.shape == (2, 3, img_size, img_size)
    for image, name in zip(taken, ("cat/2.png", "ant/x.png"), strict=True):
        with Image.open(large / "val" / name) as stored:
            assert torch.equal(image, as_tensor(theirs(stored.convert("RGB"))))
    assert data.transform == f"resize{resized}-bicubic+centercrop{img_size}"
    assert data.input_size == (3, img_size, img_size)


def test_the_default_size_is_224(large: Path) -> None:
    data = load_dataset(f"folder:{large}", "test")
    assert data.transform == "resize256-bicubic+centercrop224"


def test_small_square_images_are_used_as_they_are(tmp_path: Path) -> None:
    for i, name in enumerate(["a/0.png", "a/1.png", "b/0.png"]):
        save(tmp_path / name, picture(13, 13, seed=i))
    data = load_dataset(f"folder:{tmp_path}", "test")
    assert isinstance(data.pixels, TensorPixels)
    assert data.transform == "none"
    assert data.input_size == (3, 13, 13)
    assert torch.equal(data.pixels.take(torch.tensor([2]))[0], as_tensor(picture(13, 13, seed=2)))
    same = load_folder(tmp_path, "test", 13)
    assert same.transform == "none"
    other = load_folder(tmp_path, "test", 14)
    assert other.transform == "resize16-bicubic+centercrop14"
    save(tmp_path / "b" / "1.png", picture(13, 12))
    assert load_folder(tmp_path, "test", None).transform == "resize256-bicubic+centercrop224"


def test_images_of_one_size_that_is_not_square_are_resized(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/0.png"):
        save(tmp_path / name, picture(13, 17))
    assert load_folder(tmp_path, "test", None).transform == "resize256-bicubic+centercrop224"


def test_ids_do_not_depend_on_where_the_folder_is(tmp_path: Path, large: Path) -> None:
    moved = large.rename(tmp_path.with_name("moved"))
    before = load_folder(moved, "test", 28)
    again = load_folder(moved.rename(tmp_path), "test", 28)
    assert before.sample_ids == again.sample_ids
    assert before.order_sha256 == again.order_sha256
    assert before.files == again.files


def test_the_listing_digest_sees_a_new_file(large: Path) -> None:
    before = load_folder(large, "test", 28).files
    save(large / "val" / "cat" / "3.png", picture(9, 9))
    assert load_folder(large, "test", 28).files != before


MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "grey.png": lambda image: image.convert("L"),
    "alpha.png": lambda image: image.convert("RGBA"),
    "palette.png": lambda image: image.convert("P"),
    "print.jpg": lambda image: image.convert("CMYK"),
    "bits.png": lambda image: image.convert("1"),
    "colour.png": lambda image: image,
}


def test_trap_35_other_colour_modes_are_converted_and_counted(tmp_path: Path) -> None:
    for name, convert in MODES.items():
        save(tmp_path / "a" / name, convert(picture(13, 13)))
    save(tmp_path / "b" / "x.png", picture(13, 13))
    data = load_folder(tmp_path, "test", None)
    assert data.notes == ("5 of 7 images converted to RGB (1 1, 1 CMYK, 1 L, 1 P, 1 RGBA)",)
    for place, name in enumerate(sorted(MODES)):
        with Image.open(tmp_path / "a" / name) as stored:
            expected = as_tensor(stored.convert("RGB"))
        assert torch.equal(data.pixels.take(torch.tensor([place]))[0], expected)


def test_a_palette_with_transparency_keeps_its_colours_without_a_warning(tmp_path: Path) -> None:
    image = picture(13, 13).convert("P")
    colours = as_tensor(image.convert("RGB"))
    image.info["transparency"] = bytes([0, 128, 255])
    save(tmp_path / "a" / "p.png", image)
    save(tmp_path / "b" / "x.png", picture(13, 13))
    data = load_folder(tmp_path, "test", None)
    assert torch.equal(data.pixels.take(torch.tensor([0]))[0], colours)


def test_trap_36_exif_rotation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn a quarter to the right to see it upright"
    (tmp_path / "a").mkdir()
    picture(13, 13, seed=3).save(tmp_path / "a" / "turned.png", exif=exif)
    save(tmp_path / "b" / "x.png", picture(13, 13))
    data = load_folder(tmp_path, "test", None)
    assert torch.equal(data.pixels.take(torch.tensor([0]))[0], as_tensor(picture(13, 13, seed=3)))


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [cut_off, lambda _: b"", lambda _: b"<html>not found</html>"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_broken_file_is_named(large: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    broken = large / "val" / "cat" / f"broken.{suffix}"
    save(broken, picture(80, 80))
    broken.write_bytes(damage(broken.read_bytes()))

    def read_everything() -> None:
        data = load_folder(large, "test", 28)
        data.pixels.take(torch.arange(len(data)))

    with pytest.raises(IntakeError) as caught:
        read_everything()
    assert str(broken) in caught.value.message
    assert (caught.value.code, caught.value.exit_code) == ("E-DATA", 3)


def test_other_files_and_hidden_ones_are_passed_over(large: Path) -> None:
    (large / "val" / "cat" / "readme.txt").write_text("no image")
    (large / "val" / "cat" / ".hidden.png").write_bytes(b"")
    (large / "val" / ".git").mkdir()
    assert len(load_folder(large, "test", 28)) == 3


def test_files_may_lie_deeper(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "images" / "1.png", picture(13, 13))
    save(tmp_path / "train" / "b" / "2.PNG", picture(13, 13))
    listing = list_folder(tmp_path, "train")
    assert listing.files == ("a/images/1.png", "b/2.PNG")


def arrange(root: Path, files: list[str]) -> None:
    for name in files:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        ([], "test", "has not two class folders"),
        (["a/1.png", "b/1.png"], "train", "has no train split; put one folder a class below"),
        (["train/a/1.png", "train/b/1.png"], "test", "has no test split"),
        (["test/a/1.png"], "test", "has not two class folders"),
        (["test/a/1.png", "test/b/1.txt"], "test", "test/b holds no images"),
        (
            ["train/a/1.png", "train/b/1.png", "val/c/1.png"],
            "test",
            "val/c is a class that .*/train does not have",
        ),
        (["test/a/1\n.png", "test/b/1.png"], "test", "not printable"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, files: list[str], split: str, message: str
) -> None:
    arrange(tmp_path, files)
    with pytest.raises(IntakeError, match=message):
        list_folder(tmp_path, split)  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RobustmixError, match=r"no folder at .*nowhere"):
        load_dataset(f"folder:{tmp_path / 'nowhere'}", "test")


@pytest.mark.parametrize("resize", [None, 25])
def test_random_boxes_are_pillows_crop_and_resize(large: Path, resize: int | None) -> None:
    data = load_folder(large, "train", 28)
    augment = Augment(kind="random-resized-crop", size=19, resize=resize, flip=False)
    order = torch.tensor([2, 0])
    ours = augmented(data.pixels, order, augment, torch.Generator().manual_seed(2))

    again = torch.Generator().manual_seed(2)
    rows = torch.rand(2, BOX_UNIFORMS, generator=again, dtype=torch.float64)
    for image, row, name in zip(ours, rows, ("cat/c.png", "ant/a.png"), strict=True):
        with Image.open(large / "train" / name) as stored:
            whole = stored.convert("RGB")
        if resize is not None:
            whole = resize_shorter(whole, resize, "bicubic")
            assert min(whole.size) == resize
        box = crop_box(whole.height, whole.width, row, scale=augment.scale, ratio=augment.ratio)
        cut = whole.crop((box.left, box.top, box.left + box.width, box.top + box.height))
        assert torch.equal(image, as_tensor(cut.resize((19, 19), Image.Resampling.BICUBIC)))


def test_the_stream_does_not_depend_on_the_sizes_of_the_files(large: Path) -> None:
    augment = Augment(kind="random-resized-crop", size=19)
    pixels = load_folder(large, "train", 28).pixels
    assert isinstance(pixels, FilePixels)
    states = []
    for index in range(3):
        generator = torch.Generator().manual_seed(2)
        augmented(pixels, torch.tensor([index]), augment, generator)
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)
