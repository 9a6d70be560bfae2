"""What a reader must know before using a number: found from the rows, the model and the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from robustmix.data.images import ImageSet
from robustmix.models.robust_model import RobustModel
from robustmix.report.samples import Samples
from robustmix.report.schema import Warn


def find_warnings(
    robust: RobustModel,
    data: ImageSet,
    samples: Samples,
    checks: Mapping[str, Any],
) -> list[Warn]:
    """List the warnings that no suite alone knows of; the suites add theirs."""
    notes = [note for note in robust.info.notes if not note.startswith("I-")]
    warnings = [_coded(note, "clean") for note in (*notes, *data.notes)]
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
    if checks.get("output") == "probabilities":
        warnings.append(
            Warn(
                code="W-SOFTMAX-OUTPUT",
                suite="fgsm",
                message="the model returns probabilities; attacks on them see vanishing gradients",
            )
        )
    if "clean" in samples.tables:
        warnings += _class_order(samples)
    return warnings


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
    shown = ", ".join(f"{output}->{label}" for output, label in enumerate(found[:20]))
    return [
        Warn(
            code="W-CLASS-ORDER",
            suite="clean",
            message="accuracy is at chance, but a one-to-one map of outputs to labels would make "
            f"it good: the class order is probably another (output->label {shown}"
            + (", ..." if k > 20 else "")
            + "); give it with --class-map",
        )
    ]


def suspected_order(
    pred: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int
) -> list[int] | None:
    """Return the label that each output seems to mean, if the order seems to be wrong.

    That is: accuracy is at most 2/K, while the best one-to-one assignment reaches more than 5/K
    and at least 20 % (evaluation specification, 2.5).
    """
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (pred, labels), 1)
    n = len(labels)
    if np.trace(confusion) / n > 2 / num_classes:
        return None
    rows, columns = linear_sum_assignment(-confusion)
    best = confusion[rows, columns].sum() / n
    if best <= 5 / num_classes or best < 0.2:
        return None
    return [int(label) for label in columns]
