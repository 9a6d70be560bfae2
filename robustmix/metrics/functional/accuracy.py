"""How many predictions are right; logits and probabilities give the same."""

import numpy as np

from robustmix.errors import UsageError
from robustmix.metrics.scores import Labels, Logits, as_labels, as_logits, score_logits


def accuracy(outputs: Logits, labels: Labels) -> float:
    """Compute the share of samples whose label has the largest output.

    Args:
        outputs: logits or probabilities, (N, K), float32 or float64; only their order counts, and
            of equal ones the lowest index is the prediction.
        labels: class indices, (N,), each in [0, K).

    Returns:
        In [0, 1]; ``clean.top1`` of a report.

    Raises:
        UsageError: shapes, types or labels that do not fit.
        IncompleteError: a NaN or infinite output.

    Example:
        >>> accuracy([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]], [1, 0, 1, 1])
        0.75
    """
    return float(score_logits(outputs, labels).correct.mean())


def top_k_accuracy(outputs: Logits, labels: Labels, k: int = 5) -> float:
    """Compute the share of samples whose label is among the ``k`` largest outputs.

    Args:
        outputs: logits or probabilities, (N, K); only their order counts.
        labels: class indices, (N,), each in [0, K).
        k: 1 to K.

    Returns:
        In [0, 1]; ``clean.top5`` of a report for k = 5.

    Raises:
        UsageError: there are fewer than ``k`` classes; else as ``accuracy``.
        IncompleteError: as ``accuracy``.

    Example:
        >>> top_k_accuracy([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]], [2, 2], k=2)
        0.5
    """
    scores = score_logits(outputs, labels)
    classes = as_logits(outputs).shape[1]
    if not 1 <= k <= classes:
        raise UsageError(f"expected 1 <= k <= {classes} classes, got k = {k}")
    return float((scores.rank < k).mean())


def macro_accuracy(outputs: Logits, labels: Labels) -> float:
    """Compute the mean over classes of their accuracy, also known as balanced accuracy.

    Args:
        outputs: logits or probabilities, (N, K); only their order counts.
        labels: class indices, (N,). Classes without samples do not count.

    Returns:
        In [0, 1]; ``clean.macro_acc`` of a report.

    Raises:
        UsageError: as ``accuracy``.
        IncompleteError: as ``accuracy``.

    Example:
        >>> macro_accuracy([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]], [0, 0, 0, 1])
        0.5
    """
    correct = score_logits(outputs, labels).correct
    y = as_labels(labels, *as_logits(outputs).shape)
    counts = np.bincount(y)
    hits = np.bincount(y, correct)
    return float((hits[counts > 0] / counts[counts > 0]).mean())
