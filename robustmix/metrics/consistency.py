"""Whether two models answer alike, beyond what their accuracies alone make them do."""

import numpy as np

from robustmix.metrics.definition import Definition, function, ratio_of
from robustmix.metrics.intervals import group_sums
from robustmix.metrics.scores import FloatArray, IntArray


def kappa(first: IntArray, second: IntArray, classes: int, *, note: str, reason: str) -> Definition:
    """Define Cohen's kappa of two models' answers: agreement beyond chance, over all beyond chance.

    Chance is what models would agree in that gave each answer as often as these do, independently.
    Of answers that say whether a prediction is right it is the error consistency.

    Args:
        first: answers of one model, in [0, K), (n,).
        second: of the other.
        classes: K.
        note: what the answers are.
        reason: why it is undefined where both models give one answer alone, and the same.

    Reference:
        Cohen 1960, Educational and Psychological Measurement 20:37; Geirhos, Meding and Wichmann
        2020, arXiv:2006.16736, equation 3.

    Example:
        >>> a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
        >>> kappa(a, b, 2, note="", reason="").estimate()
        0.5
    """
    same = (first == second).astype(np.float64)

    def statistic(weights: FloatArray) -> FloatArray:
        expected = _by_chance(first, second, classes, weights)
        return ratio_of(weights @ same / weights.sum(axis=1) - expected, 1 - expected)

    return function(len(first), statistic, direction="neither", note=note, unit="score",
                    reason=reason)  # fmt: skip


def expected_overlap(first: IntArray, second: IntArray, classes: int, *, note: str) -> Definition:
    """Define the share of images that two models would answer alike by chance; see ``kappa``."""

    def statistic(weights: FloatArray) -> FloatArray:
        return _by_chance(first, second, classes, weights)

    return function(len(first), statistic, direction="neither", note=note)


def _by_chance(first: IntArray, second: IntArray, classes: int, weights: FloatArray) -> FloatArray:
    ones = np.ones(len(first))
    (own,), (other,) = (group_sums(weights, of, classes, ones) for of in (first, second))
    return np.asarray((own * other).sum(axis=1) / np.square(weights.sum(axis=1)))
