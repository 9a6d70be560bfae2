"""How well a score map finds an object: box accuracies over thresholds, and PxAP over pixels.

The threshold is common to all images and is the best one for the very images that are scored.

Reference:
    Choe et al. 2020, arXiv:2001.07437, sections 4.2 and 4.3, for MaxBoxAcc and PxAP; its extension
    arXiv:2007.04178 for MaxBoxAccV2.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from robustmix.metrics.definition import Definition, function
from robustmix.metrics.intervals import wilson
from robustmix.metrics.scores import FloatArray, IntArray

SIDE = 224
"""Height and width of the maps and of what they are held against."""

LEVELS = 255
"""Levels that a threshold can fall on, 0 to 254: maps have 8 bits, and their largest value is 255,
or all are 0."""

WHOLE = 30_000
"""IoU 1 in rows, which hold whole numbers, rounded down: so whether an IoU reaches a bound that is
given in thousandths is the same as of the fraction itself."""

IouArray = NDArray[np.int16]


def scaled_box(box: Sequence[float], size: tuple[float, float]) -> tuple[int, ...]:
    """Bring a box into the coordinates of the maps: each axis by itself, cut to whole numbers.

    Args:
        box: left, top, right, bottom in pixels of the picture.
        size: the picture's width and height.

    Example:
        >>> scaled_box((60, 27, 385, 331), (500, 335))
        (26, 18, 172, 221)
    """
    return tuple(int(value * SIDE / size[place % 2]) for place, value in enumerate(box))


def box_ious(boxes: IntArray, truth: IntArray) -> IouArray:
    """Give the largest IoU of each box with one of the true ones, in parts of ``WHOLE``, (K,).

    Pixels are counted inclusively: a box is as wide as its right end minus its left one, plus 1.

    Args:
        boxes: left, top, right, bottom, whole numbers, (K, 4).
        truth: likewise, (B, 4), at least one.

    Example:
        >>> found = box_ious(np.array([[1, 1, 7, 4], [1, 1, 5, 4]]), np.array([[1, 1, 4, 3]]))
        >>> [round(part / WHOLE, 4) for part in found.tolist()]
        [0.4286, 0.6]
    """
    mine, other = boxes[:, None].astype(np.int64), truth[None].astype(np.int64)
    low, high = np.maximum(mine[..., :2], other[..., :2]), np.minimum(mine[..., 2:], other[..., 2:])
    shared = np.maximum(high - low + 1, 0).prod(axis=2)
    areas = [(one[..., 2:] - one[..., :2] + 1).prod(axis=2) for one in (mine, other)]
    parts = WHOLE * shared // (areas[0] + areas[1] - shared)
    return np.asarray(parts.max(axis=1), dtype=np.int16)


def level_of(threshold: float) -> int:
    """Give the level of a map whose largest value is 255 that a threshold falls on.

    Example:
        >>> level_of(0.5), level_of(0.8), level_of(0.999)
        (127, 204, 254)
    """
    return int(threshold * LEVELS)


def thresholds_of(step: float) -> FloatArray:
    """Give the thresholds 0, step, 2 step, ... below 1."""
    return np.arange(0, 1, step)


def levels_of(step: float) -> IntArray:
    """Give the levels that the thresholds fall on, rising, each once."""
    return np.unique((thresholds_of(step) * LEVELS).astype(np.int64))


def hits_of(ious: IouArray, bound: Fraction) -> NDArray[np.bool_]:
    """Tell where IoUs in parts of ``WHOLE`` reach a bound in thousandths."""
    return np.asarray(ious >= int(bound * WHOLE))


def best_levels(ious: IouArray, bound: Fraction, levels: IntArray) -> tuple[int, float]:
    """Give the lowest of the levels with the highest accuracy, and that accuracy.

    Args:
        ious: best IoU of each image at each level, (n, 255).
        bound: from which IoU on a box is right.
        levels: those that are tried.
    """
    shares = hits_of(ious[:, levels], bound).mean(axis=0)
    best = int(shares.argmax())
    return int(levels[best]), float(shares[best])


def max_box_accuracy(
    ious: IouArray, bounds: Sequence[Fraction], levels: IntArray, *, note: str
) -> Definition:
    """Define the mean over bounds of the largest share of images that any threshold gets right.

    Args:
        ious: best IoU of each image at each level, (n, 255).
        bounds: IoUs from which on a box is right; each has a best threshold of its own.
        levels: those that are tried.
        note: what a reader must know.

    Returns:
        A definition with a bootstrap interval, which holds the mean of Wilson's for the best shares
        too: the best of many thresholds is better in resamples than in the images themselves.
    """

    def statistic(weights: FloatArray) -> FloatArray:
        best = np.zeros(len(weights))
        for bound in bounds:
            hits = hits_of(ious[:, levels], bound).astype(np.float64)
            best += (weights @ hits).max(axis=1)
        return np.asarray(best / (len(ious) * len(bounds)))

    n = len(ious)
    ends = [wilson(round(n * best_levels(ious, bound, levels)[1]), n) for bound in bounds]
    # A share that is 0 or 1 is so in every resample, and bounds are of the same images.
    low, high = np.mean(ends, axis=0).tolist()
    defined = function(n, statistic, direction="higher", note=note)
    return replace(defined, widened=(low, high))


def bin_edges(step: float) -> FloatArray:
    """Give the edges of the bins of scores: 0, step, ... below 1, then 1, 2, 3.

    Example:
        >>> bin_edges(0.25).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0]
    """
    return np.append(thresholds_of(step), (1.0, 2.0, 3.0))


def score_counts(scores: FloatArray, chosen: NDArray[np.bool_], step: float) -> IntArray:
    """Count the chosen scores by bins, closed on the left; a score of 1 is in [1, 2).

    Args:
        scores: in [0, 1].
        chosen: which count, of the same shape.
        step: width of the bins below 1.

    Example:
        >>> score_counts(np.array([1.0, 0.8, 0.3]), np.ones(3, dtype=bool), 0.25).tolist()
        [0, 1, 0, 1, 1, 0]
    """
    edges = bin_edges(step)
    place = np.searchsorted(edges, scores[chosen], side="right") - 1
    return np.bincount(place, minlength=len(edges) - 1)


def average_precision(positive: FloatArray, negative: FloatArray) -> FloatArray:
    """Give the area under precision against recall, by steps, (R,); NaN without positives.

    Args:
        positive: how many pixels of the object have scores in each bin, rising, (R, bins).
        negative: how many others.

    Example:
        >>> found = average_precision(
        ...     np.array([[0.0, 1, 0, 1, 1, 0]]), np.array([[2.0, 0, 1, 0, 0, 0]])
        ... )
        >>> round(float(found[0]), 6)
        0.916667
    """
    right = np.cumsum(positive[:, ::-1], axis=1)
    all_above = right + np.cumsum(negative[:, ::-1], axis=1)
    total = right[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(all_above > 0, right / all_above, 0.0)
        gained = np.diff(right, axis=1, prepend=0.0) / total[:, None]
        return np.asarray(np.where(total > 0, (precision * gained).sum(axis=1), np.nan))


def pixel_precision(positive: IntArray, negative: IntArray, *, note: str) -> Definition:
    """Define PxAP: one curve of precision against recall of all images' pixels together.

    Args:
        positive: counts of the object's pixels by score, of each image, (n, bins).
        negative: of the others.
        note: what a reader must know.
    """
    counts = [array.astype(np.float64) for array in (positive, negative)]

    def statistic(weights: FloatArray) -> FloatArray:
        return average_precision(*(weights @ array for array in counts))

    return function(
        len(positive),
        statistic,
        direction="higher",
        note=note,
        reason="no image has a pixel of an object",
    )
