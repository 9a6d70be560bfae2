"""Reports of either suite that say what their rows do not are noticed, as those of all suites."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from robustmix import evaluate
from robustmix.data.perturbed.names import CIFAR
from robustmix.data.wnids import imagenet_wnids
from robustmix.evaluation.recompute import recompute
from robustmix.report.report import Report
from tests.comparison.test_forgeries import (
    DECIDING,
    Place,
    altered,
    campaign,
    code_of,
    rule_for,
    unchanged,
    with_columns,
)
from tests.shift.made import (
    cifar10_1,
    cifar10_2,
    cifar_like,
    cifar_model,
    folders,
    imagenet_like,
    imagenet_model,
    objectnet,
    rows_of,
)


@cache
def report_of(suite: str) -> Report:
    if suite == "imagenet":
        return sliced()
    data = cifar_like(40)
    with TemporaryDirectory() as name:
        root = Path(name)
        cifar10_1(root)
        cifar10_2(root)
        (root / "CIFAR-10-P").mkdir()
        for i, perturbation in enumerate(CIFAR):
            noise = np.random.default_rng(i).normal(0, 20, (1, 5, 1, 1, 3))
            noise[:, 0] = 0
            film = np.clip(rows_of(data)[:, None] + noise, 0, 255).astype(np.uint8)
            np.save(root / "CIFAR-10-P" / f"{perturbation}.npy", film)
        report = evaluate(cifar_model(), data, [suite], data_dir=root)
    assert report.content.suites[suite].status == "ok"
    return report


def sliced() -> Report:
    """ImageNet-A and ObjectNet: a slice, and several outputs for one object."""
    with TemporaryDirectory() as name:
        root = Path(name)
        folders(root / "imagenet-a", {imagenet_wnids()[c]: 9 for c in (6, 11, 134, 988)})
        outputs = range(1000)
        objectnet(
            root / "objectnet-1.0",
            {"alarm_clock": outputs[:600], "banana": outputs[600:990]},
            {"alarm_clock": 5, "banana": 4, "zip_tie": 6},
        )
        data = imagenet_like([6, 11, 134, 988] * 10)
        return evaluate(imagenet_model(), data, ["shift"], data_dir=root)


@pytest.mark.parametrize("suite", ["shift", "perturbation"])
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_field_can_be_forged(suite: str, every: bool) -> None:
    def inside(place: Place) -> bool:
        return place[:2] == ("suites", suite)

    assert campaign(report_of(suite), inside, every=every) > 40


@pytest.mark.parametrize("kind", ["shift", "perturbation", "imagenet"])
def test_no_column_can_be_forged(kind: str) -> None:
    report, suite = report_of(kind), "shift" if kind == "imagenet" else kind
    assert report.samples is not None
    passed = []
    for name, column in report.samples.tables[suite].columns.items():
        for how, other in altered(column, clumsily=True):
            if other is not None and unchanged(other, column):
                continue
            one = with_columns(report, suite, **{name: other})
            code = code_of(one, *rule_for(()))
            if code not in (3, 4, 5) and (name in DECIDING or recompute(one) != []):
                passed.append((name, how, code))
    assert passed == []
