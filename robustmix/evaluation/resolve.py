"""Suites with everything decided that depends on the data, before anything is computed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustmix.corruptions.names import PROFILES
from robustmix.data.images import ImageSet
from robustmix.errors import RobustmixError
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.suites.autoattack import AutoAttackSuite
from robustmix.evaluation.suites.calibration import CalibrationSuite
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.official import as_stored, official_folder
from robustmix.evaluation.suites.pgd import PgdSuite
from robustmix.evaluation.suites.shuffle import ShuffleSuite
from robustmix.models.robust_model import RobustModel
from robustmix.saliency.rollout import check_rollout


def resolve_suites(
    suites: Sequence[Planned],
    robust: RobustModel,
    data: ImageSet,
    folder: Path,
    *,
    keep_going: bool,
) -> tuple[list[Planned], dict[str, RobustmixError]]:
    """Return the suites that can be run, and why the others cannot.

    Args:
        suites: as they were asked for.
        robust: the model.
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
            ready.append(replace(planned, suite=_resolved(planned.suite, robust, data, folder)))
        except RobustmixError as error:
            if not keep_going:
                raise
            refused[planned.key] = error
    return [_scaled_alike(planned, ready) for planned in ready], refused


def _scaled_alike(planned: Planned, ready: Sequence[Planned]) -> Planned:
    """Return a suite that scales its logits, knowing the temperature of suite ``calibration``."""
    clean = next((p.suite for p in ready if p.key == "calibration"), None)
    if not isinstance(planned.suite, CorruptionSuite) or not isinstance(clean, CalibrationSuite):
        return planned
    if clean.held_out is None:
        return planned
    split = clean.held_out
    fitted = f"held-out: {split.source}, content {split.content_sha256}"
    return replace(planned, suite=replace(planned.suite, temperature=fitted))


def _resolved(suite: Suite, robust: RobustModel, data: ImageSet, folder: Path) -> Suite:
    if isinstance(suite, CalibrationSuite):
        return suite.resolved(robust, folder)
    if isinstance(suite, OcclusionSuite | ShuffleSuite):
        chosen = suite.resolved((data.input_size[1], data.input_size[2]))
        if isinstance(chosen, OcclusionSuite) and chosen.saliency == "rollout":
            check_rollout(robust)
        return chosen
    if isinstance(suite, CorruptionSuite):
        height, width = as_stored(data.pixels).pixels.size[1:]
        sides = {side: profile for profile, side in PROFILES.items() if height == width}
        return suite.resolved(official_folder(data, folder), sides.get(height)).opened(data)
    if isinstance(suite, AutoAttackSuite):
        suite.members(data.num_classes)  # too few classes or a missing package end it here
    if isinstance(suite, PgdSuite):
        suite.check_classes(data.num_classes)
    return suite
