"""The report file: one pydantic model, versioned, with nothing in it that cannot be published."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from robustmix.report.metric import Metric

SCHEMA_VERSION = "1.0"

SUITE_ORDER = ("clean", "calibration", "corruption", "fgsm", "occlusion")
"""How suites are run and shown; the keys of a file are sorted and carry no order."""

JsonDict = dict[str, Any]
"""JSON-like values only; free-form because the content belongs to another part."""

Status = Literal["ok", "partial", "failed", "skipped"]


class Part(BaseModel):
    """A part of a report; fields that a newer minor version added are ignored."""

    model_config = ConfigDict(extra="ignore")


class Tool(Part):
    """The program that wrote the report."""

    name: str = "robustmix"
    version: str
    commit: str | None = None


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
    class_map_sha256: str | None
    params: int
    trusted_pickle: bool
    training: JsonDict
    checks: JsonDict


class FilePart(Part):
    """A data file that was read."""

    name: str
    sha256: str
    verified: bool


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
    files: list[FilePart]


class Protocol(Part):
    """The parameters of every suite and the hash over them."""

    presets: list[str]
    hash: str
    nonstandard: bool
    params: dict[str, JsonDict]
    limits: dict[str, int] = Field(default_factory=dict)
    """Number of samples of each suite that covers only a part of them."""


class SuitePart(Part):
    """What every suite reports."""

    status: Status
    reason: str | None = None
    params: JsonDict = Field(default_factory=dict)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    timing: dict[str, float] = Field(default_factory=dict)


class CleanPart(SuitePart):
    """Suite ``clean``."""

    kind: Literal["clean"] = "clean"
    per_class: list[JsonDict] = Field(default_factory=list)


class CalibrationPart(SuitePart):
    """Suite ``calibration``."""

    kind: Literal["calibration"] = "calibration"
    bins_10: list[JsonDict] = Field(default_factory=list)
    bins_15: list[JsonDict] = Field(default_factory=list)
    temperature: JsonDict | None = None


class ConditionPart(Part):
    """One corruption at one severity."""

    corruption: str
    severity: int
    metrics: dict[str, Metric]


class CorruptionPart(SuitePart):
    """Suite ``corruption``."""

    kind: Literal["corruption"] = "corruption"
    source: Literal["official", "generated"] | None = None
    profile: str | None = None
    generator_version: str | None = None
    corruptions: list[str] = Field(default_factory=list)
    severities: list[int] = Field(default_factory=list)
    approximate: list[str] = Field(default_factory=list)
    """Corruptions whose images are a substitute's: frost without the benchmark's photographs."""
    frost: Literal["procedural", "photographs"] | None = None
    complete: bool = False
    paired: bool = True
    conditions: list[ConditionPart] = Field(default_factory=list)
    groups: dict[str, Metric] = Field(default_factory=dict)
    by_severity: dict[str, Metric] = Field(default_factory=dict)
    by_corruption: dict[str, Metric] = Field(default_factory=dict)
    worst: JsonDict | None = None
    calibration: JsonDict | None = None
    """The temperature of the clean images, and per severity the spread of ECE and gap over the
    corruptions, before and after scaling with it."""


class PointPart(Part):
    """One point of a curve."""

    x: float
    metrics: dict[str, Metric]


class AttackPart(SuitePart):
    """Suite ``fgsm`` and the attacks after it."""

    kind: Literal["attack"] = "attack"
    norm: str = "linf"
    eps: float = 0.0
    steps: int = 1
    restarts: int = 1
    space: str = "model_input"
    loss: str = "ce"
    targeted: bool = False
    sweep: list[PointPart] = Field(default_factory=list)
    nonmonotone: bool = False
    """Whether accuracy rises anywhere along eps; a single step may overshoot, so it may."""


class OcclusionPart(SuitePart):
    """Suite ``occlusion``."""

    kind: Literal["occlusion"] = "occlusion"
    grid: str = ""
    patch: tuple[int, int] = (0, 0)
    fill: str = "mean"
    mode: str = "random"
    trials: int = 0
    mask_scope: str = "sample"
    points: list[PointPart] = Field(default_factory=list)


SuiteUnion = Annotated[
    CleanPart | CalibrationPart | CorruptionPart | AttackPart | OcclusionPart,
    Field(discriminator="kind"),
]


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
    suites: dict[str, SuiteUnion]
    warnings: list[Warn] = Field(default_factory=list)
    errors: list[Warn] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(default_factory=list)
    timing: dict[str, float] = Field(default_factory=dict)

    def ordered_suites(self) -> dict[str, SuiteUnion]:
        """Return the suites in the order they are run and shown; unknown ones come last."""
        rank = {name: i for i, name in enumerate(SUITE_ORDER)}
        names = sorted(self.suites, key=lambda name: (rank.get(name.partition("@")[0], 99), name))
        return {name: self.suites[name] for name in names}
