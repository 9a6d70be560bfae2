"""Each suite against a plain recomputation, on models whose answers are known."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.options import Option
from robustmix.evaluation.params import eps_name
from robustmix.evaluation.patches import mask_count, nested_masks
from robustmix.evaluation.plan import every_option, plan
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.registry import (
    BY_FILES,
    find_suite,
    name_of,
    names_of_all,
    suite_names,
    suite_rows,
)
from robustmix.evaluation.suites.shuffle import Shuffle
from robustmix.models.robust_model import RobustModel
from robustmix.report.schema import SuitePart
from robustmix.rng import sample_keys
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def fgsm(**options: Any) -> Attack:
    return Attack(attack="fgsm", masking="off", **options)


def sweep(part: SuitePart) -> list[tuple[float, dict[str, float]]]:
    """Give the radii of an attack's curve, and the numbers there."""
    curve = part.curve("sweep")
    found = []
    for x, at in zip(curve.x, curve.at, strict=True):
        metrics = part.condition(at)
        assert all(metric.value is not None for metric in metrics.values())
        found.append((x, {name: metric.value or 0.0 for name, metric in metrics.items()}))
    return found


def test_every_suite_is_described_and_found_by_its_name() -> None:
    assert list(suite_rows()) == suite_names()
    assert all(len(row.help) > 20 for row in suite_rows().values())
    assert {name: name_of(find_suite(name)) for name in suite_names()} == {
        name: name for name in suite_names()
    }
    assert suite_names()[:4] == ["clean", "calibration", "corruption", "masking"]


def test_all_is_every_suite_but_attacks_of_another_or_by_name_and_those_of_files() -> None:
    assert names_of_all() == [
        "clean", "calibration", "corruption", "masking", "fgsm", "pgd", "autoattack",
        "occlusion", "shuffle",
    ]  # fmt: skip
    parts, by_name = {"apgd", "square", "fab"}, {"deepfool", "cw", "mifgsm", "transfer"}
    assert set(suite_names()) - set(names_of_all()) == {*parts, *by_name, *BY_FILES}


def keys(wanted: list[Any], **options: object) -> list[str]:
    return [item.key for item in plan(wanted, options=options)]


def test_suites_run_in_order_with_clean_first_and_the_check_before_attacks() -> None:
    assert keys(["occlusion", "fgsm"]) == ["clean", "masking", "fgsm", "occlusion"]
    assert keys(["occlusion", "fgsm"], masking="off") == ["clean", "fgsm", "occlusion"]
    assert keys(["all"]) == names_of_all()
    assert [item.key for item in plan()] == ["clean", "calibration"]
    with pytest.raises(UsageError, match="did you mean 'occlusion'"):
        plan(["oclusion"])
    with pytest.raises(UsageError, match="asked for twice"):
        plan(["fgsm", fgsm()])
    with pytest.raises(UsageError, match="no suite"):
        plan([])


def test_options_act_on_every_suite_that_has_them() -> None:
    given = {"eps": "4/255,2/255", "grid": "4x4", "trials": 2, "masking": "off"}
    found = {item.key: item.suite for item in plan(["fgsm", "occlusion", "shuffle"], options=given)}
    eps = (Fraction(4, 255), Fraction(2, 255))
    assert found["fgsm"] == fgsm(eps=eps)
    assert found["fgsm"].radii == (Fraction(0), Fraction(2, 255), Fraction(4, 255))  # type: ignore[attr-defined]
    assert found["fgsm"].radius == Fraction(4, 255)  # type: ignore[attr-defined]
    assert found["occlusion"] == Occlusion(grid=(4, 4), trials=2)
    assert found["shuffle"] == Shuffle(trials=2)


@pytest.mark.parametrize(
    ("suites", "options", "said"),
    [
        (["occlusion"], {"fill": "blck"}, "did you mean 'black'"),
        (["corruption"], {"corruption_source": "offical"}, "did you mean 'official'"),
        (["clean"], {"fill": "mean"}, "--fill is an option of occlusion, and none of these is run"),
        (["clean", "shuffle"], {"steps": 3}, "--steps is an option of pgd, apgd, fab"),
        (["clean"], {"fil": "mean"}, "unknown option '--fil'; did you mean '--fill'"),
        (["occlusion"], {"trials": "many"}, "--trials takes N, got 'many'"),
        (["occlusion"], {"trials": 2.5}, "--trials takes N"),
        (["clean"], {"confusion": "yes"}, "--confusion takes"),
    ],
)
def test_an_option_that_cannot_act_says_why(
    suites: list[str], options: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(suites, options=options)
    assert said in caught.value.line()


def test_every_option_has_its_help_and_is_called_as_its_flag() -> None:
    options = [one for suite in every_option().values() for one in suite.values()]
    assert len(options) > 40
    bare = [option.name for option in options if len(option.help) < 10]
    assert bare == []
    assert all(option.flag == "--" + option.name.replace("_", "-") for option in options)


def test_options_take_natural_python_values() -> None:
    option = Option(name="eps", hint=tuple[Fraction, ...], default=None, help="")
    assert option.value(8 / 255) == (Fraction(8, 255),)
    assert option.value([Fraction(1, 3), "1/7"]) == (Fraction(1, 3), Fraction(1, 7))
    assert option.value("8/255, 0.1") == (Fraction(8, 255), Fraction(1, 10))
    for wrong in (None, True, [True], "a", "1/0", float("nan"), float("inf")):
        with pytest.raises(UsageError):
            option.value(wrong)


# fgsm


def test_fgsm_suite_equals_the_formula() -> None:
    data, model = tiny_images(), tiny_model()
    report = evaluate(model, data, ["clean", fgsm()])
    part = report.content.suites["fgsm"]
    images = pixels(data).requires_grad_()
    (gradient,) = torch.autograd.grad(
        F.cross_entropy(model(images), data.labels, reduction="sum"), images
    )
    clean = model(images).argmax(dim=1) == data.labels
    for x, numbers in sweep(part):
        adversarial = (images + x * gradient.sign()).clamp(0, 1).detach()
        wrong = model(adversarial).argmax(dim=1) != data.labels
        assert numbers["error"] == pytest.approx(float(wrong.float().mean()), abs=1e-7)
        if x == float(Fraction(8, 255)):
            broken = (clean & wrong).sum() / clean.sum()
            assert part.metrics["asr"].value == pytest.approx(float(broken), abs=1e-7)
            delta = float(wrong.float().mean() - (~clean).float().mean())
            assert part.metrics["delta_error"].value == pytest.approx(delta, abs=1e-7)
            loss = F.cross_entropy(model(adversarial), data.labels)
            assert part.metrics["nll"].value == pytest.approx(float(loss), rel=1e-5)
            grey = (adversarial * 255).round() / 255
            wrong8 = (model(grey).argmax(dim=1) != data.labels).float().mean()
            assert part.metrics["error_uint8"].value == pytest.approx(float(wrong8), abs=1e-7)
            moved = (adversarial - images).detach()
            linf = float(moved.flatten(1).abs().amax(dim=1).mean())
            assert part.metrics["linf"].value == pytest.approx(linf, rel=1e-5)
            l2 = float(moved.flatten(1).norm(dim=1).mean())
            assert part.metrics["l2"].value == pytest.approx(l2, rel=1e-5)
    assert [round(x * 255) for x, _ in sweep(part)] == [0, 1, 2, 4, 8, 16, 32, 64, 255]


def test_fgsm_rounds_and_clips_as_the_formula_says() -> None:
    data, model = tiny_images(), tiny_model()
    eps = Fraction(1, 20)  # 12.75 grey levels, so that rounding to 8 bits changes pixels
    report = evaluate(model, data, ["clean", fgsm(eps=(eps,), sweep=())])
    assert report.samples is not None
    images = pixels(data).requires_grad_()
    (gradient,) = torch.autograd.grad(
        F.cross_entropy(model(images), data.labels, reduction="sum"), images
    )
    free = (images + 0.05 * gradient.sign()).detach()
    rounded = (free.clamp(0, 1) * 255).round() / 255
    confidence = torch.softmax(model(rounded).double(), dim=1).amax(dim=1)
    rows = report.samples.tables["fgsm"].at("0.05 8-bit")
    np.testing.assert_allclose(rows["confidence"].astype(float), confidence.numpy(), atol=1e-6)
    clipped = ((free < 0) | (free > 1)).float().mean()
    assert 0.001 < float(clipped) < 0.5
    assert report.metric("fgsm.frac_clipped").value == pytest.approx(float(clipped), abs=1e-7)


def test_fgsm_area_by_hand() -> None:
    report = evaluate(tiny_model(), tiny_images(), ["clean", fgsm()])
    part = report.content.suites["fgsm"]
    a = [numbers["robust_acc"] for _, numbers in sweep(part)][:6]  # 0 1 2 4 8 16
    area = (a[0] + a[1]) / 2 + (a[1] + a[2]) / 2 + (a[2] + a[3]) + 2 * (a[3] + a[4])
    area += 4 * (a[4] + a[5])
    assert part.metrics["auc_eps_16"].value == pytest.approx(area / 16, abs=1e-9)


class OneColour(nn.Module):
    """Two classes told apart by the mean of the red channel; a third of the pixels is ignored."""

    def forward(self, x: Tensor) -> Tensor:
        red = x[:, 0, :, 3:].mean(dim=(1, 2))
        return torch.stack([red, -red], dim=1)


def test_trap_1_the_suite_moves_pixels_by_exactly_eps_whatever_the_normalisation() -> None:
    robust = RobustModel(
        OneColour(), mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3), num_classes=2, input_size=(3, 8, 9)
    )
    images = torch.full((7, 3, 8, 9), 128, dtype=torch.uint8)
    images[:, 0] += torch.arange(7, dtype=torch.uint8).view(7, 1, 1) * 3
    data = ImageSet(
        name="red", split="test", pixels=TensorPixels(images), labels=torch.zeros(7).long(),
        sample_ids=tuple(map(str, range(7))), class_names=("red", "not"), mean=MEAN, std=STD,
    )  # fmt: skip
    report = evaluate(robust, data, ["clean", fgsm(eps=(Fraction(5, 255),))])
    part = report.content.suites["fgsm"]
    assert part.metrics["linf"].value == pytest.approx(5 / 255, abs=1e-6)
    # Red is above 0.5 by 3i levels and 1/2 of rounding, so eps = 5 levels turns samples 0 and 1.
    assert part.metrics["error"].value == pytest.approx(2 / 7)
    # Green, blue and three columns of nine of red have no gradient.
    assert part.metrics["frac_zero_grad"].value == pytest.approx(1 - 6 / 27, abs=1e-6)


def test_eps_names_are_exact_fractions() -> None:
    assert eps_name(Fraction(1, 255)) == "1/255"
    assert eps_name(Fraction(1)) == "255/255"
    assert eps_name(Fraction(1, 510)) == "0.00196078"
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        fgsm(eps=(Fraction(8),))


# occlusion


def test_occlusion_suite_equals_a_loop_over_masks() -> None:
    data, model = tiny_images(23), tiny_model()
    suite = Occlusion(grid=(4, 2), ratios=(Fraction(1, 3), Fraction(1)), trials=3)
    report = evaluate(model, data, ["clean", suite], seed=5)
    part = report.content.suites["occlusion"]
    images, mean = pixels(data), torch.tensor(MEAN).view(3, 1, 1)
    want = []
    for trial in range(3):
        keys = sample_keys(5, "occlusion", "random/4x2", trial, data.sample_ids)
        (hidden,) = nested_masks(keys, [mask_count(Fraction(1, 3), 8)], (32, 32), (4, 2))
        masked = images.clone()
        for i in range(23):
            for row, column in torch.nonzero(hidden[i, 0]).tolist():
                masked[i, :, row, column] = mean[:, 0, 0]
        want.append((model(masked).argmax(dim=1) == data.labels).float().mean())
    curve = part.curve("random")
    assert curve.x == [0, 3 / 8, 1]
    accuracy, spread = part.along(curve), part.along(curve, "trial_sd")
    assert accuracy[1].value == pytest.approx(float(np.mean(want)), abs=1e-7)
    sd = float(np.std(want, ddof=1))
    assert spread[1].value == pytest.approx(sd, abs=1e-6)
    # Everything hidden: one prediction for all, hence the share of one class.
    (label,) = model(mean.expand(1, 3, 32, 32)).argmax(dim=1)
    share = float((data.labels == label).float().mean())
    assert accuracy[2].value == pytest.approx(share, abs=1e-7)


class OnePatch(nn.Module):
    """Reads the patch in rows 0-7, columns 8-15: class 1 where it is bright."""

    def forward(self, x: Tensor) -> Tensor:
        level = x[:, :, :8, 8:16].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(level), level], dim=1)


def test_trap_20_a_model_that_reads_one_patch_fails_when_that_patch_is_hidden() -> None:
    """With 16 patches the patch is hidden with probability m / 16: binomial over 400 samples."""
    robust = RobustModel(
        OnePatch(), mean=(0.5,) * 3, std=(1.0,) * 3, num_classes=2, input_size=(3, 32, 32)
    )
    images = torch.full((400, 3, 32, 32), 255, dtype=torch.uint8)
    data = ImageSet(
        name="bright", split="test", pixels=TensorPixels(images), labels=torch.ones(400).long(),
        sample_ids=tuple(map(str, range(400))), class_names=("dark", "bright"), mean=MEAN, std=STD,
    )  # fmt: skip
    suite = Occlusion(grid=(4, 4), ratios=(Fraction(1, 4), Fraction(3, 4)), trials=2)
    part = evaluate(robust, data, ["clean", suite]).content.suites["occlusion"]
    for accuracy, kept in zip(part.along(part.curve("random"))[1:], (3 / 4, 1 / 4), strict=True):
        assert abs((accuracy.value or 0) - kept) < 4 * (3 / 16 / 800) ** 0.5


def test_occlusion_defaults_depend_on_the_size() -> None:
    def params(side: int, **options: Any) -> dict[str, Any]:
        images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
        data = replace(tiny_images(2), pixels=TensorPixels(images))
        return (
            Occlusion(**options)
            .prepare(Scene(robust=tiny_model(), data=data, folder=Path()))
            .params
        )

    small, large = params(32), params(224)
    assert (small["grid"], large["grid"]) == ("8x8", "14x14")
    assert len(small["ratios"]) == len(large["ratios"]) == 11
    assert small["ratios"] != large["ratios"]
    with pytest.raises(UsageError, match="does not divide"):
        params(32, grid=(7, 7))


def test_suites_are_named_as_on_the_command_line() -> None:
    assert [one.key for one in plan("shuffle, clean")] == [one.key for one in plan(["shuffle"])]
    with pytest.raises(UsageError, match="unknown suite 'shufle'"):
        plan("clean,shufle")
