"""The documents that comparisons and checks leave: versioned, publishable JSON."""

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

import robustmix
from robustmix.comparison.open_report import Source
from robustmix.metrics.metric import Direction, Unit
from robustmix.report.text import plain

if TYPE_CHECKING:
    import pandas as pd

DOCUMENT_VERSION = "1.1"

Verdict = Literal["better", "worse", "no evidence", "inconclusive", "not tested"]
Outcome = Literal["pass", "fail", "inconclusive", "incomplete", "incompatible"]


class Frozen(BaseModel):
    """A part of a document; fields that a newer minor version added are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ReportRef(Frozen):
    """One of the reports that were compared."""

    name: str
    sha256: str
    """Of the report file."""

    run_id: str
    model: str
    state_sha256: str
    dataset: str
    n: int
    presets: list[str]

    @classmethod
    def of(cls, source: Source) -> "ReportRef":
        """Refer to a report."""
        content = source.content
        return cls(
            name=plain(source.label),
            sha256=source.sha256,
            run_id=plain(content.run.id, 64),
            model=plain(content.model.source),
            state_sha256=plain(content.model.state_sha256, 64),
            dataset=plain(content.dataset.name),
            n=content.dataset.n,
            presets=[plain(name) for name in content.protocol.presets],
        )


class Settings(Frozen):
    """How the statistics were made."""

    alpha: float
    """Level of tests and intervals, after adjustment."""

    correction: Literal["holm", "bh"]
    replicates: int
    """Bootstrap resamples of metrics that are means over images."""

    function_replicates: int
    """Of metrics that are not: calibration errors, ratios, areas over a start."""

    seed: int
    power: float
    """Power that minimal detectable differences are for."""


class MetricRow(Frozen):
    """One metric of both sides. Differences are B - A, in the metric's own unit."""

    path: str
    suite: str
    unit: Unit
    direction: Direction
    n: int
    a: float | None
    b: float | None
    delta: float | None = None
    ci: tuple[float, float] | None = None
    ci_method: str | None = None
    p: float | None = None
    """Two-sided."""

    p_method: str | None = None
    p_adjusted: float | None = None
    """Over all tested metrics of the call."""

    only_a_right: int | None = None
    """Of metrics that are right or wrong on each image."""

    only_b_right: int | None = None
    p_exact: float | None = None
    """McNemar's exact test, beside the mid-p value."""

    p_sign_flip: float | None = None
    """A second opinion on metrics with more than two values an image."""

    mdd: float | None = None
    """Smallest true difference that the test finds with the stated power, before adjustment."""

    verdict: Verdict = "not tested"
    reason: str | None = None
    """Why there is no test, or no value."""


class VerdictRow(Frozen):
    """What a suite says in words on both sides."""

    suite: str
    title: str
    """What is judged, e.g. ``masking``."""

    a: str
    """As people read it; of several runs every word that occurs."""

    b: str


class Comparison(Frozen):
    """Side A against side B: one report each, or several runs each."""

    a: list[ReportRef]
    b: list[ReportRef]
    metrics: list[MetricRow]
    verdicts: list[VerdictRow] = Field(default_factory=list)
    """Of the suites that are compared."""

    warnings: list[str]


class ComparisonDocument(Frozen):
    """What ``robustmix compare`` found."""

    schema_version: str = DOCUMENT_VERSION
    kind: Literal["robustmix.comparison"] = "robustmix.comparison"
    tool: str = f"robustmix {robustmix.__version__}"
    settings: Settings
    margin: float
    """Difference of a fraction that is large enough to matter, for the word *inconclusive*."""

    comparisons: list[Comparison]

    def to_frame(self) -> "pd.DataFrame":
        """Tabulate every metric: the names of both sides, then the fields of ``MetricRow``."""
        import pandas as pd

        return pd.DataFrame([
            {"name_a": _names(one.a), "name_b": _names(one.b), **row.model_dump()}
            for one in self.comparisons
            for row in one.metrics
        ])  # fmt: skip

    def to_json(self) -> str:
        """Write the document as text."""
        return document_text(self)


class RuleResult(Frozen):
    """What became of one rule."""

    rule: str
    """The rule in words."""

    kind: str
    path: str
    suite: str
    outcome: Outcome
    message: str
    unit: Unit | None = None
    direction: Direction | None = None
    n: int | None = None
    value: float | None = None
    baseline: float | None = None
    delta: float | None = None
    ci: tuple[float, float] | None = None
    ci_method: str | None = None
    p: float | None = None
    """Against: the candidate is not worse (than the margin allows)."""

    p_adjusted: float | None = None
    limit: float | None = None
    """The limit, or the largest loss that the rule allows, in the metric's unit."""

    mdd: float | None = None
    seconds: float = 0.0
    """What evaluating the suite took, shared among its rules."""


class CheckDocument(Frozen):
    """What ``robustmix check`` found."""

    schema_version: str = DOCUMENT_VERSION
    kind: Literal["robustmix.check"] = "robustmix.check"
    tool: str = f"robustmix {robustmix.__version__}"
    verdict: Outcome
    exit_code: int
    strict: bool
    candidate: ReportRef
    baseline: ReportRef | None
    settings: Settings
    default_rules: bool = False
    """Whether no rules were given, so that each accuracy of the baseline was tested."""

    rules: list[RuleResult]
    warnings: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    """Which suites no default rule watches, and why."""

    def to_frame(self) -> "pd.DataFrame":
        """Tabulate every rule: the fields of ``RuleResult``."""
        import pandas as pd

        return pd.DataFrame([row.model_dump() for row in self.rules])

    def to_json(self) -> str:
        """Write the document as text."""
        return document_text(self)


def _names(references: list[ReportRef]) -> str:
    return ", ".join(reference.name for reference in references)


def document_text(document: BaseModel) -> str:
    """Write a document as JSON: sorted keys, two spaces, no NaN."""
    value = document.model_dump(mode="json")
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
