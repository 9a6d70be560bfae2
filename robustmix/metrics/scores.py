"""What one forward pass says about each sample: prediction, confidence, loss, rank, margin.

Every aggregate of the toolkit is made of these rows. They are computed in float64 from the stored
logits, by blocks of rows, so that 50 000 samples of 1 000 classes need no second copy in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from robustmix.errors import IncompleteError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Logits: TypeAlias = "npt.NDArray[np.floating[Any]] | Tensor | Sequence[Sequence[float]]"
Labels: TypeAlias = "npt.NDArray[np.integer[Any]] | Tensor | Sequence[int]"

BLOCK = 2**20
"""Logits converted to float64 at a time."""

DISTRIBUTION = 1e-3
"""How far the sum of a sample's probabilities may be from 1: a float32 softmax leaves 1e-6."""

CACHED = 2**16
"""Logits that are scored at a time: half a megabyte, which a processor's cache holds."""


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """Per-sample results, each an array (N,)."""

    pred: IntArray
    """Predicted class; the lowest index among equal logits."""

    correct: BoolArray
    rank: IntArray
    """Classes ranked before the label, 0 if the prediction is right; equal logits rank by index."""

    confidence: FloatArray
    """Largest softmax probability, in [1/K, 1]."""

    nll: FloatArray
    """Negative log-likelihood of the label, in nats."""

    brier: FloatArray
    """Sum over classes of the squared error of the probabilities, in [0, 2]."""

    margin: FloatArray
    """Largest minus second largest logit."""

    def take(self, order: IntArray) -> Scores:
        """Return the rows at these positions."""
        return Scores(*(getattr(self, field.name)[order] for field in fields(self)))


def as_logits(logits: Logits, what: str = "logits") -> npt.NDArray[np.floating[Any]]:
    """Return logits as a numpy array (N, K), N >= 1, K >= 2, float32 or float64, not copied.

    Args:
        logits: an array, a tensor, or lists of numbers.
        what: what errors call them.

    Raises:
        UsageError: another shape, or half precision: the confidences of rounded logits fall into
            other bins, so no number may be recomputed from them.
    """
    if isinstance(logits, Sequence):
        logits = np.asarray(logits, dtype=np.float64)
    dtype = str(logits.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise UsageError(
            f"expected float32 or float64 {what}, got {dtype}",
            "score in full precision and store what was scored",
            code="E-LOGITS",
        )
    array = logits if isinstance(logits, np.ndarray) else logits.detach().cpu().numpy()
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise UsageError(
            f"expected {what} (N, K) with N >= 1 and K >= 2, got shape {array.shape}",
            code="E-LOGITS",
        )
    return array


def as_probabilities(probabilities: Logits) -> npt.NDArray[np.floating[Any]]:
    """Return probabilities as a numpy array (N, K), as ``as_logits`` does logits.

    Raises:
        UsageError: a shape or type that ``as_logits`` refuses, or rows that are no distribution:
            a value that is not in [0, 1], or a sum that is not 1 to within ``DISTRIBUTION``.
    """
    p = as_logits(probabilities, "probabilities")
    n, num_classes = p.shape
    for rows in row_blocks(n, num_classes, CACHED):
        block = p[rows].astype(np.float64)
        right = (block >= 0).all(axis=1) & (abs(block.sum(axis=1) - 1) <= DISTRIBUTION)
        if not right.all():  # a NaN is not >= 0 either
            at = int(np.flatnonzero(~right)[0])
            raise UsageError(
                f"the probabilities of sample {rows.start + at} are no distribution: they sum to "
                f"{block[at].sum():.6g}, the least is {block[at].min():.6g}",
                "give logits as such, or what a softmax made of them",
                code="E-PROBABILITIES",
            )
    return p


def as_labels(labels: Labels, n: int, num_classes: int) -> IntArray:
    """Return labels as int64 (N,), each in [0, K).

    Raises:
        UsageError: another number, another type, or a label outside the classes.
    """
    array = np.asarray(
        labels if isinstance(labels, np.ndarray | Sequence) else labels.detach().cpu().numpy()
    )
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise UsageError(
            f"expected {n} integer labels, got {array.dtype} of shape {array.shape}",
            code="E-LABELS",
        )
    if array.min() < 0 or array.max() >= num_classes:
        raise UsageError(
            f"expected labels in [0, {num_classes - 1}], got {array.min()} to {array.max()}",
            "labels count from 0 in the order of the model's outputs",
            code="E-LABELS",
        )
    return array.astype(np.int64)


def check_sample_ids(sample_ids: Sequence[str], n: int) -> None:
    """Refuse ids that do not name each of the ``n`` samples once.

    Raises:
        UsageError: another number of ids, or an id that occurs twice.
    """
    if len(sample_ids) != n:
        raise UsageError(f"expected {n} sample ids, got {len(sample_ids)}", code="E-SAMPLE-IDS")
    if len(set(sample_ids)) != n:
        twice = Counter(sample_ids).most_common(1)[0][0]
        raise UsageError(f"sample id '{twice}' occurs twice", code="E-SAMPLE-IDS")


def order_by_id(sample_ids: Sequence[str]) -> IntArray:
    """Return the positions of the samples in the order of their ids, int64 (N,).

    Ties and resamples are settled in this order, so that results do not depend on the order given.
    """
    return np.argsort(np.asarray(sample_ids), kind="stable").astype(np.int64)


def row_blocks(n: int, num_classes: int, logits: int = BLOCK) -> Iterator[slice]:
    """Yield slices of rows that hold about so many logits each."""
    rows = max(1, logits // num_classes)
    for start in range(0, n, rows):
        yield slice(start, min(n, start + rows))


def check_finite(
    logits: npt.NDArray[np.floating[Any]], sample_ids: Sequence[str] | None = None
) -> None:
    """Refuse logits with a NaN or an infinity anywhere.

    Raises:
        IncompleteError: names the first ten samples, by id or else by position. Such a row must
            not count as a wrong prediction.
    """
    bad: list[int] = []
    n, num_classes = logits.shape
    for rows in row_blocks(n, num_classes, CACHED):
        finite = np.isfinite(logits[rows])
        if not finite.all():
            bad.extend(rows.start + np.flatnonzero(~finite.all(axis=1)))
    if bad:
        names = [str(sample_ids[i]) if sample_ids is not None else str(i) for i in bad[:10]]
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise IncompleteError(
            f"{len(bad)} of {len(logits)} samples have NaN or infinite logits: "
            + ", ".join(names)
            + more,
            "check the weights, the normalisation and the precision",
            code="E-NONFINITE",
        )


def log_normaliser(logits: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return the log-sum-exp of each row, float64 (N,), never below the row's largest logit."""
    result = np.empty(len(logits))
    for rows in row_blocks(len(logits), logits.shape[1], CACHED):
        z = logits[rows].astype(np.float64)
        top = z.max(axis=1)
        z -= top[:, None]
        result[rows] = top + np.log(np.exp(z, out=z).sum(axis=1))
    return result


def score_logits(
    logits: Logits,
    labels: Labels,
    *,
    sample_ids: Sequence[str] | None = None,
    temperature: float | FloatArray = 1.0,
) -> Scores:
    """Score each sample from its logits.

    Args:
        logits: (N, K), float32 as the model gave them (float64 is taken too), N >= 1, K >= 2.
        labels: class indices, (N,), each in [0, K).
        sample_ids: names of the samples, for the error message; each occurs once.
        temperature: what the logits are divided by, > 0; one number or one a sample, (N,).

    Raises:
        UsageError: wrong shapes or types, half precision, a label outside the classes, an id twice.
        IncompleteError: a NaN or infinite logit (``E-NONFINITE``), with the samples concerned.

    Example:
        >>> scores = score_logits(np.array([[0.0, 0.0, -9.0]]), [1])
        >>> int(scores.pred[0]), int(scores.rank[0]), round(float(scores.nll[0]), 3)
        (0, 1, 0.693)
    """
    array = as_logits(logits)
    n, num_classes = array.shape
    y = as_labels(labels, n, num_classes)
    if sample_ids is not None:
        check_sample_ids(sample_ids, n)
    check_finite(array, sample_ids)
    scale = np.broadcast_to(np.asarray(temperature, dtype=np.float64), (n,))
    scaled = not (isinstance(temperature, int | float) and temperature == 1)
    if not (np.isfinite(scale).all() and scale.min() > 0):
        raise UsageError("a temperature is finite and > 0", code="E-TEMPERATURE")
    return _scores_of(array, y, scale if scaled else None)


def score_probabilities(probabilities: Logits, labels: Labels) -> Scores:
    """Score each sample from the probabilities of its classes.

    They are the softmax of their logarithms, so that all but ``margin``, which is the logarithm of
    a ratio here, is what ``score_logits`` gives of the logits that they were made of, but for the
    rounding of a float32 softmax.

    Args:
        probabilities: (N, K), float32 or float64, each row summing to 1, N >= 1, K >= 2. Exact
            zeros are taken: a label without probability has an infinite loss.
        labels: class indices, (N,), each in [0, K).

    Raises:
        UsageError: wrong shapes or types, half precision, a row that is no distribution
            (``E-PROBABILITIES``), a label outside the classes.

    Example:
        >>> scores = score_probabilities(np.array([[0.5, 0.25, 0.25]]), [2])
        >>> float(scores.confidence[0]), int(scores.rank[0]), round(float(scores.nll[0]), 3)
        (0.5, 2, 1.386)
    """
    p = as_probabilities(probabilities)
    y = as_labels(labels, *p.shape)
    with np.errstate(divide="ignore"):
        return _scores_of(np.log(p, dtype=np.float64), y)


def _scores_of(
    logits: npt.NDArray[np.floating[Any]], labels: IntArray, scale: FloatArray | None = None
) -> Scores:
    """Score logits, (N, K), divided by one number a sample, (N,), if there is any."""
    blocks = []
    n, num_classes = logits.shape
    for rows in row_blocks(n, num_classes, CACHED):
        z = logits[rows].astype(np.float64)  # a copy, which is then worked in
        if scale is not None:
            z /= scale[rows, None]
        blocks.append(_score_block(z, labels[rows]))
    return Scores(
        *(np.concatenate([getattr(b, field.name) for b in blocks]) for field in fields(Scores))
    )


def label_losses(
    logits: npt.NDArray[np.floating[Any]], labels: IntArray, temperature: float = 1.0
) -> tuple[FloatArray, BoolArray]:
    """Give the ``nll`` and ``correct`` of ``score_logits`` alone, (N,) each, of what it takes.

    Args:
        logits: (N, K), finite.
        labels: class indices, (N,).
        temperature: what the logits are divided by, > 0.
    """
    losses, right = np.empty(len(logits)), np.empty(len(logits), dtype=np.bool_)
    for rows in row_blocks(len(logits), logits.shape[1], CACHED):
        z, y = logits[rows].astype(np.float64), labels[rows]
        z /= temperature
        right[rows] = z.argmax(axis=1) == y
        z -= z.max(axis=1)[:, None]
        of_label = z[np.arange(len(z)), y]
        losses[rows] = np.log(np.exp(z, out=z).sum(axis=1)) - of_label
    return losses, right


def _score_block(z: FloatArray, labels: IntArray) -> Scores:
    """Score rows whose logits, (n, K) float64, are used up."""
    rows = np.arange(len(z))
    pred, z_label = z.argmax(axis=1), z[rows, labels]
    top = z[rows, pred]
    rank = np.zeros(len(z), dtype=np.int64)
    wrong = np.flatnonzero(pred != labels)  # of the others nothing ranks before the label
    rank[wrong] = _ranks(z[wrong], labels[wrong], z_label[wrong])
    error = z - top[:, None]
    below_top = error[rows, labels]
    z[rows, pred] = -np.inf
    second = z.max(axis=1)
    np.exp(error, out=error)
    total = error.sum(axis=1)
    error /= total[:, None]
    # Subtracting before squaring keeps the digits that sum(p^2) - 2 p_y + 1 would cancel.
    error[rows, labels] -= 1
    return Scores(
        pred=pred.astype(np.int64),
        correct=pred == labels,
        rank=rank,
        confidence=1 / total,
        nll=np.log(total) - below_top,
        brier=np.square(error, out=error).sum(axis=1),
        margin=top - second,
    )


def _ranks(z: FloatArray, labels: IntArray, z_label: FloatArray) -> IntArray:
    """Count the classes that rank before the label, (n,): larger logits, and equal ones by index.

    Args:
        z: logits, (n, K).
        labels: (n,).
        z_label: logits of the labels, (n,).
    """
    larger, least = (
        np.add.reduce(np.asarray(found).view(np.uint8), axis=1, dtype=np.int64)
        for found in (z > z_label[:, None], z >= z_label[:, None])
    )
    for row in np.flatnonzero(least > larger + 1):  # more than the label itself has its logit
        larger[row] += np.count_nonzero(z[row, : labels[row]] == z_label[row])
    return np.asarray(larger)
