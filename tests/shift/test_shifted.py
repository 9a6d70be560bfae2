"""Scores of sliced and of looked-up outputs, and differences of other images, by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from robustmix.metrics.intervals import Z95
from robustmix.metrics.shifted import score_shift, unpaired_difference

LOGITS = np.array(
    [
        [0.0, 9.0, 2.0, 1.0],  # largest of all: 1, of (0, 2, 3): 2
        [5.0, 1.0, 0.0, 4.0],  # 0 both ways
        [0.0, 0.0, 3.0, 8.0],  # 3 both ways
    ]
)
LABELS = np.array([2, 0, 2])


def test_a_slice_makes_other_outputs_impossible() -> None:
    found = score_shift(LOGITS, LABELS, classes=(0, 2, 3))
    assert found["pred"].tolist() == [2, 0, 3]
    assert found["correct"].tolist() == [True, True, False]
    assert found["pred_all"].tolist() == [1, 0, 3]
    kept = np.exp(LOGITS[:, [0, 2, 3]])
    softmax = kept / kept.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["confidence"], softmax.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["nll"], -np.log(softmax[[0, 1, 2], [1, 0, 1]]), rtol=1e-12)


def test_without_a_slice_all_outputs_count() -> None:
    found = score_shift(LOGITS, LABELS)
    assert found["pred"].tolist() == found["pred_all"].tolist() == [1, 0, 3]
    assert found["correct"].tolist() == [False, True, False]


def test_an_output_that_stands_for_nothing_is_wrong() -> None:
    # Outputs 0 and 3 are object 0, output 2 is object 1, output 1 is none.
    mapping = (0, -1, 1, 0)
    found = score_shift(LOGITS, np.array([1, 0, 0]), mapping=mapping)
    assert found["pred"].tolist() == [1, 0, 3]
    assert found["correct"].tolist() == [False, True, True]
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["confidence"], softmax.max(axis=1), rtol=1e-12)
    object_0 = softmax[:, 0] + softmax[:, 3]
    expected = [-np.log(softmax[0, 2]), -np.log(object_0[1]), -np.log(object_0[2])]
    np.testing.assert_allclose(found["nll"], expected, rtol=1e-12)


def test_an_object_that_no_output_stands_for_is_never_right() -> None:
    found = score_shift(LOGITS, np.array([2, 2, 0]), mapping=(0, -1, 1, 0))
    assert found["correct"].tolist() == [False, False, True]
    assert all(np.isfinite(column).all() for column in found.values())


def test_a_difference_of_other_images_has_welchs_standard_error() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(37), rng.random(101) ** 2
    defined = unpaired_difference(first, second, note="a - b")
    assert defined.estimate() == pytest.approx(first.mean() - second.mean())
    made = defined.metric()
    assert made.ci is not None
    assert made.n == 138
    # With variances over n, as the means of this report have them.
    error = np.sqrt(first.var() / 37 + second.var() / 101)
    half = (made.ci[1] - made.ci[0]) / 2
    assert half == pytest.approx(Z95 * error, rel=0.01)
    welch = stats.ttest_ind(first, second, equal_var=False)
    assert half == pytest.approx(
        Z95 * abs(first.mean() - second.mean()) / welch.statistic, rel=0.02
    )


def test_resamples_of_a_difference_weigh_each_group_by_itself() -> None:
    first, second = np.array([1.0, 0.0]), np.array([1.0, 1.0, 0.0])
    defined = unpaired_difference(first, second, note="")
    weights = np.array([[1.0, 1, 1, 1, 1], [2, 0, 1, 0, 2], [0, 0, 2, 2, 1]])
    np.testing.assert_allclose(defined.resampled(weights), [0.5 - 2 / 3, 1 - 1 / 3, np.nan])


@pytest.mark.parametrize(
    ("hits", "expected"),
    # Newcombe 1998, table II, method 10: (56/70, 48/80), (9/10, 3/10), (10/10, 0/10).
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_a_difference_of_shares_has_newcombes_interval(
    hits: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    a, m, b, n = hits
    first, second = (np.arange(of) < count for count, of in ((a, m), (b, n)))
    made = unpaired_difference(first.astype(float), second.astype(float), note="").metric()
    assert made.value == pytest.approx(a / m - b / n)
    assert made.ci == pytest.approx(expected, abs=5e-5)
    assert made.ci_method == "newcombe95"
    # statsmodels has the same method, written by others.
    theirs = confint_proportions_2indep(a, m, b, n, method="newcomb")
    assert made.ci == pytest.approx(theirs, abs=1e-7)  # ours has six digits of the quantile
