"""Suites with everything decided that depends on the data, before anything is computed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustmix.corruptions.names import PROFILES
from robustmix.data.images import ImageSet
from robustmix.errors import RobustmixError
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.official import as_stored, official_folder


def resolve_suites(
    suites: Sequence[Planned], data: ImageSet, folder: Path, *, keep_going: bool
) -> tuple[list[Planned], dict[str, RobustmixError]]:
    """Return the suites that can be run, and why the others cannot.

    Args:
        suites: as they were asked for.
        data: the whole test set.
        folder: the data folder.
        keep_going: whether to set aside a suite that cannot be run; else its error is raised.

    Raises:
        RobustmixError: the first suite that cannot be run, unless ``keep_going``.
    """
    ready: list[Planned] = []
    refused: dict[str, RobustmixError] = {}
    for planned in suites:
        try:
            ready.append(replace(planned, suite=_resolved(planned.suite, data, folder)))
        except RobustmixError as error:
            if not keep_going:
                raise
            refused[planned.key] = error
    return ready, refused


def _resolved(suite: Suite, data: ImageSet, folder: Path) -> Suite:
    if isinstance(suite, OcclusionSuite):
        return suite.resolved((data.input_size[1], data.input_size[2]))
    if isinstance(suite, CorruptionSuite):
        height, width = as_stored(data.pixels).pixels.size[1:]
        sides = {side: profile for profile, side in PROFILES.items() if height == width}
        return suite.resolved(official_folder(data, folder), sides.get(height)).opened(data)
    return suite
