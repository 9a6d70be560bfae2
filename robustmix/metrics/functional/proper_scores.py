"""Proper scores: what predicted probabilities lose against the labels."""

from robustmix.metrics.functional.inputs import scores_of
from robustmix.metrics.scores import Labels, Logits


def nll(outputs: Logits, labels: Labels, *, from_logits: bool) -> float:
    """Compute the mean negative log-likelihood of the labels, the cross-entropy.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.

    Returns:
        In nats, >= 0; infinite where a label has probability 0. ``clean.nll`` of a report.

    Raises:
        UsageError: shapes, types or labels that do not fit, or rows that are no distribution.
        IncompleteError: a NaN or infinite logit.

    Example:
        >>> round(nll([[0.5, 0.5], [0.25, 0.75]], [0, 1], from_logits=False), 6)
        0.490415
    """
    return float(scores_of(outputs, labels, from_logits).nll.mean())


def brier_score(outputs: Logits, labels: Labels, *, from_logits: bool) -> float:
    """Compute the mean squared error of the probabilities, summed over classes.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64.
        labels: class indices, (N,), each in [0, K).
        from_logits: whether ``outputs`` are logits; else they are probabilities.

    Returns:
        In [0, 2]; ``clean.brier_sum`` of a report, which divided by K is ``clean.brier_mean``.

    Raises:
        UsageError: as ``nll``.
        IncompleteError: as ``nll``.

    Reference:
        Brier 1950, Monthly Weather Review 78:1.

    Example:
        >>> brier_score([[0.5, 0.5], [0.25, 0.75]], [0, 1], from_logits=False)
        0.3125
    """
    return float(scores_of(outputs, labels, from_logits).brier.mean())
