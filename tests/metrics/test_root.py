"""Brent's method against scipy's, bit for bit."""

import math
from collections.abc import Callable

import pytest
from scipy.optimize import root_scalar

from robustmix.metrics.root import find_root


@pytest.mark.parametrize(
    "function",
    [
        lambda x: math.exp(-x) - 0.7,
        lambda x: math.tanh(x - 1.234567),
        lambda x: x**3 - 2 * x - 0.5 + 1e-3 * math.sin(40 * x),
        lambda x: (x - 0.3) ** 9,
        lambda x: math.atan(1e6 * (x - 1 / 3)),
        lambda x: 1.0 if x > 0.1 else -1.0,
        lambda x: x - 2.0,
        lambda x: x,
    ],
)
@pytest.mark.parametrize("ends", [(-3.0, 3.0), (-1.5, 2.75), (3.0, -3.0)])
def test_every_point_is_that_of_scipy(
    function: Callable[[float], float], ends: tuple[float, float]
) -> None:
    visited: list[list[float]] = [[], []]

    def seen(by: int) -> Callable[[float], float]:
        def called(x: float) -> float:
            visited[by].append(x)
            return function(x)

        return called

    want = root_scalar(seen(0), bracket=ends, method="brentq", xtol=1e-12)
    got, converged = find_root(seen(1), ends, (function(ends[0]), function(ends[1])), xtol=1e-12)
    assert (got, converged) == (want.root, want.converged)
    assert visited[1] == visited[0][2:]  # scipy begins with both ends


def test_a_root_that_is_not_found_says_so() -> None:
    """Halves of 10^300 do not come down to 10^-300 in 100 steps."""
    ends = (-1e300, 1e300)
    _, converged = find_root(lambda x: 1.0 if x > 0 else -1.0, ends, (-1.0, 1.0), xtol=1e-300)
    assert not converged
