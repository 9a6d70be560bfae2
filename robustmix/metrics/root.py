"""Brent's method for a root between two points."""

from collections.abc import Callable

_RTOL = 4 * 2.0**-52
_STEPS = 100


def find_root(
    function: Callable[[float], float],
    ends: tuple[float, float],
    values: tuple[float, float],
    *,
    xtol: float,
) -> tuple[float, bool]:
    """Find where a continuous function of one number changes its sign.

    Step for step what ``scipy.optimize.brentq`` does, bit for bit. Importing that takes as long as
    all the fits of a gate together, and it would evaluate both ends again.

    Args:
        function: the function.
        ends: of the interval.
        values: of the function there, one below 0 and one above.
        xtol: how far from a root the answer may be, beside four units of its last place.

    Returns:
        The root, and whether it was found within 100 steps.

    Reference:
        Brent 1973, "Algorithms for minimization without derivatives", chapter 4.

    Example:
        >>> root, converged = find_root(lambda x: x * x - 2, (0.0, 2.0), (-2.0, 2.0), xtol=1e-12)
        >>> round(root, 9), converged
        (1.414213562, True)
    """
    # The last point, the present one, and one with the other sign; then the last two steps.
    (previous, x), (f_previous, f) = ends, values
    other = f_other = step = before = 0.0
    for _ in range(_STEPS):
        if f_previous != 0 and f != 0 and (f_previous < 0) != (f < 0):
            other, f_other = previous, f_previous
            step = before = x - previous
        if abs(f_other) < abs(f):
            previous, x, other = x, other, x
            f_previous, f, f_other = f, f_other, f
        delta = (xtol + _RTOL * abs(x)) / 2
        half = (other - x) / 2
        if f == 0 or abs(half) < delta:
            return x, True
        tried = None
        if abs(before) > delta and abs(f) < abs(f_previous):
            if previous == other:  # a secant
                tried = -f * (x - previous) / (f - f_previous)
            else:  # an inverse parabola
                slope = (f_previous - f) / (previous - x)
                slope_other = (f_other - f) / (other - x)
                above = f_other * slope_other - f_previous * slope
                tried = -f * above / (slope_other * slope * (f_other - f_previous))
        if tried is not None and 2 * abs(tried) < min(abs(before), 3 * abs(half) - delta):
            before, step = step, tried
        else:
            before = step = half
        previous, f_previous = x, f
        x += step if abs(step) > delta else (delta if half > 0 else -delta)
        f = function(x)
    return x, False
