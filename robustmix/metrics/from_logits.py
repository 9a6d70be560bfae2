"""Rows made of logits at hand, and the logits that are among the rows of suite ``clean``.

Whoever has logits and labels but no report gets the same numbers in the same way: what would be
stored of them is put into rows, and the rows are summarised as a suite's are.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.errors import IntakeError
from robustmix.metrics.definition import Numbers, Undefined, summarise_metrics
from robustmix.metrics.intervals import REPLICATES
from robustmix.metrics.metric import Metric
from robustmix.metrics.registry import metrics_for
from robustmix.metrics.scores import (
    Labels,
    Logits,
    Scores,
    as_labels,
    as_logits,
    check_sample_ids,
    order_by_id,
    score_logits,
)
from robustmix.report.rows import Rows, damaged
from robustmix.report.samples import Samples, Table

SCORES = ("pred", "correct", "rank", "confidence", "nll", "brier")
"""Columns that numbers are made from and that follow from the logits."""


def rows_of_logits(
    logits: Logits,
    labels: Labels,
    *,
    seed: int,
    sample_ids: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    superclass: Sequence[int] | None = None,
) -> Rows:
    """Put logits into rows of suite ``clean``, in the order of the samples' ids.

    Args:
        logits: (N, K), float32 or float64, N >= 1.
        labels: (N,), each in [0, K).
        seed: of resamples and folds.
        sample_ids: names of the samples, each once; positions if None.
        class_names: the K names, in the order of the outputs; positions if None.
        superclass: coarse class of each of the K classes.

    Raises:
        UsageError: shapes, ids or labels that do not fit.
        IncompleteError: a NaN or infinite logit.
    """
    z = as_logits(logits)
    n, num_classes = z.shape
    y = as_labels(labels, n, num_classes)
    ids = [f"{i:012d}" for i in range(n)] if sample_ids is None else list(sample_ids)
    check_sample_ids(ids, n)
    scores = score_logits(z, y, sample_ids=ids)
    columns: dict[str, Any] = {one.name: getattr(scores, one.name) for one in fields(Scores)}
    columns = {name: column[None, None] for name, column in (columns | {"logits": z}).items()}
    names = map(str, range(num_classes)) if class_names is None else class_names
    view = Samples(
        sample_ids=tuple(ids),
        labels=y,
        class_names=tuple(names),
        superclass=None if superclass is None else tuple(superclass),
        tables={"clean": Table(("clean",), columns)},
    )
    order, unknown = order_by_id(ids), (0, 0, 0)
    return Rows.of(
        view, "clean", order=order, num_classes=num_classes, input_size=unknown, seed=seed
    )


def metrics_of_rows(
    kind: str, rows: Rows, own: Numbers, *, replicates: int = REPLICATES
) -> dict[str, Metric]:
    """Summarise rows as a suite of this kind does: its own numbers and the registered ones."""
    registered = {("", name): define for name, define in metrics_for(kind, rows).items()}
    metrics = summarise_metrics(
        own | registered, seed=rows.seed, replicates=replicates, rules=rows.rules
    )
    return {name: metric for (_, name), metric in metrics.items()}


def stored_logits(view: Samples) -> NDArray[np.floating[Any]]:
    """Give the clean logits of a record, (samples, classes), in the precision they were made in.

    Raises:
        Undefined: there are none.
        IntakeError: they were stored in half precision: the confidences of rounded logits fall into
            other bins, so no number may be recomputed from them.
    """
    if "clean" not in view.tables or "logits" not in view.tables["clean"].columns:
        raise Undefined("the rows have no logits")
    logits = view.tables["clean"].at("clean")["logits"]
    if logits.dtype not in (np.float32, np.float64):
        raise IntakeError(
            f"the record holds {logits.dtype} logits, not float32",
            "evaluate again and keep samples.npz as it is written",
            code="E-LOGITS",
        )
    return logits  # type: ignore[return-value]


def logits_of(rows: Rows) -> NDArray[np.floating[Any]]:
    """Give the clean logits of the rows in their order, (n, classes); see ``stored_logits``."""
    logits = stored_logits(rows.view)
    # A copy of the logits of 50 000 samples of 1000 classes takes 200 MB.
    in_order = np.array_equal(rows.order, np.arange(len(logits)))
    return logits if in_order else logits[rows.order]


def check_scores(view: Samples) -> None:
    """Refuse a record whose clean scores are not those of its logits.

    Accuracies are made of the scores, temperatures and classwise errors of the logits: a record in
    which they differ would give a report that contradicts itself.

    Raises:
        IntakeError: they differ, or the logits are in half precision.
        UsageError: a label is no class.
        IncompleteError: a logit is not finite.
    """
    scores = score_logits(stored_logits(view), view.labels, sample_ids=view.sample_ids)
    kept = view.tables["clean"].at("clean")
    for name in SCORES:
        # Logarithms may round differently on another machine.
        if not np.allclose(kept[name], getattr(scores, name), rtol=1e-9, atol=1e-12):
            raise damaged(f"{name} of the clean samples is not that of their logits")
