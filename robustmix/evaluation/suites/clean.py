"""Suite ``clean``: the unchanged test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from robustmix.data.datasets import FOLDER
from robustmix.data.folder import list_folder
from robustmix.errors import IntakeError
from robustmix.evaluation.engine import Batch, Columns, Context, Part, Suite
from robustmix.metrics.clean import clean_metrics, shot_groups
from robustmix.report.samples import Samples
from robustmix.report.schema import CleanPart


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanSuite:
    """Accuracy and proper scores on the unchanged images; no augmentation, the whole split."""

    train_counts: tuple[int, ...] | None = None
    """Training images of each class; adds the accuracy over classes of many, some and few."""

    confusion: bool = False
    """Whether to add the confusion matrix."""

    part: ClassVar[type[CleanPart]] = CleanPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        counts = params.get("train_counts")
        return cls(
            train_counts=None if counts is None else tuple(counts),
            confusion=params.get("confusion", False),
        )

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "clean"

    @property
    def trials(self) -> int:
        """One: nothing is random."""
        return 1

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        found: dict[str, Any] = {}
        if self.train_counts is not None:
            found["train_counts"] = list(self.train_counts)
        return found | ({"confusion": True} if self.confusion else {})

    def parts(self, context: Context) -> list[Part]:
        """Return one pass that keeps the logits."""

        def compute(batch: Batch) -> Mapping[str, Columns]:
            with torch.no_grad():
                return {"clean": {"logits": context.model(batch.pixels())}}

        return [Part("clean", ("clean",), compute, keep_logits=True)]

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> CleanPart:
        """Make the suite's part of the report from the rows alone."""
        result = clean_metrics(
            stored_logits(samples),
            samples.labels,
            class_names=samples.class_names,
            superclass=samples.superclass,
            train_counts=self.train_counts,
            confusion=self.confusion,
            seed=facts["seed"],
            sample_ids=samples.sample_ids,
        )
        return CleanPart(
            status="ok",
            params=self.params(),
            metrics=result.metrics,
            per_class=result.per_class,
            confusion=result.confusion,
        )


def stored_logits(samples: Samples) -> NDArray[np.float32]:
    """Return the clean logits of a record, float32 (samples, classes).

    Raises:
        IntakeError: they are stored in another precision: the confidences of rounded logits fall
            into other bins, so no number may be recomputed from them.
    """
    logits = samples.tables["clean"].at("clean")["logits"]
    if logits.dtype != np.float32:
        raise IntakeError(
            f"the record holds {logits.dtype} logits, not float32",
            "evaluate again and keep samples.npz as it is written",
            code="E-LOGITS",
        )
    return logits.astype(np.float32, copy=False)


def with_train_counts(suites: Sequence[Suite], dataset: str | None) -> list[Suite]:
    """Return the suites, ``clean`` knowing the training images of each class of a long-tailed set.

    Args:
        suites: to be run.
        dataset: only ``folder:PATH`` with a training split may be long-tailed; it is counted, not
            read. A set whose classes all fall into one group is left as it is.
    """
    counts = _long_tail(dataset)
    return [
        replace(suite, train_counts=counts)
        if counts is not None and isinstance(suite, CleanSuite)
        else suite
        for suite in suites
    ]


def _long_tail(dataset: str | None) -> tuple[int, ...] | None:
    if dataset is None or not dataset.startswith(FOLDER):
        return None
    try:
        listing = list_folder(Path(dataset.removeprefix(FOLDER)).expanduser(), "train")
    except IntakeError:  # there is no training split, or it is the evaluation's matter to complain
        return None
    counts = np.bincount(listing.labels, minlength=len(listing.classes))
    groups = [bool(group.any()) for group in shot_groups(counts).values()]
    return tuple(counts.tolist()) if sum(groups) > 1 else None
