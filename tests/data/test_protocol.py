"""Protocols of data sets, and test images prepared in a given way."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustmix.data.augment import Augment
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.loader import augmented
from robustmix.data.manifests import Manifest, list_manifests, load_manifest, manifest_of
from robustmix.data.protocol import Protocol, TestTransform, dataset_protocol, folder_protocol
from robustmix.errors import IntakeError

TEXTS = {
    "none": TestTransform(),
    "resize224-bicubic": TestTransform(resize=224),
    "resize256-bilinear+centercrop224": TestTransform(
        resize=256, interpolation="bilinear", crop=224
    ),
    "centercrop17": TestTransform(crop=17),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_transform_is_written_and_read_back(text: str) -> None:
    transform = TEXTS[text]
    assert transform.text() == text
    assert TestTransform.parse(text) == transform
    assert TestTransform.of_record(transform.record()) == transform
    assert None not in transform.record().values()


@pytest.mark.parametrize(
    "text",
    ["", "None", "resize256", "resize256-cubic", "resize0-bicubic", "resize9999-bicubic",
     "resize224-bicubic+centercrop256", "resize256-bicubic+centercrop224 ", "crop224"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        TestTransform.parse(text)


@pytest.mark.parametrize(
    "record",
    [
        {"resize": 0},
        {"resize": 8193},
        {"resize": 256.0},
        {"resize": True},
        {"crop": "224"},
        {"resize": 16, "crop": 17},
        {"interpolation": "cubic"},
        {"crop_mode": "squash"},
        {"resize": 8, "crop_mode": "border", "fill": [0, 0, 0]},
        {"resize": 8, "crop": 8, "crop_mode": "border"},
        {"resize": 8, "fill": [0, 0, 0]},
        {"interpolation": ["bicubic"]},
        {"side": 224},
        {7: 224},
    ],
    ids=str,
)
def test_impossible_records_are_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|no key of"):
        TestTransform.of_record(record)


def test_a_manifest_of_others_says_a_transform_that_can_be_read() -> None:
    text = (files("robustmix") / "data_manifests" / "digits.json").read_text(encoding="utf-8")
    mine = {**json.loads(text), "name": "mine", "eval_transform": "resize 256, crop 224"}
    with pytest.raises(IntakeError, match=r"cannot be used: mine: eval_transform: expected 'none'"):
        manifest_of("mine", mine)
    mine["eval_transform"] = "resize32-bilinear"
    found = manifest_of("mine", mine).test_transform
    assert found == TestTransform(resize=32, interpolation="bilinear")


def own(name: str, img_size: int | None) -> Protocol:
    return dataset_protocol(load_manifest(name), img_size)


def test_every_data_set_has_its_published_protocol() -> None:
    for manifest in map(load_manifest, list_manifests()):
        if manifest.train_augment is None:
            with pytest.raises(ValueError, match="evaluation set"):
                dataset_protocol(manifest, None)
            continue
        assert dataset_protocol(manifest, None) == Protocol(
            augment=manifest.train_augment,
            mean=manifest.normalisation.mean,
            std=manifest.normalisation.std,
            test_transform=TestTransform.parse(manifest.eval_transform),
        )


@pytest.mark.parametrize(
    ("name", "side", "augment", "text"),
    [
        ("cifar100", 32, Augment(kind="crop-flip"), "none"),
        (
            "cifar100",
            224,
            Augment(kind="random-resized-crop", size=224, scale=(0.8, 1.0)),
            "resize224-bicubic",
        ),
        (
            "digits",
            48,
            Augment(kind="random-resized-crop", flip=False, size=48, scale=(0.8, 1.0)),
            "resize48-bicubic",
        ),
        ("tiny-imagenet", 64, Augment(kind="random-resized-crop", size=64), "none"),
        (
            "cub-200-2011",
            448,
            Augment(
                kind="random-resized-crop",
                size=448,
                resize=512,
                scale=(0.5, 1.0),
                interpolation="bilinear",
                drop_last=True,
            ),
            "resize512-bilinear+centercrop448",
        ),
        (
            "imagenet-1k",
            160,
            Augment(kind="random-resized-crop", size=160),
            "resize182-bicubic+centercrop160",  # 160 * 256 / 224 = 182.86
        ),
    ],
)
def test_a_protocol_follows_the_size(name: str, side: int, augment: Augment, text: str) -> None:
    protocol = own(name, side)
    assert (protocol.augment, protocol.test_transform.text()) == (augment, text)


def test_sides_are_scaled_from_those_that_a_manifest_has() -> None:
    base = load_manifest("cub-200-2011")
    other: Manifest = replace(base, eval_transform="resize320-bilinear+centercrop300")
    found = dataset_protocol(other, 150)
    assert found.test_transform.text() == "resize160-bilinear+centercrop150"


def test_folders_without_a_protocol() -> None:
    kept, cut, large = (
        folder_protocol(32, True),
        folder_protocol(32, False),
        folder_protocol(8192, False),
    )
    assert (kept.test_transform.text(), kept.augment) == ("none", Augment(kind="crop-flip"))
    assert cut.test_transform.text() == "resize36-bicubic+centercrop32"
    assert folder_protocol(33, False).augment == Augment(kind="random-resized-crop", size=33)
    assert large.test_transform.text() == "resize8192-bicubic+centercrop8192"
    assert (kept.mean, kept.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


SIZES = {"ant/a.png": (61, 37), "ant/b.png": (37, 59), "cat/c.png": (45, 44)}
"""Width and height."""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    stream = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        path = tmp_path / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stream.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return tmp_path


def loaded(folder: Path, text: str, img_size: int | None = None) -> ImageSet:
    return load_dataset(
        f"folder:{folder}", "test", img_size=img_size, test_transform=TestTransform.parse(text)
    )


def test_photographs_are_pillows_resize_and_crop(photographs: Path) -> None:
    data = loaded(photographs, "resize30-bilinear+centercrop23")
    assert (data.transform, data.input_size) == ("resize30-bilinear+centercrop23", (3, 23, 23))
    assert data.own_transform == "resize256-bicubic+centercrop224"
    # Shorter side 30; the corners are half of what is left over, rounded to even.
    expected = {
        "ant/a.png": (49, 30, 13, 4),
        "ant/b.png": (30, 47, 4, 12),
        "cat/c.png": (30, 30, 4, 4),
    }
    for index, (name, (width, height, left, top)) in enumerate(expected.items()):
        with Image.open(photographs / "test" / name) as stored:
            resized = stored.resize((width, height), Image.Resampling.BILINEAR)
        cut = np.array(resized)[top : top + 23, left : left + 23]
        found = data.pixels.take(torch.tensor([index]))[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, cut)


def test_photographs_are_cropped_without_a_resize(photographs: Path) -> None:
    data = loaded(photographs, "centercrop37", img_size=37)
    with Image.open(photographs / "test" / "ant/a.png") as stored:
        np.testing.assert_array_equal(
            data.pixels.take(torch.tensor([0]))[0].permute(1, 2, 0).numpy(),
            np.array(stored)[:, 12:49],
        )
    with pytest.raises(IntakeError, match=r"a\.png has 61x37 pixels and is too small") as caught:
        loaded(photographs, "centercrop38")
    assert caught.value.code == "E-TRANSFORM"


def test_training_crops_do_not_see_the_test_transform(photographs: Path) -> None:
    augment = Augment(kind="random-resized-crop", size=19)
    taken = [
        augmented(data.pixels, torch.tensor([2, 0]), augment, torch.Generator().manual_seed(3))
        for data in (
            loaded(photographs, "centercrop9"),
            loaded(photographs, "resize30-bicubic+centercrop9"),
        )
    ]
    assert torch.equal(*taken)


@pytest.mark.parametrize("text", ["none", "resize30-bicubic"])
def test_images_that_do_not_get_one_size_are_refused(photographs: Path, text: str) -> None:
    with pytest.raises(IntakeError, match=r"b\.png has 37x59 pixels and does not get the size of"):
        loaded(photographs, text)


def test_files_whose_headers_were_not_read_are_held_to_the_size(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustmix.data.headers.SCANNED_FILES", 2)
    data = loaded(photographs, "none")
    assert data.input_size == (3, 37, 61)
    assert "colour modes were not counted: more than 2 files" in data.notes
    with pytest.raises(IntakeError, match=r"b\.png has 37x59 pixels"):
        data.pixels.take(torch.arange(3))


def test_the_size_that_was_asked_for_comes_out_or_it_is_an_error(photographs: Path) -> None:
    assert loaded(photographs, "resize30-bicubic+centercrop23", 23).input_size == (3, 23, 23)
    with pytest.raises(IntakeError, match=r"makes images of 23x23 pixels .*, not of 24x24"):
        loaded(photographs, "resize30-bicubic+centercrop23", 24)


def test_images_in_memory_are_pillows_resize_and_crop() -> None:
    transform = TestTransform(resize=45, interpolation="bilinear", crop=38)
    small = load_dataset("digits", "test")
    data = load_dataset("digits", "test", img_size=38, test_transform=transform)
    assert (data.transform, data.input_size) == ("resize45-bilinear+centercrop38", (3, 38, 38))
    assert data.own_transform == "resize38-bicubic"
    places = torch.tensor([3, 101])
    for stored, found in zip(small.pixels.take(places), data.pixels.take(places), strict=True):
        image = Image.fromarray(stored.permute(1, 2, 0).numpy())
        resized = np.array(image.resize((45, 45), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), resized[4:42, 4:42])


def test_images_in_memory_are_cropped_without_a_resize() -> None:
    small = load_dataset("digits", "test")
    data = load_dataset("digits", "test", test_transform=TestTransform(crop=27))
    places = torch.tensor([5])
    # (32 - 27) / 2 = 2.5, rounded to even
    assert torch.equal(data.pixels.take(places), small.pixels.take(places)[:, :, 2:29, 2:29])
    with pytest.raises(IntakeError, match="a crop of 33 pixels does not fit into images of digits"):
        load_dataset("digits", "test", test_transform=TestTransform(crop=33))


def test_what_a_set_does_anyway_changes_nothing() -> None:
    same = load_dataset("digits", "test", test_transform=TestTransform())
    assert (same.transform, same.own_transform) == ("none", "none")
    assert same.input_size == (3, 32, 32)
    assert load_dataset("digits", "test").own_transform is None
