"""The interval of any metric, by resampling its samples."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robustmix.errors import UsageError
from robustmix.metrics.intervals import REPLICATES, bootstrap_rng, percentile_interval


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: Any,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of any metric of samples.

    Args:
        metric: what is given the arrays, resampled, and returns a number; one with options is
            made by ``functools.partial``: ``partial(ece, from_logits=True)``.
        arrays: arrays, tensors or lists of equal length, whose i-th entries are of one sample, so
            that they are drawn together: outputs and labels, or two models' outputs and labels.
        seed: of the resamples.
        replicates: number of resamples, at least 1.

    Returns:
        2.5 % and 97.5 % quantile. Of a calibration error or a maximum, which chance raises, it may
        lie above what holds: ``calibration_metrics`` has intervals for these.

    Raises:
        UsageError: there are no arrays, they differ in length, or are empty.

    Reference:
        Efron 1979, "Bootstrap methods: another look at the jackknife".

    Example:
        >>> right = np.repeat([1.0, 0.0], [80, 20])
        >>> low, high = bootstrap_interval(np.mean, right)
        >>> 0.70 < low < 0.74 and 0.86 < high < 0.89
        True
    """
    lengths = {len(one) for one in arrays}
    if len(lengths) != 1 or lengths == {0}:
        raise UsageError(f"expected arrays of one length of at least 1, got {sorted(lengths)}")
    if replicates < 1:
        raise UsageError(f"expected replicates >= 1, got {replicates}")
    held = [np.asarray(one) if isinstance(one, Sequence) else one for one in arrays]
    (n,), rng = lengths, bootstrap_rng(seed)
    draws = (rng.integers(n, size=n) for _ in range(replicates))
    return percentile_interval(np.array([metric(*(one[at] for one in held)) for at in draws]))
