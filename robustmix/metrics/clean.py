"""Metrics of the clean suite: accuracies, proper scores and per-class results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from robustmix.errors import UsageError
from robustmix.metrics.definition import (
    Definition,
    Numbers,
    Shared,
    Undefined,
    absent,
    function,
    mean,
    once,
    share,
)
from robustmix.metrics.from_logits import metrics_of_rows, rows_of_logits
from robustmix.metrics.intervals import REPLICATES, group_sums, least_share, wilson
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import BoolArray, FloatArray, IntArray, Labels, Logits
from robustmix.report.rows import Rows

ClassRow = dict[str, int | float | str | list[float] | None]
"""One class: class, name, n, correct, acc and ci (null without samples); train_n if known."""

MANY, FEW = 100, 20
"""Classes of more than ``MANY`` training images are many-shot, of fewer than ``FEW`` few-shot."""

MOST_CONFUSED = 1000
"""Most classes of a confusion matrix."""

_IMPROBABLE = 1e-12

_SHOTS = {"many": f"more than {MANY}", "medium": f"{FEW} to {MANY}", "few": f"fewer than {FEW}"}


def top1(rows: Rows) -> Definition:
    """Share of images whose label has the largest logit, the lowest index among equal ones."""
    return share(rows.clean("correct"))


def error(rows: Rows) -> Definition:
    """Share of images that are classified wrongly."""
    return share(1 - rows.clean("correct"), direction="lower")


def top5(rows: Rows) -> Definition:
    """Share of images whose label is among the five largest logits."""
    classes = rows.num_classes
    if classes < 5:
        return absent(rows.n, f"{classes} classes are fewer than 5", direction="higher")
    return share(rows.clean("rank") < 5, note=f"k=5 of {classes} classes")


def superclass_acc(rows: Rows) -> Definition | None:
    """Share of images whose predicted class lies in the right coarse class, if there are any."""
    if rows.view.superclass is None:
        return None
    coarse = np.asarray(rows.view.superclass)
    same = coarse[rows.clean("pred").astype(np.int64)] == coarse[rows.labels]
    return share(same, note=f"{len(np.unique(coarse))} coarse classes")


def nll(rows: Rows) -> Definition:
    """Mean negative log-likelihood of the label, in nats."""
    return mean(rows.clean("nll"), unit="nats", direction="lower", interval="skewed")


def brier_sum(rows: Rows) -> Definition:
    """Mean squared error of the probabilities, summed over classes, in [0, 2]."""
    return mean(rows.clean("brier"), unit="score", direction="lower", interval="skewed")


def brier_mean(rows: Rows) -> Definition:
    """Mean squared error of the probabilities, averaged over classes."""
    values = rows.clean("brier") / rows.num_classes
    return mean(values, unit="score", direction="lower", interval="skewed")


def nll_max(rows: Rows) -> Definition:
    """Largest negative log-likelihood of a label: how surely the model was ever wrong."""
    losses = rows.clean("nll")
    improbable = int((losses > -math.log(_IMPROBABLE)).sum())
    return function(
        rows.n,
        lambda weights: np.where(weights > 0, losses, -np.inf).max(axis=1),
        unit="nats",
        interval="none",
        reason="resampling cannot show how much larger a maximum could be",
        note=f"{improbable} samples give their label less than {_IMPROBABLE:g}",
    )


def macro_acc(rows: Rows) -> Definition:
    """Mean over classes of their accuracy: every class counts alike, however large."""
    by_class = _by_class(rows)

    def statistic(weights: FloatArray) -> FloatArray:
        accuracy, present = by_class(weights)
        return np.asarray(accuracy.sum(axis=1) / present.sum(axis=1))

    present = len(np.unique(rows.labels))
    note = f"mean over {present} of {rows.num_classes} classes with samples"
    return function(rows.n, statistic, direction="higher", note=note)


def worst_class(rows: Rows) -> Definition:
    """Least accuracy of a class; as a minimum of noisy numbers it is biased downwards."""
    by_class = _by_class(rows)

    def lowest(weights: FloatArray) -> FloatArray:
        accuracy, present = by_class(weights)
        return np.where(present, accuracy, np.inf)

    worst = int(lowest(once(rows.n))[0].argmin())
    counts = np.bincount(rows.labels, minlength=rows.num_classes)
    hits = np.bincount(rows.labels, rows.clean("correct"), minlength=rows.num_classes)
    defined = function(
        rows.n,
        lambda weights: lowest(weights).min(axis=1),
        direction="higher",
        note=f"class {worst} ({rows.view.class_names[worst]}), n={counts[worst]}",
        before="bootstrap",
    )
    return replace(defined, interval="normal", ci=lambda: (least_share(hits, counts), "exact95"))


def _by_class(rows: Rows) -> Shared[tuple[FloatArray, BoolArray]]:
    """Share the accuracy of each class, 0 without samples, and whether it has any, (R, K) each."""
    labels, classes, right = rows.labels, rows.num_classes, rows.clean("correct")
    if labels.min() < 0 or labels.max() >= classes:
        raise Undefined("a label is no class")

    def accuracies(weights: FloatArray) -> tuple[FloatArray, BoolArray]:
        counts, hits = group_sums(weights, labels, classes, np.ones(len(labels)), right)
        return hits / np.maximum(counts, 1), counts > 0

    return rows.shared("accuracy of each class", accuracies)


def shot_groups(train_counts: IntArray) -> dict[str, BoolArray]:
    """Tell which classes have many, some and few training images, each bool (K,).

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


def shot_numbers(rows: Rows, train_counts: Sequence[int] | None) -> Numbers:
    """Define the accuracy over classes of many, of some and of few training images.

    Args:
        rows: of suite ``clean``.
        train_counts: training images of each class, (K,); without it there are no such numbers.

    Raises:
        UsageError: not one count a class.
    """
    if train_counts is None:
        return {}
    _check_length("counts of training images", train_counts, rows.num_classes)
    return {
        ("", f"{group}_shot_acc"): partial(_within, rows, classes, _SHOTS[group])
        for group, classes in shot_groups(np.asarray(train_counts)).items()
    }


def _within(rows: Rows, classes: BoolArray, meaning: str) -> Definition:
    note = f"the {int(classes.sum())} classes of {meaning} training images"
    return share(rows.clean("correct"), within=classes[rows.labels], note=note)


def per_class(rows: Rows, train_counts: Sequence[int] | None = None) -> list[ClassRow]:
    """List the classes with their counts and accuracies; a class without samples has null."""
    names = rows.view.class_names
    counts = np.bincount(rows.labels, minlength=len(names)).tolist()
    right = np.bincount(rows.labels[rows.clean("correct") > 0], minlength=len(names)).tolist()
    found: list[ClassRow] = [
        {
            "class": k,
            "name": name,
            "n": n,
            "correct": hits,
            "acc": hits / n if n else None,
            "ci": list(wilson(hits, n)) if n else None,
        }
        for k, (name, n, hits) in enumerate(zip(names, counts, right, strict=True))
    ]
    for row, count in zip(found, train_counts or (), strict=False):
        row["train_n"] = int(count)
    return found


def confusion_pairs(rows: Rows) -> list[list[int]]:
    """List label, prediction and count of every pair that occurs, sorted."""
    pairs = np.stack([rows.labels, rows.clean("pred").astype(np.int64)], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    return [[int(y), int(p), int(n)] for (y, p), n in zip(found, counts, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanResult:
    """What the clean suite reports."""

    metrics: dict[str, Metric]
    per_class: list[ClassRow]
    confusion: list[list[int]] | None
    """Label, prediction and count of every pair that occurs, sorted, if it was asked for."""


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
    rows = rows_of_logits(
        logits,
        labels,
        seed=seed,
        sample_ids=sample_ids,
        class_names=class_names,
        superclass=superclass,
    )
    check_classes(rows)
    if confusion:
        check_confusion(rows.num_classes)
    numbers = shot_numbers(rows, train_counts)
    return CleanResult(
        metrics=metrics_of_rows("clean", rows, numbers, replicates=replicates),
        per_class=per_class(rows, train_counts),
        confusion=confusion_pairs(rows) if confusion else None,
    )


def check_classes(rows: Rows) -> None:
    """Refuse names or coarse classes that are not one an output.

    Raises:
        UsageError: they are not.
    """
    _check_length("class names", rows.view.class_names, rows.num_classes)
    if rows.view.superclass is not None:
        _check_length("coarse classes", rows.view.superclass, rows.num_classes)


def check_confusion(num_classes: int) -> None:
    """Refuse a confusion matrix that nobody could read.

    Raises:
        UsageError: there are more than ``MOST_CONFUSED`` classes.
    """
    if num_classes > MOST_CONFUSED:
        raise UsageError(
            f"a confusion matrix of {num_classes} classes is too large to read",
            f"leave it out above {MOST_CONFUSED} classes",
            code="E-CLASSES",
        )


def _check_length(what: str, values: Sequence[object], num_classes: int) -> None:
    if len(values) != num_classes:
        raise UsageError(
            f"expected {num_classes} {what}, one an output, got {len(values)}", code="E-CLASSES"
        )
