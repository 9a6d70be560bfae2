"""What metrics are given, made ready: logits or probabilities, as is said, and plain numbers."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from robustmix.errors import UsageError
from robustmix.metrics.scores import (
    DISTRIBUTION,
    FloatArray,
    Labels,
    Logits,
    Scores,
    as_logits,
    score_logits,
    score_probabilities,
)

if TYPE_CHECKING:
    from torch import Tensor

Values: TypeAlias = "npt.NDArray[np.floating[Any]] | Tensor | Sequence[float]"
"""Numbers, one a sample or group of samples."""


def scores_of(outputs: Logits, labels: Labels, from_logits: bool) -> Scores:
    """Score samples by logits or probabilities, (N, K), as the caller says which they are.

    Raises:
        UsageError: as ``score_logits`` or ``score_probabilities``, or ``from_logits`` is no truth
            value.
        IncompleteError: a NaN or infinite logit.
    """
    if are_logits(from_logits):
        return score_logits(told_logits(outputs), labels)
    return score_probabilities(outputs, labels)


def are_logits(from_logits: bool) -> bool:
    """Return what was said, refusing what is neither true nor false.

    Raises:
        UsageError: it is another thing; a text such as "probabilities" would count as true.
    """
    if from_logits not in (True, False):
        raise UsageError(f"expected from_logits True or False, got {from_logits!r}")
    return bool(from_logits)


def told_logits(outputs: Logits) -> npt.NDArray[np.floating[Any]]:
    """Return what was called logits, (N, K), and warn if it is what a softmax gives.

    No network's logits ever are. The warning is of the line that called the caller's caller, a
    public function.

    Raises:
        UsageError: as ``as_logits``.
    """
    z = as_logits(outputs)
    if z.min() >= 0 and (abs(z.sum(axis=1) - 1) <= DISTRIBUTION).all():
        warnings.warn(
            "every row of these logits is a distribution: probabilities want from_logits=False",
            stacklevel=4,
        )
    return z


def as_floats(values: Values) -> FloatArray:
    """Return numbers as float64; those of a tensor wherever it lies, and without its gradient."""
    if isinstance(values, np.ndarray | Sequence):
        return np.asarray(values, dtype=np.float64)
    found: FloatArray = values.detach().cpu().double().numpy()
    return found
