"""Paired statistics of two models on the same images.

An image brings all its rows along: its corruptions, trials and radii are resampled together, for
they are not independent. Nothing here treats two models' results as two independent samples.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robustmix.errors import UsageError
from robustmix.later import special
from robustmix.metrics.intervals import row_groups, wilson
from robustmix.metrics.scores import FloatArray

POWER = 0.8
"""Power that the minimal detectable difference is stated for."""


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two-sided p values of McNemar's test."""

    exact: float
    mid: float


def mcnemar(b: int, c: int) -> McNemar:
    """Test whether two classifiers err equally often on the same images.

    Args:
        b: images that only the first classifies correctly.
        c: images that only the second classifies correctly.

    Returns:
        The exact p value 2 P[Bin(b + c, 1/2) <= min(b, c)], at most 1, and the mid-p value, which
        takes the observed count at half its probability. Without discordant images both are 1.

    Reference:
        Fagerland, Lydersen and Laake 2013, BMC Med. Res. Methodol. 13:91.

    Example:
        >>> p = mcnemar(10, 3)
        >>> round(p.exact, 6), round(p.mid, 6)
        (0.092285, 0.057373)
    """
    if b < 0 or c < 0:
        raise UsageError(f"expected counts >= 0, got {b} and {c}")
    n, k = b + c, min(b, c)
    if n == 0:
        return McNemar(1.0, 1.0)
    tail, at = _binomial(k, n)
    return McNemar(min(1.0, 2 * tail), min(1.0, 2 * tail - at))


def _binomial(k: int, n: int) -> tuple[float, float]:
    """Give P[Bin(n, 1/2) <= k] and P[Bin(n, 1/2) = k]."""
    from scipy.special import _ufuncs

    # What scipy.stats computes both with. That itself takes a second to import, and half of the
    # time and memory of a small check; where a version of scipy calls them otherwise it is asked.
    cdf, pmf = (getattr(_ufuncs, f"_binom_{name}", None) for name in ("cdf", "pmf"))
    if cdf is None or pmf is None:
        from scipy.stats import binom

        cdf, pmf = binom.cdf, binom.pmf
    return float(cdf(k, n, 0.5)), float(pmf(k, n, 0.5))


def newcombe(both: int, b: int, c: int, neither: int, *, z: float) -> tuple[float, float]:
    """Give the square-and-add score interval of (c - b) / n, the gain of the second classifier.

    Args:
        both: images that both classify correctly.
        b: images that only the first does.
        c: images that only the second does.
        neither: images that none does.
        z: normal quantile, >= 0; 1.959964 gives 95 %.

    Reference:
        Newcombe 1998, Statist. Med. 17:2635, method 10 (Wilson limits of both proportions, joined
        with the continuity-corrected correlation).
    """
    n = both + b + c + neither
    p1, p2 = (both + b) / n, (both + c) / n
    (l1, u1), (l2, u2) = wilson(both + b, n, z), wilson(both + c, n, z)
    product = float(both * neither - b * c)
    if product > 0:
        product = max(0.0, product - n / 2)
    margins = float(both + b) * (c + neither) * (both + c) * (b + neither)
    phi = product / math.sqrt(margins) if margins else 0.0

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))

    low = p2 - p1 - reach(p2 - l2, u1 - p1)
    high = p2 - p1 + reach(u2 - p2, p1 - l1)
    return max(-1.0, low), min(1.0, high)


def minimal_detectable(sd: float, n: int, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Give the true difference that a two-sided paired test finds with the given power.

    Args:
        sd: standard deviation of the per-image differences; sqrt(d - delta^2) for a share of
            ``d`` discordant images.
        n: number of images.
        alpha: level of the test.
        power: probability of finding it.

    Example:
        >>> round(minimal_detectable(0.1**0.5, 10_000), 4)
        0.0089
    """
    z = special.ndtri(1 - alpha / 2) + special.ndtri(power)
    return float(z) * sd / math.sqrt(n)


def holm(p_values: FloatArray) -> FloatArray:
    """Adjust p values by Holm's step-down method, (m,), each at most 1.

    Reference:
        Holm 1979, Scand. J. Statist. 6:65.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * (m - np.arange(m)))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1, stepped)
    return adjusted


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """Adjust p values to control the false discovery rate, (m,), each at most 1.

    Reference:
        Benjamini and Hochberg 1995, J. R. Statist. Soc. B 57:289.

    Example:
        >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(9).tolist()
        [0.03, 0.04, 0.04]
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p_values[order] * m / np.arange(m, 0, -1))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1, stepped)
    return adjusted


def sign_flip(
    differences: FloatArray, *, rng: np.random.Generator, replicates: int = 10_000
) -> FloatArray:
    """Test that per-image differences are symmetric around 0, by flipping their signs.

    Args:
        differences: (n, M), one column a metric; an image's sign is flipped in all of them.
        rng: source of the signs.
        replicates: random flips.

    Returns:
        Two-sided p values, (M,), at least 1 / (replicates + 1).
    """
    n = len(differences)
    observed = np.abs(differences.sum(axis=0))
    reached = np.zeros(differences.shape[1], dtype=np.int64)
    rows = max(1, 2**21 // n)
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        bits = np.frombuffer(rng.bytes(count * ((n + 7) // 8)), dtype=np.uint8)
        bits = bits.reshape(count, -1)
        for part in row_groups(count, n):
            signs = np.unpackbits(bits[part], axis=1)[:, :n].astype(np.float64)
            signs *= 2
            signs -= 1
            flipped = np.abs(signs @ differences)
            # Sums of the same numbers in another order differ in their last digits.
            reached += (flipped >= observed * (1 - 1e-12)).sum(axis=0)
    return np.asarray((reached + 1) / (replicates + 1))


class Effect(Protocol):
    """What the data say of a difference B - A."""

    @property
    def method(self) -> str:
        """How the interval was made."""
        ...

    def interval(self, alpha: float) -> tuple[float, float]:
        """Give the two-sided 1 - alpha interval."""
        ...

    def p_below(self, limit: float) -> float:
        """Give the one-sided p value against: the difference is at least ``limit``."""
        ...

    def p_above(self, limit: float) -> float:
        """Give the one-sided p value against: the difference is at most ``limit``."""
        ...

    def p_zero(self) -> float:
        """Give the two-sided p value against: there is no difference."""
        ...


@dataclass(frozen=True, eq=False)
class Resampled:
    """The differences of bootstrap resamples, (R,), all finite."""

    replicates: FloatArray
    label: str = "bootstrap"
    below: float = 0.0
    """How much larger chance may have made the difference, on average, than it is."""

    above: float = 0.0
    """How much smaller."""

    @classmethod
    def around(
        cls, difference: float, replicates: FloatArray, label: str, below: float, above: float
    ) -> "Resampled":
        """Put the resamples around the difference itself.

        Resamples repeat on top of the difference what chance has done to it: of two calibration
        errors, it has raised that of the better model more. Their mean is off by as much.
        """
        return cls(replicates - replicates.mean() + difference, label, below, above)

    @property
    def method(self) -> str:
        """Percentile interval; how many resamples."""
        widened = "+chance" if self.below or self.above else ""
        return f"{self.label}{widened}/{len(self.replicates)}"

    def interval(self, alpha: float) -> tuple[float, float]:
        """Give the percentile interval, widened by what chance may have done on average."""
        low, high = np.quantile(self.replicates, [alpha / 2, 1 - alpha / 2])
        return float(low) - self.below, float(high) + self.above

    def p_below(self, limit: float) -> float:
        """Give the share of resamples at or above the limit; one is added to both counts."""
        return self._share(self.replicates + self.above >= limit)

    def p_above(self, limit: float) -> float:
        """Give the share of resamples at or below the limit, likewise."""
        return self._share(self.replicates - self.below <= limit)

    def p_zero(self) -> float:
        """Give twice the smaller share."""
        return min(1.0, 2 * min(self.p_below(0.0), self.p_above(0.0)))

    @staticmethod
    def _share(hits: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> float:
        return (int(hits.sum()) + 1) / (len(hits) + 1)


@dataclass(frozen=True)
class Counted:
    """The fourfold table of two classifiers on the same images."""

    both: int
    b: int
    """Only A is right."""

    c: int
    """Only B is right."""

    neither: int

    @property
    def method(self) -> str:
        """Newcombe's interval."""
        return "newcombe"

    def interval(self, alpha: float) -> tuple[float, float]:
        """Give Newcombe's interval."""
        return self._at(float(special.ndtri(1 - alpha / 2)))

    def p_below(self, limit: float) -> float:
        """Give the level at which the interval's upper end reaches the limit."""
        return self._tail(limit)

    def p_above(self, limit: float) -> float:
        """Give the level at which the interval's lower end reaches the limit."""
        return Counted(self.both, self.c, self.b, self.neither)._tail(-limit)

    def p_zero(self) -> float:
        """Give McNemar's mid-p value."""
        return mcnemar(self.b, self.c).mid

    def _at(self, z: float) -> tuple[float, float]:
        return newcombe(self.both, self.b, self.c, self.neither, z=z)

    def _tail(self, limit: float) -> float:
        n = self.both + self.b + self.c + self.neither
        upward = limit >= (self.c - self.b) / n
        low, high = 0.0, 40.0
        for _ in range(60):
            middle = (low + high) / 2
            below, above = self._at(middle)
            inside = above < limit if upward else below > limit
            low, high = (middle, high) if inside else (low, middle)
        return float(special.ndtr(-low if upward else low))


@dataclass(frozen=True)
class Unchanged:
    """No image differs between two models, which does not show that none ever would."""

    n: int

    @property
    def method(self) -> str:
        """Clopper and Pearson's limit for a share of which no case was seen."""
        return "no-change"

    def interval(self, alpha: float) -> tuple[float, float]:
        """Give what all unseen changes could amount to, if all went one way."""
        reach = 1 - float((alpha / 2) ** (1 / self.n))
        return -reach, reach

    def p_below(self, limit: float) -> float:
        """Give the probability of seeing no change if the difference were ``limit``."""
        return float((1 - min(1.0, limit)) ** self.n) if limit > 0 else 1.0

    def p_above(self, limit: float) -> float:
        """Give the same for the other side."""
        return self.p_below(-limit)

    def p_zero(self) -> float:
        """Give 1."""
        return 1.0


@dataclass(frozen=True)
class Identical:
    """The same model with the same rows: the difference is 0 and has no uncertainty."""

    @property
    def method(self) -> str:
        """Say so."""
        return "identical"

    def interval(self, alpha: float) -> tuple[float, float]:
        """Give the point 0."""
        return 0.0, 0.0

    def p_below(self, limit: float) -> float:
        """Give 0 if 0 is below the limit, else 1."""
        return 0.0 if limit > 0 else 1.0

    def p_above(self, limit: float) -> float:
        """Give 0 if 0 is above the limit, else 1."""
        return 0.0 if limit < 0 else 1.0

    def p_zero(self) -> float:
        """Give 1."""
        return 1.0
