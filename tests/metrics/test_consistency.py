"""Agreement of two models beyond chance: by hand, and by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from robustmix.metrics.consistency import expected_overlap, kappa
from robustmix.metrics.definition import Definition
from robustmix.metrics.intervals import resample_weights
from robustmix.metrics.scores import IntArray


def made(first: IntArray, second: IntArray, classes: int = 2) -> Definition:
    return kappa(first, second, classes, note="", reason="one answer alone")


def test_error_consistency_of_two_by_two_by_hand() -> None:
    """40 both right, 10 and 20 one of them, 30 both wrong: .7 observed, .5 .6 + .5 .4 expected."""
    own = np.repeat([1, 1, 0, 0], [40, 10, 20, 30])
    other = np.repeat([1, 0, 1, 0], [40, 10, 20, 30])
    assert expected_overlap(own, other, 2, note="").estimate() == pytest.approx(0.5)
    assert made(own, other).estimate() == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    low, high = made(own, other).metric(np.linspace(0.2, 0.6, 1001)).ci or (0, 0)
    assert low < 0.4 < high


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_scikit_learn_gives_the_same_for_every_resample(classes: int) -> None:
    rng = np.random.default_rng(classes)
    first = rng.integers(classes, size=61)
    second = np.where(rng.random(61) < 0.5, first, rng.integers(classes, size=61))
    defined = made(first, second, classes)
    assert defined.estimate() == pytest.approx(cohen_kappa_score(first, second))
    weights = resample_weights(61, 5, rng)
    for value, weight in zip(defined.resampled(weights), weights, strict=True):
        often = weight.astype(int)
        theirs = cohen_kappa_score(np.repeat(first, often), np.repeat(second, often))
        assert value == pytest.approx(theirs)


def test_like_answers_are_one_and_opposite_ones_minus_one() -> None:
    answers = np.array([0, 1, 1, 0, 1, 0])
    assert made(answers, answers).estimate() == 1
    assert made(answers, 1 - answers).estimate() == pytest.approx(-1)


def test_one_answer_alone_says_nothing() -> None:
    found = made(np.ones(5, dtype=int), np.ones(5, dtype=int)).metric()
    assert found.value is None
    assert found.reason == "one answer alone"
    # Of two models that each give one answer, but not the same, chance never agrees.
    assert made(np.ones(5, dtype=int), np.zeros(5, dtype=int)).estimate() == 0
