"""Reports of schema 1.x, in which every kind of suite had a form of its own, read as of today's.

Nothing is measured here: every number is taken over. What is new in schema 2 is what each suite
says of itself (``shown``, curves, names of conditions), written down here as the suites of today
say it, so that an old report looks, compares and gates as a new one of the same rows would.
"""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from robustmix.metrics.metric import FIRST_RULES, Metric, Unit
from robustmix.report.schema import (
    CheckPart,
    ConditionPart,
    CurvePart,
    JsonDict,
    Part,
    Shown,
    Status,
    SuitePart,
    TablePart,
    VerdictPart,
)
from robustmix.report.text import sparkline

ORDER = (
    *("clean", "calibration", "corruption"),
    *("masking", "fgsm", "pgd", "autoattack"),
    *("occlusion", "shuffle"),
)
"""How suites were shown; others came last."""

MODEL_SALIENCY = ("gradxinput", "smoothgrad", "gradcam", "rollout")
"""Sources that differ from model to model, so that curves by them cannot be compared."""

Metrics = dict[str, Metric]
Added = dict[str, Any]
"""Fields of a part beyond those that all suites had."""


class Suite1(Part):
    """What every suite reported."""

    status: Status
    reason: str | None = None
    params: JsonDict = Field(default_factory=dict)
    metrics: Metrics = Field(default_factory=dict)
    timing: dict[str, float] = Field(default_factory=dict)


class Clean1(Suite1):
    """Suite ``clean``."""

    kind: Literal["clean"] = "clean"
    per_class: list[JsonDict] = Field(default_factory=list)
    confusion: list[tuple[int, int, int]] | None = None


class Calibration1(Suite1):
    """Suite ``calibration``."""

    kind: Literal["calibration"] = "calibration"
    bins_10: list[JsonDict] = Field(default_factory=list)
    bins_15: list[JsonDict] = Field(default_factory=list)
    bins: dict[str, list[JsonDict]] = Field(default_factory=dict)
    temperature: JsonDict | None = None
    recalibrated: dict[str, JsonDict] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class Condition1(Part):
    """One corruption at one severity."""

    corruption: str
    severity: int
    metrics: Metrics


class Corruption1(Suite1):
    """Suite ``corruption``."""

    kind: Literal["corruption"] = "corruption"
    source: Literal["official", "generated"] | None = None
    profile: str | None = None
    generator_version: str | None = None
    corruptions: list[str] = Field(default_factory=list)
    severities: list[int] = Field(default_factory=list)
    approximate: list[str] = Field(default_factory=list)
    frost: Literal["procedural", "photographs"] | None = None
    complete: bool = False
    paired: bool = True
    conditions: list[Condition1] = Field(default_factory=list)
    groups: Metrics = Field(default_factory=dict)
    by_severity: Metrics = Field(default_factory=dict)
    by_corruption: Metrics = Field(default_factory=dict)
    worst: JsonDict | None = None
    calibration: JsonDict | None = None


class Verdict1(Part):
    """Whether the attacks' numbers can be believed."""

    verdict: Literal["clean", "suspicious", "masked", "not_assessable"]
    reason: str
    n: int
    checks: list[CheckPart] = Field(default_factory=list)

    def verdicts(self) -> list[VerdictPart]:
        """Say it as a suite's part has it."""
        return [
            VerdictPart(
                title="masking",
                verdict=self.verdict,
                reason=self.reason,
                n=self.n,
                checks=self.checks,
            )
        ]


class Masking1(Suite1):
    """Suite ``masking``."""

    kind: Literal["masking"] = "masking"
    norm: str = "linf"
    eps: float = 0.0
    masking: Verdict1 | None = None
    forwards: int = 0
    backwards: int = 0


class Point1(Part):
    """One point of a curve; of a shuffle curve the fields after the numbers are known too."""

    x: float
    metrics: Metrics
    pieces: int = Field(default=1, ge=1)
    grid: str = ""


class Member1(Part):
    """One attack of an ensemble."""

    name: str
    params: JsonDict
    tried: int
    broken: int
    robust_acc: Metric
    forwards: int
    backwards: int


class Attack1(Suite1):
    """Suite ``fgsm`` and the attacks after it."""

    kind: Literal["attack"] = "attack"
    norm: str = "linf"
    eps: float = 0.0
    steps: int = 1
    restarts: int = 1
    space: str = "model_input"
    loss: str = "ce"
    targeted: bool = False
    sweep: list[Point1] = Field(default_factory=list)
    nonmonotone: bool = False
    attack: str = ""
    step_size: float | None = None
    random_start: bool = False
    members: list[Member1] = Field(default_factory=list)
    masking: Verdict1 | None = None
    forwards: int = 0
    backwards: int = 0


class Occlusion1(Suite1):
    """Suite ``occlusion``."""

    kind: Literal["occlusion"] = "occlusion"
    grid: str = ""
    patch: tuple[int, int] = (0, 0)
    aligned: bool | None = None
    fill: str = "mean"
    modes: list[str] = Field(default_factory=list)
    trials: int = 0
    mask_scope: str = "sample"
    saliency: JsonDict | None = None
    curve_kind: Literal["masked-share"] = "masked-share"
    curves: dict[str, list[Point1]] = Field(default_factory=dict)


class Shuffle1(Suite1):
    """Suite ``shuffle``."""

    kind: Literal["shuffle"] = "shuffle"
    points: list[Point1] = Field(default_factory=list)


AnySuite1 = Annotated[
    Clean1 | Calibration1 | Corruption1 | Masking1 | Attack1 | Occlusion1 | Shuffle1,
    Field(discriminator="kind"),
]


class Suites1(Part):
    """The part of a report of schema 1.x that differs from today's."""

    suites: dict[str, AnySuite1]


def upgraded(value: JsonDict) -> JsonDict:
    """Give the JSON of a report of schema 1.x as schema 2 has it.

    Raises:
        ValidationError: it breaks the schema 1.x; the rest of it is left to that of today.
    """
    found = Suites1.model_validate(value).suites
    suites = {key: _upgraded(part).model_dump(mode="json") for key, part in found.items()}
    run = _run(value.get("run"), suites)
    return {**value, "schema_version": "2.0", "rules": FIRST_RULES, "run": run, "suites": suites}


def _run(run: Any, suites: Iterable[str]) -> Any:
    """Write down in which order the suites are shown, which a file's sorted keys do not say."""
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        return run  # the schema of today will say what is wrong
    rank = {name: place for place, name in enumerate(ORDER)}
    order = sorted(suites, key=lambda key: (rank.get(key.partition("@")[0], len(rank)), key))
    return {**run, "config": {**run["config"], "suites": order}}


def _upgraded(part: AnySuite1) -> SuitePart:
    made = SuitePart(
        kind=part.kind,
        status=part.status,
        reason=part.reason,
        params=part.params,
        metrics=part.metrics,
        timing=part.timing,
    )
    return made.model_copy(update=_ADDED[part.kind](part)) if part.status == "ok" else made


def _clean(part: Clean1) -> Added:
    return {
        "details": _kept(part, "per_class", "confusion"),
        "shown": _shown(
            part,
            headline=("top1", "top5", "nll"),
            compared=("top1", "top5", "nll", "brier_sum"),
            gated=("top1",),
        ),
    }


def _calibration(part: Calibration1) -> Added:
    carried = part.params.get("carried")
    known = isinstance(carried, int | float)
    fitted = f"calibrated, T = {carried:.3f}" if known else "before scaling"
    return {
        "notes": part.notes,
        "details": _kept(part, "bins_10", "bins_15", "bins", "temperature", "recalibrated"),
        "shown": _shown(
            part,
            headline=("ece_paper_tool", "ece_15", "ece_10", "gap"),
            compared=("ece_15", "ece_10", "aurc"),
            note=fitted if part.temperature else "",
            section="Calibration",
            drawings=["reliability"],
        ),
    }


def _corruption(part: Corruption1) -> Added:
    means = [name for name in sorted(part.metrics) if name.startswith("acc_mean")]
    eces = [name for name in sorted(part.metrics) if name.startswith("ece_15_mean_")]
    note = f"{part.source}, {len(part.corruptions)} corruptions"
    if part.approximate:
        note += f", {' and '.join(part.approximate)} approximate"
    # All 19 hold the 15: gating both would test the same images twice.
    gated = sorted(means, key=lambda name: ("all19" not in name, "main15" not in name, name))
    each = [(f"{one.corruption}/{one.severity}", one.metrics) for one in part.conditions]
    for kind, numbers in (
        ("groups", part.groups),
        ("by_severity", part.by_severity),
        ("by_corruption", part.by_corruption),
    ):
        each += [(f"{kind}:{name}", {"acc_mean": metric}) for name, metric in numbers.items()]
    kept = (
        "source", "profile", "generator_version", "corruptions", "severities", "approximate",
        "frost", "complete", "paired", "worst", "calibration",
    )  # fmt: skip
    return {
        "conditions": _conditions(each),
        "details": _kept(part, *kept),
        "shown": Shown(
            headline=means + [f"acc_mean[groups:{group}]" for group in part.groups],
            compared=means + [name for name in eces if "scaled" not in name],
            gated=gated[:1],
            note=note,
            section="Corruptions",
            drawings=["heatmap"],
        ),
    }


def _masking(part: Masking1) -> Added:
    return {
        "verdicts": [] if part.masking is None else part.masking.verdicts(),
        "details": _kept(part, "norm", "eps", "forwards", "backwards"),
        "shown": Shown(note=f"{part.norm}, eps {part.params.get('eps')}", section="Attacks"),
    }


def _attack(part: Attack1) -> Added:
    kept = (
        "norm", "eps", "steps", "restarts", "space", "loss", "targeted", "nonmonotone", "attack",
        "step_size", "random_start", "members", "forwards", "backwards",
    )  # fmt: skip
    points = [(f"{point.x:.6g}", point.metrics) for point in part.sweep]
    curve = CurvePart(
        name="sweep",
        x_label=f"eps in {part.norm}",
        x=[point.x for point in part.sweep],
        at=[name for name, _ in points],
        y="robust_acc",
        scale="symlog",
        ticks=[_radius(point.x) for point in part.sweep],
        panel=part.norm,
    )
    return {
        "conditions": _conditions(points),
        "curves": [curve] if points else [],
        "tables": _members(part.members),
        "verdicts": [] if part.masking is None else part.masking.verdicts(),
        "details": _kept(part, *kept),
        "shown": _shown(
            part,
            headline=("robust_acc", "error", "error_clamp_only", "asr", "auc_eps_16"),
            compared=("robust_acc", "asr", "auc_eps_16"),
            gated=("robust_acc",),
            note=f"{part.norm}, eps {part.params.get('eps')}",
            section="Attacks",
            drawings=["attack-curves"],
        ),
    }


def _radius(eps: float) -> str:
    """Name a radius as conditions do: ``8/255`` where that is exact, else the decimal."""
    levels = round(255 * eps)
    return f"{levels}/255" if levels / 255 == eps else f"{eps:g}"


def _members(members: list[Member1]) -> list[TablePart]:
    if not members:
        return []
    columns = ["member", "attacked", "broken", "robust_acc", "low", "high", "n"]
    rows = [
        [
            m.name,
            m.tried,
            m.broken,
            m.robust_acc.value,
            *(m.robust_acc.ci or (None, None)),
            m.robust_acc.n,
        ]
        for m in members
    ]
    caption = "Robust accuracy after each member of the ensemble"
    units: dict[str, Unit] = dict.fromkeys(("robust_acc", "low", "high"), "fraction")
    return [TablePart(name="members", caption=caption, columns=columns, rows=rows, units=units)]


def _occlusion(part: Occlusion1) -> Added:
    modes = [mode for mode in part.modes if mode in part.curves]
    # The first curve stands for the suite, so the names of its points bear no mode.
    names = {
        mode: [f"{'' if mode == modes[0] else f'{mode}:'}{p.x:.6g}" for p in part.curves[mode]]
        for mode in modes
    }
    each = [
        (name, point.metrics)
        for mode in sorted(modes)
        for name, point in zip(names[mode], part.curves[mode], strict=True)
    ]
    curves = [
        CurvePart(
            name=mode,
            x_label="share of hidden patches",
            x=[point.x for point in part.curves[mode]],
            at=names[mode],
            dotted="confidence",
            label=f"{mode}, area {100 * _area(part, mode):.1f} %",
        )
        for mode in modes
    ]
    kept = (
        "grid", "patch", "aligned", "fill", "modes", "trials", "mask_scope", "saliency",
        "curve_kind",
    )  # fmt: skip
    first = part.curves[modes[0]] if modes else []
    return {
        "conditions": _conditions(each),
        "curves": curves,
        "details": _kept(part, *kept),
        "shown": _shown_curves(part, drawing="occlusion-curves").model_copy(
            update={
                "note": sparkline([_value(point.metrics.get("acc")) for point in first]),
                "own_choice": _own_choice(part, dict(each), names),
            }
        ),
    }


def _own_choice(
    part: Occlusion1, each: dict[str, Metrics], names: dict[str, list[str]]
) -> list[str]:
    if (part.saliency or {}).get("source") not in MODEL_SALIENCY:
        return []
    ranked = [mode for mode in ("salient", "nonsalient") if mode in names]
    areas = [name for name in sorted(part.metrics) if any(f"_{mode}_" in name for mode in ranked)]
    points = [f"{name}[{at}]" for mode in ranked for at in names[mode] for name in sorted(each[at])]
    return areas + points


def _shuffle(part: Shuffle1) -> Added:
    curve = CurvePart(
        name="shuffled",
        x_label="shuffled pieces",
        x=[math.log2(point.pieces) for point in part.points],
        at=[str(point.pieces) for point in part.points],
        dotted="confidence",
        scale="log2",
        ticks=[f"{point.pieces}\n{point.grid}" for point in part.points],
    )
    return {
        "conditions": _conditions((str(point.pieces), point.metrics) for point in part.points),
        "curves": [curve] if part.points else [],
        "shown": _shown_curves(part, drawing="shuffle-curve"),
    }


def _shown_curves(part: Suite1, *, drawing: str) -> Shown:
    names = sorted(part.metrics)
    return Shown(
        headline=[n for n in names if n.startswith(("auc_", "nauc_mean", "rho50_"))],
        compared=[n for n in names if n.startswith(("auc_", "nauc_", "rho50_"))],
        gated=[n for n in names if n.startswith("auc_")],
        section="Occlusion and shuffling",
        drawings=[drawing],
    )


def _shown(
    part: Suite1,
    *,
    headline: Iterable[str],
    compared: Iterable[str],
    gated: Iterable[str] = (),
    note: str = "",
    section: str = "",
    drawings: Iterable[str] = (),
) -> Shown:
    """Name those of the numbers that the part has."""
    return Shown(
        headline=[name for name in headline if name in part.metrics],
        compared=[name for name in compared if name in part.metrics],
        gated=[name for name in gated if name in part.metrics],
        note=note,
        section=section,
        drawings=list(drawings),
    )


def _kept(part: Suite1, *names: str) -> JsonDict:
    return part.model_dump(mode="json", include=set(names))


def _conditions(each: Iterable[tuple[str, Metrics]]) -> list[ConditionPart]:
    return [ConditionPart(name=name, metrics=metrics) for name, metrics in each]


def _value(metric: Metric | None) -> float:
    return 0.0 if metric is None or metric.value is None else metric.value


def _area(part: Occlusion1, mode: str) -> float:
    return _value(part.metrics.get(f"auc_{part.fill}_{mode}_{part.grid}"))


_ADDED: dict[str, Callable[[Any], Added]] = {
    "clean": _clean,
    "calibration": _calibration,
    "corruption": _corruption,
    "masking": _masking,
    "attack": _attack,
    "occlusion": _occlusion,
    "shuffle": _shuffle,
}
"""Kind of suite -> what its part has beside the numbers of the whole suite."""
