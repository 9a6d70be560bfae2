"""One number of a report: a value with its unit, direction, sample size and interval."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Unit = Literal["fraction", "nats", "score", "pixels", "images", "percent"]
Direction = Literal["higher", "lower", "neither"]

RULES = "0.2"
"""Rules by which the intervals and fits of a report are made today."""

FIRST_RULES = "0.1"
"""Those of version 0.1.0, by which its reports are read and validated."""


class Metric(BaseModel):
    """A measured number; never bare, never NaN.

    A value that is undefined is ``None`` with a ``reason``; so is an interval that cannot be given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None
    """The number itself; fractions lie in [0, 1], not in percent."""

    unit: Unit
    direction: Direction
    """Which way is better."""

    n: int
    """How many samples the number is made of."""

    ci: tuple[float, float] | None = None
    """95 % confidence interval."""

    ci_method: str | None = None
    """How the interval was made, e.g. ``wilson95`` or ``bootstrap95/1000/seed0``."""

    reason: str | None = None
    """Why ``value`` or ``ci`` is absent."""

    note: str | None = None
    """What a reader must know to use the number."""

    @model_validator(mode="after")
    def _complete(self) -> "Metric":
        numbers = [x for x in (self.value, *(self.ci or ())) if x is not None]
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError("a metric is finite, or None with a reason")
        if (self.value is None or self.ci is None) and not self.reason:
            raise ValueError("a metric without value or interval states its reason")
        if self.ci is not None and (not self.ci_method or self.ci[0] > self.ci[1]):
            raise ValueError("an interval is ordered and names its method")
        return self
