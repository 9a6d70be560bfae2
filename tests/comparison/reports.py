"""Real reports of small networks on the same digits, made once a session."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from robustmix.data.datasets import load_dataset
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.files import hash_json
from robustmix.metrics.intervals import proportion
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import FloatArray
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.report.samples import Table
from robustmix.report.schema import (
    CheckPart,
    ConditionPart,
    OriginPart,
    ReportModel,
    Shown,
    SuitePart,
    VerdictPart,
)
from tests.evaluation.tiny import MEAN, STD, Net

Status = Literal["pass", "warn", "fail", "skip"]

SUITES: list[Any] = [
    "clean",
    "calibration",
    Corruption(corruptions="gaussian_noise,brightness", severity=(1, 4)),
    Attack(attack="fgsm", eps=(Fraction(1, 255),), sweep=(Fraction(2, 255),), masking="off"),
    Occlusion(ratios=(Fraction(1, 4), Fraction(1, 2)), trials=3),
]
N = 200
DEFAULT_GATE = [
    "clean.top1",
    "corruption.acc_mean_selected2_subset",
    "fgsm.robust_acc",
    "occlusion.auc_mean_random_8x8",
]


def digits_model(seed: int, noise: float = 0.0) -> RobustModel:
    """Random convolutions under a readout fitted by least squares: right 19 times in 20.

    Args:
        seed: of the convolutions.
        noise: standard deviation of what is added to every weight, to damage it.
    """
    net = Net(classes=10, seed=seed).eval()
    train = load_dataset("digits", "train")
    images = train.pixels.take(torch.arange(len(train))).float() / 255
    scaled = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    fc, net.fc = net.fc, nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        features = torch.cat([net(scaled), torch.ones(len(train), 1)], dim=1).double()
        targets = 8 * torch.nn.functional.one_hot(train.labels, 10).double()
        gram = features.T @ features + 1e-2 * torch.eye(features.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(gram, features.T @ targets).float()
        fc.weight.copy_(weights[:-1].T)
        fc.bias.copy_(weights[-1])
        net.fc = fc
        generator = torch.Generator().manual_seed(99)
        for parameter in net.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return RobustModel(net, mean=MEAN, std=STD, num_classes=10, input_size=(3, 32, 32))


@cache
def report_of(seed: int = 0, noise: float = 0.0, name: str = "base", **options: Any) -> Report:
    """Evaluate 200 digits; equal arguments give the same object."""
    return evaluate(
        digits_model(seed, noise),
        load_dataset("digits", "test"),
        list(options.pop("suites", SUITES)),
        limit=options.pop("limit", N),
        name=name,
        **options,
    )


def base() -> Report:
    return report_of()


def damaged() -> Report:
    """A copy of the base model with noise on its weights: clearly worse."""
    return report_of(noise=0.1, name="damaged")


def sibling() -> Report:
    """Another model that is about as good."""
    return report_of(seed=1, name="sibling")


def saved(report: Report, folder: Path) -> Path:
    return report.save(folder)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the JSON of a saved report in place."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def changed(report: Report, change: Callable[[dict[str, Any]], object]) -> Report:
    value = report.content.model_dump(mode="json")
    change(value)
    return Report(type(report.content).model_validate(value), report.samples)


def set_in(*keys: str, to: object) -> Callable[[dict[str, Any]], object]:
    def change(value: dict[str, Any]) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = to

    return change


def rows_of(seed: int, loss: float = 0.0) -> FloatArray:
    """Right or wrong under two conditions, (2, 1, 200)."""
    rng = np.random.default_rng(seed)
    return (rng.random((2, 1, 200)) < 0.8 - loss).astype(np.float64)


def with_glare(report: Report, rows: FloatArray, *, column: str = "plain") -> Report:
    """Add a suite of others: a share, its relative under a condition, and what no column holds."""
    content = report.content.model_copy(deep=True)
    share = proportion(int(rows[0].sum()), 200, direction="higher")
    bright = proportion(int(rows[1].sum()), 200, direction="higher")
    spread = Metric(value=0.25, unit="score", direction="lower", n=200, reason="no interval")
    content.suites["glare"] = SuitePart(
        kind="glare",
        status="ok",
        metrics={"score": share, "spread": spread},
        conditions=[ConditionPart(name="0.5", metrics={"acc": bright})],
        shown=Shown(compared=["score", "spread"], gated=["score"]),
        origins=[OriginPart(kind="suite", name="glare", module="glare_suite", version="1.2")],
        columns={"score": (column, "correct"), "acc[0.5]": ("bright", "correct")},
    )
    content.protocol.params["glare"] = {"strength": 2}
    rehash(content)
    assert report.samples is not None
    tables = {**report.samples.tables, "glare": Table(("plain", "bright"), {"correct": rows})}
    return Report(content, replace(report.samples, tables=tables))


def said(verdict: str, *statuses: Status) -> VerdictPart:
    checks = [
        CheckPart(id=f"G{i}", title="t", status=s, value=0.0, warn=1.0, fail=2.0, n=30, text="x")
        for i, s in enumerate(statuses, 1)
    ]
    return VerdictPart(
        title="masking", verdict=verdict, reason=f"so {verdict}", n=30, checks=checks
    )


def with_verdict(report: Report, verdict: VerdictPart, **params: Any) -> Report:
    """Add suite ``masking``, and what it says of fgsm to the part of that."""
    content = report.content.model_copy(deep=True)
    content.suites["masking"] = SuitePart(kind="masking", status="ok", verdicts=[verdict])
    content.protocol.params["masking"] = {"eps": "1/255", **params}
    content.suites["fgsm"].verdicts = [verdict]
    content.tool.version = "0.0"  # nothing was probed: of this version the rows would deny it
    rehash(content)
    return Report(content, report.samples)


def rehash(content: ReportModel) -> None:
    """Give a report whose protocol was changed the hash of it."""
    protocol = content.protocol
    protocol.hash = hash_json({"params": protocol.params, "limits": protocol.limits})
