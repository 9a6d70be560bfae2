"""Out-of-distribution detection: how well scores of any kind tell two groups of samples apart."""

from typing import Literal

import numpy as np

from robustmix.errors import UsageError
from robustmix.metrics.detection import Detection
from robustmix.metrics.functional.inputs import Values, as_floats


def auroc(inside: Values, outside: Values) -> float:
    """Compute the area under the ROC curve of a score that tells two groups apart.

    Args:
        inside: scores of in-distribution samples, the positives, (m,); ``detection_scores`` makes
            them of logits, or any score of yours.
        outside: scores of the others, (n,).

    Returns:
        Share of pairs in which the one inside has the larger score, equal ones by half, in [0, 1].

    Raises:
        UsageError: a group is empty, or a score is not finite.

    Reference:
        Hendrycks and Gimpel 2017, arXiv:1610.02136, section 2.

    Example:
        >>> auroc([0.9, 0.8, 0.4], [0.5, 0.4])
        0.75
    """
    return _detection(inside, outside).estimate("auroc")


def fpr95(inside: Values, outside: Values) -> float:
    """Compute the share of others that pass where 95 % of in-distribution samples do.

    Args:
        inside: scores of in-distribution samples, (m,).
        outside: scores of the others, (n,).

    Returns:
        Share of others at or above the largest score that 95 % of those inside reach, in [0, 1].

    Raises:
        UsageError: a group is empty, or a score is not finite.

    Reference:
        Liu et al. 2020, arXiv:2010.03759, section 4.

    Example:
        >>> fpr95([0.9, 0.8, 0.4], [0.5, 0.3])
        0.5
    """
    return _detection(inside, outside).estimate("fpr95")


def aupr(inside: Values, outside: Values, *, positive: Literal["in", "out"] = "in") -> float:
    """Compute the average precision of a score that tells two groups apart.

    Args:
        inside: scores of in-distribution samples, (m,), larger than those of others if all is well.
        outside: scores of the others, (n,).
        positive: which group is looked for; ``out`` looks for low scores.

    Returns:
        In [0, 1]; chance gives the share of the positives.

    Raises:
        UsageError: a group is empty, a score is not finite, or ``positive`` is something else.

    Reference:
        Hendrycks and Gimpel 2017, arXiv:1610.02136, section 2.

    Example:
        >>> aupr([0.9, 0.8], [0.85])
        0.8333333333333333
    """
    if positive not in ("in", "out"):
        raise UsageError(f"expected positive 'in' or 'out', got {positive!r}")
    return _detection(inside, outside).estimate(f"aupr_{positive}")


def _detection(inside: Values, outside: Values) -> Detection:
    both = [as_floats(one) for one in (inside, outside)]
    if any(one.ndim != 1 or not len(one) or not np.isfinite(one).all() for one in both):
        raise UsageError("expected finite scores of two groups, (m,) and (n,), neither empty")
    return Detection(*both)
