"""Does a report say of numbers and rows what they say of themselves?"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import BoolArray, FloatArray, IntArray

AGREE = 1e-6
"""Relative difference between a stated value and that of the rows; columns may be float32."""

SCORES = ("pred", "correct", "rank", "confidence", "nll", "brier", "margin")
"""The columns of whatever was scored from logits."""

SCALED = "_scaled"
"""Ends the names of columns of the same logits divided by a temperature."""


def close(stated: float, made: float, tolerance: float = AGREE) -> bool:
    """Tell whether two numbers are one, to a share of the larger or of 1."""
    return abs(stated - made) <= tolerance * max(1.0, abs(stated), abs(made))


def disagreement(stated: Metric, made: Metric, *, interval: bool) -> str | None:
    """Say how a stated number differs from the one that the rows give, None if it does not.

    Args:
        stated: what the report says.
        made: what its definition gives.
        interval: whether the interval was made too; its method is part of it.
    """
    if (stated.value is None) != (made.value is None) or not (
        stated.value is None or made.value is None or close(stated.value, made.value)
    ):
        return f"the rows give {_shown(made.value)}, the report states {_shown(stated.value)}"
    if stated.n != made.n:
        return f"it is of {made.n} samples, the report states {stated.n}"
    # The direction says what is worse, so a rule turns round with it.
    if (stated.unit, stated.direction) != (made.unit, made.direction):
        return f"it is in {made.unit}, {made.direction} is better, the report differs"
    ends = zip(stated.ci or (), made.ci or (), strict=False)
    same = (stated.ci is None) == (made.ci is None) and all(close(a, b) for a, b in ends)
    if interval and not (same and stated.ci_method == made.ci_method):
        return (
            f"the rows give the interval {made.ci} ({made.ci_method}), the report states "
            f"{stated.ci} ({stated.ci_method})"
        )
    return None


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def score_faults(
    columns: Mapping[str, NDArray[Any]], labels: IntArray, num_classes: int
) -> Iterator[str]:
    """Say where the scores of single samples contradict each other.

    Only what holds for every softmax is asked: predictions and ranks fit the labels, and the
    probabilities that confidence, NLL, Brier score and margin stand for can be those of one image.

    Args:
        columns: name -> (..., n); those of ``SCORES`` that are there.
        labels: true classes, (n,).
        num_classes: K, at least 2.
    """
    if {"pred", "correct"} <= columns.keys():
        pred, right = columns["pred"], columns["correct"] == 1
        if not ((pred >= 0) & (pred < num_classes)).all():
            yield "pred is no class"
        if (right != (pred == labels)).any():
            yield "correct is not whether pred is the label"
        if "rank" in columns and ((columns["rank"] == 0) != right).any():
            yield "rank is not 0 exactly where pred is the label"
        for end in ("", SCALED):
            names = [f"{name}{end}" for name in ("confidence", "nll", "brier")]
            if all(name in columns for name in names):
                top, nll, brier = (columns[name].astype(np.float64) for name in names)
                slack = 1e-4 if columns[names[0]].dtype.itemsize < 8 else 1e-8
                for fault in _softmax_faults(top, nll, brier, right, num_classes, slack):
                    yield fault.format(end=end)
    if all(name in columns for name in SCORES):
        yield from _order_faults(columns, num_classes)


def _softmax_faults(
    top: FloatArray,
    nll: FloatArray,
    brier: FloatArray,
    right: BoolArray,
    num_classes: int,
    slack: float,
) -> Iterator[str]:
    """Check the largest probability, that of the label, and the sum of squares."""
    if not ((top >= 1 / num_classes - slack) & (top <= 1 + slack)).all():
        yield "confidence{end} is no largest probability"
    if not (nll >= -slack).all():
        yield "nll{end} is no loss"
        return
    label = np.exp(-nll)
    # The label has the largest probability, or at most what that leaves.
    fits = np.where(right, np.abs(label - top), label - np.minimum(top, 1 - top)) <= slack
    if not fits.all():
        yield "nll{end} and confidence{end} are not of one image"
    # What neither the label nor the prediction has, spread evenly or all on one class.
    others = np.where(right, num_classes - 1, max(num_classes - 2, 1))
    rest = np.where(right, 1 - top, 1 - top - label).clip(0, 1)
    known = np.square(1 - label) + np.where(right, 0, np.square(top))
    low, high = known + np.square(rest) / others, known + np.square(rest)
    if not ((brier >= low - 4 * slack) & (brier <= high + 4 * slack)).all():
        yield "brier{end} is not that of these probabilities"


def _order_faults(columns: Mapping[str, NDArray[Any]], num_classes: int) -> Iterator[str]:
    """Check rank and margin against the probabilities."""
    top, margin = columns["confidence"].astype(np.float64), columns["margin"]
    label, rank = np.exp(-columns["nll"].astype(np.float64)), columns["rank"]
    slack = 1e-8
    fits = (rank >= 0) & (rank < num_classes) & ((rank + 1) * label <= 1 + slack)
    if not fits.all():
        yield "rank is not that of the label's probability"
    second = top * np.exp(-margin.astype(np.float64))
    low = np.maximum((1 - top) / (num_classes - 1), np.where(rank > 0, label, 0))
    exact = (rank != 1) | (np.abs(second - label) <= slack)
    fits = (margin >= 0) & (second >= low - slack) & (second <= 1 - top + slack) & exact
    if not fits.all():
        yield "margin is not that of these probabilities"
