"""Metrics of images from elsewhere: which outputs count, and what is lost against clean ones."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.later import special
from robustmix.metrics.definition import CI, Definition, mean, ratio_of
from robustmix.metrics.intervals import wilson
from robustmix.metrics.scores import FloatArray, IntArray, score_logits

COLUMNS = ("pred", "correct", "rank", "confidence", "nll", "brier", "margin")


def score_shift(
    logits: NDArray[np.floating[Any]],
    labels: IntArray,
    *,
    classes: Sequence[int] | None = None,
    mapping: Sequence[int] | None = None,
    sample_ids: Sequence[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """Score images whose classes are a part of the outputs, or stand behind several of them.

    With ``classes`` the other outputs are cut away first, so that no prediction can be one of them
    and probabilities add up to 1 over those that remain. With a ``mapping`` the prediction is the
    largest of all outputs, looked up; its confidence is that of this output. What else is scored
    then takes the sum of the probabilities of all outputs of an object, or of none.

    Args:
        logits: (N, K).
        labels: classes among the K, or objects of the mapping, (N,).
        classes: the outputs that count, rising; every label is one of them.
        mapping: object that each output stands for, -1 for none, (K,).
        sample_ids: for messages.

    Returns:
        The columns ``COLUMNS`` (N,), and ``pred_all``, the largest of all K outputs. ``pred`` is an
        output's number among the K in every case.

    Raises:
        IncompleteError: a logit is not finite.

    Example:
        >>> row = np.array([[1.0, 5.0, 2.0]])
        >>> found = score_shift(row, np.array([2]), classes=(0, 2))
        >>> found["pred"].tolist(), found["pred_all"].tolist(), found["correct"].tolist()
        ([2], [1], [True])
    """
    every = logits.argmax(axis=1).astype(np.int32)
    if mapping is not None:
        return {**_mapped(logits, labels, np.asarray(mapping), sample_ids), "pred_all": every}
    if classes is None:
        kept, own, names = logits, labels, np.arange(logits.shape[1])
    else:
        names = np.asarray(classes)
        kept, own = logits[:, names], np.searchsorted(names, labels)
        assert np.array_equal(names[own], labels), "every label is one of the classes"
    scores = score_logits(kept, own, sample_ids=sample_ids)
    found: dict[str, NDArray[Any]] = {name: getattr(scores, name) for name in COLUMNS}
    found["pred"] = names[scores.pred].astype(np.int32)
    found["rank"] = scores.rank.astype(np.int32)
    return {**found, "pred_all": every}


def _mapped(
    logits: NDArray[np.floating[Any]],
    labels: IntArray,
    mapping: IntArray,
    sample_ids: Sequence[str] | None,
) -> dict[str, NDArray[Any]]:
    objects = int(max(mapping.max(), labels.max())) + 1
    # Objects that no output stands for can never be right: their probability is that of nothing.
    least = np.finfo(np.float64).min / 4
    grouped = np.full((len(logits), objects + 1), least)
    for group in np.unique(mapping):
        inside = logits[:, mapping == group].astype(np.float64)
        grouped[:, group if group >= 0 else objects] = special.logsumexp(inside, axis=1)
    scores = score_logits(grouped, labels, sample_ids=sample_ids)
    pred = logits.argmax(axis=1)
    right = mapping[pred] == labels
    confidence = np.exp(special.log_softmax(logits.astype(np.float64), axis=1).max(axis=1))
    nothing = ~np.isin(labels, mapping)
    return {
        "pred": pred.astype(np.int32),
        "correct": right,
        "rank": scores.rank.astype(np.int32),
        "confidence": confidence,
        # Of an object that no output stands for there is no likelihood; no number takes them.
        "nll": np.where(nothing, 0.0, scores.nll),
        "brier": scores.brier,
        "margin": np.where(nothing, 0.0, scores.margin),
    }


def unpaired_difference(minuend: FloatArray, subtrahend: FloatArray, *, note: str) -> Definition:
    """Define the difference of the means of two groups of other images; less is better.

    Args:
        minuend: one number an image of the first group, (m,), m >= 1.
        subtrahend: one of the second, (n,), n >= 1.
        note: what the difference is.

    Returns:
        A definition over the m + n images. Where every number is 0 or 1 its interval is Newcombe's,
        made of Wilson's for both shares, which does not vanish where all images are alike. Else it
        is normal; the squared standard error is the sum of those of both means, each of the
        variance over its number of images.

    Reference:
        Newcombe 1998, Statistics in Medicine 17:873, method 10.
    """
    m, n = len(minuend), len(subtrahend)
    both = m + n
    difference = float(minuend.mean() - subtrahend.mean())
    # To first order: what each image adds, scaled so that the mean over all is the difference.
    moves = [
        both / m * (minuend - minuend.mean()),
        -both / n * (subtrahend - subtrahend.mean()),
    ]

    def statistic(weights: FloatArray) -> FloatArray:
        first, second = weights[:, :m], weights[:, m:]
        return np.asarray(
            ratio_of(first @ minuend, first.sum(axis=1))
            - ratio_of(second @ subtrahend, second.sum(axis=1))
        )

    defined = mean(difference + np.concatenate(moves), direction="lower", note=note)
    shares = bool(np.isin(np.concatenate([minuend, subtrahend]), (0.0, 1.0)).all())
    return Definition(
        n=both,
        values=defined.values,
        statistic=statistic,
        direction="lower",
        note=f"{note}, unpaired",
        ci=partial(_newcombe, minuend, subtrahend) if shares else None,
    )


def _newcombe(minuend: FloatArray, subtrahend: FloatArray) -> CI:
    """Make the interval of a difference of two shares of other images from those of both."""
    first, second = float(minuend.mean()), float(subtrahend.mean())
    (low_1, high_1), (low_2, high_2) = (
        wilson(round(float(hits.sum())), len(hits)) for hits in (minuend, subtrahend)
    )
    difference = first - second
    low = difference - math.hypot(first - low_1, high_2 - second)
    high = difference + math.hypot(high_1 - first, second - low_2)
    return (low, high), "newcombe95"


def agree(stored: Mapping[str, FloatArray], made: Mapping[str, NDArray[Any]]) -> bool:
    """Tell whether stored scores are those that were made again from the logits."""
    return all(
        np.allclose(stored[name], np.asarray(made[name], dtype=np.float64), rtol=1e-6, atol=1e-9)
        for name in (*COLUMNS, "pred_all")
    )
