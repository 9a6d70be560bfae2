"""The published tool's FGSM against its arithmetic on the normalised tensor itself."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from robustmix.attacks import paper_fgsm_step
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.plan import Planned
from robustmix.evaluation.suites.fgsm import PaperFgsm
from robustmix.models.robust_model import RobustModel
from tests.evaluation.tiny import MEAN, STD, Net, tiny_images, tiny_model

EPS = 8 / 255


def test_the_suite_equals_the_tool_on_the_normalised_tensor() -> None:
    data, model = tiny_images(), tiny_model()
    report = evaluate(model, data, [Planned(suite=PaperFgsm(), preset="paper-adautomix")])
    pixels = data.pixels.take(torch.arange(len(data))).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    z = ((pixels - mean) / std).double().requires_grad_()
    net = Net().double().eval()
    loss = F.cross_entropy(net(z), data.labels)
    (gradient,) = torch.autograd.grad(loss, z)
    with torch.no_grad():
        attacked = net((z + EPS * gradient.sign()).clamp(0, 1))
        clamped = net(z.clamp(0, 1))
    table = report.samples.tables["fgsm@paper-adautomix"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(table.at("attack")["pred"], attacked.argmax(1).numpy())
    np.testing.assert_array_equal(table.at("clamp")["pred"], clamped.argmax(1).numpy())
    part = report.content.suites["fgsm@paper-adautomix"]
    wrong = (attacked.argmax(1) != data.labels).double().mean().item()
    assert part.metrics["error"].value == pytest.approx(wrong, abs=1e-12)
    wrong = (clamped.argmax(1) != data.labels).double().mean().item()
    assert part.metrics["error_clamp_only"].value == pytest.approx(wrong, abs=1e-12)
    assert part.metrics["linf"].value > 4 * EPS  # type: ignore[operator]


def test_trap_01_02_the_tool_is_no_pixel_attack_and_not_called_one() -> None:
    images = torch.tensor([0.45, 0.55]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    mean, std = torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.2)
    step = paper_fgsm_step(images, torch.ones_like(images), eps=EPS, mean=mean, std=std)
    torch.testing.assert_close(step - images, torch.full_like(images, EPS / 5))
    report = evaluate(tiny_model(), tiny_images(20), [Planned(suite=PaperFgsm(), preset="p")])
    assert "fgsm" not in report.content.suites
    assert report.content.suites["fgsm@p"].params["nonstandard"] is True
    assert report.content.suites["fgsm@p"].params["space"] == "normalised"


def test_a_model_that_resizes_is_refused() -> None:
    model = RobustModel(Net(), mean=MEAN, std=STD, num_classes=5, input_size=(3, 32, 32), resize=64)
    report = evaluate(model, tiny_images(16), [Planned(suite=PaperFgsm(), preset="p")])
    assert report.content.suites["fgsm@p"].status == "failed"
    assert "resizes its images" in (report.content.suites["fgsm@p"].reason or "")
    assert UsageError("x", code="E-PAPER-FGSM").line().split(":")[0] in (
        report.content.suites["fgsm@p"].reason or ""
    )


def test_it_has_one_eps_and_says_so() -> None:
    suites = [PaperFgsm(eps=(Fraction(4, 255), Fraction(2, 255))), PaperFgsm()]
    notes = [
        evaluate(tiny_model(), tiny_images(9), [suite]).content.suites["fgsm"].notes
        for suite in suites
    ]
    assert notes == [["of the radii 4/255, 2/255 only the first is taken"], []]
