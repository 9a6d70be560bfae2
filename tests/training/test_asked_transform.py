"""``train``'s flags on the preparation of test images reach recipe, images and evaluation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustmix.cli.app import run
from robustmix.data.file_pixels import prepared
from robustmix.data.preparation import TestTransform, TransformOptions
from robustmix.errors import UsageError
from robustmix.models.checkpoint import read_checkpoint
from robustmix.training import resolve_recipe
from robustmix.training.asked_transform import transform_keys
from robustmix.training.recipe_dict import recipe_from_record
from robustmix.training.run_data import load_run_data


@pytest.mark.parametrize(
    ("sets", "asked", "text"),
    [
        (["dataset=cifar10"], {"resize": 40}, "resize40-bicubic+centercrop32"),
        (["dataset=cifar10", "img_size=64"], {"resize": 72}, "resize72-bicubic+centercrop64"),
        (["dataset=imagenet-1k"], {"crop_pct": 0.95}, "resize235-bicubic+centercrop224"),
        (["dataset=imagenet-1k", "img_size=112"], {"crop_pct": 1}, "resize112-bicubic+centercrop"),
        (["dataset=imagenet-1k"], {"interpolation": "nearest"}, "resize256-nearest+centercrop224"),
        (
            ["dataset=imagenet-1k", "test_transform.resize=300"],
            {"crop_mode": "squash"},
            "resize300-bicubic-squash+centercrop224",
        ),
        (
            ["dataset=imagenet-1k", "test_transform.crop_mode=squash"],
            {"crop_mode": "center"},
            "resize256-bicubic+centercrop224",
        ),
        (
            ["dataset=folder:/x", "img_size=48", "normalisation.mean=[0.2, 0.4, 0.6]",
             "normalisation.std=[0.3, 0.3, 0.3]"],
            {"crop_mode": "border"},
            "resize54-bicubic-border51.102.153+centercrop48",
        ),
    ],
)  # fmt: skip
def test_flags_change_what_they_name_and_nothing_else(
    sets: list[str], asked: dict[str, object], text: str
) -> None:
    options = TransformOptions(**asked)  # type: ignore[arg-type]
    keys = transform_keys(resolve_recipe(sets=sets), options)
    recipe = resolve_recipe(sets=sets, overrides=keys)
    found = TestTransform.of_record(recipe.test_transform or {}).text()
    assert found.startswith(text)
    assert ("squash" in found) == (asked.get("crop_mode") == "squash")


@pytest.mark.parametrize(
    ("dataset", "asked", "message"),
    [
        ("folder:/x", {"resize": 40}, "resize: the side of the images.*add img_size"),
        ("cifar10", {"interpolation": "bilinear"}, "no effect: nothing is resized"),
        ("cifar10", {"resize": 40, "crop_pct": 0.5}, "exclude each other"),
        ("cifar10", {"resize": 20}, "crop <= resize"),
    ],
)
def test_what_cannot_be_is_refused(dataset: str, asked: dict[str, object], message: str) -> None:
    recipe = resolve_recipe(sets=[f"dataset={dataset}"])
    with pytest.raises(UsageError, match=message):
        transform_keys(recipe, TransformOptions(**asked))  # type: ignore[arg-type]


def test_they_reach_the_images_and_the_checkpoint(tmp_path: Path) -> None:
    for index in range(8):
        for split in ("train", "test"):
            path = tmp_path / "photos" / split / f"c{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(index).integers(0, 256, (30, 47, 3), np.uint8)
            Image.fromarray(noise).save(path)
    name, out = f"folder:{tmp_path / 'photos'}", tmp_path / "run"
    command = "train --method mixup --arch resnet8 --epochs 1 --batch-size 4 --img-size 16 \
        --crop-pct 0.7 --interpolation nearest --crop-mode squash --progress none --device cpu"
    assert run([*command.split(), "--dataset", name, "--out", str(out)]) == 0
    recipe = recipe_from_record(read_checkpoint(out / "checkpoints/last.pth").recipe or {})
    done = TestTransform(resize=22, crop=16, interpolation="nearest", crop_mode="squash")
    assert TestTransform.of_record(recipe.test_transform or {}) == done
    val = load_run_data(recipe, None).val
    expected = prepared(Image.open(tmp_path / "photos/test/c0/0.png"), done)
    taken = val.pixels.take(torch.tensor([0]))[0].permute(1, 2, 0)
    assert np.array_equal(taken.numpy(), np.asarray(expected))
    assert val.transform == done.text()
