"""Suite ``calibration``: is a confidence of 80 % right eight times in ten?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from robustmix.evaluation.engine import Context, Part
from robustmix.evaluation.metrics.calibration import calibration_metrics
from robustmix.report.samples import Samples
from robustmix.report.schema import CalibrationPart


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationSuite:
    """Calibration of the clean predictions; uses the rows of suite ``clean``, no pass of its own.

    The temperature is fitted on one stratified half of the samples and judged on the other, both
    ways, so that no sample judges a temperature it helped to fit.
    """

    part: ClassVar[type[CalibrationPart]] = CalibrationPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls()

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "calibration"

    @property
    def trials(self) -> int:
        """One: nothing is random but the halves, which the seed fixes."""
        return 1

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {"bins": [10, 15], "temperature": "two-fold"}

    def parts(self, context: Context) -> list[Part]:
        """Return nothing: the clean logits are shared."""
        return []

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> CalibrationPart:
        """Make the suite's part of the report from the clean rows alone."""
        result = calibration_metrics(
            samples.clean_logits(),
            samples.labels,
            seed=facts["seed"],
            sample_ids=samples.sample_ids,
        )
        return CalibrationPart(
            status="ok",
            params=self.params(),
            metrics=result.metrics,
            bins_10=result.bins_10,
            bins_15=result.bins_15,
            temperature=result.temperature,
        )
