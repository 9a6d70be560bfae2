"""Salient PatchDrop by shares of the saliency, against exact arithmetic and loops over patches."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.forecast import forecast
from robustmix.evaluation.patches import foreground
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.registry import read_suite
from robustmix.models.robust_model import RobustModel, padded
from robustmix.pages.occlusion_curves import draw_occlusion
from robustmix.pages.page import page_html
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart
from robustmix.report.terminal import note_lines
from robustmix.saliency.from_file import save_maps
from tests.evaluation.tiny import tiny_images, tiny_model

FIVE = [0.05, 0.10, 0.15, 0.30, 0.40]


def told(values: list[float], share: Fraction, dtype: torch.dtype = torch.float64) -> list[int]:
    """Return the numbers of the foreground patches, from 1."""
    found = foreground(torch.tensor([values], dtype=dtype), share)[0]
    return [place + 1 for place in found.nonzero().flatten().tolist()]


def exact(values: list[Fraction], share: Fraction) -> list[int]:
    """Sort, cumulate and compare without rounding."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    total, cumulated, found = sum(values), Fraction(0), []
    for place in order:
        cumulated += values[place]
        if cumulated > (1 - share) * total:
            found.append(place + 1)
    return sorted(found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_worked_example(dtype: torch.dtype) -> None:
    """Half of the saliency is in patches 4 and 5: 40 % of the patches, 70 % of the saliency."""
    assert told(FIVE, Fraction(1, 2), dtype) == [4, 5]
    assert told(FIVE, Fraction(1, 5), dtype) == [5]
    # At a tie the rule is strict: cumulated 0.6 is not above 1 - 0.4.
    assert told(FIVE, Fraction(2, 5), dtype) == [5]
    assert told([FIVE[i] for i in (3, 0, 4, 2, 1)], Fraction(1, 2), dtype) == [1, 3]


def test_the_ends_and_maps_of_little() -> None:
    assert told(FIVE, Fraction(0)) == []
    assert told(FIVE, Fraction(1)) == [1, 2, 3, 4, 5]
    assert told([1e-30, 1.0, 0.0], Fraction(1)) == [1, 2]  # however little it has
    assert told([0.0, 0.0], Fraction(1)) == []
    assert told([2.0, 2.0, 2.0], Fraction(1, 3)) == [3]  # the lower index counts as the smaller


def test_the_rule_is_that_of_exact_arithmetic() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(1, 1000, (40, 23), generator=generator)
    for share in (Fraction(k, 10) for k in range(11)):
        found = foreground(whole.double() / 997, share)
        for row, patches in zip(whole.tolist(), found, strict=True):
            want = exact([Fraction(value) for value in row], share)
            assert [p + 1 for p in patches.nonzero().flatten().tolist()] == want


SHARES = tuple(Fraction(k, 10) for k in (0, 3, 7, 10))


def maps_of(data: ImageSet, path: Path, side: int = 4, seed: int = 5) -> np.ndarray[Any, Any]:
    maps = np.random.default_rng(seed).random((len(data), side, side)).astype(np.float32) ** 3
    save_maps(path, data.sample_ids, maps)
    return maps


def occlusion(report: Report, key: str = "occlusion") -> SuitePart:
    part = report.content.suites[key]
    assert part.status == "ok", part.reason
    return part


def test_the_suite_equals_a_loop_over_patches(tmp_path: Path) -> None:
    """Salient is black where the foreground is; nonsalient is black elsewhere."""
    data, robust = tiny_images(19), tiny_model()
    maps = maps_of(data, tmp_path / "maps.npz")
    suite = Occlusion(
        grid=(4, 4), fill="black", mode=("salient", "nonsalient"), mass=SHARES[1:3],
        saliency_file=tmp_path / "maps.npz",
    )  # fmt: skip
    report = evaluate(robust, data, ["clean", suite], batch_size=7)
    part, model = occlusion(report), padded(robust)
    images = data.pixels.take(torch.arange(19)).float() / 255
    right = {mode: np.zeros((4, 19)) for mode in suite.mode}
    for point, share in enumerate(SHARES):
        for i in range(19):
            front = exact([Fraction(float(v)) for v in maps[i].flatten()], share)
            for mode in suite.mode:
                masked = images[i].clone()
                for patch in range(16):
                    if (patch + 1 in front) == (mode == "salient"):
                        y, x = 8 * (patch // 4), 8 * (patch % 4)
                        masked[:, y : y + 8, x : x + 8] = 0
                guess = int(model(masked.unsqueeze(0)).argmax())
                right[mode][point, i] = guess == int(data.labels[i])
    assert part.params["mass"] == ["0", "3/10", "7/10", "1"]
    assert part.params["ratios"] == part.params["masked"] == []
    assert part.curve("salient").at == ["0", "0.3", "0.7", "1"]
    assert part.curve("nonsalient").at == [f"nonsalient:{x}" for x in ("0", "0.3", "0.7", "1")]
    areas = {}
    for mode in suite.mode:
        curve = part.curve(mode)
        assert curve.x == [0, 0.3, 0.7, 1]
        assert "share of saliency" in curve.x_label
        got = [found.value for found in part.along(curve)]
        assert got == pytest.approx(list(right[mode].mean(axis=1)))
        areas[mode] = np.trapezoid(right[mode].mean(axis=1), curve.x)
        assert part.metrics[f"auc_black_{mode}_mass_4x4"].value == pytest.approx(areas[mode])
    gap = part.metrics["gap_area_black_nonsalient_salient_mass_4x4"].value
    assert gap == pytest.approx(areas["nonsalient"] - areas["salient"])
    # Retention is over the whole image, at whichever end of the axis it stands.
    clean = right["salient"][0].mean()
    assert clean == right["nonsalient"][3].mean() > 0
    for mode, place, name in (("salient", 2, "0.7"), ("nonsalient", 1, "nonsalient:0.3")):
        kept = part.condition(name)["retention"].value
        assert kept == pytest.approx(right[mode][place].mean() / clean)
    assert recompute(report) == []


class OnePatch(nn.Module):
    """Class 1 where the second patch of sixteen is bright."""

    def forward(self, x: Tensor) -> Tensor:
        level = x[:, :, :8, 8:16].mean(dim=(1, 2, 3))
        return torch.stack([torch.full_like(level, 0.5), level], dim=1)


def test_a_patch_is_in_the_foreground_until_its_share_is_overshot(tmp_path: Path) -> None:
    """All images are white; the read patch holds half of the saliency, another the rest."""
    images = torch.full((6, 3, 32, 32), 255, dtype=torch.uint8)
    data = replace(
        tiny_images(6, classes=2), pixels=TensorPixels(images), labels=torch.ones(6).long()
    )
    maps = np.zeros((6, 4, 4))
    maps[:, 0, 1], maps[:, 3, 3] = 0.49, 0.51
    save_maps(tmp_path / "m.npz", data.sample_ids, maps)
    robust = RobustModel(
        OnePatch(), mean=(0,) * 3, std=(1,) * 3, num_classes=2, input_size=(3, 32, 32)
    )
    suite = Occlusion(
        grid=(4, 4), fill="black", mode=("salient", "nonsalient"), saliency_file=tmp_path / "m.npz",
        mass=tuple(Fraction(k, 100) for k in (10, 51, 52, 100)),
    )  # fmt: skip
    part = occlusion(evaluate(robust, data, ["clean", suite]))
    # Cumulated: the read patch .49, the other 1. The former is in once 1 - share is below .49.
    salient, nonsalient = ([m.value for m in part.along(part.curve(m))] for m in suite.mode)
    assert salient == [1, 1, 1, 0, 0]
    assert nonsalient == [0, 0, 0, 1, 1]
    # Numbers over what is hidden: nonsalient loses all at 1 - .51, salient at .52.
    assert part.metrics["rho50_black_nonsalient_mass_4x4"].value == pytest.approx(0.485)
    assert part.metrics["rho50_black_salient_mass_4x4"].value == pytest.approx(0.515)


class Counted(nn.Module):
    """Of 28 x 28 pixels, so that patches of the published grid are 2 x 2; counts its images."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.black: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        self.black.append((x[:, 0, ::2, ::2] == -2).flatten(1).sum(dim=1))
        return torch.stack([x.mean(dim=(1, 2, 3)), x[:, 0].mean(dim=(1, 2))], dim=1)


def published(n: int = 8) -> tuple[RobustModel, ImageSet]:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(1, 256, (n, 3, 28, 28), dtype=torch.uint8, generator=generator)
    data = replace(tiny_images(n, classes=2), pixels=TensorPixels(pixels))
    net = Counted()
    robust = RobustModel(
        net, mean=(0.5,) * 3, std=(0.25,) * 3, num_classes=2, input_size=(3, 28, 28)
    )
    return robust, data


def test_the_protocol_is_as_published_and_says_where_it_departs(tmp_path: Path) -> None:
    robust, data = published()
    maps = maps_of(data, tmp_path / "maps.npz", side=14)
    asked: dict[str, Any] = {
        "protocol": ["naseer-patchdrop"], "saliency_file": tmp_path / "maps.npz",
    }  # fmt: skip
    report = evaluate(robust, data, batch_size=8, name="tiny run", **asked)
    key = "occlusion@naseer-patchdrop"
    part = occlusion(report, key)
    assert report.content.protocol.nonstandard_suites == [key]
    assert part.params["nonstandard"] == ["mask_scope", "rounding", "mass"]
    assert part.params["masked"] == [0, 19, 39, 58, 78, 98, 117, 137, 156, 176]
    assert part.params["mass"] == ["0", *(str(Fraction(k, 10)) for k in range(1, 11))]
    assert [curve.panel for curve in part.curves] == ["", *["by shares of the saliency"] * 2]
    (line,) = note_lines(report)
    assert "one mask per 256 samples; counts rounded floor; salient and nonsalient go by" in line
    note = part.metrics["auc_black_salient_mass_14x14"].note or ""
    assert (
        note == "saliency: file; over the share of the saliency that is hidden, not of the patches"
    )
    assert part.metrics["auc_black_random_14x14"].note == (
        "one mask per 256 samples; counts rounded floor"
    )
    assert part.shown.own_choice == []
    # Black is 0 before the normalisation: -2 behind it. So many patches of each image are black:
    net = robust.net
    assert isinstance(net, Counted)
    counts = [len(exact([Fraction(float(v)) for v in maps[0].flatten()], Fraction(k, 10)))
              for k in range(1, 11)]  # fmt: skip
    first = [int(batch[0]) for batch in net.black]
    assert all(count in first and 196 - count in first for count in counts)
    draw_occlusion([report], [key], tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert "share of saliency hidden, of nonsalient: shown" in drawn
    page = page_html([report]).replace("<wbr>", "")
    assert "by shares of the saliency" in page
    assert "auc_black_nonsalient_mass_14x14" in page
    assert recompute(report) == []
    other = evaluate(robust, data, batch_size=3, **asked)
    compared = {row.suite for one in compare(report, other).comparisons for row in one.metrics}
    assert key in compared
    judged = {row.path for row in check(other, report).rules}
    assert f"{key}.auc_black_nonsalient_mass_14x14" in judged


def test_the_forecast_counts_what_is_run(tmp_path: Path) -> None:
    robust, data = published()
    maps_of(data, tmp_path / "maps.npz", side=14)
    evaluation = prepare(
        robust, data, ["occlusion"], protocols=["naseer-patchdrop"],
        options={"saliency_file": tmp_path / "maps.npz"},
    )  # fmt: skip
    (ready,) = (one for one in evaluation.suites if one.planned.name == "occlusion")
    # 9 random, 10 of each order, nothing hidden, all hidden.
    assert ready.prepared.passes(8)[:3] == (31, 8 * 31, 0)
    assert [
        c.conditions for c in forecast(evaluation, batch_size=8).suites if "naseer" in c.key
    ] == [31]
    net = robust.net
    assert isinstance(net, Counted)
    net.seen = 0
    evaluate(
        robust,
        data,
        ["clean", ready.planned.suite],
        batch_size=8,
        saliency_file=tmp_path / "maps.npz",
    )
    assert net.seen >= 8 * 31  # beside the clean pass and the probes of repeatability


@pytest.mark.parametrize("mode", ["random", "salient,nonsalient", "nonsalient"])
def test_the_protocol_is_run_with_some_of_its_orders(mode: str, tmp_path: Path) -> None:
    robust, data = published()
    maps_of(data, tmp_path / "maps.npz", side=14)
    options: dict[str, Any] = {} if mode == "random" else {"saliency_file": tmp_path / "maps.npz"}
    report = evaluate(robust, data, protocol=["naseer-patchdrop"], mode=mode, **options)
    part = occlusion(report, "occlusion@naseer-patchdrop")
    assert [curve.name for curve in part.curves] == mode.split(",")
    assert ("mass" in part.params) == (mode != "random")
    assert (part.params["masked"] == []) == (mode != "random")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mass": "0.5"}, "mass is of modes salient, nonsalient, and none of these is run"),
        ({"mass": "0.5", "mode": "salient", "ratios": "0.5"}, "ratios is of modes random"),
        ({"mass": "0.5", "mode": "salient", "rounding": "floor"}, "rounding is of modes random"),
        ({"mass": "1.5", "mode": "salient"}, "mass are shares of the saliency"),
        ({"mass": (), "mode": "salient"}, "mass without a share"),
    ],
)
def test_an_option_acts_or_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        evaluate(tiny_model(), tiny_images(9), ["occlusion"], **options)


@pytest.mark.parametrize("mass", [["1/2"], ["0", "1", "1/2"], ["0", "1/2"], ["0", "2"], "0"])
def test_damaged_shares_are_not_read(mass: Any, tmp_path: Path) -> None:
    data = tiny_images(5)
    suite = Occlusion(grid=(4, 4), mode=("salient",), mass=(Fraction(1, 2),))
    params = occlusion(evaluate(tiny_model(), data, ["clean", suite])).params
    read_suite("occlusion", params)
    with pytest.raises(IntakeError, match="parameters of suite occlusion are damaged"):
        read_suite("occlusion", {**params, "mass": mass})
