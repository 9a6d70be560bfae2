"""Errors under corruptions, as a share of a reference model's."""

from robustmix.errors import UsageError
from robustmix.metrics.functional.inputs import Values, as_floats


def mean_corruption_error(errors: Values, reference: Values) -> float:
    """Compute mCE: the mean over corruptions of the error divided by a reference model's.

    Args:
        errors: error under each corruption, mean over severities, (C,), in [0, 1]; 1 minus
            ``corruption.acc_mean[by_corruption:NAME]`` of a report.
        reference: errors of the reference model under the same corruptions, (C,), in (0, 1].

    Returns:
        In percent, as is usual; 100 is as good as the reference.

    Raises:
        UsageError: other shapes, or errors outside these ranges.

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.

    Example:
        >>> mean_corruption_error([0.25, 0.5], [0.5, 0.5])
        75.0
    """
    mine, theirs = as_floats(errors), as_floats(reference)
    if mine.ndim != 1 or mine.shape != theirs.shape or not len(mine):
        raise UsageError(
            f"expected as many errors as reference errors, got {mine.shape} and {theirs.shape}"
        )
    if not (((mine >= 0) & (mine <= 1)).all() and ((theirs > 0) & (theirs <= 1)).all()):
        raise UsageError("expected errors in [0, 1] and reference errors in (0, 1]")
    return float(100 * (mine / theirs).mean())
