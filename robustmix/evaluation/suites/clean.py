"""Suite ``clean``: the unchanged test images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.metrics.clean import clean_metrics
from robustmix.report.samples import Samples
from robustmix.report.schema import CleanPart


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanSuite:
    """Accuracy and proper scores on the unchanged images; no augmentation, the whole split."""

    part: ClassVar[type[CleanPart]] = CleanPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls()

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
        return {}

    def parts(self, context: Context) -> list[Part]:
        """Return one pass that keeps the logits."""

        def compute(batch: Batch) -> Mapping[str, Columns]:
            with torch.no_grad():
                return {"clean": {"logits": context.model(batch.pixels())}}

        return [Part("clean", ("clean",), compute, keep_logits=True)]

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> CleanPart:
        """Make the suite's part of the report from the rows alone."""
        result = clean_metrics(
            samples.clean_logits(),
            samples.labels,
            class_names=samples.class_names,
            superclass=samples.superclass,
            seed=facts["seed"],
            sample_ids=samples.sample_ids,
        )
        return CleanPart(status="ok", metrics=result.metrics, per_class=result.per_class)
