"""What a reader must know before using a number: found from the rows, the model and the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.data.images import ImageSet
from robustmix.later import optimize
from robustmix.models.robust_model import RobustModel
from robustmix.report.samples import Samples
from robustmix.report.schema import Warn
from robustmix.report.trust import model_doubts

CHANCE = 1e-3
"""Probability above which a match of outputs and labels may be chance."""


def find_warnings(
    robust: RobustModel,
    data: ImageSet,
    samples: Samples,
    checks: Mapping[str, Any],
) -> list[Warn]:
    """List the warnings that no suite alone knows of; the suites add theirs.

    Those that put every number in doubt come first, for a terminal shows only a few.
    """
    warnings = model_doubts(checks, robust.precision)
    if robust.precision != "fp32":
        warnings.append(_rounded(robust.precision))
    if "clean" in samples.tables:
        warnings += _class_order(samples)
    notes = [note for note in robust.info.notes if not note.startswith("I-")]
    warnings += [_coded(note, "clean") for note in (*notes, *data.notes)]
    metrics = robust.info.metrics or {}
    if metrics.get("selected_on") == "test" and "best" in robust.info.source:
        warnings.append(
            Warn(
                code="W-SELECTED-ON-TEST",
                suite="clean",
                message="this checkpoint was chosen for its accuracy on these images; use last.pth "
                "or train with a validation split for an unbiased figure",
            )
        )
    partial = metrics.get("partial")
    if isinstance(partial, dict) and partial:
        warnings.append(_coded(_trained_on_part(partial), "clean"))
    if checks.get("output") == "probabilities":
        warnings.append(
            Warn(
                code="W-SOFTMAX-OUTPUT",
                suite="fgsm",
                message="the model returns probabilities; attacks on them see vanishing gradients",
            )
        )
    return warnings


def _trained_on_part(partial: Mapping[str, Any]) -> str:
    """Say what a checkpoint records of a training on a part of its data set."""
    said = ", ".join(
        f"{split}: {counts[0]} of {counts[1]}"
        for split, counts in partial.items()
        if isinstance(counts, list | tuple) and len(counts) == 2
    )
    return f"W-TRAINED-ON-PART: the training did not have the whole data set (images {said})"


def _rounded(precision: str) -> Warn:
    return Warn(
        code="W-PRECISION",
        message=f"the network computed in {precision}: its logits are rounded, so predictions, "
        "confidences and attacks are not those of float32, and compare with none of these",
    )


def smaller_batch(asked: int, taken: int) -> Warn:
    """Tell that memory did not suffice for the batch that was asked for; it changed no number."""
    return Warn(
        code="W-BATCH-SIZE",
        message=f"memory ran out with batches of {asked}, so the rest was run with {taken}; give "
        f"--batch-size {taken}",
    )


def _coded(note: str, suite: str) -> Warn:
    code, _, text = note.partition(": ")
    if not code.startswith("W-"):
        code, text = "W-DATA", note
    return Warn(code=code, suite=suite, message=text)


def _class_order(samples: Samples) -> list[Warn]:
    k = len(samples.class_names)
    pred = samples.tables["clean"].at("clean")["pred"].astype(np.int64)
    found = suspected_order(pred, samples.labels, k)
    if found is None:
        return []
    accuracy = np.mean(pred == samples.labels)
    other = np.mean(np.array(found)[pred] == samples.labels)
    moved = [f"{output}->{label}" for output, label in enumerate(found) if output != label]
    return [
        Warn(
            code="W-CLASS-ORDER",
            suite="clean",
            message=f"accuracy is {accuracy:.1%}, but would be {other:.1%} if some outputs meant "
            "other labels: the class order is probably another (output->label "
            + ", ".join(moved[:20])
            + (", ..." if len(moved) > 20 else "")
            + "); give it with --class-map",
        )
    ]


def suspected_order(
    pred: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int
) -> list[int] | None:
    """Return the label that each output seems to mean, if the order seems to be wrong.

    It does where the best one-to-one assignment of outputs to labels is right for at least half of
    the images and for twice as many as are right now. Of few images a class some assignment always
    is, so chance is excluded: an assignment found on one half of the images must be right on the
    other half, too, for twice as many as now, and for more than independent guesses with the same
    frequencies would be, save with a probability below ``CHANCE``.

    Args:
        pred: predicted outputs, int64 (n,).
        labels: int64 (n,).
        num_classes: K.
    """
    n, right = len(labels), int((pred == labels).sum())
    if n == 0 or 2 * right > n:  # twice as many are not to be had
        return None
    best = _assignment(pred, labels, num_classes)
    matched = int((best[pred] == labels).sum())
    if 2 * matched < n or matched < 2 * right:
        return None
    # Every second image of a class, so that both halves have all classes.
    order = np.argsort(labels, kind="stable")
    halves = order[::2], order[1::2]
    held_out, expected = 0, 0.0
    for one, other in (halves, halves[::-1]):
        meant = _assignment(pred[one], labels[one], num_classes)[pred[other]]
        held_out += int((meant == labels[other]).sum())
        said, are = (np.bincount(of, minlength=num_classes) for of in (meant, labels[other]))
        expected += float(said @ are) / max(len(other), 1)
    if held_out < 2 * right:
        return None
    from scipy.stats import binom  # a second to import, and hardly any model comes here

    if binom.sf(held_out - 1, n, min(expected / n, 1.0)) >= CHANCE:
        return None
    return [int(label) for label in best]


def _assignment(
    pred: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Give the label of each output, one to one, with which most images are right, int64 (K,)."""
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (pred, labels), 1)
    found: NDArray[np.int64] = optimize.linear_sum_assignment(-confusion)[1]
    return found
