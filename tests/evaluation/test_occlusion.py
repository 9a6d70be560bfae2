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
from robustmix.evaluation.engine import padded
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.patches import filling, mask_count
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.occlusion import MODES, SMALL, TENTHS, OcclusionSuite
from robustmix.metrics.binned import expected_calibration_error
from robustmix.metrics.conditions import shared_resamples
from robustmix.metrics.curves import curve_metrics, curve_point, gap_area
from robustmix.models.robust_model import RobustModel
from robustmix.pages.occlusion_curves import draw_occlusion
from robustmix.report.report import Report
from robustmix.report.samples import Table
from robustmix.report.schema import OcclusionPart
from robustmix.rng import permutations, sample_keys
from robustmix.saliency import registry
from robustmix.saliency.from_file import save_maps
from robustmix.saliency.sources import Explained
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model

THIRDS = (Fraction(1, 3), Fraction(2, 3), Fraction(1))


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def occlusion(report: Report) -> OcclusionPart:
    part = report.content.suites["occlusion"]
    assert isinstance(part, OcclusionPart)
    assert part.status == "ok", part.reason
    return part


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
    suite = OcclusionSuite(
        grid=(4, 4),
        ratios=tuple(Fraction(k, 16) for k in range(17)),
        modes=("salient", "nonsalient"),
        saliency=saliency,
        offset=offset,
    )
    part = occlusion(evaluate(reader(OnePatch(offset)), bright(9), ["clean", suite]))
    values = {m: [p.metrics["acc"].value for p in part.curves[m]] for m in part.modes}
    assert values["salient"] == [1.0] + [0.0] * 16
    assert values["nonsalient"] == [1.0] * 16 + [0.0]
    # Areas of a fall within the first and the last step of sixteen.
    assert part.metrics["auc_mean_salient_4x4"].value == pytest.approx(1 / 32)
    assert part.metrics["auc_mean_nonsalient_4x4"].value == pytest.approx(31 / 32)
    assert part.metrics["gap_area_mean_nonsalient_salient_4x4"].value == pytest.approx(30 / 32)
    assert part.metrics["rho50_mean_salient_4x4"].value == pytest.approx(1 / 32)
    assert part.metrics["rho50_mean_nonsalient_4x4"].value == pytest.approx(31 / 32)


def test_trap_20_foreground_first_and_background_last(tmp_path: Path) -> None:
    """With the box around the patch that is read, and one patch more."""
    data = bright(9)
    suite = OcclusionSuite(
        grid=(4, 4),
        ratios=tuple(Fraction(k, 16) for k in (0, 1, 2, 13, 14, 15, 16)),
        modes=("foreground", "background", "random"),
        boxes=patch_boxes(tmp_path / "b.npz", data, (8, 0, 8, 9)),
        trials=2,
    )
    part = occlusion(evaluate(reader(), data, ["clean", suite]))
    assert part.modes == ["random", "foreground", "background"]
    values = {m: [p.metrics["acc"].value for p in part.curves[m]] for m in part.modes}
    assert values["foreground"] == [1, 0, 0, 0, 0, 0, 0]
    assert values["background"] == [1, 1, 1, 1, 1, 1, 0]
    assert part.params["boxes"]["sha256"]


def spy(monkeypatch: pytest.MonkeyPatch, robust: RobustModel) -> list[Explained]:
    seen: list[Explained] = []
    true = registry.SOURCES["gradxinput"]

    def source(explained: Explained) -> Tensor:
        seen.append(explained)
        return true(explained)

    monkeypatch.setitem(registry.SOURCES, "gradxinput", source)
    return seen


def test_trap_20_saliency_is_of_the_clean_image_and_taken_once_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, robust = tiny_images(23), tiny_model()
    seen = spy(monkeypatch, robust)
    suite = OcclusionSuite(grid=(4, 4), modes=("salient", "nonsalient"), fill="blur")
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
    suite = OcclusionSuite(grid=(4, 2), ratios=THIRDS, modes=(mode,), trials=3)
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
    points = part.curves[mode]
    assert [p.masked for p in points] == [0, 3, 5, 8]
    assert [p.x for p in points] == [0, 3 / 8, 5 / 8, 1]
    assert [p.metrics["acc"].value for p in points] == pytest.approx(list(right.mean(axis=1)))
    assert points[1].metrics["trial_sd"].value is None  # nothing is random
    assert points[1].metrics["retention"].value == pytest.approx(right[1].mean() / right[0].mean())


@pytest.mark.parametrize("fill", ["noise", "image_mean", "blur", "black"])
def test_random_suite_equals_a_loop_for_every_fill(fill: Any) -> None:
    data, robust = tiny_images(13), tiny_model()
    suite = OcclusionSuite(grid=(4, 4), ratios=(Fraction(1, 4), Fraction(1)), fill=fill, trials=3)
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
        metrics = part.points[point].metrics
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
    suite = OcclusionSuite(
        grid=(4, 4),
        ratios=(Fraction(1, 16), Fraction(2, 16)),
        modes=("salient",),
        saliency_file=tmp_path / "maps.npz",
    )
    report = evaluate(reader(), data, ["clean", suite])
    part = occlusion(report)
    # Patch 1 is read: first of image 1; in image 0 it is second, among equals by index.
    assert report.samples is not None
    table = report.samples.tables["occlusion"]
    assert (table.at("salient/1")["correct"] == 0).nonzero()[0].tolist() == [1]
    assert (table.at("salient/2")["correct"] == 0).nonzero()[0].tolist() == [0, 1]
    assert part.saliency is not None
    assert part.saliency["source"] == "file"
    assert len(part.saliency["sha256"]) == 64
    with pytest.raises(IntakeError, match="no map for 4 of 20"):
        suite.resolved((32, 32)).opened(bright(20))
    for wrong in (
        replace(suite, saliency="center"),
        OcclusionSuite(modes=("salient",), saliency="file"),
    ):
        with pytest.raises(UsageError, match="go together"):
            wrong.resolved((32, 32))


# traps of the harness


EVERY = OcclusionSuite(
    grid=(4, 4), ratios=(Fraction(1, 8), Fraction(1, 2), Fraction(1)), modes=MODES, trials=2
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
    quarter = OcclusionSuite(grid=(4, 4), ratios=(Fraction(1, 4),), trials=2)
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
        assert part.mask_scope == scope
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
    suite = replace(EVERY, boxes=boxes, fill="noise", saliency="smoothgrad").resolved((32, 32))
    from robustmix.evaluation.engine import Batch, Context

    robust = tiny_model()
    context = Context(
        model=padded(robust),
        robust=robust,
        data=data,
        official=torch.arange(9),
        device=torch.device("cpu"),
        seed=0,
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


def doctored(report: Report, condition: str, value: int) -> Any:
    """Return the samples with the prediction of one sample under one condition changed."""
    assert report.samples is not None
    table = report.samples.tables["occlusion"]
    pred = table.columns["pred"].copy()
    pred[table.conditions.index(condition), 0, 3] = value
    changed = Table(table.conditions, {**table.columns, "pred": pred})
    return replace(report.samples, tables={**report.samples.tables, "occlusion": changed})


@pytest.mark.parametrize("fill", ["mean", "black", "image_mean"])
def test_the_ends_of_the_curve_are_asserted(fill: Any) -> None:
    data, robust = tiny_images(23), tiny_model()
    suite = replace(EVERY, modes=("random",), fill=fill).resolved((32, 32))
    report = evaluate(robust, data, ["clean", suite])
    part = occlusion(report)
    facts = {"seed": 0, "num_classes": 5, "input_size": [3, 32, 32], "subset": False}
    top1 = report.metric("clean.top1").value
    assert part.points[0].metrics["acc"].value == top1
    shown = {"mean": torch.tensor(MEAN), "black": torch.zeros(3)}.get(fill)
    if shown is not None:
        (one,) = robust(shown.view(1, 3, 1, 1).expand(1, 3, 32, 32)).argmax(dim=1)
        share = float((data.labels == one).float().mean())
        assert part.points[-1].metrics["acc"].value == pytest.approx(share)
    with pytest.raises(IncompleteError, match="hiding nothing") as caught:
        suite.summarise(doctored(report, "none", 99), facts)
    assert caught.value.code == "E-RHO-ZERO"
    changed = doctored(report, "all", 99)
    if fill == "image_mean":
        suite.summarise(changed, facts)
    else:
        with pytest.raises(IncompleteError, match="everything hidden"):
            suite.summarise(changed, facts)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return x.mean(dim=(2, 3))


def test_only_distinct_masked_images_are_run() -> None:
    """9 T + 2 forward passes for eleven random points, 9 + 9 + 2 and the gradient's for salient."""

    def passes(*suites: Any) -> int:
        net = Counting()
        robust = RobustModel(net, mean=MEAN, std=STD, num_classes=3, input_size=(3, 32, 32))
        data = tiny_images(16, classes=3)
        evaluate(robust, data, ["clean", *suites], batch_size=8)
        return net.images // 16

    base = passes()
    ratios = tuple(Fraction(k, 10) for k in range(11))
    random_ = OcclusionSuite(ratios=ratios, trials=4)
    assert passes(random_) - base == 9 * 4 + 2
    assert passes(replace(random_, fill="noise")) - base == 9 * 4 + 1 + 4
    salient = replace(random_, modes=("salient", "nonsalient"))
    assert passes(salient) - base == 2 * 9 + 2 + 1
    assert passes(replace(salient, saliency="smoothgrad")) - base == 2 * 9 + 2 + 1 + 16
    # On 4x4 patches ratios .1 and .15 hide two patches both: one point, one pass a trial.
    coarse = OcclusionSuite(grid=(4, 4), trials=1)
    counts = sorted({mask_count(r, 16) for r in SMALL})
    assert len(counts) == 10
    assert passes(coarse) - base == 10


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
    assert OcclusionSuite.from_params(params).params() == params


def test_names_hold_fill_mode_and_grid(tmp_path: Path) -> None:
    data = tiny_images(9)
    suite = replace(EVERY, fill="black", boxes=patch_boxes(tmp_path / "b.npz", data, (3, 4, 9, 9)))
    part = occlusion(evaluate(tiny_model(), data, ["clean", suite]))
    names = [f"{m}_black_{mode}_4x4" for mode in MODES for m in ("auc", "nauc", "nauc_chance")]
    names += [f"rho50_black_{mode}_4x4" for mode in MODES]
    assert set(part.metrics) == {*names, "gap_area_black_nonsalient_salient_4x4"}
    assert (part.patch, part.aligned) == ((8, 8), None)
    note = part.metrics["auc_black_salient_4x4"].note
    assert note is not None
    assert "not for comparing models" in note


def test_curve_metrics_by_hand() -> None:
    # Two images, four points: accuracies 1, 1, .5, 0 at shares 0, .25, .5, 1.
    correct = np.array([[1, 1], [1, 1], [1, 0], [0, 0]], dtype=float)
    shares = np.array([0, 0.25, 0.5, 1])
    metrics = curve_metrics(correct, shares, num_classes=4, seed=0, suffix="x")
    area = 0.25 + 0.25 * 0.75 + 0.5 * 0.25
    assert metrics["auc_x"].value == pytest.approx(area)
    assert metrics["nauc_x"].value == pytest.approx(area)
    assert metrics["nauc_chance_x"].value == pytest.approx((area - 0.25) / 0.75)
    assert metrics["rho50_x"].value == pytest.approx(0.5)
    hopeless = curve_metrics(np.zeros((4, 2)), shares, num_classes=4, seed=0, suffix="x")
    assert hopeless["nauc_x"].value is None
    assert hopeless["rho50_x"].reason is not None
    # The range need not be all of [0, 1]: 14 of 64 patches at most.
    short = curve_metrics(correct[:3], shares[:3], num_classes=4, seed=0, suffix="x")
    assert short["auc_x"].value == pytest.approx((0.25 + 0.25 * 0.75) / 0.5)
    gap = gap_area(correct, np.zeros((4, 2)), shares, note="")
    assert gap.value == pytest.approx(area)


def test_retention_interval_equals_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    start = (rng.random(400) < 0.7).astype(float)
    right = start * (rng.random(400) < 0.6)
    weights = shared_resamples(400, 0)
    metrics = curve_point(right[None], np.full((1, 400), 0.5), start, weights=weights, seed=0)
    found = metrics["retention"]
    assert found.value == pytest.approx(right.sum() / start.sum())
    picks = rng.integers(400, size=(4000, 400))
    ratios = right[picks].sum(axis=1) / start[picks].sum(axis=1)
    assert found.ci == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), abs=0.01)
    none = curve_point(right[None], right[None], 0 * start, weights=weights, seed=0)["retention"]
    assert none.value is None
    assert none.reason is not None


def test_defaults_depend_on_the_size() -> None:
    small, large = (OcclusionSuite().resolved((s, s)) for s in (32, 224))
    assert (small.grid, large.grid) == ((8, 8), (14, 14))
    assert (small.ratios, large.ratios) == (SMALL, TENTHS)
    assert small.params()["masked"] == [0, 3, 6, 10, 13, 19, 26, 32, 45, 58, 64]
    assert small.params()["nonstandard"] == []


@pytest.mark.parametrize(
    ("suite", "text"),
    [
        (lambda: OcclusionSuite(grid=(7, 7)).resolved((32, 32)), "does not divide"),
        (lambda: OcclusionSuite(modes=("foreground",)).resolved((32, 32)), "no boxes or masks"),
        (lambda: OcclusionSuite(modes=("salent",)), "did you mean 'salient'"),
        (lambda: OcclusionSuite(modes=()), "no mode"),
        (lambda: OcclusionSuite(saliency="gradcm"), "did you mean 'gradcam'"),
        (lambda: OcclusionSuite(saliency_label="labl"), "did you mean 'label'"),
        (lambda: OcclusionSuite(mask_scope="batch"), "unknown mask scope"),
        (lambda: OcclusionSuite(rounding="up"), "unknown rounding"),  # type: ignore[arg-type]
        (lambda: OcclusionSuite(ratios=(Fraction(1, 999),)).resolved((32, 32)), "hide no patch"),
        (lambda: OcclusionSuite(ratios=(Fraction(2),)), "shares of patches"),
        (lambda: OcclusionSuite(trials=0), "trials >= 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(suite: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        suite()


def test_curves_are_drawn(tmp_path: Path) -> None:
    suite = replace(EVERY, modes=("random", "salient", "nonsalient"))
    report = evaluate(tiny_model(), tiny_images(23), ["clean", suite], name="tiny run")
    draw_occlusion([report, report], tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert drawn.count("<!-- tiny run -->") == 2
    for mode in suite.modes:
        area = report.metric(f"occlusion.auc_mean_{mode}_4x4").value
        assert area is not None
        assert drawn.count(f"<!-- {mode}, area {100 * area:.1f} % -->") == 2
    assert drawn.count("FillBetweenPolyCollection") == 6
    with pytest.raises(IntakeError, match="no report has suite occlusion"):
        draw_occlusion([evaluate(tiny_model(), tiny_images(5), ["clean"])], tmp_path / "x.png")
