"""The localisation measures on the hand-computed cases and against plain loops."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from robustmix.evaluation.suites.localisation import USUAL, box_rows, quantised
from robustmix.metrics.intervals import wilson
from robustmix.metrics.localised import (
    LEVELS,
    WHOLE,
    average_precision,
    best_levels,
    bin_edges,
    box_ious,
    hits_of,
    level_of,
    levels_of,
    max_box_accuracy,
    pixel_precision,
    scaled_box,
    score_counts,
    thresholds_of,
)
from tests.saliency import localisers

HALF = (Fraction(1, 2),)
THRESHOLDS = (0, 0.25, 0.5, 0.8)
AT = np.array([level_of(threshold) for threshold in THRESHOLDS])


def by_hand() -> list[tuple[NDArray[np.float64], tuple[int, int, int, int]]]:
    a, b = np.zeros((8, 8)), np.zeros((8, 8))
    a[1:4, 1:5], a[1:4, 5:7] = 1, 0.5
    b[:2, :2], b[4:8, 4:8] = 1, 0.8
    return [(a, (1, 1, 4, 3)), (b, (4, 4, 7, 7)), (b, (0, 0, 2, 2))]


def rows_by_hand(name: str) -> NDArray[np.int16]:
    rows = [box_rows(quantised(scores), np.array([true])) for scores, true in by_hand()]
    return np.stack([row[name] for row in rows]).astype(np.int16)


def test_ious_of_the_three_maps() -> None:
    every = rows_by_hand("iou")[:, AT] / WHOLE
    largest = rows_by_hand("iou_largest")[:, AT] / WHOLE
    assert every == pytest.approx(
        np.array([[12 / 28, 12 / 28, 0.6, 0.6], [1, 1, 1, 0], [1, 1, 1, 1]]), abs=1 / WHOLE
    )
    assert largest == pytest.approx(
        np.array([[12 / 28, 12 / 28, 0.6, 0.6], [1, 1, 1, 0], [0, 0, 0, 1]]), abs=1 / WHOLE
    )


def test_boxes_of_the_three_maps() -> None:
    a, b, _ = (
        box_rows(quantised(scores), np.array([true]))["box"][AT].tolist()
        for scores, true in by_hand()
    )
    assert a == [[1, 1, 7, 4], [1, 1, 7, 4], [1, 1, 5, 4], [1, 1, 5, 4]]
    assert b == [[4, 4, 7, 7], [4, 4, 7, 7], [4, 4, 7, 7], [0, 0, 2, 2]]


def test_both_measures_on_the_three_maps() -> None:
    """66.67 and 88.89; the mean over IoUs of single contours would be 55.56."""
    every, largest = rows_by_hand("iou"), rows_by_hand("iou_largest")
    v1 = max_box_accuracy(largest, HALF, AT, note="")
    v2 = max_box_accuracy(every, USUAL, AT, note="")
    assert v1.metric(np.array([v1.estimate()])).value == pytest.approx(2 / 3)
    assert v2.estimate() == pytest.approx(8 / 9)
    assert max_box_accuracy(largest, USUAL, AT, note="").estimate() == pytest.approx(5 / 9)
    shares = [hits_of(every[:, AT], bound).mean(axis=0).tolist() for bound in USUAL]
    third = 1 / 3
    assert shares[0] == pytest.approx([1, 1, 1, 2 * third])
    assert shares[1] == pytest.approx([2 * third, 2 * third, 1, 2 * third])
    assert shares[2] == pytest.approx([2 * third, 2 * third, 2 * third, third])
    assert best_levels(every, USUAL[1], AT) == (127, 1.0)


def test_each_iou_has_a_threshold_of_its_own_and_all_images_share_it() -> None:
    ious = np.zeros((2, LEVELS), dtype=np.int16)
    ious[0, 10] = ious[1, 20] = WHOLE
    assert max_box_accuracy(ious, USUAL, levels_of(0.001), note="").estimate() == 0.5
    ious[:, 30] = int(0.4 * WHOLE)
    expected = (1 + 0.5 + 0.5) / 3
    assert max_box_accuracy(ious, USUAL, levels_of(0.001), note="").estimate() == expected


def test_measures_equal_the_loops_and_ties_at_a_bound_count() -> None:
    rng = np.random.default_rng(2)
    thresholds = thresholds_of(0.01).tolist()
    every, largest, rows = [], [], []
    for place in range(7):
        scores = rng.random((9, 8)).round(2)
        scores = (scores - scores.min()) / np.ptp(scores)
        truth = [(1, 1, 5, 6), (3, 0, 7, 4)][: 1 + place % 2]
        both = localisers.best_ious(quantised(scores), truth, thresholds)
        every.append(both[0])
        largest.append(both[1])
        rows.append(box_rows(quantised(scores), np.array(truth)))
    for name, want in (("iou", every), ("iou_largest", largest)):
        ious = np.stack([row[name] for row in rows]).astype(np.int16)
        at = [int(threshold * LEVELS) for threshold in thresholds]
        assert (ious[:, at] == [[int(WHOLE * one + 1e-6) for one in of] for of in want]).all()
        for bounds in (HALF, USUAL, (Fraction(2, 5), Fraction(3, 5))):
            defined = max_box_accuracy(ious, bounds, levels_of(0.01), note="")
            by_loops = localisers.max_box_accuracy(want, [float(bound) for bound in bounds])
            assert defined.estimate() == pytest.approx(by_loops)
    # 7 of 10 pixels are an IoU of 0.7, which as floats 0.1 + 0.6 would miss.
    exact = box_ious(np.array([[0, 0, 6, 0]]), np.array([[0, 0, 9, 0]]))
    assert hits_of(exact, Fraction(7, 10)).all()
    assert not hits_of(exact, Fraction(701, 1000)).any()


def test_an_interval_is_never_that_of_a_certain_share() -> None:
    ious = np.full((20, LEVELS), WHOLE, dtype=np.int16)
    metric = max_box_accuracy(ious, USUAL, levels_of(0.001), note="").metric(np.ones(50), seed=3)
    assert metric.value == 1
    assert metric.ci == pytest.approx(wilson(20, 20))


def test_resamples_choose_their_own_threshold() -> None:
    ious = np.zeros((2, LEVELS), dtype=np.int16)
    ious[0, 10] = ious[1, 20] = WHOLE
    defined = max_box_accuracy(ious, HALF, levels_of(0.001), note="")
    weights = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    assert defined.resampled(weights).tolist() == [1, 0.5, 1]


def test_boxes_are_scaled_by_axis_and_cut() -> None:
    assert scaled_box((60, 27, 385, 331), (500, 335)) == (26, 18, 172, 221)
    assert scaled_box((0, 0, 500, 335), (500, 335)) == (0, 0, 224, 224)
    for width in (7, 225, 333, 500):
        for x in range(width + 1):
            assert scaled_box((x, 0, x, 0), (width, 1))[0] == x * 224 // width


def test_levels_that_thresholds_fall_on() -> None:
    assert levels_of(0.001).tolist() == list(range(255))
    assert len(levels_of(0.01)) == len(thresholds_of(0.01)) == 100
    assert AT.tolist() == [0, 63, 127, 204]
    assert quantised(np.array([0, 0.5, 0.8, 1])).tolist() == [0, 127, 204, 255]


def test_pxap_by_hand() -> None:
    scores = np.array([1.0, 0.8, 0.3, 0.6, 0.2, 0.0, 0.9])
    inside, outside = np.arange(7) < 3, (np.arange(7) >= 3) & (np.arange(7) < 6)
    positive = score_counts(scores, inside, 0.25)
    negative = score_counts(scores, outside, 0.25)
    assert positive.tolist() == [0, 1, 0, 1, 1, 0]
    assert negative.tolist() == [2, 0, 1, 0, 0, 0]
    both = positive[None].astype(float), negative[None].astype(float)
    assert average_precision(*both)[0] == pytest.approx(11 / 12)
    found = localisers.pixel_precision([scores], [inside], [~inside & ~outside], 0.25)
    assert found == pytest.approx(11 / 12)


def test_pxap_is_one_curve_of_all_images_and_equals_the_loops() -> None:
    rng = np.random.default_rng(4)
    scores = [rng.random((6, 7)) for _ in range(5)]
    scores[0][0, 0] = 1.0
    inside = [rng.random((6, 7)) < share for share in (0.1, 0.8, 0.3, 0.5, 0.4)]
    ignored = [(rng.random((6, 7)) < 0.2) & ~of for of in inside]
    rows = [
        (score_counts(s, of, 0.05), score_counts(s, ~of & ~out, 0.05))
        for s, of, out in zip(scores, inside, ignored, strict=True)
    ]
    positive, negative = (np.stack(column) for column in zip(*rows, strict=True))
    defined = pixel_precision(positive, negative, note="")
    assert defined.estimate() == pytest.approx(
        localisers.pixel_precision(scores, inside, ignored, 0.05)
    )
    each = [pixel_precision(p[None], n[None], note="").estimate() for p, n in rows]
    assert defined.estimate() != pytest.approx(np.mean(each), abs=1e-3)
    twice = defined.resampled(np.array([[5.0, 0, 0, 0, 0]]))[0]
    assert twice == pytest.approx(each[0])


def test_without_an_object_there_is_no_pxap() -> None:
    bins = len(bin_edges(0.25)) - 1
    nothing = np.zeros((2, bins), dtype=np.int64)
    metric = pixel_precision(nothing, nothing + 1, note="").metric()
    assert metric.value is None
    assert metric.reason == "no image has a pixel of an object"
