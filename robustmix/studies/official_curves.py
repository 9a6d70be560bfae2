"""Accuracies over epochs from the logs that were released with AdAutoMix, to draw beside ours.

Of every log the accuracies of a few epochs, of the head that is deployed: of the teacher where a
method has one. The table lies beside this module.
"""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Point(NamedTuple):
    """One epoch of a log."""

    epoch: int
    """From 1."""

    top1: float
    """In [0, 1]."""


@cache
def _curves() -> dict[tuple[str, str, str, str], list[Point]]:
    text = files("robustmix.studies").joinpath("official_curves.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, str, str, str], list[Point]] = {}
    for row in csv.DictReader(text.splitlines()):
        place = (row["dataset"], row["arch"], row["method"], row["epochs"])
        found.setdefault(place, []).append(Point(int(row["epoch"]), float(row["top1"]) / 100))
    return found


def official_curve(*, dataset: str, arch: str, method: str, epochs: str) -> list[Point]:
    """Give the released log of a training, its epochs rising; nothing where none was released.

    Args:
        dataset: by its name here.
        arch: the architecture.
        method: the training method.
        epochs: how many the training has.

    Example:
        >>> curve = official_curve(
        ...     dataset="cifar100", arch="resnet18", method="adautomix", epochs="200"
        ... )
        >>> curve[-1]
        Point(epoch=200, top1=0.8153)
    """
    return _curves().get((dataset, arch, method, epochs), [])
