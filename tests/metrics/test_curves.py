"""Areas and points of accuracy curves, worked by hand and by a bootstrap of images."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike

from robustmix.metrics.curves import Curve, curve_numbers, point_numbers
from robustmix.metrics.definition import Undefined, summarise_metrics
from robustmix.metrics.metric import FIRST_RULES, RULES, Metric
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples, Table

SHARES = (0.0, 0.25, 0.5, 1.0)


def rows(correct: ArrayLike, *, classes: int = 4) -> Rows:
    """Rows of conditions ``0``, ``1``, ...; ``correct`` is (points, trials, n)."""
    right = np.asarray(correct, dtype=np.uint8)
    n = right.shape[2]
    columns = {"correct": right, "confidence": np.full(right.shape, 0.5)}
    table = Table(tuple(str(i) for i in range(len(right))), columns)
    samples = Samples(
        tuple(f"s{i:04}" for i in range(n)), np.zeros(n, dtype=np.int64), ("a",) * classes, None,
        {"curve": table},
    )  # fmt: skip
    return Rows.of(samples, "curve", num_classes=classes, input_size=(3, 8, 8), seed=0)


def whole(
    correct: ArrayLike, x: tuple[float, ...] = SHARES, rules: str = RULES
) -> dict[str, Metric]:
    found = replace(rows(correct), rules=rules)
    names = found.conditions[: len(x)]
    numbers = curve_numbers(found, Curve(conditions=names, x=x, suffix="x", half="rho50"))
    metrics = summarise_metrics(numbers, seed=0, rules=rules)
    return {name: metric for (_, name), metric in metrics.items()}


def test_areas_and_half_points_by_hand() -> None:
    # Two kinds of images, four points: accuracies 1, 1, .5, 0 at shares 0, .25, .5, 1.
    correct = np.repeat([[1, 1], [1, 1], [1, 0], [0, 0]], 10, axis=1)[:, None]
    metrics = whole(correct)
    area = 0.25 + 0.25 * 0.75 + 0.5 * 0.25
    assert metrics["auc_x"].value == pytest.approx(area)
    assert metrics["nauc_x"].value == pytest.approx(area)
    assert metrics["nauc_chance_x"].value == pytest.approx((area - 0.25) / 0.75)
    assert metrics["rho50_x"].value == pytest.approx(0.5)
    hopeless = whole(0 * correct)
    assert hopeless["nauc_x"].value is None
    assert hopeless["nauc_chance_x"].value is None
    assert hopeless["rho50_x"].reason is not None
    # So few of the images are right that the curve may well begin at chance, 1/4.
    weak = np.where(np.arange(20) % 10 < 3, correct, 0)
    found = whole(weak)
    assert found["nauc_x"].value == pytest.approx(area)
    for name in ("nauc_chance_x", "rho50_x"):
        assert found[name].value is None
        assert found[name].reason == "accuracy at the curve's start is not surely above chance"
    first = whole(weak, rules=FIRST_RULES)
    assert first["nauc_chance_x"].value is not None
    assert first["rho50_x"].value == pytest.approx(0.5)
    # The range need not be all of [0, 1]: 14 of 64 patches at most.
    short = whole(correct, SHARES[:3])
    assert short["auc_x"].value == pytest.approx((0.25 + 0.25 * 0.75) / 0.5)
    with pytest.raises(Undefined, match="one point"):
        whole(correct, SHARES[:1])


def test_trials_are_averaged_image_by_image_and_repeated_ones_left_out() -> None:
    correct = np.array([[[1, 1, 1], [1, 1, 1]], [[1, 0, 0], [1, 1, 0]]])
    points = {"start": "0", "end": "1"}
    both = summarise_metrics(point_numbers(rows(correct), points), seed=0)
    assert both["end", "acc"].value == pytest.approx(0.5)
    # Images are the units: 1, 1/2 and 0 leave nothing out, six answers would give (0.06, 0.94).
    assert both["end", "acc"].ci == (0.0, 1.0)
    assert both["end", "trial_sd"].value == pytest.approx(np.std([1 / 3, 2 / 3], ddof=1))
    assert both["end", "ece_15"].value == pytest.approx((abs(0.5 - 1 / 3) + abs(0.5 - 2 / 3)) / 2)
    once = summarise_metrics(point_numbers(rows(correct), points, trials=1), seed=0)
    assert once["end", "acc"].value == pytest.approx(1 / 3)
    assert once["end", "trial_sd"].value is None


def test_retention_interval_equals_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    start = (rng.random(400) < 0.7).astype(float)
    right = start * (rng.random(400) < 0.6)
    points = {"a": "0", "b": "1"}
    numbers = point_numbers(rows(np.stack([start, right])[:, None]), points)
    found = summarise_metrics(numbers, seed=0)["b", "retention"]
    assert found.value == pytest.approx(right.sum() / start.sum())
    picks = rng.integers(400, size=(4000, 400))
    ratios = right[picks].sum(axis=1) / start[picks].sum(axis=1)
    assert found.ci == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), abs=0.01)
    none = point_numbers(rows(np.stack([0 * start, right])[:, None]), points)
    undefined = summarise_metrics(none, seed=0)["b", "retention"]
    assert undefined.value is None
    assert undefined.reason == "no image is classified correctly at the curve's start"
