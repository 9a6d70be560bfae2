"""The test transform that a checkpoint records is the one that it is evaluated with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from robustmix.data.preparation import TestTransform
from robustmix.errors import IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.held_out import open_held_out
from robustmix.evaluation.model_images import load_for, recorded_transform
from robustmix.models.checkpoint import Checkpoint, save_checkpoint
from robustmix.models.load import load_model
from robustmix.models.registry import build_model
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.report.report import Report

SIDE = 20
CUB = {"resize": 24, "interpolation": "bilinear", "crop": SIDE}
"""CUB's protocol, small."""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Five classes; what distinguishes them lies near the left and right edges."""
    stream = np.random.default_rng(0)
    for index in range(20):
        path = tmp_path / "photographs" / "test" / f"class {index % 5}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = stream.integers(0, 256, (29, 41, 3), dtype=np.uint8)
        Image.fromarray(grey).save(path)
    return tmp_path / "photographs"


class Edges(nn.Module):
    """Answer with five grey levels of a corner, which a resize and a crop decide."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, 0, :5]


def model(transform: object, side: int = SIDE, num_classes: int = 5) -> RobustModel:
    recipe = {"dataset": "folder:x"} if transform is ... else {"test_transform": transform}
    return RobustModel(
        Edges(),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        num_classes=num_classes,
        input_size=(3, side, side),
        info=ModelInfo(
            source="last.pth", format="robustmix", arch="edges", params=0, recipe=recipe
        ),
    )


def warned(report: Report) -> list[str]:
    return [w.message for w in report.content.warnings if w.code == "W-TRANSFORM"]


def test_the_recorded_transform_is_used_and_the_difference_said(photographs: Path) -> None:
    name = f"folder:{photographs}"
    recorded, plain = (evaluate(model(t), name, ["clean"]) for t in (CUB, ...))
    assert recorded.content.dataset.transform == "resize24-bilinear+centercrop20"
    assert plain.content.dataset.transform == "resize22-bicubic+centercrop20"
    assert warned(plain) == []
    assert warned(recorded) == [
        "images are prepared with the test transform of the training, "
        "'resize24-bilinear+centercrop20', which the checkpoint records; those of "
        "folder:photographs would by themselves be prepared with 'resize22-bicubic+centercrop20'"
    ]
    # The rows are those of Pillow's pixels.
    for report, (resize, filtered) in (
        (recorded, (24, Image.Resampling.BILINEAR)),
        (plain, (22, Image.Resampling.BICUBIC)),
    ):
        assert report.samples is not None
        width = int(resize * 41 / 29)
        left, top = round((width - SIDE) / 2), round((resize - SIDE) / 2)
        for file, logits in zip(
            report.samples.sample_ids, report.samples.clean_logits(), strict=True
        ):
            with Image.open(photographs / "test" / file.removeprefix("folder/test/")) as stored:
                resized = np.array(stored.resize((width, resize), filtered))
            corner = resized[top, left : left + 5, 0]
            np.testing.assert_allclose(logits, corner / np.float32(255), rtol=1e-6)
    assert recorded.samples is not None
    assert plain.samples is not None
    one, other = (
        samples.tables["clean"].at("clean")["pred"] for samples in (recorded.samples, plain.samples)
    )
    assert (one != other).any()


def test_published_weights_bring_their_own_transform(photographs: Path) -> None:
    published = model(...)
    published.info = replace(
        published.info, recipe=None, test_transform="resize24-bilinear+centercrop20"
    )
    images = load_for(published, f"folder:{photographs}", "test", None)
    recorded = load_for(model(CUB), f"folder:{photographs}", "test", None)
    every = torch.arange(len(images))
    assert images.transform == recorded.transform == "resize24-bilinear+centercrop20"
    assert torch.equal(images.pixels.take(every), recorded.pixels.take(every))
    assert "which the weights came with" in images.notes[0]
    # At another size than theirs it is not what they were tested with.
    published.info = replace(published.info, test_transform="resize256-bicubic+centercrop224")
    plain = load_for(published, f"folder:{photographs}", "test", None)
    assert (plain.transform, plain.notes) == ("resize22-bicubic+centercrop20", ())


def test_what_a_set_would_do_anyway_is_no_warning(photographs: Path) -> None:
    same = {"resize": 22, "crop": SIDE}
    images = load_for(model(same), f"folder:{photographs}", "test", None)
    assert (images.transform, images.notes) == ("resize22-bicubic+centercrop20", ())


@pytest.mark.parametrize(
    ("recorded", "side"),
    [
        ({}, 20),  # images of 41x29 are no squares of 20
        ({"resize": 20}, 20),  # nor after a resize of the shorter side
        ({"resize": 256, "crop": 224}, 20),  # the model was told to take another size
        ({"crop": 30}, 30),
    ],
    ids=str,
)
def test_where_it_cannot_be_done_the_sets_own_is_used_and_said(
    photographs: Path, recorded: dict[str, object], side: int
) -> None:
    images = load_for(model(recorded, side), f"folder:{photographs}", "test", None)
    own = f"resize{int(side * 256 / 224)}-bicubic+centercrop{side}"
    assert images.transform == own
    assert images.notes == (
        "W-TRANSFORM: images of folder:photographs are prepared in their own way, "
        f"'{own}': they do not allow the test transform of the training, "
        f"'{TestTransform.of_record(recorded).text()}'",
    )


def test_sets_in_memory_go_by_it_too() -> None:
    recorded = {"resize": 40, "interpolation": "bilinear", "crop": 36}
    images = load_for(model(recorded, 36, num_classes=10), "digits", "test", None)
    assert (images.transform, images.input_size) == ("resize40-bilinear+centercrop36", (3, 36, 36))
    assert "would by themselves be prepared with 'resize36-bicubic'" in images.notes[0]


@pytest.mark.parametrize(
    "recorded", [5, "none", {"resize": "256"}, {"side": 3}, {"crop": -1}], ids=str
)
def test_what_is_recorded_must_be_a_transform(recorded: object) -> None:
    with pytest.raises(IntakeError, match=r"that last\.pth records cannot be used: ") as caught:
        recorded_transform(model(recorded))
    assert (caught.value.code, caught.value.exit_code) == ("E-CHECKPOINT", 3)


def test_the_samples_of_a_calibration_are_prepared_so_too(tmp_path: Path) -> None:
    recorded = {"resize": 36, "interpolation": "bilinear", "crop": 32}
    net = build_model("resnet8", num_classes=10, input_size=(3, 32, 32))
    path = tmp_path / "last.pth"
    save_checkpoint(
        path,
        Checkpoint(
            arch="resnet8",
            arch_options={"stem": "cifar"},
            method="vanilla",
            num_classes=10,
            input_size=(3, 32, 32),
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            class_names=tuple("0123456789"),
            dataset="digits",
            recipe={"dataset": "digits", "val_split": 0.1, "seed": 7, "test_transform": recorded},
            run_id="a-run",
            epoch=1,
            metrics={},
            model=net.state_dict(),
        ),
    )
    opened = open_held_out(load_model(path))
    assert opened is not None
    assert opened.images.transform == "resize36-bilinear+centercrop32"
    (note,) = opened.record.notes
    assert note.startswith("W-TRANSFORM: images are prepared with the test transform of the train")
