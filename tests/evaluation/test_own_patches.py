"""A transformer is occluded and shuffled by its own patches unless something else is asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.patches import own_grid, token_patch
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.occlusion_open import OpenedOcclusion
from robustmix.evaluation.suites.shuffle import PreparedShuffle, Shuffle, own_pieces, piece_grid
from robustmix.models.robust_model import RobustModel
from robustmix.report.terminal import note_lines
from tests.evaluation.test_odd_sizes import images, model
from tests.evaluation.tiny import tiny_images


def wrapped(net: torch.nn.Module, height: int, width: int, **options: Any) -> RobustModel:
    return RobustModel(
        net,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        num_classes=3,
        input_size=(3, height, width),
        **options,
    )


def vit(height: int, width: int, patch: int, **options: Any) -> RobustModel:
    inner = options.get("resize", (height, width))
    net = timm.create_model(
        "vit_tiny_patch16_224", img_size=inner, patch_size=patch, depth=1, embed_dim=12,
        num_heads=2, num_classes=3,
    )  # fmt: skip
    return wrapped(net, height, width, **options)


def swin(side: int) -> RobustModel:
    net = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=side, window_size=4, depths=(1, 1), embed_dim=8,
        num_heads=(1, 1), num_classes=3,
    )  # fmt: skip
    return wrapped(net, side, side)


def prepared(robust: RobustModel, occlusion: Occlusion | None = None) -> OpenedOcclusion:
    height, width = robust.input_size[1:]
    scene = Scene(robust=robust, data=images(height, width, n=1), folder=Path())
    return (occlusion or Occlusion()).prepare(scene)


def shuffled(robust: RobustModel) -> PreparedShuffle:
    height, width = robust.input_size[1:]
    return Shuffle().prepare(Scene(robust=robust, data=images(height, width, n=1), folder=Path()))


@pytest.mark.parametrize(
    ("robust", "grid", "pieces"),
    [
        (lambda: vit(224, 224, 16), (14, 14), (1, 4, 49, 196)),
        (lambda: vit(224, 224, 32), (7, 7), (1, 49)),
        (lambda: vit(32, 32, 8), (4, 4), (1, 4, 16)),
        (lambda: vit(28, 28, 4), (7, 7), (1, 49)),  # of shared/cases/default_grid_28
        (lambda: vit(32, 64, 8), (4, 8), (1, 4, 16, 32)),
        (lambda: swin(64), (16, 16), (1, 4, 16, 64, 256)),
        # 2 x 2 pixels of the images, enlarged in the model, are a patch of 16 x 16.
        (lambda: vit(28, 28, 16, resize=(224, 224)), (14, 14), (1, 4, 49, 196)),
        # 16 of 224 are 2.3 of 32 pixels: no mask hides such a patch, so the usual grid stays.
        (lambda: vit(32, 32, 16, resize=(224, 224)), (8, 8), (1, 4, 16, 64, 256)),
        (lambda: model(32, 32), (8, 8), (1, 4, 16, 64, 256)),
        (lambda: model(224, 224), (14, 14), (1, 4, 8, 16, 32, 64, 196, 256)),
    ],
)
def test_the_default_is_the_networks_own_grid(
    robust: Any, grid: tuple[int, int], pieces: tuple[int, ...]
) -> None:
    found = robust()
    assert prepared(found).grid == grid
    assert prepared(found).nearest_to is None
    assert prepared(found, Occlusion(grid=(2, 2))).grid == (2, 2)
    assert shuffled(found).pieces == pieces


def test_patches_that_overlap_are_no_grid() -> None:
    net = timm.create_model("pvt_v2_b0", num_classes=3)
    assert net.patch_embed.patch_size == (7, 7)
    assert token_patch(wrapped(net, 224, 224)) is None


def test_own_grids() -> None:
    assert own_grid((224, 224), [4.0, 4.0]) == (56, 56)
    assert own_grid((224, 224), [48.0, 48.0]) is None  # does not divide
    assert own_grid((16, 16), [16.0, 16.0]) is None  # one patch: nothing to hide or to move
    for grid in ((14, 14), (56, 56), (4, 8), (9, 6)):
        for count in own_pieces(grid):
            rows, columns = piece_grid(count)
            assert grid[0] % rows == grid[1] % columns == 0


def data(side: int) -> ImageSet:
    pixels = torch.randint(
        256, (9, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return replace(tiny_images(9, classes=3), pixels=TensorPixels(pixels))


def test_a_grid_that_is_not_the_usual_one_is_noted() -> None:
    short = Occlusion(ratios=(0.5,), trials=1)  # type: ignore[arg-type]
    report = evaluate(vit(32, 32, 8), data(32), [short, Shuffle(trials=1)])
    part = report.content.suites["occlusion"]
    assert (part.params["grid"], part.details["aligned"]) == ("4x4", True)
    assert "auc_mean_random_4x4" in part.metrics
    assert "nearest_to" not in part.params
    assert note_lines(report) == ["occlusion: grid 4x4, that of the network's own patches"]
    assert recompute(report) == []
    other = evaluate(vit(28, 28, 4), data(28), [short, Shuffle(trials=1)])
    assert note_lines(other) == [
        "occlusion: grid 7x7, that of the network's own patches",
        "shuffle: pieces are whole patches of the network's own, up to 7x7",
    ]
    assert recompute(other) == []


def test_what_other_networks_are_measured_by_is_what_it_was() -> None:
    """At 224 pixels a patch of 16 is the usual grid: reports of both kinds can be compared."""
    transformer, other = prepared(vit(224, 224, 16)), prepared(model(224, 224))
    assert transformer.params == other.params
