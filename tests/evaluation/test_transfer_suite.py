"""Suite ``transfer``: a surrogate that is checked, recorded and asked."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from robustmix.attacks import mifgsm
from robustmix.errors import IncompatibleError, IntakeError, RobustmixError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.attack import Attack
from robustmix.models.checks import state_hash
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import Stop, comparable
from tests.evaluation.tiny import CLASSES, Net, tiny_images, tiny_model

N = 60
EPS = Fraction(8, 255)


def other(seed: int = 0, noise: float = 0.2, classes: int = CLASSES) -> RobustModel:
    """Return a model that has learnt much the same: the tiny one with other weights, a little."""
    net = Net(classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return tiny_model(net, classes=classes)


def suite(surrogate: Any, **knobs: Any) -> Attack:
    return attack("transfer", surrogate=surrogate, eps=(EPS,), steps=3, **knobs)


def test_the_surrogate_is_attacked_and_the_model_scored(tmp_path: Path) -> None:
    surrogate, data, model = other(), tiny_images(N), tiny_model()
    report = evaluate(model, data, [suite(surrogate)], out=tmp_path)
    part = report.content.suites["transfer"]
    assert part.status == "ok", part.reason
    images = data.pixels.take(torch.arange(N)).float() / 255
    last = mifgsm.outcome(surrogate.eval(), images, data.labels, eps=float(EPS), steps=3).last
    assert last is not None
    with torch.no_grad():
        right, own, clean = (
            float((asked(x).argmax(dim=1) == data.labels).float().mean())
            for asked, x in ((model, last), (surrogate, last), (surrogate, images))
        )
    assert part.metrics["robust_acc"].value == pytest.approx(right)
    assert own < right < (report.metric("clean.top1").value or 0)
    (note,) = (note for note in part.notes if "surrogate" in note)
    assert f"right on {clean:.1%} of the clean images and on {own:.1%}" in note
    params = report.content.protocol.params["transfer"]
    assert params["surrogate_sha256"] == state_hash(surrogate)
    assert params["options"] == {"source_attack": "mifgsm", "steps": 3}
    assert "network" not in params
    assert recompute(Report.load(tmp_path)) == []


def test_a_surrogate_that_knows_nothing_is_told_of() -> None:
    report = evaluate(tiny_model(), tiny_images(N), [suite(other(noise=30.0))])
    notes = " ".join(report.content.suites["transfer"].notes)
    assert "hardly more than chance" in notes
    report = evaluate(tiny_model(), tiny_images(N), [suite(tiny_model())])
    assert "hardly more than chance" not in " ".join(report.content.suites["transfer"].notes)


def named(model: RobustModel, names: tuple[str, ...] | None, tested: str | None) -> RobustModel:
    model.info = replace(model.info, class_names=names, test_transform=tested)
    return model


def test_other_classes_another_order_and_other_images_are_refused_or_said() -> None:
    data = tiny_images(N)
    cases: list[tuple[Attack, type[RobustmixError], str]] = [
        (attack("transfer"), UsageError, "none is given"),
        (suite(other(classes=7)), UsageError, "the surrogate has"),
        (suite(other(), norm="l2", source_attack="mifgsm"), UsageError, "an attack in linf"),
        (suite(named(other(), data.class_names[::-1], None)), IntakeError, "not in the order"),
    ]
    for asked, kind, match in cases:
        with pytest.raises(kind, match=match):
            evaluate(tiny_model(), data, [asked])
    otherwise = named(other(), data.class_names, "cut otherwise")
    report = evaluate(tiny_model(), data, [suite(otherwise)])
    assert report.content.protocol.params["transfer"]["tested_otherwise"] == "cut otherwise"
    assert any("cut otherwise" in note for note in report.content.suites["transfer"].notes)


def test_it_resumes_but_not_with_another_surrogate(tmp_path: Path) -> None:
    data = tiny_images(300)
    asked = replace(suite(other()), eps=(EPS, EPS / 2))
    whole = evaluate(tiny_model(), data, [asked])
    cut = evaluate(tiny_model(), data, [asked], out=tmp_path, should_stop=Stop(8), batch_size=64)
    assert cut.content.run.status == "interrupted"
    kept = list(tmp_path.glob("units/transfer/*.npz"))
    assert kept
    resumed = evaluate(tiny_model(), data, [asked], out=tmp_path, resume=True)
    assert comparable(resumed) == comparable(whole)
    stranger = replace(suite(other(seed=5)), eps=(EPS, EPS / 2))
    with pytest.raises(IncompatibleError, match="another model, data set or parameters"):
        evaluate(tiny_model(), data, [stranger], out=tmp_path, resume=True)
