"""Test images are prepared as timm's own transforms prepare them, to the pixel."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from robustmix.data.file_pixels import prepared
from robustmix.data.preparation import TestTransform, TransformOptions
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.model_images import load_for
from robustmix.models.recorded import timm_steps, transform_text
from tests.evaluation.test_model_images import CUB, model

MEAN = (0.485, 0.456, 0.406)
SIZES = [(97, 61), (61, 97), (64, 64), (33, 127), (200, 31), (40, 41)]


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("side", "share"), [(48, 0.875), (47, 0.95), (32, 1.0)])
def test_pixels_are_those_of_timm(mode: str, interpolation: str, side: int, share: float) -> None:
    theirs = create_transform(
        input_size=(3, side, side),
        is_training=False,
        interpolation=interpolation,
        crop_pct=share,
        crop_mode=mode,
        mean=MEAN,
        use_prefetcher=True,
    )
    asked = TransformOptions(crop_pct=share, interpolation=interpolation, crop_mode=mode)
    ours = asked.over(TestTransform(), side, MEAN)
    for size in SIZES:
        made = np.asarray(prepared(picture(*size), ours)).transpose(2, 0, 1)
        expected = torch.as_tensor(theirs(picture(*size))).numpy()
        assert made.shape == expected.shape == (3, side, side)
        assert np.array_equal(made, expected), size


@pytest.mark.parametrize("mode", ["center", "squash", "border", None])
@pytest.mark.parametrize("mean", [(0.1, 0.5, 0.9), None])
def test_published_configurations_are_followed(mode: str, mean: object) -> None:
    config = {"input_size": (3, 48, 48), "crop_pct": 0.9, "crop_mode": mode, "mean": mean}
    config = {key: value for key, value in config.items() if value is not None}
    config["interpolation"] = "bilinear"
    theirs = create_transform(
        **resolve_data_config({}, pretrained_cfg=config), is_training=False, use_prefetcher=True
    )
    text = transform_text(timm_steps((3, 48, 48), config))
    assert text is not None
    ours = TestTransform.parse(text)
    for size in SIZES:
        made = np.asarray(prepared(picture(*size), ours)).transpose(2, 0, 1)
        assert np.array_equal(made, torch.as_tensor(theirs(picture(*size))).numpy()), size


def test_modes_that_nobody_has_are_said_not_guessed() -> None:
    for config in ({"crop_mode": "spiral"}, {"crop_mode": 7}, {"crop_mode": "border", "mean": [9]}):
        assert transform_text(timm_steps((3, 48, 48), config)) is None


def test_every_transform_is_read_as_it_is_written() -> None:
    for options in (
        {"crop_mode": "squash"},
        {"crop_mode": "border", "fill": (124, 0, 7), "interpolation": "lanczos"},
        {},
    ):
        made = TestTransform.of_record({"resize": 40, "crop": 32, **options})
        assert TestTransform.parse(made.text()) == TestTransform.of_record(made.record()) == made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 40, "crop_pct": 0.9}, "exclude"),
        ({"crop_pct": 1.5}, "0 < crop_pct <= 1"),
        ({"interpolation": "bilinear"}, "no effect"),
        ({"resize": 20}, "crop <= resize"),
        ({"resize": 40, "crop_mode": "middle"}, "center or squash or border"),
        ({"resize": 40, "interpolation": "cubic"}, "nearest or bilinear"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformOptions(**options).over(TestTransform(), 32, MEAN)  # type: ignore[arg-type]


def test_what_is_asked_for_is_done_and_said(tmp_path: Path) -> None:
    for index in range(10):
        path = tmp_path / "test" / f"class {index % 5}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(41, 29 + index).save(path)
    name, asked = f"folder:{tmp_path}", TransformOptions(crop_pct=0.5, crop_mode="squash")
    for kind in (CUB, ...):
        images = load_for(model(kind), name, "test", None, asked=asked, override=True)
        assert re.fullmatch(r"resize40-\w+-squash\+centercrop20", images.transform)
        assert any("as asked for" in note for note in images.notes) == (kind is CUB)
        expected = prepared(picture(41, 29), TestTransform.parse(images.transform))
        taken = images.pixels.take(torch.tensor([0]))[0].permute(1, 2, 0)
        assert np.array_equal(taken.numpy(), np.asarray(expected))
    with pytest.raises(IntakeError, match="crop_pct and crop_mode contradicts"):
        load_for(model(CUB), name, "test", None, asked=asked)
    same = TransformOptions(resize=24, interpolation="bilinear")
    assert load_for(model(CUB), name, "test", None, asked=same).transform == (
        "resize24-bilinear+centercrop20"
    )
    with pytest.raises(UsageError, match=r"crop <= resize"):
        load_for(model(CUB), name, "test", None, asked=TransformOptions(resize=10))
