"""The report file: one pydantic model, versioned, with nothing in it that cannot be published."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from robustmix.metrics.metric import Metric

SCHEMA_VERSION = "1.0"

SUITE_ORDER = (
    *("clean", "calibration", "corruption"),
    *("masking", "fgsm", "pgd", "autoattack"),
    *("occlusion", "shuffle"),
)
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
    token_patch: list[float] | None = None
    """Height and width of a transformer's patches in pixels of the images it is given."""

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
    """The named protocols that were asked for; none if suites were asked for by name."""

    hash: str
    nonstandard: bool
    nonstandard_suites: list[str] = Field(default_factory=list)
    """Suites that repeat a published tool, faults included, to be compared with its tables alone.
    """

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
    confusion: list[tuple[int, int, int]] | None = None
    """Label, prediction and count of every pair that occurs, if it was asked for."""


class CalibrationPart(SuitePart):
    """Suite ``calibration``."""

    kind: Literal["calibration"] = "calibration"
    bins_10: list[JsonDict] = Field(default_factory=list)
    bins_15: list[JsonDict] = Field(default_factory=list)
    bins: dict[str, list[JsonDict]] = Field(default_factory=dict)
    """Reliability tables of the other bin counts that were asked for."""
    temperature: JsonDict | None = None
    recalibrated: dict[str, JsonDict] = Field(default_factory=dict)
    """Experimental recalibrators that were asked for, each scored by two folds."""
    notes: list[str] = Field(default_factory=list)
    """What to warn of, each beginning with its code, e.g. ``W-PAPER-ECE: ...``."""


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


class CheckPart(Part):
    """One check of whether the model merely hides its gradients from attacks."""

    id: str
    """``G1`` to ``G16``."""

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


class MaskingVerdict(Part):
    """Whether the attacks' numbers can be believed."""

    verdict: Literal["clean", "suspicious", "masked", "not_assessable"]
    reason: str
    n: int
    """Number of checked samples, all classified correctly without attack."""

    checks: list[CheckPart] = Field(default_factory=list)


class MaskingPart(SuitePart):
    """Suite ``masking``."""

    kind: Literal["masking"] = "masking"
    norm: str = "linf"
    eps: float = 0.0
    masking: MaskingVerdict | None = None
    forwards: int = 0
    backwards: int = 0


class MemberPart(Part):
    """One attack of an ensemble."""

    name: str
    params: JsonDict
    tried: int
    """Number of samples it attacked: those that no member before it had broken."""

    broken: int
    """How many of these it broke."""

    robust_acc: Metric
    """Of all samples, after this member."""

    forwards: int
    backwards: int


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

    attack: str = ""
    """What the attack is called where that is not the suite's name."""

    step_size: float | None = None
    random_start: bool = False
    members: list[MemberPart] = Field(default_factory=list)
    """The attacks of an ensemble, in order."""

    masking: MaskingVerdict | None = None
    """Of suite ``masking``; None if it did not run."""

    forwards: int = 0
    """Forward passes of single images that the suite's rows cost."""

    backwards: int = 0


class OcclusionPoint(PointPart):
    """One point of an occlusion curve; ``x`` is the share of patches that is really hidden."""

    ratio: float
    """The share that was asked for."""

    masked: int
    """Hidden patches."""


class OcclusionPart(SuitePart):
    """Suite ``occlusion``."""

    kind: Literal["occlusion"] = "occlusion"
    grid: str = ""
    patch: tuple[int, int] = (0, 0)
    """Height and width of a patch in pixels."""

    aligned: bool | None = None
    """Whether patches are made of whole tokens of a transformer; None for other networks."""

    fill: str = "mean"
    modes: list[str] = Field(default_factory=list)
    trials: int = 0
    mask_scope: str = "sample"
    saliency: JsonDict | None = None
    """Source, SHA-256 of its file and explained class; None if no mode needs it."""

    curve_kind: Literal["masked-share"] = "masked-share"
    """What the x of the curves is."""

    curves: dict[str, list[OcclusionPoint]] = Field(default_factory=dict)
    """Mode to points."""

    @property
    def points(self) -> list[OcclusionPoint]:
        """The curve that stands for the suite: random masks, else the first mode."""
        first = self.modes[0] if self.modes else ""
        return self.curves.get("random", self.curves.get(first, []))


class ShufflePoint(PointPart):
    """One point of a shuffle curve; ``x`` is the number of pieces."""

    pieces: int
    grid: str


class ShufflePart(SuitePart):
    """Suite ``shuffle``."""

    kind: Literal["shuffle"] = "shuffle"
    trials: int = 0
    mask_scope: str = "sample"
    curve_kind: Literal["log2-pieces"] = "log2-pieces"
    """What areas are taken over."""

    points: list[ShufflePoint] = Field(default_factory=list)


SuiteUnion = Annotated[
    CleanPart
    | CalibrationPart
    | CorruptionPart
    | MaskingPart
    | AttackPart
    | OcclusionPart
    | ShufflePart,
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

    @field_validator("suites")
    @classmethod
    def _known_form(cls, suites: dict[str, SuiteUnion]) -> dict[str, SuiteUnion]:
        for key in suites:
            if not re.fullmatch(r"[A-Za-z][\w:.-]{0,60}(@[\w.-]{1,40})?", key):
                raise ValueError("a suite has a name such as fgsm or fgsm@paper-adautomix")
        return suites

    def ordered_suites(self) -> dict[str, SuiteUnion]:
        """Return the suites in the order they are run and shown; unknown ones come last."""
        rank = {name: i for i, name in enumerate(SUITE_ORDER)}
        names = sorted(self.suites, key=lambda name: (rank.get(name.partition("@")[0], 99), name))
        return {name: self.suites[name] for name in names}
