import math

import numpy as np
import pytest
import statsmodels.stats.api as sm
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as other_mcnemar

from robustmix.comparison.paired import (
    Counted,
    Identical,
    Resampled,
    Unchanged,
    benjamini_hochberg,
    holm,
    mcnemar,
    minimal_detectable,
    newcombe,
    sign_flip,
)
from robustmix.errors import UsageError
from robustmix.metrics import intervals
from robustmix.metrics.intervals import Z95, bootstrap_rng, resample


@pytest.mark.parametrize(
    ("b", "c", "exact", "mid"),
    [
        (10, 3, 0.092285, 0.057373),
        (0, 6, 0.031250, 0.015625),
        (25, 25, 1, 1),
        (120, 87, 0.025900, 0.021903),
        (0, 0, 1, 1),
    ],
)
def test_mcnemar_fixtures(b: int, c: int, exact: float, mid: float) -> None:
    p = mcnemar(b, c)
    assert p.exact == pytest.approx(exact, abs=1e-6)
    assert p.mid == pytest.approx(mid, abs=1e-6)
    assert mcnemar(c, b) == p


@pytest.mark.parametrize(("b", "c"), [(1, 0), (7, 2), (13, 31), (400, 333)])
def test_mcnemar_equals_another_implementation(b: int, c: int) -> None:
    table = [[50, b], [c, 11]]
    assert mcnemar(b, c).exact == pytest.approx(other_mcnemar(table, exact=True).pvalue, rel=1e-9)
    assert mcnemar(b, c).exact == pytest.approx(
        stats.binomtest(min(b, c), b + c, 0.5).pvalue, rel=1e-9
    )


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(UsageError, match="counts >= 0"):
        mcnemar(-1, 3)


def test_newcombe_as_published() -> None:
    """Airway hyper-responsiveness before and after: Fagerland et al. 2014, Stat. Med. 33:2850."""
    low, high = newcombe(1, 1, 7, 12, z=Z95)
    assert (round(low, 3), round(high, 3)) == (0.026, 0.507)


def slow_newcombe(e: int, f: int, g: int, h: int, alpha: float) -> tuple[float, float]:
    """Method 10 for p1 - p2, step by step, with another library's Wilson limits."""
    n = e + f + g + h
    l2, u2 = sm.proportion_confint(e + f, n, alpha=alpha, method="wilson")
    l3, u3 = sm.proportion_confint(e + g, n, alpha=alpha, method="wilson")
    p2, p3 = (e + f) / n, (e + g) / n
    dl2, du2, dl3, du3 = p2 - l2, u2 - p2, p3 - l3, u3 - p3
    below = (e + f) * (g + h) * (e + g) * (f + h)
    above = float(e * h - f * g)
    if above > 0:
        above = max(above - n / 2, 0)
    phi = above / math.sqrt(below) if below else 0.0
    delta = math.sqrt(dl2**2 - 2 * phi * dl2 * du3 + du3**2)
    epsilon = math.sqrt(du2**2 - 2 * phi * du2 * dl3 + dl3**2)
    return p2 - p3 - delta, p2 - p3 + epsilon


@pytest.mark.parametrize(
    "table", [(36, 12, 2, 0), (80, 4, 9, 7), (20, 0, 0, 0), (50, 0, 0, 13), (0, 5, 0, 7)]
)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_newcombe_step_by_step(table: tuple[int, int, int, int], alpha: float) -> None:
    both, b, c, neither = table
    low, high = Counted(both, b, c, neither).interval(alpha)
    other = slow_newcombe(both, b, c, neither, alpha)  # of A - B
    assert (low, high) == pytest.approx((-other[1], -other[0]), abs=1e-6)


def test_the_p_values_of_a_count_invert_its_interval() -> None:
    effect = Counted(700, 60, 45, 195)
    for alpha in (0.05, 0.01, 0.5):
        low, high = effect.interval(alpha)
        assert effect.p_below(high) == pytest.approx(alpha / 2, abs=1e-6)
        assert effect.p_above(low) == pytest.approx(alpha / 2, abs=1e-6)
        assert effect.p_below(low) == pytest.approx(1 - alpha / 2, abs=1e-6)
    assert effect.p_below(-1.5) == pytest.approx(1)
    assert effect.p_above(-1.5) == pytest.approx(0, abs=1e-9)


def test_the_p_values_of_resamples_invert_their_interval() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.02, 9999)
    effect = Resampled(values)
    low, high = effect.interval(0.1)
    assert effect.p_below(high) == pytest.approx(0.05, abs=2e-4)
    assert effect.p_above(low) == pytest.approx(0.05, abs=2e-4)
    assert effect.p_zero() == pytest.approx(2 * effect.p_above(0.0))
    assert Resampled(np.full(99, 2.0)).p_zero() == pytest.approx(2 / 100)  # never 0


def test_no_change_is_bounded_as_clopper_and_pearson_do() -> None:
    effect = Unchanged(150)
    low, high = effect.interval(0.05)
    _, upper = sm.proportion_confint(0, 150, alpha=0.05, method="beta")
    assert high == pytest.approx(upper, rel=1e-9)
    assert low == -high
    assert effect.p_below(high) == pytest.approx(0.025)
    assert effect.p_above(low) == pytest.approx(0.025)
    assert effect.p_below(-0.1) == effect.p_zero() == 1


def test_identical_is_certain() -> None:
    effect = Identical()
    assert effect.interval(0.05) == (0, 0)
    assert (effect.p_below(1e-9), effect.p_above(-1e-9), effect.p_zero()) == (0, 0, 1)
    assert (effect.p_below(0.0), effect.p_above(0.0)) == (1, 1)


@pytest.mark.parametrize("m", [1, 2, 7])
def test_adjusted_p_values_equal_other_implementations(m: int) -> None:
    p = np.random.default_rng(m).random(m) ** 3
    assert holm(p) == pytest.approx(sm.multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p, method="bh"))


@pytest.mark.parametrize("at_once", [1, 200, 2**16])
def test_sign_flips_are_the_same_however_many_are_made_at_a_time(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 1, size=(45, 2))
    p = sign_flip(differences, rng=bootstrap_rng(0), replicates=500)
    bits = np.frombuffer(bootstrap_rng(0).bytes(500 * 6), dtype=np.uint8).reshape(500, 6)
    signs = 2.0 * np.unpackbits(bits, axis=1)[:, :45] - 1
    reached = np.abs(signs @ differences) >= np.abs(differences.sum(axis=0))
    assert np.array_equal(p, (reached.sum(axis=0) + 1) / 501)


def test_sign_flips_equal_the_exact_permutation_test() -> None:
    rng = np.random.default_rng(3)
    differences = rng.normal(0.4, 1, (11, 2))
    p = sign_flip(differences, rng=bootstrap_rng(0), replicates=20_000)
    for column in range(2):
        exact = stats.permutation_test(
            [differences[:, column]], np.mean, permutation_type="samples", n_resamples=10**6
        ).pvalue
        assert p[column] == pytest.approx(exact, abs=0.01)
    assert sign_flip(np.zeros((5, 1)), rng=bootstrap_rng(0), replicates=99)[0] == 1


def test_minimal_detectable_difference_of_the_specification() -> None:
    """n = 10 000, one image in ten discordant, power .8: 0.89 points; n = 1 000: 2.8."""
    assert minimal_detectable(math.sqrt(0.1), 10_000) == pytest.approx(0.0089, abs=5e-5)
    assert minimal_detectable(math.sqrt(0.1), 1_000) == pytest.approx(0.028, abs=5e-4)


def test_multinomial_counts_give_the_bootstrap_of_another_library() -> None:
    rng = np.random.default_rng(1)
    differences = rng.choice([-1.0, 0.0, 0.5, 1.0], 80)
    weights = resample(80, 20_000, bootstrap_rng(0))
    ours = Resampled(weights @ differences / 80).interval(0.05)
    other = stats.bootstrap(
        (differences,), np.mean, method="percentile", n_resamples=20_000, rng=2
    ).confidence_interval
    assert ours == pytest.approx((other.low, other.high), abs=0.01)
