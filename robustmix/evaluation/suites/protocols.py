"""Named protocols with what a command line changes in them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, replace
from typing import Any

from robustmix.evaluation.engine import Suite
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.protocols import Scene, plan_presets
from robustmix.evaluation.suites.plan import plan_suites
from robustmix.evaluation.suites.registry import SUITES, with_masking

FLAG_FIELDS: dict[str, tuple[str, ...]] = {
    "severity": ("severities",),
    "corruption_source": ("source",),
    "eps": ("eps", "sweep"),
    "mode": ("modes",),
    "masking_samples": ("samples",),
    "ece_bins": ("bins",),
    "recalibrate": ("recalibrators",),
}
"""Fields of the suites that a flag sets, where they are not called as the flag is."""


def plan_protocols(
    names: Sequence[str],
    scene: Scene,
    *,
    wanted: Sequence[str] | None,
    asked: dict[str, Any],
    given: Collection[str],
) -> list[Planned]:
    """Return the suites of some presets, changed by the flags that were given.

    Args:
        names: keys of ``PRESETS``.
        scene: what they need to know of the images.
        wanted: only suites of these names, or ``all``; those that no preset has are added as they
            are without one. None for the presets' own.
        asked: arguments of ``plan_suites``, from all flags.
        given: the flags that were really given; the others leave the presets as they are.

    Raises:
        UsageError: a preset is unknown, has none of the wanted suites, or cannot be meant with
            these flags.
    """

    def change(suite: Suite) -> Suite:
        flagged = next(
            (s for s in plan_suites([suite.name], **asked) if type(s) is type(suite)), None
        )
        if flagged is None:
            return suite
        known = {field.name for field in fields(suite)}  # type: ignore[arg-type]
        set_by = [name for flag in given for name in FLAG_FIELDS.get(flag, (flag,))]
        if asked.get("eps") is not None and len(asked["eps"]) == 1:
            set_by = [name for name in set_by if name != "sweep"]  # a radius is no curve
        values = {name: getattr(flagged, name) for name in set_by if name in known}
        return replace(suite, **values) if values else suite  # type: ignore[type-var]

    if wanted is not None:
        wanted = [name for item in wanted for name in (SUITES if item == "all" else [item])]
    planned = plan_presets(names, scene, wanted=wanted, change=change)
    present = {item.suite.name for item in planned}
    missing = [name for name in wanted or () if name not in present]
    if missing:
        added = plan_suites(missing, **asked)
        planned += [Planned(suite=suite) for suite in added if suite.name in missing]
    planned = with_masking(planned)
    return [
        replace(item, suite=change(item.suite)) if item.key == "masking" else item
        for item in planned
    ]


def each(planned: Sequence[Planned], change: Callable[[list[Suite]], list[Suite]]) -> list[Planned]:
    """Return the planned suites after a change that keeps their number and order."""
    changed = change([item.suite for item in planned])
    return [replace(item, suite=suite) for item, suite in zip(planned, changed, strict=True)]
