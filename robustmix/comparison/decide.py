"""Rules that are tests, decided together: p values are adjusted for their number first."""

from collections.abc import Sequence

import numpy as np

from robustmix.comparison.compare import adjust
from robustmix.comparison.document import Outcome, RuleResult
from robustmix.comparison.formatting import show_p
from robustmix.comparison.judge import interval_of_gain
from robustmix.comparison.rules import Kind

_TESTED: tuple[Kind, ...] = ("significant", "non-inferiority")


def decide_tested(results: Sequence[RuleResult], correction: str, alpha: float) -> list[RuleResult]:
    """Adjust the p values over all tested rules, and decide these; the others stay as they are.

    Args:
        results: of all rules of a gate.
        correction: ``holm`` or ``bh``.
        alpha: level after adjustment.
    """
    tested = [r for r in results if r.kind in _TESTED and r.p is not None]
    p_values = np.array([r.p for r in tested], dtype=np.float64)
    adjusted = iter(adjust(p_values, correction).tolist())
    done = []
    for result in results:
        if result.kind in _TESTED and result.p is not None:
            result = _decided(result, float(next(adjusted)), alpha)
        done.append(result)
    return done


def _decided(result: RuleResult, adjusted: float, alpha: float) -> RuleResult:
    """Give a tested rule its outcome."""
    assert result.delta is not None
    higher = result.direction == "higher"
    return result.model_copy(
        update={
            "p_adjusted": adjusted,
            "outcome": decide(
                result.kind,
                interval_of_gain(result),
                result.delta if higher else -result.delta,
                adjusted,
                alpha=alpha,
                limit=result.limit,
            ),
            "message": f"{result.message}, p {show_p(adjusted)} after adjustment",
        }
    )


def decide(
    kind: str,
    gains: tuple[float, float],
    gain: float,
    adjusted: float,
    *,
    alpha: float,
    limit: float | None,
) -> Outcome:
    """Decide a rule by a test at an adjusted level.

    A failure is claimed at the adjusted level, for each of many rules could raise a false alarm.
    A pass of the whole needs a pass of every rule, so there each rule's own interval decides.

    Args:
        kind: ``significant`` or ``non-inferiority``.
        gains: 1 - alpha interval of the gain; positive is better.
        gain: its estimate.
        adjusted: adjusted p value against: the candidate is not worse, by the margin if any.
        alpha: level.
        limit: margin of ``non-inferiority``, >= 0.

    Reference:
        Berger 1982, Technometrics 24:295, for the intersection-union test.
    """
    if kind == "significant":
        return "fail" if gain < 0 and adjusted < alpha else "pass"
    assert limit is not None
    if adjusted < alpha:
        return "fail"
    shown = gains[0] > -limit or gains[0] == 0 == limit  # 0 == 0: the same report twice
    return "pass" if shown else "inconclusive"
