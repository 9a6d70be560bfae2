"""Suite ``clean``: the unchanged test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from robustmix.data.listing import list_folder
from robustmix.data.location import FOLDER
from robustmix.errors import IntakeError
from robustmix.evaluation.params import recorded
from robustmix.evaluation.shard import Divided
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Found,
    Part,
    Passes,
    Prepared,
    Scene,
    Suite,
)
from robustmix.files import expanded
from robustmix.metrics.clean import (
    check_classes,
    check_confusion,
    confusion_pairs,
    per_class,
    shot_groups,
    shot_numbers,
)
from robustmix.metrics.definition import Numbers
from robustmix.metrics.from_logits import check_scores
from robustmix.metrics.scores import IntArray, order_by_id
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples
from robustmix.report.schema import Shown, SuitePart


@dataclass(frozen=True, kw_only=True)
class PreparedClean(Prepared):
    """What is reported beside the accuracies."""

    kind: ClassVar[str] = "clean"
    divided: ClassVar[Divided] = "whole"

    train_counts: tuple[int, ...] | None = recorded(None, omit_default=True)
    """Training images of each class; adds the accuracy over classes of many, some and few."""

    confusion: bool = recorded(False, omit_default=True)
    """Whether to add the confusion matrix."""

    def order(self, view: Samples) -> IntArray:
        """Take the samples by their ids: resamples do not depend on the order of the files."""
        return order_by_id(view.sample_ids)

    def parts(self, context: Context) -> list[Part]:
        """List one pass that keeps the logits."""
        return [Part("clean", ("clean",), partial(self._rows, context), keep_logits=True)]

    def _rows(self, context: Context, batch: Batch) -> Mapping[str, Columns]:
        with context.scoring():
            return {"clean": {"logits": context.model(batch.pixels())}}

    def passes(self, n: int) -> Passes:
        """Count one pass."""
        return Passes(1, n, 0)

    def check(self, rows: Rows) -> None:
        """Refuse rows whose scores are not those of their logits, or names that do not fit.

        Raises:
            IntakeError: the record is damaged, or its logits are in half precision.
            UsageError: there are not as many names or coarse classes as outputs.
        """
        check_classes(rows)
        check_scores(rows.view)

    def numbers(self, rows: Rows) -> Numbers:
        """Define the accuracies by training images; all others are in the table of metrics."""
        return shot_numbers(rows, self.train_counts)

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """List the classes, and the confusion matrix if it was asked for."""
        confusion = confusion_pairs(rows) if self.confusion else None
        classes = per_class(rows, self.train_counts)
        return Found(details={"per_class": classes, "confusion": confusion})

    def shown(self, part: SuitePart) -> Shown:
        """Show top-1, top-5 and the NLL; the gate watches top-1."""
        return Shown(
            headline=["top1", "top5", "nll"],
            compared=["top1", "top5", "nll", "brier_sum"],
            gated=["top1"],
        )


@dataclass(frozen=True, kw_only=True)
class Clean(Suite):
    """Accuracy and proper scores on the unchanged images; no augmentation, the whole split."""

    recorded: ClassVar[type[Prepared]] = PreparedClean

    confusion: bool = False
    """Add the confusion matrix, for at most 1000 classes."""

    def prepare(self, scene: Scene) -> PreparedClean:
        """Count the training images of a long-tailed set."""
        if self.confusion:
            check_confusion(scene.data.num_classes)
        counts = long_tail(scene.dataset, scene.data.class_names)
        return PreparedClean(train_counts=counts, confusion=self.confusion)


def long_tail(dataset: str, names: Sequence[str]) -> tuple[int, ...] | None:
    """Count the training images of each class of a long-tailed set.

    Args:
        dataset: as it was asked for; only ``folder:PATH`` with a training split may be long-tailed.
            It is counted, not read.
        names: of the classes, in the order of the counts.

    Returns:
        None for other sets, and where all classes fall into one group.
    """
    if not dataset.startswith(FOLDER):
        return None
    try:
        listing = list_folder(expanded(dataset.removeprefix(FOLDER)), "train")
    except IntakeError:  # there is no training split, or it is the evaluation's matter to complain
        return None
    counts = np.bincount(listing.labels, minlength=len(listing.classes))
    if sorted(names) == sorted(listing.classes):  # in the order that the model has them
        place = {name: label for label, name in enumerate(listing.classes)}
        counts = counts[[place[name] for name in names]]
    groups = [bool(group.any()) for group in shot_groups(counts).values()]
    return tuple(counts.tolist()) if sum(groups) > 1 else None
