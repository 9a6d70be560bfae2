"""The shuffle suite against loops over pieces, on models whose answers are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.errors import IncompleteError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute, remake
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites.shuffle import Shuffle, piece_grid, shuffle_pieces
from robustmix.models.robust_model import RobustModel, padded
from robustmix.pages.drawings import draw
from robustmix.report.report import Report
from robustmix.report.samples import Table
from robustmix.report.schema import SuitePart
from robustmix.rng import permutations, sample_keys
from tests.evaluation.test_occlusion import (
    Counting,
    OnePatch,
    bright,
    pixels,
    reader,
    sized,
    values,
)
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model


def shuffle(report: Report) -> SuitePart:
    part = report.content.suites["shuffle"]
    assert part.status == "ok", part.reason
    return part


def moved(image: Tensor, order: list[int], rows: int, columns: int) -> Tensor:
    height, width = image.shape[1] // rows, image.shape[2] // columns
    result = torch.empty_like(image)
    for place, piece in enumerate(order):
        to_y, to_x = place // columns * height, place % columns * width
        y, x = piece // columns * height, piece % columns * width
        result[:, to_y : to_y + height, to_x : to_x + width] = image[
            :, y : y + height, x : x + width
        ]
    return result


def test_shuffling_equals_a_loop_over_pieces() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 8, 12, generator=generator)
    for grid in ((2, 2), (2, 4), (4, 2), (8, 12), (1, 1)):
        order = permutations(sample_keys(0, "x", "", 0, list("abcde")), grid[0] * grid[1])
        got = shuffle_pieces(images, order, grid)
        for i in range(5):
            assert torch.equal(got[i], moved(images[i], order[i].tolist(), *grid))
        identity = torch.arange(grid[0] * grid[1]).expand(5, -1)
        assert torch.equal(shuffle_pieces(images, identity, grid), images)


def test_suite_equals_a_loop() -> None:
    data, robust = tiny_images(19), tiny_model()
    suite = Shuffle(pieces=(4, 8, 16), trials=3)
    part = shuffle(evaluate(robust, data, ["clean", suite], seed=4))
    curve = part.curve("shuffled")
    assert (curve.at, curve.x) == (["1", "4", "8", "16"], [0, 2, 3, 4])
    assert curve.ticks == ["1\n1x1", "4\n2x2", "8\n2x4", "16\n4x4"]
    images, model = pixels(data), padded(robust)
    accuracy = [float((model(images).argmax(dim=1) == data.labels).float().mean())]
    for pieces, grid in ((4, (2, 2)), (8, (2, 4)), (16, (4, 4))):
        right = np.zeros((3, 19))
        for trial in range(3):
            name = f"{grid[0]}x{grid[1]}"
            keys = sample_keys(4, "shuffle", name, trial, data.sample_ids)
            order = permutations(keys, pieces)
            cut = [moved(images[i], order[i].tolist(), *grid) for i in range(19)]
            right[trial] = model(torch.stack(cut)).argmax(dim=1) == data.labels
        metrics = part.condition(str(pieces))
        assert metrics["acc"].value == pytest.approx(right.mean())
        assert metrics["trial_sd"].value == pytest.approx(right.mean(axis=1).std(ddof=1))
        accuracy.append(right.mean())
    # log2 of 1, 4, 8, 16 is 0, 2, 3, 4.
    a = accuracy
    area = (a[0] + a[1]) + (a[1] + a[2]) / 2 + (a[2] + a[3]) / 2
    assert part.metrics["auc_pieces16"].value == pytest.approx(area / 4, abs=1e-7)
    assert part.metrics["nauc_pieces16"].value == pytest.approx(area / 4 / a[0], abs=1e-7)
    assert set(part.metrics) == {"auc_pieces16", "nauc_pieces16", "nauc_chance_pieces16"}


class MeanColour(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double().mean(dim=(2, 3)).float()


def test_a_model_of_the_mean_colour_does_not_mind() -> None:
    robust = RobustModel(MeanColour(), mean=MEAN, std=STD, num_classes=3, input_size=(3, 32, 32))
    part = shuffle(evaluate(robust, tiny_images(29, classes=3), ["clean", Shuffle()]))
    assert [c.name for c in part.conditions] == ["1", "4", "16", "64", "256"]
    assert len(set(values(part, "shuffled"))) == 1
    assert part.metrics["nauc_pieces256"].value == pytest.approx(1)
    assert part.metrics["nauc_pieces256"].unit == "score"


def test_pieces_land_everywhere_alike() -> None:
    """One piece of sixteen is dark: the model that reads one place errs in one of sixteen."""
    data = bright(400)
    images = data.pixels.take(torch.arange(400)).clone()
    images[:, :, 16:24, :8] = 0
    data = replace(data, pixels=type(data.pixels)(images))  # type: ignore[call-arg]
    suite = Shuffle(pieces=(16,), trials=4)
    report = evaluate(reader(OnePatch()), data, ["clean", suite])
    wrong = 1 - (values(shuffle(report), "shuffled")[1] or 0)
    assert abs(wrong - 1 / 16) < 4 * (15 / 256 / 1600) ** 0.5
    assert report.samples is not None
    rows = report.samples.tables["shuffle"].columns["correct"][1]
    assert len({row.tobytes() for row in rows}) == 4  # trials are drawn anew


@pytest.mark.parametrize("scope", ["sample", "batch:10"])
def test_trap_17_results_do_not_depend_on_the_batch_size(scope: str) -> None:
    suite = Shuffle(pieces=(4, 64), trials=2, mask_scope=scope)
    tables = []
    for size in (1, 7, 100):
        report = evaluate(tiny_model(), tiny_images(41), ["clean", suite], batch_size=size)
        assert report.samples is not None
        tables.append(report.samples.tables["shuffle"])
    for other in tables[1:]:
        for name, column in tables[0].columns.items():
            assert np.array_equal(column, other.columns[name])


def test_the_identity_must_be_clean_and_everything_comes_back(tmp_path: Path) -> None:
    data, suite = tiny_images(23), Shuffle(pieces=(4,), trials=2, mask_scope="batch:5")
    report = evaluate(tiny_model(), data, ["clean", suite], out=tmp_path)
    assert recompute(Report.load(tmp_path)) == []
    part = shuffle(report)
    assert values(part, "shuffled")[0] == report.metric("clean.top1").value
    assert part.params["nonstandard"] == ["mask_scope"]
    assert report.samples is not None
    table = report.samples.tables["shuffle"]
    pred = table.columns["pred"].copy()
    pred[table.conditions.index("1x1"), 0, 3] += 1
    tables = {
        **report.samples.tables,
        "shuffle": Table(table.conditions, {**table.columns, "pred": pred}),
    }
    with pytest.raises(IncompleteError, match="one piece in its place") as caught:
        remake(Report(report.content, replace(report.samples, tables=tables)))
    assert caught.value.code == "E-IDENTITY"


def test_one_pass_a_grid_and_trial() -> None:
    def passes(*suites: Any) -> int:
        net = Counting()
        robust = RobustModel(net, mean=MEAN, std=STD, num_classes=3, input_size=(3, 32, 32))
        evaluate(robust, tiny_images(16, classes=3), ["clean", *suites], batch_size=8)
        return net.images // 16

    assert passes(Shuffle(trials=3)) - passes() == 4 * 3 + 1


def pieces_of(suite: Shuffle, side: int) -> tuple[int, ...]:
    robust, data = sized(side)
    return suite.prepare(Scene(robust=robust, data=data, folder=Path())).pieces


def test_pieces_depend_on_the_size() -> None:
    known = {
        32: (1, 4, 16, 64, 256),
        64: (1, 4, 16, 64, 256),
        224: (1, 4, 8, 16, 32, 64, 196, 256),
        28: (1, 4, 16),
    }
    for side, pieces in known.items():
        assert pieces_of(Shuffle(), side) == pieces
    assert piece_grid(196) == (14, 14)
    assert piece_grid(32) == (4, 8)
    for wrong in (0, 3, 12):
        with pytest.raises(UsageError, match="make no grid"):
            Shuffle(pieces=(wrong,))
    with pytest.raises(UsageError, match="does not divide"):
        pieces_of(Shuffle(pieces=(9,)), 32)
    with pytest.raises(UsageError, match="no number of pieces"):
        pieces_of(Shuffle(), 1)


def test_curves_are_drawn(tmp_path: Path) -> None:
    report = evaluate(tiny_model(), tiny_images(9), ["clean", Shuffle()], name="tiny run")
    draw("shuffle-curve", [report] * 4, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert drawn.count("<!-- tiny run -->") == 4
    assert drawn.count("<!-- 16x16 -->") == 4
    assert drawn.count('<g id="axes_') == 4  # of two rows of three; the rest is not shown
