"""An interval of a fraction stays among the fractions, whatever formula made it."""

import numpy as np

from robustmix.comparison.paths import all_metrics
from robustmix.evaluation.evaluate import evaluate
from robustmix.metrics.definition import mean
from tests.evaluation.tiny import Net, tiny_images, tiny_model


def test_a_skewed_mean_of_fractions_is_cut_to_their_range() -> None:
    high = np.r_[np.ones(62), 0.0, 0.5]
    for values, ends in ((high, (None, 1.0)), (1 - high, (0.0, None)), (-high, (-1.0, None))):
        found = mean(values, direction="lower", interval="skewed")
        interval = found.metric().ci
        assert interval is not None
        assert interval[0] <= values.mean() <= interval[1]
        for got, want in zip(interval, ends, strict=True):
            assert want is None or got == want


def test_every_fraction_of_a_bad_model_is_one() -> None:
    report = evaluate(tiny_model(Net(seed=3)), tiny_images(64), ["clean", "calibration"])
    intervals = {
        str(path): metric.ci
        for path, metric in all_metrics(report.content)
        if metric.unit == "fraction" and metric.ci is not None
    }
    assert "calibration.aurc" in intervals
    for path, (low, high) in intervals.items():
        assert -1 <= low <= high <= 1, path
