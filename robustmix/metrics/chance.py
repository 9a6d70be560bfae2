"""What chance does to a calibration error, and the interval that follows.

An estimated error is a sum of absolute values, a root of squares or the like: a norm of the bins'
gaps. Chance alone makes it positive, so its bootstrap distribution lies above it and a percentile
interval need hold neither it nor the truth, the same measure of infinitely many images. Norms give
bounds that hold all the same: by the triangle inequality the estimate exceeds the truth by no more
than the norm of the noise, and since norms are convex it falls short of the truth by no more than
the noise along one direction. How often the intervals hold the truth is measured in
``tests/metrics/test_coverage.py``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustmix.metrics.intervals import Z95
from robustmix.metrics.scores import FloatArray, IntArray

FOLD = math.sqrt(2 / math.pi)
"""Mean of the absolute value of a standard normal number; its spread is ``FOLDED``."""

FOLDED = math.sqrt(1 - 2 / math.pi)
_CHI = math.sqrt(0.5)
"""Spread of the length of a standard normal vector, at most, of any dimension."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """How far chance may move an estimate from the truth, in units of the estimate."""

    raised: float = 0.0
    """Most that chance adds to the estimate on average."""

    lowered: float = 0.0
    """Most that chance takes from it on average."""

    above: float
    """Standard error of what the estimate has too much, beside ``raised``."""

    below: float
    """Standard error of what it has too little, beside ``lowered``."""

    unseen: float = 0.0
    """What one image could move it, 1 / n or less: errors too rare to be among the images."""

    least: float = 0.0
    """Least value that the truth may have."""

    most: float = 1.0

    def interval(self, estimate: float) -> tuple[float, float]:
        """Give the 95 % interval, which holds the estimate."""
        rare = Z95 * self.unseen / 2  # as in Wilson's interval, whose limit of 0 errors it gives
        low = estimate - self.raised - Z95 * self.above
        high = estimate + self.lowered + Z95 * (rare + math.hypot(self.below, rare))
        return min(estimate, max(low, self.least)), max(estimate, min(high, self.most))


@dataclass(frozen=True, eq=False, slots=True)
class Noise:
    """The noise of a sum of absolute values over groups, divided by n, before it is summed up."""

    raised: float
    lowered: float
    moved: FloatArray
    """What each image moves the sum, times n, at most, (n,)."""

    reach: float
    """What one image could move it, times n, at most."""

    def chance(self, estimate: float) -> Chance:
        """Sum it up beside the estimate."""
        n = len(self.moved)
        square = float(np.square(self.moved).mean())
        signed = self.lowered > 0
        return Chance(
            raised=self.raised,
            lowered=self.lowered,
            # What is added and what is taken may go together where both occur.
            above=(1 if signed else FOLDED) * math.sqrt(square / n),
            below=math.sqrt(max(square - estimate**2, 0.0) / n),
            unseen=self.reach / n,
            least=-1.0 if signed else 0.0,
        )


def absolute_noise(
    gaps: FloatArray, variance: FloatArray, groups: IntArray, num_groups: int
) -> Noise:
    """Give the noise of sum_j |sum of the gaps of group j| / n.

    The gaps show their spread themselves, except in groups so small that no error happened; there
    the spread is that of a calibrated model.

    Args:
        gaps: correctness minus confidence, (n,).
        variance: of each gap if the model is calibrated, c (1 - c), (n,).
        groups: group of each image, (n,), in [0, num_groups).
        num_groups: number of groups.
    """
    spread = group_spreads(gaps, variance, groups, num_groups)
    seen, expected = float(np.square(gaps).sum()), float(variance.sum())
    scale = math.sqrt(max(1.0, expected / seen)) if seen > 0 else 0.0
    return Noise(FOLD * float(spread.sum()) / len(gaps), 0.0, scale * np.abs(gaps), 1.0)


def group_spreads(
    gaps: FloatArray, variance: FloatArray, groups: IntArray, num_groups: int
) -> FloatArray:
    """Give the standard error of the sum of the gaps of each group, (num_groups,)."""
    seen = np.bincount(groups, np.square(gaps), minlength=num_groups)
    expected = np.bincount(groups, variance, minlength=num_groups)
    return np.sqrt(np.maximum(seen, expected))


def combined_noise(noises: Iterable[tuple[float, Noise]]) -> Noise:
    """Give the noise of a sum of estimates of the same images, each times a factor."""
    raised, lowered, reach = 0.0, 0.0, 0.0
    moved: FloatArray | float = 0.0
    for factor, noise in noises:
        size = abs(factor)
        up, down = noise.raised, noise.lowered
        raised += size * (up if factor > 0 else down)
        lowered += size * (down if factor > 0 else up)
        moved = moved + size * noise.moved
        reach += size * noise.reach
    return Noise(raised, lowered, np.asarray(moved), reach)


def part_chance(
    estimate: float, sums: FloatArray, spread: FloatArray, n: int, *, sign: int
) -> Chance:
    """Give what chance does to the sum over groups of the gaps of one sign, divided by n.

    Args:
        estimate: sum_j max(sign * sums_j, 0) / n.
        sums: sum of the gaps of each group, (G,).
        spread: standard error of each, (G,).
        n: number of images.
        sign: 1 or -1.
    """
    square = float(np.square(spread).sum())
    # Only groups that may be of this sign can have hidden some of it.
    open_square = float(np.square(spread[sign * sums + Z95 * spread > 0]).sum())
    return Chance(
        raised=FOLD / 2 * float(spread.sum()) / n,
        above=FOLDED * math.sqrt(square) / n,
        below=math.sqrt(max(open_square / n - estimate**2, 0.0) / n),
        unseen=1 / n,
    )


def root_chance(sums: FloatArray, spread: FloatArray, counts: FloatArray) -> Chance:
    """Give what chance does to sqrt(sum_j (n_j / n) (mean gap of group j)^2).

    Args:
        sums: sum of the gaps of each group, (G,).
        spread: standard error of each, (G,).
        counts: images of each, (G,).
    """
    filled, n = counts > 0, float(counts.sum())
    one = np.square(spread[filled]) / counts[filled]  # variance of the gap of one image
    square = np.square(sums[filled]) / counts[filled]  # n times what each adds to the square
    weight = square / square.sum() if square.any() else np.full(len(one), 1 / len(one))
    return Chance(
        raised=math.sqrt(float(one.sum()) / n),
        above=_CHI * math.sqrt(float(one.max()) / n),
        below=math.sqrt(float(weight @ one) / n),
        unseen=1 / n,
    )


def square_chance(sums: FloatArray, spread: FloatArray, counts: FloatArray) -> Chance:
    """Give what chance does to an unbiased estimate of sum_j (n_j / n) (mean gap of group j)^2."""
    filled, n = counts > 0, float(counts.sum())
    one = np.square(spread[filled])
    terms = 2 * np.square(one) + 4 * np.square(sums[filled]) * one
    error = math.sqrt(float((terms / np.square(counts[filled])).sum())) / n
    return Chance(above=error, below=error, least=-1.0)


def skewed_mean(values: npt.ArrayLike) -> tuple[float, float]:
    """Give the 95 % interval of a mean of skewed values, which losses mostly are.

    It is joined with the normal one, which reaches further to the side of the short tail.

    Args:
        values: (n,), n >= 2.

    Reference:
        Hall 1992, J. R. Statist. Soc. B 54:221, the cubic transformation.

    Example:
        >>> low, high = skewed_mean([0.0] * 49 + [1.0])
        >>> round(low, 4), round(high, 4)
        (0.0, 0.1474)
    """
    x = np.asarray(values, dtype=np.float64)
    n, mean, sd = len(x), float(x.mean()), float(x.std(ddof=1))
    if sd == 0:
        return mean, mean
    skew = float(np.power((x - mean) / sd, 3).mean())

    def error(quantile: float) -> float:
        q = quantile / math.sqrt(n)
        if abs(skew) < 1e-9:
            return q
        return 3 / skew * (float(np.cbrt(1 + skew * (q - skew / (6 * n)))) - 1)

    reach = Z95 / math.sqrt(n)
    low = mean - sd * max(error(Z95), reach)
    high = mean + sd * max(-error(-Z95), reach)
    return (max(0.0, low) if x.min() >= 0 else low), high
