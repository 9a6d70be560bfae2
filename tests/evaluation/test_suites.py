"""Each suite against a plain recomputation, on models whose answers are known."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.names import SUITES as DESCRIBED
from robustmix.evaluation.patches import mask_count, nested_masks
from robustmix.evaluation.suites.attack import eps_name
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.plan import plan_suites
from robustmix.evaluation.suites.registry import SUITES, select_suites
from robustmix.models.robust_model import RobustModel
from robustmix.report.schema import SUITE_ORDER, AttackPart, OcclusionPart
from robustmix.rng import sample_keys
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def test_every_suite_is_registered_and_described() -> None:
    assert set(SUITES) == set(DESCRIBED)
    assert tuple(SUITES) == SUITE_ORDER
    assert {name: SUITES[name]().name for name in SUITES} == {name: name for name in SUITES}


def test_suites_run_in_order_with_clean_first() -> None:
    assert [s.name for s in select_suites(["occlusion", "fgsm"])] == ["clean", "fgsm", "occlusion"]
    assert [s.name for s in select_suites(["all"])] == list(SUITES)
    with pytest.raises(UsageError, match="did you mean 'occlusion'"):
        select_suites(["oclusion"])
    with pytest.raises(UsageError, match="asked for twice"):
        select_suites(["fgsm", FgsmSuite(masking=False)])
    with pytest.raises(UsageError, match="no suite"):
        select_suites([])


def test_plan_gives_the_parameters_to_the_suites() -> None:
    eps = (Fraction(4, 255), Fraction(2, 255))
    planned = plan_suites(["fgsm", "occlusion"], eps=eps, grid=(4, 4), trials=2)
    _, _, fgsm, occlusion = planned
    assert isinstance(fgsm, FgsmSuite)
    assert fgsm.radii == (Fraction(0), Fraction(2, 255), Fraction(4, 255))
    assert fgsm.eps == Fraction(4, 255)
    assert isinstance(occlusion, OcclusionSuite)
    assert (occlusion.grid, occlusion.trials) == ((4, 4), 2)
    with pytest.raises(UsageError, match="did you mean 'black'"):
        plan_suites(["occlusion"], fill="blck")
    with pytest.raises(UsageError, match="did you mean 'official'"):
        plan_suites(["corruption"], corruption_source="offical")


# fgsm


def test_fgsm_suite_equals_the_formula() -> None:
    data, model = tiny_images(), tiny_model()
    report = evaluate(model, data, ["clean", FgsmSuite(masking=False)])
    part = report.content.suites["fgsm"]
    assert isinstance(part, AttackPart)
    images = pixels(data).requires_grad_()
    (gradient,) = torch.autograd.grad(
        F.cross_entropy(model(images), data.labels, reduction="sum"), images
    )
    clean = model(images).argmax(dim=1) == data.labels
    for point in part.sweep:
        adversarial = (images + point.x * gradient.sign()).clamp(0, 1).detach()
        wrong = model(adversarial).argmax(dim=1) != data.labels
        assert point.metrics["error"].value == pytest.approx(float(wrong.float().mean()), abs=1e-7)
        if point.x == float(Fraction(8, 255)):
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
    assert [round(point.x * 255) for point in part.sweep] == [0, 1, 2, 4, 8, 16, 32, 64, 255]


def test_fgsm_rounds_and_clips_as_the_formula_says() -> None:
    data, model = tiny_images(), tiny_model()
    eps = Fraction(1, 20)  # 12.75 grey levels, so that rounding to 8 bits changes pixels
    report = evaluate(model, data, ["clean", FgsmSuite(eps=eps, sweep=(), masking=False)])
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
    report = evaluate(tiny_model(), tiny_images(), ["clean", FgsmSuite(masking=False)])
    part = report.content.suites["fgsm"]
    assert isinstance(part, AttackPart)
    a = [p.metrics["robust_acc"].value or 0.0 for p in part.sweep][:6]  # 0 1 2 4 8 16
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
    report = evaluate(robust, data, ["clean", FgsmSuite(eps=Fraction(5, 255), masking=False)])
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
        FgsmSuite(eps=Fraction(8))


# occlusion


def test_occlusion_suite_equals_a_loop_over_masks() -> None:
    data, model = tiny_images(23), tiny_model()
    suite = OcclusionSuite(grid=(4, 2), ratios=(Fraction(1, 3), Fraction(1)), trials=3)
    report = evaluate(model, data, ["clean", suite], seed=5)
    part = report.content.suites["occlusion"]
    assert isinstance(part, OcclusionPart)
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
    assert part.points[1].x == 3 / 8
    assert part.points[1].metrics["acc"].value == pytest.approx(float(np.mean(want)), abs=1e-7)
    sd = float(np.std(want, ddof=1))
    assert part.points[1].metrics["trial_sd"].value == pytest.approx(sd, abs=1e-6)
    # Everything hidden: one prediction for all, hence the share of one class.
    (label,) = model(mean.expand(1, 3, 32, 32)).argmax(dim=1)
    share = float((data.labels == label).float().mean())
    assert part.points[2].metrics["acc"].value == pytest.approx(share, abs=1e-7)


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
    suite = OcclusionSuite(grid=(4, 4), ratios=(Fraction(1, 4), Fraction(3, 4)), trials=2)
    part = evaluate(robust, data, ["clean", suite]).content.suites["occlusion"]
    assert isinstance(part, OcclusionPart)
    for point, kept in zip(part.points[1:], (3 / 4, 1 / 4), strict=True):
        assert abs((point.metrics["acc"].value or 0) - kept) < 4 * (3 / 16 / 800) ** 0.5


def test_occlusion_defaults_depend_on_the_size() -> None:
    small, large = (OcclusionSuite().resolved((s, s)) for s in (32, 224))
    assert (small.grid, large.grid) == ((8, 8), (14, 14))
    assert len(small.ratios or ()) == len(large.ratios or ()) == 11
    assert small.ratios != large.ratios
    with pytest.raises(UsageError, match="does not divide"):
        OcclusionSuite(grid=(7, 7)).resolved((32, 32))
