"""The occlusion suite against loops over patches, on models whose answers are known."""

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import IncompleteError, IntakeError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.patches import filling, mask_count
from robustmix.evaluation.recompute import recompute, remake
from robustmix.evaluation.suite import Batch, Context, Passes, Scene
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.occlusion_open import OpenedOcclusion
from robustmix.evaluation.suites.occlusion_rows import MODES, SMALL, TENTHS, PreparedOcclusion
from robustmix.evaluation.suites.registry import read_suite
from robustmix.metrics.binned import expected_calibration_error
from robustmix.models.robust_model import RobustModel, padded
from robustmix.pages.occlusion_curves import draw_occlusion
from robustmix.report.report import Report
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import SuitePart
from robustmix.rng import permutations, sample_keys
from robustmix.saliency.from_file import save_maps
from robustmix.saliency.registry import SALIENCY
from robustmix.saliency.sources import Explained
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model

THIRDS = (Fraction(1, 3), Fraction(2, 3), Fraction(1))


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def occlusion(report: Report) -> SuitePart:
    part = report.content.suites["occlusion"]
    assert part.status == "ok", part.reason
    return part


def values(part: SuitePart, mode: str, metric: str = "acc") -> list[float | None]:
    return [found.value for found in part.along(part.curve(mode), metric)]


def prepared(suite: Occlusion, robust: RobustModel, data: ImageSet) -> OpenedOcclusion:
    return suite.prepare(Scene(robust=robust, data=data, folder=Path()))


def bright(n: int) -> ImageSet:
    """White images of class 1."""
    return ImageSet(
        name="bright", split="test",
        pixels=TensorPixels(torch.full((n, 3, 32, 32), 255, dtype=torch.uint8)),
        labels=torch.ones(n).long(), sample_ids=tuple(map(str, range(n))),
        class_names=("dark", "bright"), mean=MEAN, std=STD,
    )  # fmt: skip


class OnePatch(nn.Module):
    """Reads rows 0-7 of columns 8-15, moved by an offset: class 1 where it is bright."""

    def __init__(self, offset: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        x = x.roll((-self.offset[1], -self.offset[0]), dims=(2, 3))
        level = x[:, :, :8, 8:16].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(level), level], dim=1)


def reader(net: nn.Module | None = None) -> RobustModel:
    return RobustModel(
        net or OnePatch(), mean=(0.5,) * 3, std=(1.0,) * 3, num_classes=2, input_size=(3, 32, 32)
    )


def patch_boxes(path: Path, data: ImageSet, box: tuple[int, int, int, int]) -> Path:
    np.savez(path, sample_ids=list(data.sample_ids), boxes=np.array([box] * len(data)))
    return path


# orders


@pytest.mark.parametrize("saliency", ["gradxinput", "smoothgrad"])
@pytest.mark.parametrize("offset", [(0, 0), (5, 3)])
def test_trap_20_salient_kills_a_model_of_one_patch_at_once_and_nonsalient_last(
    saliency: str, offset: tuple[int, int]
) -> None:
    suite = Occlusion(
        grid=(4, 4),
        ratios=tuple(Fraction(k, 16) for k in range(17)),
        mode=("salient", "nonsalient"),
        saliency=saliency,
        offset=offset,
    )
    part = occlusion(evaluate(reader(OnePatch(offset)), bright(9), ["clean", suite]))
    assert values(part, "salient") == [1.0] + [0.0] * 16
    assert values(part, "nonsalient") == [1.0] * 16 + [0.0]
    # Areas of a fall within the first and the last step of sixteen.
    assert part.metrics["auc_mean_salient_4x4"].value == pytest.approx(1 / 32)
    assert part.metrics["auc_mean_nonsalient_4x4"].value == pytest.approx(31 / 32)
    assert part.metrics["gap_area_mean_nonsalient_salient_4x4"].value == pytest.approx(30 / 32)
    assert part.metrics["rho50_mean_salient_4x4"].value == pytest.approx(1 / 32)
    assert part.metrics["rho50_mean_nonsalient_4x4"].value == pytest.approx(31 / 32)


def test_trap_20_foreground_first_and_background_last(tmp_path: Path) -> None:
    """With the box around the patch that is read, and one patch more."""
    data = bright(9)
    suite = Occlusion(
        grid=(4, 4),
        ratios=tuple(Fraction(k, 16) for k in (0, 1, 2, 13, 14, 15, 16)),
        mode=("foreground", "background", "random"),
        boxes=patch_boxes(tmp_path / "b.npz", data, (8, 0, 8, 9)),
        trials=2,
    )
    part = occlusion(evaluate(reader(), data, ["clean", suite]))
    assert part.details["modes"] == ["random", "foreground", "background"]
    assert values(part, "foreground") == [1, 0, 0, 0, 0, 0, 0]
    assert values(part, "background") == [1, 1, 1, 1, 1, 1, 0]
    assert part.params["boxes"]["sha256"]


def spy(monkeypatch: pytest.MonkeyPatch, robust: RobustModel) -> list[Explained]:
    seen: list[Explained] = []
    true = SALIENCY["gradxinput"]

    def source(explained: Explained) -> Tensor:
        seen.append(explained)
        return true(explained)

    monkeypatch.setattr("robustmix.saliency.sources.gradxinput", source)
    return seen


def test_trap_20_saliency_is_of_the_clean_image_and_taken_once_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, robust = tiny_images(23), tiny_model()
    seen = spy(monkeypatch, robust)
    suite = Occlusion(grid=(4, 4), mode=("salient", "nonsalient"), fill="blur")
    evaluate(robust, data, ["clean", suite], batch_size=10)
    assert [len(explained.images) for explained in seen] == [10, 10, 3]
    assert torch.equal(torch.cat([explained.images for explained in seen]), pixels(data))
    assert all(explained.labels is None for explained in seen)
    evaluate(robust, data, ["clean", replace(suite, saliency_label="label")])
    labels = seen[-1].labels
    assert labels is not None
    assert torch.equal(labels, data.labels)


@pytest.mark.parametrize("mode", ["salient", "nonsalient"])
def test_salient_suite_equals_a_loop_over_patches(mode: str) -> None:
    data, robust = tiny_images(17), tiny_model()
    suite = Occlusion(grid=(4, 2), ratios=THIRDS, mode=(mode,), trials=3)
    report = evaluate(robust, data, ["clean", suite])
    part, mean = occlusion(report), torch.tensor(MEAN).view(3, 1, 1)
    right = np.zeros((4, 17))
    for i, image in enumerate(pixels(data)):
        x = image.clone().unsqueeze(0).requires_grad_()
        robust(x).max().backward()
        assert x.grad is not None
        salience = (x.grad * x).detach().abs().sum(dim=(0, 1))
        sums = [
            float(salience[8 * row : 8 * row + 8, 16 * column : 16 * column + 16].sum())
            for row in range(4)
            for column in range(2)
        ]
        sign = -1 if mode == "salient" else 1
        order = sorted(range(8), key=lambda patch: sign * sums[patch])
        for point, count in enumerate([0, 3, 5, 8]):
            masked = image.clone()
            for patch in order[:count]:
                row, column = divmod(patch, 2)
                masked[:, 8 * row : 8 * row + 8, 16 * column : 16 * column + 16] = mean
            right[point, i] = int(robust(masked.unsqueeze(0)).argmax()) == int(data.labels[i])
    assert part.params["masked"] == [0, 3, 5, 8]
    assert part.curve(mode).x == [0, 3 / 8, 5 / 8, 1]
    assert part.curve(mode).at == ["0", "0.375", "0.625", "1"]
    assert values(part, mode) == pytest.approx(list(right.mean(axis=1)))
    assert values(part, mode, "trial_sd") == [None] * 4  # nothing is random
    assert values(part, mode, "retention")[1] == pytest.approx(right[1].mean() / right[0].mean())


@pytest.mark.parametrize("fill", ["noise", "image_mean", "blur", "black"])
def test_random_suite_equals_a_loop_for_every_fill(fill: Any) -> None:
    data, robust = tiny_images(13), tiny_model()
    suite = Occlusion(grid=(4, 4), ratios=(Fraction(1, 4), Fraction(1)), fill=fill, trials=3)
    part = occlusion(evaluate(robust, data, ["clean", suite], seed=2))
    images, model = pixels(data), padded(robust)
    right, confidence = np.zeros((3, 3, 13)), np.zeros((3, 3, 13))
    for trial in range(3):
        keys = sample_keys(2, "occlusion", "random/4x4", trial, data.sample_ids)
        noise = sample_keys(2, "occlusion", "noise", trial, data.sample_ids)
        show = filling(images, fill, mean=MEAN, std=STD, patch=(8, 8), keys=noise)
        order = permutations(keys, 16)
        for point, count in enumerate([0, 4, 16]):
            masked = images.clone()
            for i in range(13):
                for patch in order[i, :count].tolist():
                    y, x = 8 * (patch // 4), 8 * (patch % 4)
                    shown = show.expand_as(images)[i, :, y : y + 8, x : x + 8]
                    masked[i, :, y : y + 8, x : x + 8] = shown
            p = model(masked).double().softmax(dim=1)
            right[point, trial] = p.argmax(dim=1) == data.labels
            confidence[point, trial] = p.amax(dim=1)
    for point in range(3):
        metrics = part.conditions[point].metrics
        assert metrics["acc"].value == pytest.approx(right[point].mean())
        assert metrics["trial_sd"].value == pytest.approx(right[point].mean(axis=1).std(ddof=1))
        assert metrics["confidence"].value == pytest.approx(confidence[point].mean(), abs=1e-6)
        eces = [
            expected_calibration_error(c, h, 15)
            for c, h in zip(confidence[point], right[point] > 0, strict=True)
        ]
        assert metrics["ece_15"].value == pytest.approx(np.mean(eces), abs=1e-6)
        # The image is the unit: trials are averaged before the interval is made.
        half = 1.959964 * right[point].mean(axis=0).std(ddof=1) / 13**0.5
        mean = right[point].mean()
        want = (max(0, mean - half), min(1, mean + half))
        assert metrics["acc"].ci == pytest.approx(want)


def test_maps_of_a_file_rank_the_patches(tmp_path: Path) -> None:
    """The file says of each image which patch comes first; the model reads one of them."""
    data = bright(16)
    maps = np.zeros((16, 4, 4))
    for i in range(16):
        maps[i].flat[i] = 1
    save_maps(tmp_path / "maps.npz", data.sample_ids, maps)
    suite = Occlusion(
        grid=(4, 4),
        ratios=(Fraction(1, 16), Fraction(2, 16)),
        mode=("salient",),
        saliency_file=tmp_path / "maps.npz",
    )
    report = evaluate(reader(), data, ["clean", suite])
    part = occlusion(report)
    # Patch 1 is read: first of image 1; in image 0 it is second, among equals by index.
    assert report.samples is not None
    table = report.samples.tables["occlusion"]
    assert (table.at("salient/1")["correct"] == 0).nonzero()[0].tolist() == [1]
    assert (table.at("salient/2")["correct"] == 0).nonzero()[0].tolist() == [0, 1]
    assert part.details["saliency"]["source"] == "file"
    assert len(part.details["saliency"]["sha256"]) == 64
    assert part.shown.own_choice == []
    lacking = evaluate(reader(), bright(20), ["clean", suite]).content.suites["occlusion"]
    assert lacking.status == "failed"
    assert "no map for 4 of 20" in (lacking.reason or "")
    for wrong in (
        replace(suite, saliency="center"),
        Occlusion(mode=("salient",), saliency="file"),
    ):
        with pytest.raises(UsageError, match="go together"):
            prepared(wrong, reader(), data)


# traps of the harness


EVERY = Occlusion(
    grid=(4, 4), ratios=(Fraction(1, 8), Fraction(1, 2), Fraction(1)), mode=MODES, trials=2
)


@pytest.mark.parametrize(
    "change",
    [
        {"fill": "noise", "saliency": "smoothgrad"},
        {"mask_scope": "batch:10", "rounding": "floor"},
    ],
)
def test_trap_17_results_do_not_depend_on_the_batch_size(
    change: dict[str, Any], tmp_path: Path
) -> None:
    data = tiny_images(41)
    boxes = patch_boxes(tmp_path / "b.npz", data, (3, 4, 19, 22))
    suite = replace(EVERY, boxes=boxes, **change)
    tables: list[Table] = []
    for size in (1, 7, 100):
        report = evaluate(tiny_model(), data, ["clean", suite], batch_size=size)
        occlusion(report)
        assert report.samples is not None
        tables.append(report.samples.tables["occlusion"])
    for other in tables[1:]:
        assert other.conditions == tables[0].conditions
        for name, column in tables[0].columns.items():
            assert np.array_equal(column, other.columns[name])


class Watch(nn.Module):
    """Keeps which pixels of white images are hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x[:, 0, ::8, ::8] == 0).flatten(1))
        return torch.stack([x.mean(dim=(1, 2, 3)), torch.zeros(len(x))], dim=1)


def test_trap_17_masks_are_per_sample_or_per_hundred_on_demand() -> None:
    quarter = Occlusion(grid=(4, 4), ratios=(Fraction(1, 4),), trials=2)
    for scope, groups in (("sample", 24), ("batch:10", 3)):
        net = Watch()
        robust = RobustModel(
            net, mean=(0.5,) * 3, std=(1.0,) * 3, num_classes=2, input_size=(3, 32, 32)
        )
        suite = replace(quarter, mask_scope=scope)
        part = occlusion(evaluate(robust, bright(24), ["clean", suite], batch_size=8))
        hidden = [m for m in net.seen if int(m.sum()) == 4 * len(m)]
        first, second = torch.cat(hidden[:3]), torch.cat(hidden[3:6])  # trials
        assert not torch.equal(first, second)
        kinds = {tuple(row) for row in first.tolist()}
        assert len(kinds) == groups if groups == 3 else len(kinds) > 20
        if groups == 3:
            assert all(torch.equal(first[i], first[i // 10 * 10]) for i in range(24))
        assert part.details["mask_scope"] == scope
        assert part.params["nonstandard"] == ([] if scope == "sample" else ["mask_scope"])


@pytest.fixture
def random_states() -> Any:
    def states() -> Any:
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002
        return random.getstate(), torch.get_rng_state().tolist(), kind, list(keys), rest

    return states


def test_trap_25_the_global_generators_stay_where_they_are(
    random_states: Any, tmp_path: Path
) -> None:
    data = tiny_images(9)
    boxes = patch_boxes(tmp_path / "b.npz", data, (3, 4, 19, 22))
    robust = tiny_model()
    asked = replace(EVERY, boxes=boxes, fill="noise", saliency="smoothgrad")
    suite = prepared(asked, robust, data)
    context = Context(
        model=padded(robust),
        robust=robust,
        data=data,
        official=torch.arange(9),
        device=torch.device("cpu"),
        seed=0,
        record=Samples(data.sample_ids, data.labels.numpy(), data.class_names, None),
    )
    batch = Batch(
        indices=torch.arange(9),
        sample_ids=data.sample_ids,
        labels=data.labels,
        images=lambda: data.pixels.take(torch.arange(9)),
    )
    before = random_states()
    for part in suite.parts(context):  # outside the engine, which would put the states back
        part.compute(batch)
    assert random_states() == before
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        rows = [part.compute(batch) for part in suite.parts(context)]
        found.append([columns["logits"] for part in rows for columns in part.values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def doctored(report: Report, condition: str, value: int) -> Report:
    """Change the prediction for one sample under one condition in the rows of a report."""
    assert report.samples is not None
    table = report.samples.tables["occlusion"]
    pred = table.columns["pred"].copy()
    pred[table.conditions.index(condition), 0, 3] = value
    changed = Table(table.conditions, {**table.columns, "pred": pred})
    tables = {**report.samples.tables, "occlusion": changed}
    return Report(report.content, replace(report.samples, tables=tables))


@pytest.mark.parametrize("fill", ["mean", "black", "image_mean"])
def test_the_ends_of_the_curve_are_asserted(fill: Any) -> None:
    data, robust = tiny_images(23), tiny_model()
    suite = replace(EVERY, mode=("random",), fill=fill)
    report = evaluate(robust, data, ["clean", suite])
    part = occlusion(report)
    assert values(part, "random")[0] == report.metric("clean.top1").value
    shown = {"mean": torch.tensor(MEAN), "black": torch.zeros(3)}.get(fill)
    if shown is not None:
        (one,) = robust(shown.view(1, 3, 1, 1).expand(1, 3, 32, 32)).argmax(dim=1)
        share = float((data.labels == one).float().mean())
        assert values(part, "random")[-1] == pytest.approx(share)
    with pytest.raises(IncompleteError, match="hiding nothing") as caught:
        remake(doctored(report, "none", 99))
    assert caught.value.code == "E-RHO-ZERO"
    changed = doctored(report, "all", 99)
    if fill == "image_mean":  # each image has its own mean, so predictions may differ
        assert remake(changed)["occlusion"].metrics == part.metrics
    else:
        with pytest.raises(IncompleteError, match="everything hidden") as caught:
            remake(changed)
        assert caught.value.code == "E-RHO-ONE"


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return x.mean(dim=(2, 3))


def test_only_distinct_masked_images_are_run_and_the_forecast_knows() -> None:
    """9 T + 2 forward passes for eleven random points, 9 + 9 + 2 and the gradient's for salient."""
    data = tiny_images(16, classes=3)

    def passes(*suites: Any) -> int:
        net = Counting()
        robust = RobustModel(net, mean=MEAN, std=STD, num_classes=3, input_size=(3, 32, 32))
        evaluate(robust, data, ["clean", *suites], batch_size=8)
        count = net.images // 16
        for suite in suites:
            foretold = prepared(suite, robust, data).passes(16).forwards
            assert foretold == 16 * (count - base)
        return count

    base = passes()
    ratios = tuple(Fraction(k, 10) for k in range(11))
    random_ = Occlusion(ratios=ratios, trials=4)
    assert passes(random_) - base == 9 * 4 + 2
    assert passes(replace(random_, fill="noise")) - base == 9 * 4 + 1 + 4
    salient = replace(random_, mode=("salient", "nonsalient"))
    assert passes(salient) - base == 2 * 9 + 2 + 1
    smooth = replace(salient, saliency="smoothgrad", saliency_label="label")
    assert passes(smooth) - base == 2 * 9 + 2 + 16
    assert passes(replace(smooth, saliency_label="prediction")) - base == 2 * 9 + 2 + 1 + 16
    assert passes(replace(salient, saliency="center")) - base == 2 * 9 + 2
    # On 4x4 patches ratios .1 and .15 hide two patches both: one point, one pass a trial.
    coarse = Occlusion(grid=(4, 4), trials=1)
    counts = sorted({mask_count(r, 16) for r in SMALL})
    assert len(counts) == 10
    assert passes(coarse) - base == 10


def test_the_forecast_counts_conditions_and_gradients() -> None:
    asked = Occlusion(mode=("random", "salient"), saliency="smoothgrad", trials=3)
    suite = prepared(asked, *sized(32))
    three = replace(suite, modes=("random", "salient", "foreground"))
    # Nine inner points a mode and both ends; 16 copies and the clean image's own class.
    assert three.passes(10) == Passes(9 * 3 + 2, 10 * (9 * (1 + 2 * 3) + 2 + 17), 10 * 16)
    assert suite.saliency is not None
    rolled = replace(suite, saliency=replace(suite.saliency, source="rollout"))
    assert rolled.passes(10) == Passes(9 * 2 + 2, 10 * (9 * (1 + 3) + 2 + 1), 0)


# parameters and summary


def test_everything_comes_back_from_the_rows(tmp_path: Path) -> None:
    data = tiny_images(23)
    suite = replace(EVERY, boxes=patch_boxes(tmp_path / "b.npz", data, (3, 4, 19, 22)))
    suite = replace(suite, mask_scope="batch:5", rounding="half-even", offset=(2, 3))
    evaluate(tiny_model(), data, ["clean", suite], out=tmp_path / "run")
    (tmp_path / "b.npz").unlink()
    assert recompute(Report.load(tmp_path / "run")) == []
    params = occlusion(Report.load(tmp_path / "run")).params
    assert params["nonstandard"] == ["mask_scope", "rounding"]
    assert params["ratios"] == ["0", "1/8", "1/2", "1"]
    assert (params["grid"], params["offset"]) == ("4x4", "2,3")
    assert read_suite("occlusion", params).params == params


def test_names_hold_fill_mode_and_grid(tmp_path: Path) -> None:
    data = tiny_images(9)
    suite = replace(EVERY, fill="black", boxes=patch_boxes(tmp_path / "b.npz", data, (3, 4, 9, 9)))
    part = occlusion(evaluate(tiny_model(), data, ["clean", suite]))
    names = [f"{m}_black_{mode}_4x4" for mode in MODES for m in ("auc", "nauc", "nauc_chance")]
    names += [f"rho50_black_{mode}_4x4" for mode in MODES]
    assert set(part.metrics) == {*names, "gap_area_black_nonsalient_salient_4x4"}
    assert (part.details["patch"], part.details["aligned"]) == ([8, 8], None)
    note = part.metrics["auc_black_salient_4x4"].note
    assert note is not None
    assert "not for comparing models" in note


def test_the_first_curve_stands_for_the_suite() -> None:
    suite = replace(EVERY, mode=("salient", "nonsalient"))
    report = evaluate(tiny_model(), tiny_images(23), ["clean", suite])
    part = occlusion(report)
    assert part.curve("salient").at == ["0", "0.125", "0.5", "1"]
    assert part.curve("nonsalient").at == [f"nonsalient:{x}" for x in ("0", "0.125", "0.5", "1")]
    right = [100 * (value or 0) for value in values(part, "salient")]
    bars = [ord(bar) - ord("▁") for bar in part.shown.note]
    assert bars == [min(7, int(8 * value / 100)) for value in right]
    salient, nonsalient = (
        np.trapezoid(np.array(values(part, mode), dtype=float), part.curve(mode).x)
        for mode in suite.mode
    )
    gap = part.metrics["gap_area_mean_nonsalient_salient_4x4"].value
    assert gap == pytest.approx(nonsalient - salient)


@pytest.mark.parametrize("saliency", ["gradxinput", "center"])
def test_numbers_in_an_order_of_the_models_own_are_named(saliency: str) -> None:
    suite = replace(EVERY, mode=("random", "salient"), saliency=saliency)
    part = occlusion(evaluate(tiny_model(), tiny_images(9), ["clean", suite]))
    own = set(part.shown.own_choice)
    if saliency == "center":  # the same order for every model
        assert not own
        return
    assert {f"{m}_mean_salient_4x4" for m in ("auc", "nauc", "nauc_chance", "rho50")} < own
    points = {f"{m}[{at}]" for at in part.curve("salient").at for m in part.condition(at)}
    assert len(points) == 4 * 5
    assert points < own
    assert len(own) == 4 + len(points)  # and nothing of the random masks
    assert all(part.number(path) is not None for path in own)


@pytest.mark.parametrize(
    "change",
    [
        {"masked": [0, 3, 8, 16]},
        {"grid": "4"},
        {"grid": "8x8"},
        {"offset": "1"},
        {"ratios": ["0", "1e999999999"]},
        {"ratios": [0, 1]},
        {"modes": ["random", "magic"]},
        {"saliency": None},
        {"saliency": {"source": 3, "class": "prediction", "sha256": None}},
        {"boxes": {}},
        {"fill": "pink"},
        {"trials": "many"},
    ],
)
def test_parameters_that_contradict_themselves_are_not_read(change: dict[str, Any]) -> None:
    params = prepared(replace(EVERY, mode=("random", "salient")), *sized(32)).params
    assert isinstance(read_suite("occlusion", params), PreparedOcclusion)
    with pytest.raises(IntakeError, match="parameters of suite occlusion are damaged"):
        read_suite("occlusion", {**params, **change})


def test_a_source_from_outside_is_named_and_asked_for_the_class() -> None:
    data, robust = tiny_images(11), tiny_model()

    def darkest(explained: Explained) -> Tensor:
        """Dark pixels, where the label is asked for."""
        assert explained.labels is not None
        return 1 - explained.images.mean(dim=1)

    with SALIENCY.temporary():
        SALIENCY.register("darkest", darkest)
        suite = replace(EVERY, mode=("salient",), saliency="darkest", saliency_label="label")
        report = evaluate(robust, data, ["clean", suite])
        part = occlusion(report)
        assert prepared(suite, robust, data).passes(11) == Passes(4, None, None)
    assert part.details["saliency"] == {"source": "darkest", "class": "label", "sha256": None}
    assert [(one.kind, one.name) for one in part.origins] == [("saliency", "darkest")]
    assert part.shown.own_choice
    again = remake(report)["occlusion"]  # its rows say all, with the source gone too
    assert again.metrics == part.metrics


def test_options_are_read_as_they_are_typed() -> None:
    typed = {
        "grid": "4x2", "ratios": "0:1:0.5", "fill": "image-mean", "mode": "random, salient",
        "offset": "3,1", "saliency": "smoothgrad",
    }  # fmt: skip
    options = {option.name: option for option in Occlusion().options()}
    found = Occlusion(**{name: options[name].value(text) for name, text in typed.items()})
    assert found == Occlusion(
        grid=(4, 2),
        ratios=(Fraction(0), Fraction(1, 2), Fraction(1)),
        fill="image_mean",
        mode=("random", "salient"),
        offset=(3, 1),
        saliency="smoothgrad",
    )
    with pytest.raises(UsageError, match="did you mean 'image_mean'"):
        options["fill"].value("image-men")


def sized(side: int) -> tuple[RobustModel, ImageSet]:
    data = ImageSet(
        name="sized", split="test", pixels=TensorPixels(torch.zeros(1, 3, side, side).byte()),
        labels=torch.zeros(1).long(), sample_ids=("a",), class_names=("x", "y"), mean=MEAN, std=STD,
    )  # fmt: skip
    size = (3, side, side)
    return RobustModel(OnePatch(), mean=MEAN, std=STD, num_classes=2, input_size=size), data


def test_defaults_depend_on_the_size() -> None:
    small, large = (prepared(Occlusion(), *sized(side)) for side in (32, 224))
    assert (small.grid, large.grid) == ((8, 8), (14, 14))
    assert (small.ratios, large.ratios) == (SMALL, TENTHS)
    assert small.params["masked"] == [0, 3, 6, 10, 13, 19, 26, 32, 45, 58, 64]
    assert small.params["nonstandard"] == []
    # Of ratios that hide equally many patches the smallest is recorded: .1 and .15 hide two of 16.
    coarse = prepared(Occlusion(grid=(4, 4)), *sized(32))
    assert coarse.params["ratios"][:4] == ["0", "1/20", "1/10", "1/5"]


@pytest.mark.parametrize(
    ("suite", "text"),
    [
        (lambda: prepared(Occlusion(grid=(7, 7)), *sized(32)), "does not divide"),
        (lambda: prepared(Occlusion(mode=("foreground",)), *sized(32)), "no boxes or masks"),
        (lambda: Occlusion(mode=("salent",)), "did you mean 'salient'"),
        (lambda: Occlusion(mode=()), "no mode"),
        (lambda: Occlusion(saliency="gradcm"), "did you mean 'gradcam'"),
        (lambda: Occlusion(saliency_label="labl"), "did you mean 'label'"),  # type: ignore[arg-type]
        (lambda: Occlusion(mask_scope="batch"), "unknown mask scope"),
        (lambda: Occlusion(rounding="up"), "unknown rounding"),  # type: ignore[arg-type]
        (lambda: prepared(Occlusion(ratios=(Fraction(1, 999),)), *sized(32)), "hide no patch"),
        (lambda: Occlusion(ratios=(Fraction(2),)), "shares of patches"),
        (lambda: Occlusion(trials=0), "trials >= 1"),
    ],
)
def test_invalid_options_are_refused(suite: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        suite()


def test_curves_are_drawn(tmp_path: Path) -> None:
    suite = replace(EVERY, mode=("random", "salient", "nonsalient"))
    report = evaluate(tiny_model(), tiny_images(23), ["clean", suite], name="tiny run")
    draw_occlusion([report, report], ["occlusion"], tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert drawn.count("<!-- tiny run -->") == 2
    for mode in suite.mode:
        area = report.metric(f"occlusion.auc_mean_{mode}_4x4").value
        assert area is not None
        assert drawn.count(f"<!-- {mode}, area {100 * area:.1f} % -->") == 2
    assert drawn.count("FillBetweenPolyCollection") == 6
    bare = evaluate(tiny_model(), tiny_images(5), ["clean"])
    with pytest.raises(IntakeError, match="no report has a curve"):
        draw_occlusion([bare], ["occlusion"], tmp_path / "x.png")
