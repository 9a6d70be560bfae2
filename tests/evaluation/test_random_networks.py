"""Attacks on networks that are random on purpose: ``--eot``, and version ``rand`` of AutoAttack."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robustmix
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.registry import read_suite
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.report.samples import Table
from tests.evaluation.attacks import attack
from tests.evaluation.tiny import tiny_images, tiny_model

N = 40
EPS = (Fraction(3, 255),)


class Dropped(nn.Module):
    """The tiny network behind dropout that is never switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.net = tiny_model()

    def forward(self, images: Tensor) -> Tensor:
        # The tiny model takes pixels, and so does this one by its mean and deviation.
        logits: Tensor = self.net(F.dropout(images, 0.2, training=True).clamp(0, 1))
        return logits


def dropped() -> RobustModel:
    return robustmix.load_model(
        Dropped(), num_classes=5, input_size=(3, 32, 32), mean=(0.0,) * 3, std=(1.0,) * 3
    )


SUITES = [
    attack("pgd", eps=EPS, steps=2, eot=3),
    attack("apgd", eps=EPS, steps=2, eot=3),
    attack("mifgsm", eps=EPS, steps=2, eot=3),
    attack("autoattack", eps=EPS, steps=2, version="rand"),
]
each = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.attack)


@each
def test_it_is_attacked_the_same_on_any_day_and_in_any_batch(suite: Attack, tmp_path: Path) -> None:
    tables: list[Table] = []
    for day, size in enumerate((7, 64)):
        torch.manual_seed(day)
        report = evaluate(
            dropped(), tiny_images(N), [suite], batch_size=size, out=tmp_path / f"{day}"
        )
        part = report.content.suites[suite.attack]
        assert part.status == "ok", part.reason
        assert any("mean of" in note and "passes" in note for note in part.notes)
        assert report.samples is not None
        tables.append(report.samples.tables[suite.attack])
    for name, column in tables[0].columns.items():
        if name not in ("clean_pred", "loss_before"):  # of the clean suite, which sets no stream
            assert np.array_equal(column, tables[1].columns[name]), name
    assert recompute(Report.load(tmp_path / "0")) == []
    params = report.content.protocol.params[suite.attack]
    again = read_suite(suite.attack, params)
    assert again.params == params
    assert again.divides() == "one"
    assert (params.get("eot") or params["options"]["eot"]) == (20 if "version" in params else 3)


def test_without_several_passes_it_is_refused_and_told_of_them() -> None:
    report = evaluate(dropped(), tiny_images(N), [attack("pgd", eps=EPS, steps=2)])
    part = report.content.suites["pgd"]
    assert part.status == "failed"
    assert "E-EPS-ZERO" in str(part.reason)
    assert any("--eot 20" in warning.message for warning in report.content.warnings)


@pytest.mark.parametrize("name", ["pgd", "apgd", "mifgsm"])
def test_one_pass_is_not_recorded(name: str) -> None:
    scene = Scene(robust=tiny_model(), data=tiny_images(4), folder=Path())
    plain, once = (attack(name, **more).prepare(scene).params for more in ({}, {"eot": 1}))
    assert plain == once
    assert "eot" not in str(plain)
    assert "batch" not in plain


@pytest.mark.parametrize("name", ["pgd", "apgd", "mifgsm"])
def test_passes_count_all_looks(name: str) -> None:
    suite = attack(name, eps=EPS, steps=2, eot=3)
    foretold = suite.prepare(Scene(robust=tiny_model(), data=tiny_images(N), folder=Path())).passes(
        N
    )
    details = evaluate(tiny_model(), tiny_images(N), [suite]).content.suites[name].details
    assert details["forwards"] <= (foretold.forwards or 0)
    assert details["backwards"] <= (foretold.backwards or 0)
    assert details["backwards"] >= N * 3 * 2 - N


@pytest.mark.parametrize("version", ["plus", "rand"])
def test_versions_are_named_and_recorded(version: str) -> None:
    robust, data = tiny_model(), tiny_images(N)
    scene = Scene(robust=robust, data=data, folder=Path())
    whole = attack("autoattack", version=version).prepare(scene).params
    assert whole["attack"] == f"autoattack-{version}-ta-equivalent"
    assert (whole["version"], whole["steps"]) == (version, 100)
    assert (whole["restarts"], whole.get("eot")) == ((5, None) if version == "plus" else (1, 20))
    assert (whole["queries"], whole["targets"]) == (
        (5000, "the 9 highest other classes, all of them if there are fewer")
        if version == "plus"
        else (0, "none")
    )
    suite = attack("autoattack", version=version, eps=EPS, steps=3, queries=20)
    prepared: Any = suite.prepare(scene)
    report = evaluate(robust, data, [suite])
    part = report.content.suites["autoattack"]
    assert part.status == "ok", part.reason
    assert part.shown.note == f"linf, eps 3/255, version {version}"
    params = report.content.protocol.params["autoattack"]
    assert params["attack"] == f"autoattack-{version}-ta-equivalent-shortened"
    details = part.details
    assert [member["name"] for member in details["members"]] == params["members"]
    assert all(member["params"] for member in details["members"])
    foretold = prepared.passes(N)
    assert details["forwards"] <= foretold.forwards
    if version == "plus":
        assert foretold.backwards is None
    else:
        assert details["backwards"] <= foretold.backwards
    assert details["targeted"] == (version == "plus")


def test_the_standard_version_is_what_it_was() -> None:
    scene = Scene(robust=tiny_model(), data=tiny_images(4), folder=Path())
    plain, said = (
        attack("autoattack", **more).prepare(scene).params for more in ({}, {"version": "standard"})
    )
    assert plain == said
    assert not {"version", "eot", "batch"} & plain.keys()
    with pytest.raises(UsageError, match="version"):
        attack("autoattack", version="quick")
