"""Suites with the parameters that a command line gives."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

from robustmix.errors import unknown_name
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.held_out import CalibSplit
from robustmix.evaluation.patches import FILLS
from robustmix.evaluation.suites.attack_plan import AttackChoices
from robustmix.evaluation.suites.calibration import CalibrationSuite
from robustmix.evaluation.suites.clean import CleanSuite
from robustmix.evaluation.suites.corruption import CorruptionSuite, Source
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.registry import select_suites
from robustmix.evaluation.suites.shuffle import ShuffleSuite
from robustmix.metrics.calibration import BINS


def plan_suites(
    names: Sequence[str],
    *,
    corruptions: str = "all",
    severities: tuple[int, ...] = (1, 2, 3, 4, 5),
    corruption_source: str = "auto",
    profile: str | None = None,
    frost_dir: Path | None = None,
    mce_reference: str | None = None,
    eps: tuple[Fraction, ...] | None = None,
    attacks: AttackChoices | None = None,
    grid: tuple[int, int] | None = None,
    ratios: tuple[Fraction, ...] | None = None,
    fill: str = "mean",
    trials: int = 5,
    modes: tuple[str, ...] = ("random",),
    saliency: str | None = None,
    saliency_file: Path | None = None,
    saliency_label: str = "prediction",
    boxes: Path | None = None,
    offset: tuple[int, int] = (0, 0),
    pieces: tuple[int, ...] | None = None,
    confusion: bool = False,
    ece_bins: tuple[int, ...] = BINS,
    calib_data: str | None = None,
    calib_split: str = "auto",
    recalibrators: tuple[str, ...] = (),
) -> list[Suite]:
    """Return the suites called ``names`` with these parameters.

    Args:
        names: suites, or ``all``.
        corruptions: see ``CorruptionSuite``.
        severities: likewise.
        corruption_source: likewise, its ``source``.
        profile: likewise.
        frost_dir: likewise.
        mce_reference: likewise.
        eps: the first is the headline radius; several set the sweep.
        attacks: everything else about the attack suites; None: their defaults.
        grid: see ``OcclusionSuite``.
        ratios: likewise.
        fill: likewise.
        trials: likewise; of ``ShuffleSuite`` too.
        modes: see ``OcclusionSuite``.
        saliency: likewise.
        saliency_file: likewise.
        saliency_label: likewise.
        boxes: likewise.
        offset: likewise.
        pieces: see ``ShuffleSuite``.
        confusion: see ``CleanSuite``.
        ece_bins: see ``CalibrationSuite``, its ``bins``.
        calib_data: likewise.
        calib_split: likewise.
        recalibrators: likewise.

    Raises:
        UsageError: a name or value cannot be meant.
    """
    if corruption_source not in get_args(Source):
        raise unknown_name("corruption source", corruption_source, get_args(Source))
    if fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    made: dict[str, Any] = {
        "clean": lambda: CleanSuite(confusion=confusion),
        "calibration": lambda: CalibrationSuite(
            bins=ece_bins,
            calib_data=calib_data,
            calib_split=cast(CalibSplit, calib_split),
            recalibrators=recalibrators,
        ),
        "corruption": lambda: CorruptionSuite(
            corruptions=corruptions,
            severities=severities,
            source=cast(Source, corruption_source),
            profile=profile,
            frost_dir=frost_dir,
            mce_reference=mce_reference,
        ),
        "occlusion": lambda: OcclusionSuite(
            grid=grid,
            ratios=ratios,
            fill=fill,
            trials=trials,
            modes=modes,
            saliency=saliency,
            saliency_file=saliency_file,
            saliency_label=saliency_label,
            boxes=boxes,
            offset=offset,
        ),
        "shuffle": lambda: ShuffleSuite(pieces=pieces, trials=trials),
    }
    suites = [_made(suite, made) for suite in select_suites(names)]
    return select_suites(replace(attacks or AttackChoices(), eps=eps).planned(suites))


def _made(suite: Suite, made: dict[str, Any]) -> Suite:
    return cast(Suite, made[suite.name]()) if suite.name in made else suite
