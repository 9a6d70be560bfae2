"""Sorted positions, and folds that are fitted once."""

import numpy as np
import pytest

from robustmix.metrics import temperature
from robustmix.metrics.binned import rising_order
from robustmix.metrics.scores import FloatArray, IntArray
from robustmix.metrics.temperature import fit_temperature, two_fold_temperature

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        rng.random(1009),
        rng.integers(0, 5, 1009) / 7,
        rng.random((3, 101)),
        rng.integers(0, 2, (3, 101)) / 1.0,
        np.array([1.0, np.nan, 0.5, np.nan, 0.5]),
        np.array([0.0, -0.0, 1.0]),
        np.zeros(0),
    ],
)
def test_equal_values_keep_their_order(values: FloatArray) -> None:
    assert np.array_equal(rising_order(values), np.argsort(values, axis=-1, kind="stable"))


def test_folds_are_fitted_once_and_again_for_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(logits: FloatArray, labels: IntArray) -> temperature.Temperature:
        calls.append(logits)
        return fit_temperature(logits, labels)

    monkeypatch.setattr(temperature, "fit_temperature", counted)
    ids = [str(i) for i in range(40)]
    logits = rng.standard_normal((40, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 40)
    first = two_fold_temperature(logits, labels, ids, seed=5, replicates=0)
    again = two_fold_temperature(logits.copy(), labels, ids, seed=5, replicates=20)
    assert len(calls) == 2
    assert again.fits == first.fits
    other = 1 - labels.clip(0, 1)
    for which in ((2 * logits, labels, 5), (logits, other, 5), (logits, labels, 6)):
        made = two_fold_temperature(which[0], which[1], ids, seed=which[2], replicates=0)
        assert made.fits != first.fits
    assert len(calls) == 8
