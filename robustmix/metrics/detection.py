"""Metrics of out-of-distribution detection: how well a score tells two groups of images apart.

In-distribution images are the positives, as is usual; larger scores speak for them. Nothing here
depends on labels, nor on which threshold anybody would choose, but for ``fpr95``.

Hendrycks and Gimpel 2017, arXiv:1610.02136 (MSP, and AUROC and AUPR as measures); Hendrycks et al.
2022, arXiv:1911.11132 (maximum logit); Liu et al. 2020, arXiv:2010.03759 (energy, FPR95).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from robustmix.later import special
from robustmix.metrics.definition import CI, Definition, Shared, function, mean, once, ratio_of
from robustmix.metrics.intervals import Z95, wilson
from robustmix.metrics.metric import Direction
from robustmix.metrics.root import find_root
from robustmix.metrics.scores import (
    FloatArray,
    IntArray,
    Logits,
    as_logits,
    check_finite,
    log_normaliser,
)

SCORES = ("msp", "max_logit", "energy")
"""Maximum softmax probability, largest logit, and log-sum-exp of the logits: the negative free
energy at temperature 1."""

KEPT = (19, 20)
"""The share of in-distribution images that ``fpr95`` lets pass, exactly."""


def detection_scores(logits: Logits) -> dict[str, FloatArray]:
    """Score images by their logits; larger is more like the training images.

    Args:
        logits: (N, K), float32 or float64; not probabilities, of which two of the scores say
            nothing.

    Returns:
        The scores ``SCORES``: ``msp``, ``max_logit`` and ``energy``, float64 (N,).

    Raises:
        UsageError: another shape or type.
        IncompleteError: a NaN or infinite logit.

    Reference:
        Hendrycks and Gimpel 2017, arXiv:1610.02136; Hendrycks et al. 2022, arXiv:1911.11132; Liu et
        al. 2020, arXiv:2010.03759.

    Example:
        >>> found = detection_scores(np.array([[0.0, 0.0], [3.0, 0.0]]))
        >>> {name: [round(float(v), 3) for v in values] for name, values in found.items()}
        {'msp': [0.5, 0.953], 'max_logit': [0.0, 3.0], 'energy': [0.693, 3.049]}
    """
    z = as_logits(logits)
    check_finite(z)
    top, energy = z.max(axis=1).astype(np.float64), log_normaliser(z)
    return {"msp": np.exp(top - energy), "max_logit": top, "energy": energy}


@dataclass(frozen=True, eq=False)
class Ranked:
    """In-distribution images and others in the order of a score, highest first."""

    order: IntArray
    """Positions among the in-distribution images followed by the others, (m + n,)."""

    ends: IntArray
    """Where groups of equal scores end in that order, rising, (G,)."""

    inside: FloatArray
    """1 for in-distribution images, 0 for others, in that order, (m + n,)."""

    @classmethod
    def of(cls, inside: FloatArray, outside: FloatArray) -> "Ranked":
        """Rank scores of in-distribution images (m,) and of others (n,), m, n >= 1."""
        scores = np.concatenate([inside, outside])
        order = np.argsort(-scores, kind="stable")
        sorted_scores = scores[order]
        ends = np.append(np.flatnonzero(np.diff(sorted_scores) != 0), len(scores) - 1)
        return cls(order, ends, (order < len(inside)).astype(np.float64))

    def measures(self, weights: FloatArray) -> dict[str, FloatArray]:
        """Give AUROC, FPR95 and both AUPR of resamples.

        Args:
            weights: how often each image counts, (R, m + n), whole numbers.

        Returns:
            Name -> values (R,); NaN where a resample lacks one of the groups.
        """
        # A row an image: resamples lie in columns, whose rows are then whole pieces of memory.
        weighted = weights.T[self.order]
        # Down to each group of equal scores: how many images there are, and of them inside ones.
        every = weighted.cumsum(axis=0)[self.ends]
        weighted *= self.inside[:, None]
        inside = weighted.cumsum(axis=0)[self.ends]
        outside = every - inside
        m, n = inside[-1], outside[-1]
        new_in, new_out = (np.diff(found, axis=0, prepend=0) for found in (inside, outside))
        pairs = (new_out * (inside - new_in / 2)).sum(axis=0)
        kept, of = KEPT
        at = np.argmax(of * inside >= kept * m, axis=0)
        passed = outside[at, np.arange(len(at))]
        below_out, below = n - outside + new_out, m + n - every + new_in + new_out
        return {
            "auroc": ratio_of(pairs, m * n),
            "fpr95": ratio_of(np.where(m > 0, passed, np.nan), n),
            "aupr_in": _average_precision(new_in, inside, every, m, n),
            "aupr_out": _average_precision(new_out, below_out, below, n, m),
        }


def _average_precision(
    new: FloatArray, found: FloatArray, every: FloatArray, of: FloatArray, others: FloatArray
) -> FloatArray:
    """Sum precision times the gain in recall over the groups (G, R), (R,)."""
    # Where a resample has no image yet, it has none of either kind.
    precision = found / np.maximum(every, 1)
    return ratio_of(np.where(others > 0, (new * precision).sum(axis=0), np.nan), of)


@dataclass(frozen=True, eq=False)
class Detection:
    """How well one score tells in-distribution images (m,) from others (n,)."""

    inside: FloatArray
    outside: FloatArray

    @cached_property
    def _measures(self) -> Shared[dict[str, FloatArray]]:
        return Shared(Ranked.of(self.inside, self.outside).measures)

    def measure(self, name: str, weights: FloatArray) -> FloatArray:
        """Give a measure of resamples, (R,); ``weights`` are (R, m + n)."""
        return self._measures(weights)[name]

    def estimate(self, name: str) -> float:
        """Give a measure of the images themselves."""
        return float(self.measure(name, once(len(self.inside) + len(self.outside)))[0])

    @property
    def placements(self) -> tuple[FloatArray, FloatArray]:
        """Share of others below each in-distribution image, (m,), and of these above each, (n,).

        Equal scores count half; the mean of either is the AUROC.
        """
        below = _share_below(self.inside, self.outside)
        return below, 1 - _share_below(self.outside, self.inside)

    def auroc(self) -> Definition:
        """Define the share of pairs in which the in-distribution image has the larger score."""
        m, n = len(self.inside), len(self.outside)
        both, value = m + n, self.estimate("auroc")
        first, second = self.placements
        moves = np.concatenate([both / m * (first - value), both / n * (second - value)])
        return Definition(
            n=both,
            values=value + moves,
            statistic=partial(self.measure, "auroc"),
            note="equal scores count half",
            ci=self.auroc_interval,
        )

    def auroc_interval(self) -> CI:
        """Make DeLong's interval on the logit scale; Newcombe's where no pair differs in order."""
        m, n = len(self.inside), len(self.outside)
        value = self.estimate("auroc")
        first, second = self.placements
        if min(m, n) > 1:
            variance = float(first.var(ddof=1)) / m + float(second.var(ddof=1)) / n
            if variance > 0 and 0 < value < 1:
                return logit_interval(value, variance), "delong95"
        return score_interval(value, m, n), "newcombe95"

    def fpr95(self) -> Definition:
        """Define the share of others that pass where 95 % of in-distribution images do."""
        n, passed = len(self.outside), int((self.outside >= passing_threshold(self.inside)).sum())
        found = self._function("fpr95", direction="lower", note=(
            "share of others at or above the largest score that 95 % of in-distribution images "
            "reach"
        ))  # fmt: skip
        return replace(found, widened=wilson(passed, n))

    def aupr(self, positive: str) -> Definition:
        """Define the average precision with ``in`` or ``out`` as the positives."""
        share = len(self.inside) if positive == "in" else len(self.outside)
        least = share / (len(self.inside) + len(self.outside))
        return self._function(
            f"aupr_{positive}", note=f"average precision; chance gives {least:.4f}"
        )

    def _function(self, name: str, *, note: str, direction: Direction = "higher") -> Definition:
        both = len(self.inside) + len(self.outside)
        return function(both, partial(self.measure, name), direction=direction, note=note)


def passing_threshold(inside: FloatArray) -> float:
    """Give the largest score that 95 % of in-distribution images, (m,), reach.

    Example:
        >>> passing_threshold(np.arange(40.0))
        2.0
    """
    kept, of = KEPT
    fewest = -(-kept * len(inside) // of)
    return float(np.sort(inside)[len(inside) - fewest])


def _share_below(scores: FloatArray, others: FloatArray) -> FloatArray:
    """Give the share of others below each score, equal ones by half."""
    ranked = np.sort(others)
    below, up_to = (np.searchsorted(ranked, scores, side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(others)))


def logit_interval(value: float, variance: float) -> tuple[float, float]:
    """Make a normal interval of a share's logit, to first order, and take it back.

    Reference:
        DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837, for the variance; Pepe 2003,
        "The Statistical Evaluation of Medical Tests", section 5.2.4, for the scale.
    """
    middle = math.log(value / (1 - value))
    half = Z95 * math.sqrt(variance) / (value * (1 - value))
    low, high = (float(special.expit(end)) for end in (middle - half, middle + half))
    return min(low, value), max(high, value)


def score_interval(value: float, m: int, n: int) -> tuple[float, float]:
    """Make the interval of an AUROC that does not vanish where it is 0 or 1.

    Args:
        value: the AUROC.
        m: number of in-distribution images.
        n: number of others.

    Reference:
        Newcombe 2006, Statistics in Medicine 25:559, method 5.
    """
    half = (m + n) / 2 - 1

    def apart(theta: float) -> float:
        shape = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - value) ** 2 - Z95**2 * theta * (1 - theta) * shape / (m * n)

    def end(limit: float) -> float:
        if value == limit:
            return limit
        # Just inside the limit, where the variance is 0 and the difference is not.
        ends = (value, limit)
        near = apart(value)
        if near >= 0:  # the variance vanishes at the estimate itself: begin a little beside it
            ends = (value + math.copysign(1e-12, limit - value), limit)
            near = apart(ends[0])
        return find_root(apart, ends, (near, apart(limit)), xtol=1e-12)[0]

    return end(0.0), end(1.0)


def mean_over_sets(
    detections: Sequence[Detection], places: Sequence[IntArray], n: int, name: str
) -> Definition:
    """Define the mean of ``auroc`` or ``fpr95`` over several sets beside the same images.

    Args:
        detections: one a set, at least two.
        places: of each, where its in-distribution images and then its others are among the rows.
        n: number of rows.
        name: of the measure.
    """

    def statistic(weights: FloatArray) -> FloatArray:
        found = [
            one.measure(name, weights[:, at]) for one, at in zip(detections, places, strict=True)
        ]
        return np.asarray(np.mean(found, axis=0))

    note = f"mean over {len(detections)} sets"
    if name != "auroc":
        made = function(n, statistic, direction="lower", note=note)
        ends = [one.fpr95().widened or (0.0, 1.0) for one in detections]
        return replace(made, widened=(_mean(ends, 0), _mean(ends, 1)))
    values = np.zeros(n)
    for one, at in zip(detections, places, strict=True):
        own = one.auroc()
        assert own.values is not None, "it moves with each image"
        # Of a set's own rows the mean is its AUROC; of all rows what is added must be as much.
        values[at] += (own.values - one.estimate("auroc")) * n / len(at) / len(detections)
    value = float(np.mean([one.estimate("auroc") for one in detections]))
    made = mean(value + values, note=note)
    return replace(made, statistic=statistic, ci=partial(_mean_interval, detections, values, value))


def _mean_interval(detections: Sequence[Detection], moves: FloatArray, value: float) -> CI:
    variance = float(moves.var(ddof=1)) / len(moves)
    if variance > 0 and 0 < value < 1:
        return logit_interval(value, variance), "delong95"
    ends = [one.auroc_interval()[0] for one in detections]
    return (_mean(ends, 0), _mean(ends, 1)), "newcombe95"


def _mean(ends: Sequence[tuple[float, float]], side: int) -> float:
    return float(np.mean([both[side] for both in ends]))


BINS = 40
"""Of a histogram of scores."""


def score_histogram(
    groups: Mapping[str, FloatArray], *, score: str
) -> tuple[FloatArray, dict[str, IntArray]]:
    """Count the scores of several groups in the same bins.

    Args:
        groups: name -> scores (n,).
        score: of ``SCORES``; probabilities have bins from 0 to 1, others from the smallest score
            to the largest.

    Returns:
        Edges of the bins, (``BINS`` + 1,), and the images in each by group, (``BINS``,).
    """
    ends = (0.0, 1.0)
    if score != "msp":
        low = min(float(scores.min()) for scores in groups.values())
        high = max(float(scores.max()) for scores in groups.values())
        ends = (low, high if high > low else low + 1)
    edges = np.linspace(*ends, BINS + 1)
    return edges, {name: np.histogram(scores, edges)[0] for name, scores in groups.items()}


Measures = Mapping[str, Callable[[Detection], Definition]]

MEASURES: Measures = {
    "auroc": Detection.auroc,
    "fpr95": Detection.fpr95,
    "aupr_in": partial(Detection.aupr, positive="in"),
    "aupr_out": partial(Detection.aupr, positive="out"),
}
"""Stem of a number's name -> its definition; the score follows: ``auroc_energy``."""
