import math
import weakref
from typing import Any

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import brentq

from robustmix.errors import UsageError
from robustmix.metrics import intervals
from robustmix.metrics.chance import skewed_mean
from robustmix.metrics.intervals import (
    bootstrap,
    bootstrap_bias,
    bootstrap_metric,
    bootstrap_rng,
    clustered_mean,
    group_sums,
    least_share,
    percentile_interval,
    proportion,
    resample,
    resample_weights,
    wilson,
)
from robustmix.metrics.metric import FIRST_RULES, Metric
from robustmix.metrics.scores import FloatArray, IntArray


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (80, 100, 0.711171, 0.866633),
        (8232, 10000, 0.815599, 0.830553),
        (0, 50, 0.0, 0.071348),
        (50, 50, 0.928652, 1.0),
    ],
)
def test_wilson_fixtures(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-7)


@pytest.mark.parametrize(("successes", "n"), [(1, 7), (13, 31), (30, 31)])
def test_wilson_inverts_the_score_test(successes: int, n: int) -> None:
    p = successes / n

    def excess(q: float) -> float:
        return abs(p - q) - 1.959964 * math.sqrt(q * (1 - q) / n)

    low, high = wilson(successes, n)
    assert low == pytest.approx(brentq(excess, 1e-9, p), abs=1e-10)
    assert high == pytest.approx(brentq(excess, p, 1 - 1e-9), abs=1e-10)


def test_wilson_second_implementation() -> None:
    expected = scipy.stats.binomtest(17, 43).proportion_ci(0.95, method="wilson")
    assert wilson(17, 43) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_wilson_ends_are_exact() -> None:
    for n in (1, 3, 50, 999):
        assert wilson(0, n)[0] == 0.0
        assert wilson(n, n)[1] == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(successes: int, n: int) -> None:
    with pytest.raises(UsageError, match="0 <= successes <= n"):
        wilson(successes, n)


def test_proportion() -> None:
    metric = proportion(8232, 10000, direction="higher", note="k=5")
    assert (metric.value, metric.n, metric.unit) == (0.8232, 10000, "fraction")
    assert (metric.ci_method, metric.note, metric.direction) == ("wilson95", "k=5", "higher")
    assert metric.ci == wilson(8232, 10000)
    empty = proportion(0, 0, direction="higher")
    assert empty.value is None
    assert empty.ci is None
    assert empty.reason == "no samples"


def test_clustered_mean_by_hand() -> None:
    # sd of (0.2, 0.4, 0.9) is sqrt((0.09 + 0.01 + 0.16) / 2).
    metric = clustered_mean([0.2, 0.4, 0.9], direction="higher")
    half = 1.959964 * math.sqrt(0.13) / math.sqrt(3)
    assert metric.value == pytest.approx(0.5)
    assert metric.ci == pytest.approx((0.5 - half, 0.5 + half))
    assert (metric.n, metric.ci_method) == (3, "normal95/images")


def test_clustered_mean_covers_where_independent_rows_do_not() -> None:
    # Images of probability 0 or 1 with 19 rows each: the rows of one image are all equal.
    rng = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(400):
        rows = np.repeat(rng.random(101) < 0.6, 19).reshape(101, 19)
        low, high = clustered_mean(rows.mean(axis=1), direction="higher").ci or (1.0, 0.0)
        covered += low <= 0.6 <= high
        low, high = wilson(int(rows.sum()), rows.size)
        naive += low <= 0.6 <= high
    assert covered / 400 > 0.91  # 0.95 less four standard errors
    assert naive / 400 < 0.5


def test_clustered_mean_of_few_images() -> None:
    assert clustered_mean([], direction="higher").reason == "no samples"
    one = clustered_mean([0.25], direction="lower")
    assert (one.value, one.ci) == (0.25, None)
    assert one.reason
    assert clustered_mean([1.0, 1.0, 0.9], direction="higher").ci == pytest.approx(
        (0.966667 - 0.065332, 1.0), abs=1e-6
    )
    wide = clustered_mean([1.0, 5.0], direction="lower", unit="nats").ci
    assert wide == pytest.approx((3 - 1.959964 * 2, 3 + 1.959964 * 2))


def test_resample_is_multinomial() -> None:
    n, replicates = 7, 20_000
    counts = resample(n, replicates, bootstrap_rng(0))
    assert counts.shape == (replicates, n)
    assert (counts.sum(axis=1) == n).all()
    expected = scipy.stats.multinomial(n, np.full(n, 1 / n)).cov()
    np.testing.assert_allclose(np.cov(counts.T), expected, atol=0.05)  # six standard errors
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.04)


@pytest.mark.parametrize("at_once", [1, 50, 97, 300, 10_000])
def test_resamples_are_the_same_however_many_are_made_at_a_time(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "AT_ONCE", at_once)
    drawn = bootstrap_rng(3).integers(97, size=(11, 97))
    expected = np.stack([np.bincount(row, minlength=97) for row in drawn])
    assert np.array_equal(resample(97, 11, bootstrap_rng(3)), expected)
    weights = resample_weights(97, 11, bootstrap_rng(3))
    assert weights.dtype == np.float64
    assert np.array_equal(weights, expected)


@pytest.mark.parametrize("columns", [1, intervals.FEW_COLUMNS, intervals.FEW_COLUMNS + 1])
@pytest.mark.parametrize(("at_once", "draws"), [(97, 97), (400, 300), (10_000, 10_000)])
def test_means_of_resamples_are_those_of_their_counts(
    columns: int, at_once: int, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "AT_ONCE", at_once)
    monkeypatch.setattr(intervals, "DRAWS", draws)
    table = np.random.default_rng(0).normal(size=(97, columns))
    means = np.concatenate(list(intervals.resampled_means(table, 11, 3)))
    expected = resample(97, 11, bootstrap_rng(3)) @ table / 97
    # Both add 97 numbers in some order: each sum may be off by 96 roundings of what it adds up.
    error = 2 * 96 * 2.0**-53 * np.abs(table).sum(axis=0).max()
    np.testing.assert_allclose(means, expected, rtol=0, atol=error)


def test_sums_of_the_samples_are_to_the_bit_those_of_the_same_resample() -> None:
    rng = np.random.default_rng(0)
    groups, values, more = rng.integers(15, size=503), rng.normal(size=503), rng.random(503) < 0.5
    once = np.ones((1, 503))
    alone = group_sums(once, groups, 15, values, more)
    twice = group_sums(np.repeat(once, 2, 0), groups, 15, values, more)
    for one, two in zip(alone, twice, strict=True):
        assert one.shape == (1, 15)
        assert np.array_equal(one[0], two[0])


def test_weights_are_transposed_once_and_let_go_with_them() -> None:
    groups, values = np.arange(12) % 5, np.linspace(0, 1, 12)
    several = [resample_weights(12, 4, bootstrap_rng(seed)) for seed in range(3)]
    for weights in several:
        expected = [weights[:, groups == group] @ values[groups == group] for group in range(5)]
        for _ in range(2):
            (sums,) = group_sums(weights, groups, 5, values)
            np.testing.assert_allclose(sums, np.stack(expected, axis=1))
        first = intervals._COLUMNS.of(weights)
        assert intervals._COLUMNS.of(weights) is first
    gone = weakref.ref(first)
    del weights, several, first, sums
    assert gone() is None


def mean_of(values: FloatArray) -> intervals.Statistic:
    def statistic(weights: IntArray) -> dict[str, FloatArray]:
        return {"mean": weights @ values / len(values)}

    return statistic


def test_bootstrap_of_a_mean_has_the_normal_standard_error() -> None:
    values = np.random.default_rng(1).exponential(size=503)
    out = bootstrap(mean_of(values), 503, rng=bootstrap_rng(2), replicates=4000)["mean"]
    error = values.std() / math.sqrt(503)
    assert out.std() == pytest.approx(error, rel=0.05)  # its own error is 1.1 %
    assert bootstrap_bias(float(values.mean()), out) == pytest.approx(0, abs=5 * error / 63)
    low, high = percentile_interval(out)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_bootstrap_second_implementation() -> None:
    values = np.random.default_rng(3).gamma(0.7, size=211)
    ours = bootstrap(mean_of(values), 211, rng=bootstrap_rng(0), replicates=8000)["mean"]
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    tolerance = 0.15 * values.std() / math.sqrt(211)
    assert percentile_interval(ours) == pytest.approx((theirs.low, theirs.high), abs=tolerance)


def test_bootstrap_is_the_same_for_the_same_seed_only() -> None:
    values = np.arange(13.0)
    a, b, c = (
        bootstrap(mean_of(values), 13, rng=bootstrap_rng(s), replicates=11)["mean"]
        for s in (0, 0, 1)
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_bootstrap_in_chunks_keeps_every_replicate(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def statistic(weights: IntArray) -> dict[str, FloatArray]:
        sizes.append(len(weights))
        return {"first": weights[:, 0].astype(np.float64)}

    whole = bootstrap(statistic, 13, rng=bootstrap_rng(0), replicates=11)["first"]
    monkeypatch.setattr(intervals, "DRAWS", 13 * 4)
    parts = bootstrap(statistic, 13, rng=bootstrap_rng(0), replicates=11)["first"]
    assert sizes == [11, 4, 4, 3]
    assert np.array_equal(whole, parts)


def test_bootstrap_metric_says_how_it_was_made() -> None:
    def made(replicates: FloatArray, **more: Any) -> Metric:
        return bootstrap_metric(
            0.1,
            replicates,
            unit="fraction",
            direction="lower",
            n=7,
            seed=5,
            note="15 bins",
            **more,
        )

    biased = np.array([0.2, 0.3, 0.4])
    metric = made(biased)
    # 0.205 to 0.395, and the estimate.
    assert metric.ci == pytest.approx((0.1, 0.395))
    assert metric.ci_method == "bootstrap95/3/seed5"
    assert metric.note == "15 bins; bootstrap bias +0.200000"
    wider = made(biased, widened=(0.3, 0.9))
    assert (wider.ci, wider.ci_method) == ((0.1, 0.9), "bootstrap95+wilson95/3/seed5")
    first = made(biased, rules=FIRST_RULES)
    assert first.ci == pytest.approx((0.205, 0.395))
    # What is undefined in most resamples, the images do not determine.
    mostly = made(np.r_[np.tile(biased, 7), np.nan])
    assert mostly.ci is not None
    assert str(mostly.note).endswith("undefined in 1 of 22 resamples")
    undetermined = made(np.r_[biased, np.nan])
    assert (undetermined.value, undetermined.ci) == (0.1, None)
    assert undetermined.reason == "undefined in 1 of 4 resamples"
    first = made(np.r_[biased, np.nan], rules=FIRST_RULES)
    assert first.ci == pytest.approx((0.205, 0.395))
    assert first.note == "15 bins; bootstrap bias +0.200000; undefined in 1 of 4 resamples"


@pytest.mark.parametrize("replicates", [None, np.empty(0), np.array([np.nan])])
def test_bootstrap_metric_without_replicates(replicates: FloatArray | None) -> None:
    metric = bootstrap_metric(0.1, replicates, unit="fraction", direction="lower", n=7, seed=5)
    assert (metric.value, metric.ci, metric.note) == (0.1, None, None)
    assert metric.reason
    undefined = bootstrap_metric(
        math.nan, np.array([1.0]), unit="nats", direction="lower", n=7, seed=5, undefined="empty"
    )
    assert (undefined.value, undefined.ci, undefined.reason) == (None, None, "empty")


def test_group_sums_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    weights, groups = rng.integers(4, size=(3, 17)), rng.integers(5, size=17)
    x, y = rng.normal(size=17), rng.random(17) < 0.5
    sums = group_sums(weights, groups, 6, x, y)
    for replicate in range(3):
        for group in range(6):
            inside = groups == group
            assert sums[0][replicate, group] == pytest.approx(
                sum(weights[replicate, inside] * x[inside])
            )
            assert sums[1][replicate, group] == sum(weights[replicate, inside & y])


def test_the_least_of_some_shares() -> None:
    one = scipy.stats.binomtest(17, 43).proportion_ci(0.95)
    assert least_share([17], [43]) == pytest.approx((one.low, one.high), abs=1e-9)
    assert least_share([0, 9], [9, 9])[0] == 0.0
    assert least_share([9, 9], [9, 9])[1] == 1.0
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        low, high = least_share(rng.binomial(30, [0.7, 0.75, 0.8, 0.8]), [30] * 4)
        held += low <= 0.7 <= high
    assert held >= 0.93 * 400


def test_a_skewed_mean_covers_where_a_normal_interval_does_not() -> None:
    rng, skewed, normal = np.random.default_rng(1), 0, 0
    for _ in range(1000):
        x = np.exp(1.5 * rng.normal(size=200))
        low, high = skewed_mean(x)
        assert low < x.mean() < high
        skewed += low <= math.exp(1.5**2 / 2) <= high
        low, high = clustered_mean(x, direction="lower", unit="nats").ci or (0.0, 0.0)
        normal += low <= math.exp(1.5**2 / 2) <= high
    assert 925 <= skewed <= 965
    assert 845 <= normal <= 895
    assert skewed_mean([0.25] * 5) == (0.25, 0.25)
    symmetric = [-1.0, 0.0, 1.0] * 50
    assert skewed_mean(symmetric) == pytest.approx(
        clustered_mean(symmetric, direction="neither", unit="score").ci, abs=1e-9
    )
