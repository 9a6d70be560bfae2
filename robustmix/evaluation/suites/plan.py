"""Suites with the parameters that a command line gives."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

from robustmix.errors import unknown_name
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.masks import FILLS
from robustmix.evaluation.suites.corruption import CorruptionSuite, Source
from robustmix.evaluation.suites.fgsm import SWEEP, FgsmSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.registry import select_suites


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
    grid: tuple[int, int] | None = None,
    ratios: tuple[Fraction, ...] | None = None,
    fill: str = "mean",
    trials: int = 5,
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
        grid: see ``OcclusionSuite``.
        ratios: likewise.
        fill: likewise.
        trials: likewise.

    Raises:
        UsageError: a name or value cannot be meant.
    """
    if corruption_source not in get_args(Source):
        raise unknown_name("corruption source", corruption_source, get_args(Source))
    if fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    made: dict[str, Any] = {
        "corruption": lambda: CorruptionSuite(
            corruptions=corruptions,
            severities=severities,
            source=cast(Source, corruption_source),
            profile=profile,
            frost_dir=frost_dir,
            mce_reference=mce_reference,
        ),
        "fgsm": lambda: FgsmSuite(
            eps=eps[0] if eps else Fraction(8, 255),
            sweep=eps if eps and len(eps) > 1 else SWEEP,
        ),
        "occlusion": lambda: OcclusionSuite(grid=grid, ratios=ratios, fill=fill, trials=trials),
    }
    return select_suites([_made(suite, made) for suite in select_suites(names)])


def _made(suite: Suite, made: dict[str, Any]) -> Suite:
    return cast(Suite, made[suite.name]()) if suite.name in made else suite
