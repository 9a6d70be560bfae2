"""The report file: one pydantic model, versioned, with nothing in it that cannot be published."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from robustmix.metrics.metric import RULES, Metric, Unit
from robustmix.precision import Precision

SCHEMA_VERSION = "2.0"

JsonDict = dict[str, Any]
"""JSON-like values only; free-form because the content belongs to another part."""

Status = Literal["ok", "partial", "failed", "skipped"]


class Part(BaseModel):
    """A part of a report; fields that a newer minor version added are ignored."""

    model_config = ConfigDict(extra="ignore")


class OriginPart(Part):
    """Where something comes from that is not robustmix's own."""

    kind: str
    """What it is: suite, attack, metric, method, corruption, arch or dataset."""

    name: str
    module: str
    version: str


class Tool(Part):
    """The program that wrote the report."""

    name: str = "robustmix"
    version: str
    commit: str | None = None
    plugins: list[OriginPart] = Field(default_factory=list)
    """All that was used and is not robustmix's own."""


class Run(Part):
    """What was asked for, when, and how it ended."""

    id: str
    name: str
    status: Literal["success", "partial", "failed", "interrupted"]
    started: str
    finished: str
    wall_s: float
    argv: list[str]
    config: JsonDict
    seed: int
    fingerprint: str
    """SHA-256 over model, data and parameters; equal fingerprints measure the same thing."""

    resumed_units: int = 0
    """Units of work taken over from an interrupted run."""


class Environment(Part):
    """The stack the numbers were made on; no host name, no local paths."""

    python: str
    platform: str
    device: str
    cuda: str | None
    tf32: bool
    deterministic: bool
    threads: int
    packages: dict[str, str]


class ModelPart(Part):
    """The evaluated model."""

    source: str
    format: str
    sha256: str | None
    state_sha256: str
    arch: str
    arch_options: JsonDict
    head: str | None
    weights: str | None
    num_classes: int
    input_size: tuple[int, int, int]
    normalisation: dict[str, list[float]]
    resize: list[int] | None
    token_patch: list[float] | None = None
    """Height and width of a transformer's patches in pixels of the images it is given."""

    class_map_sha256: str | None
    precision: Precision = "fp32"
    """What the network computed in."""

    params: int
    trusted_pickle: bool
    training: JsonDict
    checks: JsonDict


class FilePart(Part):
    """A data file that was read."""

    name: str
    sha256: str
    verified: bool


class ShardPart(Part):
    """Which of several shares of one evaluation a report is."""

    index: int = Field(ge=1)
    """From 1 to ``count``."""

    count: int = Field(ge=1)
    suites: list[str]
    """Keys of all suites of the evaluation in their order, those of other shards too."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "ShardPart":
        if self.index > self.count:
            raise ValueError("a shard is one of as many as there are")
        return self


class DatasetPart(Part):
    """The evaluated images."""

    name: str
    split: str
    n: int
    n_total: int
    """Size of the whole split; larger than ``n`` for a subset."""

    subset: JsonDict | None
    """How the subset was chosen, None for the whole split."""

    order_sha256: str
    class_names_sha256: str
    transform: str
    layout: str = ""
    """Arrangement of files that a set read by name was found in; empty where there is one."""

    partial_of: int | None = None
    """Images of the whole official split, of which ``n_total`` were here; None: all were."""

    files: list[FilePart]
    shard: ShardPart | None = None
    """Of which share of the images the suites are; None: of all. ``clean`` is always of all."""

    pixels_sha256: str | None = None
    """SHA-256 over what is stored of the evaluated images in their order (bytes of files, else
    pixels), of large sets over a probe of it; None in reports of older versions."""


class Protocol(Part):
    """The parameters of every suite and the hash over them."""

    presets: list[str]
    """The named protocols that were asked for; none if suites were asked for by name."""

    hash: str
    nonstandard: bool
    nonstandard_suites: list[str] = Field(default_factory=list)
    """Suites that repeat a published tool, faults included, to be compared with its tables alone.
    """

    params: dict[str, JsonDict]
    limits: dict[str, int] = Field(default_factory=dict)
    """Number of samples of each suite that covers only a part of them."""


class ConditionPart(Part):
    """The numbers of one condition: a corruption at a severity, a radius, a mean over some."""

    name: str
    """What stands in the brackets of a metric path: ``fog/3``, ``groups:noise``, ``0.25``."""

    metrics: dict[str, Metric]


class CurvePart(Part):
    """Conditions along an axis."""

    name: str
    """Unique in the suite; ``random`` or ``salient`` of occlusion."""

    x_label: str
    x: list[float]
    """Places, rising."""

    at: list[str]
    """The condition at each place."""

    y: str = "acc"
    """The metric that is drawn."""

    dotted: str | None = None
    """A second metric, drawn dotted in the same colour."""

    scale: Literal["linear", "log2", "symlog"] = "linear"
    """log2: ``x`` are logarithms to the base 2; symlog: the axis is logarithmic, but for 0."""

    ticks: list[str] = Field(default_factory=list)
    """Labels of the places, where their numbers do not say what they are."""

    label: str = ""
    """How the curve is called in a legend, where that is not its name."""

    panel: str = ""
    """Curves of one panel share their axes."""


class TablePart(Part):
    """Rows of values that are no metrics: bins of a reliability diagram, members of an ensemble."""

    name: str
    caption: str
    columns: list[str]
    rows: list[list[JsonValue]]
    units: dict[str, Unit] = Field(default_factory=dict)
    """Units of the columns whose numbers are shown as those of metrics are."""

    @model_validator(mode="after")
    def _complete(self) -> "TablePart":
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a table has as many values in each row as it has columns")
        return self


class CheckPart(Part):
    """One check of a verdict."""

    id: str
    """``G1`` to ``G16`` of the masking checks."""

    title: str
    status: Literal["pass", "warn", "fail", "skip"]
    value: float | None
    """What was measured; more is worse. None if the check was skipped."""

    warn: float | None
    """The check warns above this value."""

    fail: float | None
    """The check fails above this value."""

    n: int
    """Number of samples it is made of."""

    text: str
    """What was found, in words."""


class VerdictPart(Part):
    """What a suite says in words of the numbers, its own or others'."""

    title: str
    """What is judged, e.g. ``masking``."""

    verdict: str
    """In the words of the suite: ``clean``, ``masked``, ..."""

    reason: str
    n: int
    """Number of samples it rests on."""

    checks: list[CheckPart] = Field(default_factory=list)


class Shown(Part):
    """What a suite wants to be seen of it; the suite says it, all tables and pages go by it."""

    headline: list[str] = Field(default_factory=list)
    """The few numbers of a summary, in order: ``top1``, or ``acc_mean[groups:noise]``."""

    compared: list[str] = Field(default_factory=list)
    """What a comparison shows unless asked otherwise."""

    gated: list[str] = Field(default_factory=list)
    """The accuracies that a gate watches unless told otherwise."""

    own_choice: list[str] = Field(default_factory=list)
    """Numbers that hang on something each model chooses itself, such as the order in which its
    patches are hidden, so that they compare no two models: ``auc_mean_salient_8x8``,
    ``acc[salient:0.25]``."""

    note: str = ""
    """A few words for the last column of the summary."""

    section: str = ""
    """Heading of the page's section that it stands in; the suite's name if empty."""

    drawings: list[str] = Field(default_factory=list)
    """What is drawn on the page, names of ``robustmix.pages.drawings``; its curves if empty."""


class SuitePart(Part):
    """What a suite reports, alike for all suites."""

    kind: str
    """The suite's class by name; all attacks are of the kind ``attack``."""

    status: Status
    reason: str | None = None
    params: JsonDict = Field(default_factory=dict)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    """The numbers of the whole suite."""

    conditions: list[ConditionPart] = Field(default_factory=list)
    curves: list[CurvePart] = Field(default_factory=list)
    tables: list[TablePart] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    """What to warn of, each beginning with its code, e.g. ``W-PAPER-ECE: ...``."""

    verdicts: list[VerdictPart] = Field(default_factory=list)
    shown: Shown = Field(default_factory=Shown)
    details: JsonDict = Field(default_factory=dict)
    """What this suite alone has; its file holds the model of it."""

    timing: dict[str, float] = Field(default_factory=dict)
    origins: list[OriginPart] = Field(default_factory=list)
    """The foreign suite, attack and metrics that made it; empty for robustmix's own."""

    columns: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """Of a foreign suite: metric path -> condition and column whose mean it is, so that its reports
    can be compared where the suite is not installed."""

    @model_validator(mode="after")
    def _named_apart(self) -> "SuitePart":
        if len({condition.name for condition in self.conditions}) < len(self.conditions):
            raise ValueError("each condition has a name of its own")
        return self

    @model_validator(mode="after")
    def _drawable(self) -> "SuitePart":
        """Refuse curves whose places have no numbers: whoever draws them need not look."""
        known = {condition.name: condition.metrics for condition in self.conditions}
        for curve in self.curves:
            wanted = {curve.y} | ({curve.dotted} if curve.dotted else set())
            places = [known.get(name, {}).keys() for name in curve.at]
            if not places or len(places) != len(curve.x) or any(wanted - at for at in places):
                raise ValueError("a curve has places, and its metrics at each")
            if curve.ticks and len(curve.ticks) != len(curve.x):
                raise ValueError("a curve has a label for each place or none")
        return self

    def condition(self, name: str) -> dict[str, Metric]:
        """Give the numbers of a condition.

        Raises:
            KeyError: there is no such condition.
        """
        for condition in self.conditions:
            if condition.name == name:
                return condition.metrics
        raise KeyError(name)

    def curve(self, name: str) -> CurvePart:
        """Give a curve by its name.

        Raises:
            KeyError: there is no such curve.
        """
        for curve in self.curves:
            if curve.name == name:
                return curve
        raise KeyError(name)

    def along(self, curve: CurvePart, metric: str = "") -> list[Metric]:
        """Give a metric (the curve's ``y`` if empty) at every place of a curve."""
        found = {condition.name: condition.metrics for condition in self.conditions}
        return [found[name][metric or curve.y] for name in curve.at]

    def table(self, name: str) -> TablePart | None:
        """Give a table by its name, None if there is none."""
        return next((table for table in self.tables if table.name == name), None)

    def number(self, path: str) -> Metric | None:
        """Give ``top1`` or ``acc[fog/3]``, None if there is no such number."""
        name, _, condition = path.removesuffix("]").partition("[")
        try:
            return (self.condition(condition) if condition else self.metrics).get(name)
        except KeyError:
            return None


class Warn(Part):
    """Something a reader must know before using a number."""

    code: str
    suite: str | None = None
    message: str


class Artifact(Part):
    """A file that belongs to the report; its path is relative to the report."""

    path: str
    kind: str
    sha256: str
    rows: int


class ReportModel(Part):
    """A whole report."""

    schema_version: str = SCHEMA_VERSION
    kind: Literal["robustmix.report"] = "robustmix.report"
    tool: Tool
    run: Run
    environment: Environment
    model: ModelPart
    dataset: DatasetPart
    protocol: Protocol
    rules: str = RULES
    """Rules by which intervals and fits were made: 0.1 in reports of version 0.1.0."""

    suites: dict[str, SuitePart]
    warnings: list[Warn] = Field(default_factory=list)
    errors: list[Warn] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(default_factory=list)
    timing: dict[str, float] = Field(default_factory=dict)

    @field_validator("suites")
    @classmethod
    def _known_form(cls, suites: dict[str, SuitePart]) -> dict[str, SuitePart]:
        for key in suites:
            if not re.fullmatch(r"[A-Za-z][\w:.-]{0,60}(@[\w.-]{1,40})?", key):
                raise ValueError("a suite has a name such as fgsm or fgsm@paper-adautomix")
        return suites

    def ordered_suites(self) -> dict[str, SuitePart]:
        """Give the suites in the order they ran in; the keys of a file carry no order."""
        ran = self.run.config.get("suites")
        rank = {str(key): i for i, key in enumerate(ran if isinstance(ran, list) else [])}
        keys = sorted(self.suites, key=lambda key: (rank.get(key, len(rank)), key))
        return {key: self.suites[key] for key in keys}
