"""Agreement of two models' predictions, beyond chance."""

import math
from collections.abc import Sequence

import numpy as np

from robustmix.errors import UsageError
from robustmix.metrics.consistency import kappa
from robustmix.metrics.scores import IntArray, Labels, as_labels


def error_consistency(first: Labels, second: Labels, labels: Labels) -> float:
    """Compute whether two models err on the same samples, beyond what their accuracies make them.

    Args:
        first: predicted classes of one model, (N,).
        second: of the other.
        labels: true classes, (N,).

    Returns:
        Cohen's kappa of being right, at most 1; 0 is what independent models have.

    Raises:
        UsageError: shapes that do not fit, or it is undefined because both models are right
            everywhere or both wrong everywhere.

    Reference:
        Geirhos, Meding and Wichmann 2020, arXiv:2006.16736, equation 3.

    Example:
        >>> error_consistency([0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0])
        0.0
    """
    y = _classes(labels)
    right, other = (_classes(one, len(y)) == y for one in (first, second))
    return _kappa(right.astype(np.int64), other.astype(np.int64))


def cohen_kappa(first: Labels, second: Labels) -> float:
    """Compute Cohen's kappa of two models' predictions: agreement beyond chance.

    Args:
        first: predicted classes of one model, (N,).
        second: of the other.

    Returns:
        At most 1; 0 is what models have that give each class as often, independently.

    Raises:
        UsageError: shapes that do not fit, or it is undefined because both give one class alone.

    Reference:
        Cohen 1960, Educational and Psychological Measurement 20:37.

    Example:
        >>> cohen_kappa([0, 0, 1, 1], [0, 1, 1, 1])
        0.5
    """
    mine = _classes(first)
    return _kappa(mine, _classes(second, len(mine)))


def _classes(classes: Labels, n: int | None = None) -> IntArray:
    array = np.asarray(classes) if isinstance(classes, Sequence) else classes
    size = len(array) if n is None else n
    return as_labels(classes, size, 2**31)


def _kappa(first: IntArray, second: IntArray) -> float:
    if not len(first):
        raise UsageError("expected at least one sample")
    classes = int(max(first.max(), second.max())) + 1
    found = kappa(first, second, max(classes, 2), note="", reason="").estimate()
    if math.isnan(found):
        raise UsageError("it is undefined: both models give one and the same answer alone")
    return found
