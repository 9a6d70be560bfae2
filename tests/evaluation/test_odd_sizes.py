"""Images of other sides than the usual ones are evaluated by default, and what stood in is said."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.patches import nearest_grid
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites.corruption import Corruption, nearest_profile
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.shuffle import Shuffle
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.report.terminal import note_lines
from tests.evaluation.tiny import tiny_images


class Colours(nn.Module):
    """Goes by the mean colour, whatever the size."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def model(height: int, width: int) -> RobustModel:
    return RobustModel(
        Colours(), mean=(0.5,) * 3, std=(0.2,) * 3, num_classes=3, input_size=(3, height, width)
    )


def images(height: int, width: int, n: int = 6) -> ImageSet:
    pixels = torch.randint(
        256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return replace(tiny_images(n, classes=3), pixels=TensorPixels(pixels))


GRIDS = {
    (32, 32): (8, 8), (64, 64): (8, 8), (224, 224): (14, 14),
    (28, 28): (7, 7), (96, 96): (16, 16), (128, 128): (16, 16), (299, 299): (13, 13),
    (384, 384): (16, 16), (36, 36): (9, 9), (60, 45): (10, 9), (31, 31): (31, 31),
    (100, 240): (10, 15), (331, 331): (331, 331),
}  # fmt: skip


@pytest.mark.parametrize("size", GRIDS, ids=str)
def test_the_grid_is_the_nearest_that_divides(size: tuple[int, int]) -> None:
    usual = (8, 8) if max(size) <= 64 else (14, 14)
    assert nearest_grid(size, usual) == GRIDS[size]
    scene = Scene(robust=model(*size), data=images(*size, n=1), folder=None)  # type: ignore[arg-type]
    prepared = Occlusion().prepare(scene)
    assert prepared.grid == GRIDS[size]
    assert prepared.nearest_to == (None if GRIDS[size] == usual else usual)


def everything(height: int, width: int) -> Report:
    suites: list[Any] = [
        "clean",
        Corruption(corruptions=("brightness", "contrast"), severity=(3,)),
        Occlusion(ratios=(0.5,), trials=1),  # type: ignore[arg-type]
        Shuffle(trials=1),
    ]
    return evaluate(model(height, width), images(height, width), suites)


def test_28_pixels_are_evaluated_by_default_and_what_stood_in_is_named() -> None:
    report = everything(28, 28)
    assert report.content.run.status == "success"
    occlusion = report.content.suites["occlusion"]
    metric = occlusion.metrics["auc_mean_random_7x7"]
    assert metric.note == "grid 7x7, the nearest to 8x8 that divides"
    assert "grid 7x7" in occlusion.shown.note
    assert occlusion.params["nearest_to"] == [8, 8]
    corruption = report.content.suites["corruption"]
    assert corruption.params["profile"] == "cifar"
    assert "profile cifar, the nearest to 28x28 pixels" in corruption.shown.note
    assert "nearest_to" not in report.content.suites["shuffle"].params  # 2x2 and 4x4 divide
    assert note_lines(report) == [
        "corruption: profile cifar, the nearest to 28x28 pixels",
        "occlusion: grid 7x7, the nearest to 8x8 that divides",
    ]
    assert recompute(report) == []


def test_299_pixels_have_one_grid_of_pieces() -> None:
    report = everything(299, 299)
    shuffle = report.content.suites["shuffle"]
    assert shuffle.params["pieces"] == [1, 169]
    assert "the nearest grids to 2x2, 2x4, 4x4" in (shuffle.metrics["auc_pieces169"].note or "")
    assert report.content.suites["occlusion"].metrics["auc_mean_random_13x13"].value is not None
    assert recompute(report) == []


def test_usual_sizes_say_nothing_and_record_nothing_more() -> None:
    report = everything(32, 32)
    assert note_lines(report) == []
    for key in ("corruption", "occlusion", "shuffle"):
        assert "nearest_to" not in report.content.suites[key].params


def test_the_nearest_profile_is_by_the_ratio_of_sides() -> None:
    sides = {16: "cifar", 28: "cifar", 45: "cifar", 46: "tiny", 96: "tiny", 128: "imagenet"}
    assert {side: nearest_profile(side, side) for side in sides} == sides
    assert nearest_profile(240, 320) == nearest_profile(384, 384) == "imagenet"


def test_a_profile_that_is_asked_for_is_no_stand_in() -> None:
    suite = Corruption(corruptions="fog", severity=(1,), profile="tiny")
    report = evaluate(model(28, 28), images(28, 28), [suite])
    part = report.content.suites["corruption"]
    assert part.params["profile"] == "tiny"
    assert "nearest" not in part.shown.note
