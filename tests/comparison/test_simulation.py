"""Error rates of the gate, by simulation with known truth; rows of one image are not independent.

Every simulation draws images with a difficulty of their own, under several conditions: a model is
right under a condition if its skill there, blurred by a little luck, exceeds the difficulty. All
draws have fixed seeds, so the rates are numbers, not chances.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from robustmix.comparison.decide import decide
from robustmix.comparison.paired import (
    Counted,
    Effect,
    Resampled,
    holm,
    minimal_detectable,
)
from robustmix.metrics.intervals import weight_chunks

Floats = NDArray[np.float64]
IMAGES, CONDITIONS, MARGIN = 400, 15, 0.01


def models(rng: np.random.Generator, loss: float, conditions: int) -> tuple[Floats, Floats]:
    """Return correctness of A and B, each (images, conditions), true difference ``-loss``.

    An image's difficulty is shared by all its conditions; the luck of a model on an image too,
    mostly: this is what makes rows dependent.
    """
    difficulty = rng.normal(size=(IMAGES, 1)) + 0.3 * rng.normal(size=(IMAGES, conditions))
    spread = np.sqrt(1 + 0.3**2 + 0.25)
    sides = []
    for accuracy in (0.7, 0.7 - loss):
        luck = 0.45 * rng.normal(size=(IMAGES, 1))
        luck = luck + np.sqrt(0.25 - 0.45**2) * rng.normal(size=(IMAGES, conditions))
        skill = spread * stats.norm.ppf(accuracy)
        sides.append((skill + luck > difficulty).astype(float))
    return sides[0], sides[1]


WEIGHTS = np.concatenate(list(weight_chunks(IMAGES, 1000, seed=0)))


def effect_of(a: Floats, b: Floats) -> Effect:
    """Return what the comparison makes of two models: a mean over conditions, or a count."""
    if a.shape[1] == 1:
        first, second = a[:, 0] == 1, b[:, 0] == 1
        return Counted(
            int((first & second).sum()),
            int((first & ~second).sum()),
            int((~first & second).sum()),
            int((~first & ~second).sum()),
        )
    return Resampled(WEIGHTS @ (b.mean(axis=1) - a.mean(axis=1)) / IMAGES)


def rate(
    event: Callable[[Effect, Floats, Floats], bool],
    *,
    loss: float,
    conditions: int,
    runs: int = 1500,
) -> float:
    rng = np.random.default_rng([conditions, round(1e6 * loss)])
    hits = 0
    for _ in range(runs):
        a, b = models(rng, loss, conditions)
        hits += event(effect_of(a, b), a, b)
    return hits / runs


@pytest.mark.parametrize("conditions", [1, CONDITIONS])
def test_trap_31_a_test_at_5_percent_errs_at_most_6_percent(conditions: int) -> None:
    false_alarms = rate(lambda e, *_: e.p_zero() < 0.05, loss=0.0, conditions=conditions, runs=4000)
    assert 0.035 < false_alarms <= 0.06


def test_trap_31_rows_taken_for_independent_err_far_more() -> None:
    """The simulation can tell: the wrong test, over rows, raises false alarms."""

    def naive(_: Effect, a: Floats, b: Floats) -> bool:
        difference = (b - a).ravel()
        z = difference.mean() / (difference.std() / np.sqrt(difference.size))
        return bool(abs(z) > 1.96)

    assert rate(naive, loss=0.0, conditions=CONDITIONS, runs=300) > 0.25


def gate(effects: list[Effect], margin: float = MARGIN) -> list[str]:
    """Return the outcomes of the default gate over several metrics."""
    p = holm(np.array([min(1.0, 2 * e.p_below(-margin)) for e in effects]))
    return [
        decide("non-inferiority", e.interval(0.05), 0.0, q, alpha=0.05, limit=margin)
        for e, q in zip(effects, p, strict=True)
    ]


@pytest.mark.parametrize("conditions", [1, CONDITIONS])
def test_the_default_gate_errs_at_most_6_percent_at_its_margin(conditions: int) -> None:
    """A loss of exactly the margin is rarely called smaller, and rarely called larger."""
    passed = rate(lambda e, *_: gate([e]) == ["pass"], loss=MARGIN, conditions=conditions)
    failed = rate(lambda e, *_: gate([e]) == ["fail"], loss=MARGIN, conditions=conditions)
    assert 0.005 < passed <= 0.06
    assert 0.005 < failed <= 0.06


def test_the_default_gate_of_four_metrics_rarely_raises_a_false_alarm() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(600):
        effects = [effect_of(*models(rng, MARGIN, conditions)) for conditions in (1, 4, 1, 4)]
        alarms += "fail" in gate(effects)
    assert alarms / 600 <= 0.06
    # No loss at all: an alarm is rarer still.
    assert rate(lambda e, *_: gate([e]) == ["fail"], loss=0.0, conditions=1, runs=500) <= 0.01


def stated_difference(loss: float, conditions: int, seed: int) -> float:
    """Return the minimal detectable difference, its spread taken from 16 000 images."""
    rng = np.random.default_rng(seed)
    pairs = [models(rng, loss, conditions) for _ in range(40)]
    differences = np.concatenate([(b - a).mean(axis=1) for a, b in pairs])
    return minimal_detectable(float(differences.std()), IMAGES)


@pytest.mark.parametrize("conditions", [1, CONDITIONS])
def test_power_at_the_stated_minimal_detectable_difference(conditions: int) -> None:
    stated = stated_difference(0.05, conditions, seed=7)
    power = rate(lambda e, *_: e.p_zero() < 0.05, loss=stated, conditions=conditions, runs=500)
    assert 0.75 <= power < 0.9


def test_power_of_non_inferiority_at_a_margin_of_that_size() -> None:
    stated = stated_difference(0.0, 1, seed=8)
    passed = rate(lambda e, *_: gate([e], stated) == ["pass"], loss=0.0, conditions=1, runs=500)
    assert 0.75 <= passed < 0.9
