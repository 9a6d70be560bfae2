"""Metrics of the clean suite: accuracies, proper scores and per-class results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustmix.errors import UsageError
from robustmix.metrics.intervals import (
    REPLICATES,
    Statistic,
    bootstrap,
    bootstrap_metric,
    bootstrap_rng,
    group_sums,
    proportion,
    wilson,
)
from robustmix.metrics.metric import Direction, Metric, Unit
from robustmix.metrics.scores import (
    BoolArray,
    FloatArray,
    IntArray,
    Labels,
    Logits,
    Scores,
    as_labels,
    as_logits,
    order_by_id,
    score_logits,
)

ClassRow = dict[str, int | float | str | list[float] | None]
"""One class: class, name, n, correct, acc and ci (null without samples); train_n if known."""

MANY, FEW = 100, 20
"""Classes of more than ``MANY`` training images are many-shot, of fewer than ``FEW`` few-shot."""

MOST_CONFUSED = 1000
"""Most classes of a confusion matrix."""

_IMPROBABLE = 1e-12

_BOOTSTRAPPED: dict[str, tuple[Unit, Direction]] = {
    "nll": ("nats", "lower"),
    "brier_sum": ("score", "lower"),
    "brier_mean": ("score", "lower"),
    "macro_acc": ("fraction", "higher"),
    "worst_class": ("fraction", "higher"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanResult:
    """What the clean suite reports."""

    metrics: dict[str, Metric]
    per_class: list[ClassRow]
    confusion: list[tuple[int, int, int]] | None
    """(Label, prediction, count) of every pair that occurs, sorted, if it was asked for."""


def clean_metrics(
    logits: Logits,
    labels: Labels,
    *,
    class_names: Sequence[str],
    superclass: Sequence[int] | None = None,
    train_counts: Sequence[int] | None = None,
    confusion: bool = False,
    seed: int,
    sample_ids: Sequence[str] | None = None,
    replicates: int = REPLICATES,
) -> CleanResult:
    """Compute the metrics of the clean suite, all classes of the model taking part.

    Args:
        logits: (N, K), float32 or float64, N >= 1.
        labels: (N,), each in [0, K).
        class_names: the K names, in the order of the outputs.
        superclass: coarse class of each of the K classes; adds ``superclass_acc``.
        train_counts: training images of each of the K classes; adds the accuracy over classes of
            many, of some and of few: ``many_shot_acc medium_shot_acc few_shot_acc``.
        confusion: add the confusion matrix, for at most 1000 classes.
        seed: seed of the bootstrap.
        sample_ids: names of the samples, each once; the bootstrap takes them in this order.
        replicates: bootstrap replicates; 0 leaves those intervals out.

    Returns:
        Metrics ``top1 top5 error nll nll_max brier_sum brier_mean macro_acc worst_class`` and what
        was asked for, and one row a class.

    Raises:
        UsageError: shapes, names or labels that do not fit.
        IncompleteError: a NaN or infinite logit.
    """
    z = as_logits(logits)
    n, num_classes = z.shape
    y = as_labels(labels, n, num_classes)
    _check_lengths(num_classes, class_names, superclass, train_counts)
    if confusion and num_classes > MOST_CONFUSED:
        raise UsageError(
            f"a confusion matrix of {num_classes} classes is too large to read",
            f"leave it out above {MOST_CONFUSED} classes",
            code="E-CLASSES",
        )
    scores = score_logits(z, y, sample_ids=sample_ids)
    if sample_ids is not None:
        order = order_by_id(sample_ids)
        scores, y = scores.take(order), y[order]
    right = int(scores.correct.sum())
    per_class = _per_class(y, scores, class_names)
    if train_counts is not None:
        for row, count in zip(per_class, train_counts, strict=True):
            row["train_n"] = int(count)
    metrics = {
        "top1": proportion(right, n, direction="higher"),
        "top5": _top5(scores, num_classes),
        "error": proportion(n - right, n, direction="lower"),
        "nll_max": _nll_max(scores),
    }
    if superclass is not None:
        coarse = np.asarray(superclass)
        metrics["superclass_acc"] = proportion(
            int((coarse[scores.pred] == coarse[y]).sum()),
            n,
            direction="higher",
            note=f"{len(np.unique(coarse))} coarse classes",
        )
    if train_counts is not None:
        metrics |= _by_shots(y, scores, np.asarray(train_counts))
    return CleanResult(
        metrics=metrics | _bootstrapped(scores, y, per_class, seed, replicates),
        per_class=per_class,
        confusion=_confusion(y, scores.pred) if confusion else None,
    )


def shot_groups(train_counts: IntArray) -> dict[str, BoolArray]:
    """Return which classes have many, some and few training images, each bool (K,).

    Args:
        train_counts: training images of each class, (K,).

    Reference:
        Liu et al. 2019, arXiv:1904.05160, section 5 (more than 100, 20 to 100, fewer than 20).
    """
    return {
        "many": train_counts > MANY,
        "medium": (train_counts >= FEW) & (train_counts <= MANY),
        "few": train_counts < FEW,
    }


def _by_shots(labels: IntArray, scores: Scores, train_counts: IntArray) -> dict[str, Metric]:
    meaning = {
        "many": f"more than {MANY}",
        "medium": f"{FEW} to {MANY}",
        "few": f"fewer than {FEW}",
    }
    metrics = {}
    for group, classes in shot_groups(train_counts).items():
        inside = classes[labels]
        metrics[f"{group}_shot_acc"] = proportion(
            int(scores.correct[inside].sum()),
            int(inside.sum()),
            direction="higher",
            note=f"the {int(classes.sum())} classes of {meaning[group]} training images",
        )
    return metrics


def _confusion(labels: IntArray, predicted: IntArray) -> list[tuple[int, int, int]]:
    pairs, counts = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    return [(int(y), int(p), int(n)) for (y, p), n in zip(pairs, counts, strict=True)]


def _check_lengths(
    num_classes: int,
    class_names: Sequence[str],
    superclass: Sequence[int] | None,
    train_counts: Sequence[int] | None,
) -> None:
    for what, values in (
        ("class names", class_names),
        ("coarse classes", superclass),
        ("counts of training images", train_counts),
    ):
        if values is not None and len(values) != num_classes:
            raise UsageError(
                f"expected {num_classes} {what}, one an output, got {len(values)}",
                code="E-CLASSES",
            )


def _top5(scores: Scores, num_classes: int) -> Metric:
    n = len(scores.rank)
    if num_classes < 5:
        return Metric(
            value=None,
            unit="fraction",
            direction="higher",
            n=n,
            reason=f"{num_classes} classes are fewer than 5",
        )
    return proportion(
        int((scores.rank < 5).sum()), n, direction="higher", note=f"k=5 of {num_classes} classes"
    )


def _nll_max(scores: Scores) -> Metric:
    improbable = int((scores.nll > -math.log(_IMPROBABLE)).sum())
    return Metric(
        value=float(scores.nll.max()),
        unit="nats",
        direction="lower",
        n=len(scores.nll),
        reason="resampling cannot show how much larger a maximum could be",
        note=f"{improbable} samples give their label less than {_IMPROBABLE:g}",
    )


def _per_class(labels: IntArray, scores: Scores, class_names: Sequence[str]) -> list[ClassRow]:
    counts = np.bincount(labels, minlength=len(class_names))
    right = np.bincount(labels[scores.correct], minlength=len(class_names))
    return [
        {
            "class": k,
            "name": name,
            "n": n,
            "correct": hits,
            "acc": hits / n if n else None,
            "ci": list(wilson(hits, n)) if n else None,
        }
        for k, (name, n, hits) in enumerate(
            zip(class_names, counts.tolist(), right.tolist(), strict=True)
        )
    ]


def _statistic(scores: Scores, labels: IntArray, num_classes: int) -> Statistic:
    n = len(labels)

    def statistic(weights: IntArray) -> dict[str, FloatArray]:
        counts, right = group_sums(weights, labels, num_classes, np.ones(n), scores.correct)
        present = counts > 0
        acc = right / np.maximum(counts, 1)
        brier = weights @ scores.brier / n
        return {
            "nll": weights @ scores.nll / n,
            "brier_sum": brier,
            "brier_mean": brier / num_classes,
            "macro_acc": acc.sum(axis=1) / present.sum(axis=1),
            "worst_class": np.where(present, acc, np.inf).min(axis=1),
        }

    return statistic


def _bootstrapped(
    scores: Scores, labels: IntArray, per_class: list[ClassRow], seed: int, replicates: int
) -> dict[str, Metric]:
    n = len(labels)
    statistic = _statistic(scores, labels, len(per_class))
    estimates = statistic(np.ones((1, n), dtype=np.int64))
    drawn = (
        bootstrap(statistic, n, rng=bootstrap_rng(seed), replicates=replicates)
        if replicates
        else {}
    )
    present = [row for row in per_class if row["n"]]
    worst = next(row for row in present if row["acc"] == estimates["worst_class"][0])
    notes = {
        "macro_acc": f"mean over {len(present)} of {len(per_class)} classes with samples",
        "worst_class": f"class {worst['class']} ({worst['name']}), n={worst['n']}",
    }
    return {
        name: bootstrap_metric(
            float(estimates[name][0]),
            drawn.get(name),
            unit=unit,
            direction=direction,
            n=n,
            seed=seed,
            note=notes.get(name),
        )
        for name, (unit, direction) in _BOOTSTRAPPED.items()
    }
