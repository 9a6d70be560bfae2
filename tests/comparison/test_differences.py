"""Differences of calibration errors, which chance raises: measured on models that are known."""

import numpy as np
import pytest

from robustmix.comparison.measure import chance_of_difference
from robustmix.comparison.paired import Resampled
from robustmix.metrics.calibration import ace_15, binned_numbers
from robustmix.metrics.definition import Definition
from robustmix.metrics.from_logits import rows_of_logits
from robustmix.metrics.intervals import weight_chunks
from robustmix.metrics.scores import FloatArray, IntArray
from tests.metrics.populations import Population, draw_labels, true_values


def test_resamples_lie_around_the_difference_and_chance_widens_them() -> None:
    drawn = np.array([0.5, 0.6, 0.7])
    effect = Resampled.around(0.1, drawn, "bootstrap", 0.02, 0.03)
    assert effect.replicates == pytest.approx([0.0, 0.1, 0.2])
    assert effect.interval(0.5) == pytest.approx((0.05 - 0.02, 0.15 + 0.03))
    assert effect.method == "bootstrap+chance/3"
    # One is added to both counts; 0.2 + 0.03 alone reaches 0.21, and 0.0 - 0.02 alone -0.01.
    assert effect.p_below(0.21) == pytest.approx(2 / 4)
    assert effect.p_above(-0.01) == pytest.approx(2 / 4)
    assert Resampled(drawn).method == "bootstrap/3"


NAMES = ("ece_15", "classwise_ece_15", "ace_15")


def definitions(logits: FloatArray, labels: IntArray) -> dict[str, Definition]:
    rows = rows_of_logits(logits, labels, seed=0)
    numbers = binned_numbers(rows, [15])
    return {name: numbers["", name]() for name in NAMES[:2]} | {"ace_15": ace_15(rows)}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param(Population(10), Population(10, sharpness=2.0), id="calibrated-over"),
        *(
            pytest.param(*both, id=name, marks=pytest.mark.slow)
            for name, *both in (
                ("calibrated-slightly", Population(10), Population(10, sharpness=1.15)),
                ("over-more", Population(10, sharpness=1.5), Population(10, sharpness=2.0)),
                ("under-calibrated", Population(10, sharpness=0.6), Population(10)),
            )
        ),
    ],
)
def test_intervals_of_differences(a: Population, b: Population) -> None:
    truth = {k: true_values(b, 100_000)[k] - true_values(a, 100_000)[k] for k in NAMES}
    rng, repeats, n = np.random.default_rng(3), 30, 500
    held, false = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    for _ in range(repeats):
        # The same images and labels; the models differ in how sure they are.
        logits, probabilities = a.draw(n, rng)
        labels = draw_labels(probabilities, rng)
        left = definitions(logits, labels)
        right = definitions(logits * b.sharpness / a.sharpness, labels)
        (weights,) = weight_chunks(n, 200, 0)
        for name in NAMES:
            one, two = left[name], right[name]
            delta = two.estimate() - one.estimate()
            drawn = two.resampled(weights) - one.resampled(weights)
            chance = chance_of_difference([one], [two])
            effect = Resampled.around(delta, drawn, "bootstrap", *chance)
            low, high = effect.interval(0.05)
            assert low <= delta <= high, name
            held[name] += low <= truth[name] <= high
            # A margin that the truth does not keep must not be found kept, nor the other way.
            beyond = min(effect.p_below(truth[name]), effect.p_above(truth[name]))
            false[name] += beyond < 0.025
    assert min(held.values()) >= 0.93 * repeats, held
    assert max(false.values()) <= 0.07 * repeats, false
