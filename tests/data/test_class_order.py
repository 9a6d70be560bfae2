"""Class folders that are numbers: their order, and that of a checkpoint over it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robustmix.data.listing import list_folder
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suites.clean import long_tail
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel

NUMBERS = ("0", "1", "2", "10")
AS_TEXT = ("0", "1", "10", "2")
SIDE = 6


class Level(nn.Module):
    """Answers with the class whose number is the grey level, classes being in a given order."""

    def __init__(self, order: tuple[str, ...]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor([float(name) for name in order]))

    def forward(self, images: Tensor) -> Tensor:
        assert isinstance(self.levels, Tensor)
        return -(images[:, 0, 0, :1] * 255 - self.levels).abs()


def folder(root: Path, split: str = "test") -> Path:
    for name in NUMBERS:
        for index in range(3 if split == "test" else 15 + 15 * int(name)):
            path = root / split / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((SIDE, SIDE, 3), int(name), np.uint8)).save(path)
    return root


def model(order: tuple[str, ...], names: tuple[str, ...] | None) -> RobustModel:
    made = load_model(
        Level(order), num_classes=4, input_size=(3, SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1)
    )
    object.__setattr__(made.info, "class_names", names)
    return made


def test_numbers_are_in_their_order_and_it_is_said(tmp_path: Path) -> None:
    listing = list_folder(folder(tmp_path), "test")
    assert listing.classes == NUMBERS
    assert listing.files[6:9] == ("10/0.png", "10/1.png", "10/2.png")  # ids stay sorted by path
    assert listing.labels == (0, 0, 0, 1, 1, 1, 3, 3, 3, 2, 2, 2)
    assert listing.notes == (
        "class folders are numbers and taken in numeric order: class 2 is '2', where "
        "torchvision's ImageFolder takes '10'",
    )


@pytest.mark.parametrize(
    "names", [["2", "10", "ant"], ["2", "10", "02"], ["a2", "a10"], ["01", "02"]]
)
def test_other_names_are_sorted_as_text(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "1.png").touch()
    listing = list_folder(tmp_path, "test")
    assert (listing.classes, listing.notes) == (tuple(sorted(names)), ())


@pytest.mark.parametrize("names", [NUMBERS, AS_TEXT, None])
def test_the_order_of_the_checkpoint_wins(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    report = evaluate(model(names or NUMBERS, names), f"folder:{folder(tmp_path)}", ["clean"])
    assert report.metric("clean.top1").value == 1
    assert report.samples is not None
    assert report.samples.class_names == (names or NUMBERS)
    said = " ".join(warning.message for warning in report.content.warnings)
    assert ("in numeric order" in said) == (names != AS_TEXT)
    assert ("the checkpoint records" in said) == (names == AS_TEXT)


def test_training_images_are_counted_in_the_order_of_the_labels(tmp_path: Path) -> None:
    name = f"folder:{folder(folder(tmp_path), 'train')}"
    assert long_tail(name, NUMBERS) == (15, 30, 45, 165)
    assert long_tail(name, AS_TEXT) == (15, 30, 165, 45)
