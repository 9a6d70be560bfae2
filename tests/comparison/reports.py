"""Real reports of small networks on the same digits, made once a session."""

import json
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustmix.data.datasets import load_dataset
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from tests.evaluation.tiny import MEAN, STD, Net

SUITES: list[Any] = [
    "clean",
    "calibration",
    CorruptionSuite(corruptions="gaussian_noise,brightness", severities=(1, 4)),
    FgsmSuite(eps=Fraction(1, 255), sweep=(Fraction(2, 255),), masking=False),
    OcclusionSuite(ratios=(Fraction(1, 4), Fraction(1, 2)), trials=3),
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
    """Return a report on 200 digits; equal arguments give the same object."""
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
