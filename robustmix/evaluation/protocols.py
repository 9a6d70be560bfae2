"""Named protocols: which suites with which parameters, so that figures can be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.suites.autoattack import AutoAttackSuite
from robustmix.evaluation.suites.calibration import CalibrationSuite
from robustmix.evaluation.suites.clean import CleanSuite
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.paper_fgsm import PaperFgsmSuite
from robustmix.evaluation.suites.pgd import PgdSuite


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a preset needs to know of the images."""

    side: int
    """Of the model's input, in pixels."""

    imagenet: bool
    saliency_file: Path | None = None

    @property
    def eps(self) -> Fraction:
        """The customary radius: 8/255, on ImageNet 4/255."""
        return Fraction(4 if self.imagenet else 8, 255)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One named protocol."""

    suites: Callable[[Scene], Sequence[Suite]]
    limits: dict[str, int] = field(default_factory=dict)
    """Most samples of a suite; all of them where none is named."""

    nonstandard: bool = False
    """Whether it repeats a published tool, faults included, to be compared with its tables alone.
    """


def _standard(scene: Scene) -> list[Suite]:
    return [
        CleanSuite(),
        CalibrationSuite(),
        CorruptionSuite(),
        FgsmSuite(eps=scene.eps),
        PgdSuite(eps=scene.eps, steps=20),
        OcclusionSuite(),
    ]


def _quick(scene: Scene) -> list[Suite]:
    return [
        CleanSuite(),
        CalibrationSuite(),
        CorruptionSuite(corruptions="main", severities=(1, 3, 5)),
        FgsmSuite(eps=scene.eps, sweep=(), masking=False),
        PgdSuite(eps=scene.eps, steps=10, masking=False),
        OcclusionSuite(ratios=tuple(Fraction(k, 10) for k in (0, 3, 6, 9)), trials=2),
    ]


def _paper_occlusion(scene: Scene) -> OcclusionSuite:
    grid = 14 if scene.side % 14 == 0 else 8
    return OcclusionSuite(
        grid=(grid, grid),
        ratios=tuple(Fraction(k, 10) for k in range(10)),
        trials=1,
        mask_scope="batch:100",
        rounding="half-even",
    )


def _paper_adautomix(scene: Scene) -> list[Suite]:
    return [
        CleanSuite(),
        CalibrationSuite(bins=(10,), paper_tool=True),
        CorruptionSuite(),
        PaperFgsmSuite(),
        _paper_occlusion(scene),
    ]


def _openmixup_2025(scene: Scene) -> list[Suite]:
    return [
        CleanSuite(),
        CalibrationSuite(bins=(10,), paper_tool=True),
        CorruptionSuite(),
        FgsmSuite(),
        _paper_occlusion(scene),
    ]


def _hendrycks(scene: Scene) -> list[Suite]:
    reference = "alexnet" if scene.imagenet else None
    return [
        CleanSuite(),
        CalibrationSuite(),
        CorruptionSuite(corruptions="main", mce_reference=reference),
    ]


def _robustbench(scene: Scene) -> list[Suite]:
    return [CleanSuite(), CorruptionSuite(corruptions="main"), AutoAttackSuite(eps=scene.eps)]


def _naseer_patchdrop(scene: Scene) -> list[Suite]:
    modes = ("random",)
    return [
        CleanSuite(),
        OcclusionSuite(
            grid=(14, 14),
            ratios=tuple(Fraction(k, 10) for k in range(10)),
            fill="black",
            trials=1,
            modes=(*modes, "salient", "nonsalient") if scene.saliency_file else modes,
            saliency_file=scene.saliency_file,
            mask_scope="batch:256",
            rounding="floor",
        ),
    ]


QUICK = {"corruption": 100, "fgsm": 256, "pgd": 128, "occlusion": 128}

PRESETS: dict[str, Preset] = {
    "standard": Preset(suites=_standard),
    "quick": Preset(suites=_quick, limits=QUICK),
    "paper-adautomix": Preset(suites=_paper_adautomix, nonstandard=True),
    "openmixup-2025": Preset(suites=_openmixup_2025, nonstandard=True),
    "hendrycks": Preset(suites=_hendrycks),
    "robustbench": Preset(suites=_robustbench, limits={"autoattack": 1000}),
    "naseer-patchdrop": Preset(suites=_naseer_patchdrop, nonstandard=True),
}
"""By the name that ``--protocol`` takes; ``PROTOCOLS`` says in words what they are."""


def plan_presets(
    names: Sequence[str],
    scene: Scene,
    *,
    wanted: Sequence[str] | None = None,
    change: Callable[[Suite], Suite] = lambda suite: suite,
) -> list[Planned]:
    """Return the suites of some presets, each once, side by side where they differ.

    The first suite of a kind has the plain key ``fgsm``, unless its preset repeats a published
    tool; what another preset asks for in another way is ``fgsm@PRESET``. What two presets ask for
    in the same way is run once.

    Args:
        names: keys of ``PRESETS``.
        scene: what they need to know of the images.
        wanted: only suites of these names; None for all.
        change: applied to every suite, e.g. to set parameters of the command line.

    Raises:
        UsageError: a preset is unknown or named twice, or has none of the wanted suites.
    """
    if len(set(names)) < len(names):
        raise UsageError("a protocol is asked for twice", "name it once", code="E-PROTOCOL")
    planned: list[Planned] = []
    for name in names:
        if name not in PRESETS:
            raise unknown_name("protocol", name, PRESETS)
        preset = PRESETS[name]
        chosen = [
            suite
            for suite in preset.suites(scene)
            if wanted is None or suite.name in wanted or suite.name == "clean"
        ]
        if wanted is not None and not {suite.name for suite in chosen} & set(wanted):
            raise UsageError(
                f"protocol {name} has none of the suites {', '.join(wanted)}",
                "leave --suite out, or see `robustmix list protocols`",
                code="E-PROTOCOL",
            )
        for suite in map(change, chosen):
            placed = Planned(suite=suite, limit=preset.limits.get(suite.name), of=(name,))
            same = [p for p in planned if p.suite == suite and p.limit == placed.limit]
            if same:
                at = planned.index(same[0])
                planned[at] = replace(same[0], of=(*same[0].of, name))
                continue
            taken = any(p.key == suite.name for p in planned)
            faulty = preset.nonstandard and suite not in _standard(scene)
            planned.append(replace(placed, preset=name) if taken or faulty else placed)
    return planned
