"""The one table of suites."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.suites.calibration import CalibrationSuite
from robustmix.evaluation.suites.clean import CleanSuite
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.report.schema import SuiteUnion


class SuiteType(Protocol):
    """A kind of suite: its class."""

    @property
    def part(self) -> type[SuiteUnion]:
        """What it reports."""
        ...

    def __call__(self) -> Suite:
        """Return the suite with its defaults."""
        ...

    def from_params(self, params: Mapping[str, Any]) -> Suite:
        """Return the suite whose recorded parameters these are."""
        ...


SUITES: dict[str, SuiteType] = {
    "clean": CleanSuite,
    "calibration": CalibrationSuite,
    "corruption": CorruptionSuite,
    "fgsm": FgsmSuite,
    "occlusion": OcclusionSuite,
}
"""In the order they run. All others compare with ``clean``, which is therefore always run."""

DEFAULT_LIMITS = {"autoattack": 1000}
"""Most samples of a suite where no limit was asked for."""


def plan(wanted: Sequence[str | Suite | Planned]) -> list[Planned]:
    """Return the suites to run, in order; see ``select_suites`` for what is raised."""
    loose = [item for item in wanted if not isinstance(item, Planned)]
    placed = [item for item in wanted if isinstance(item, Planned)]
    bare = [Planned(suite=suite) for suite in select_suites(loose)] if loose or not placed else []
    chosen = {item.key: item for item in bare}
    for item in placed:
        if item.key in chosen and item.key != "clean":
            raise UsageError(f"suite '{item.key}' is asked for twice", "name it once")
        chosen[item.key] = item
    chosen.setdefault("clean", Planned(suite=CleanSuite()))
    order = list(SUITES)
    return sorted(chosen.values(), key=lambda item: order.index(item.suite.name))


def select_suites(wanted: Sequence[str | Suite]) -> list[Suite]:
    """Return the suites to run, in order, with their defaults where only a name is given.

    ``all`` stands for every suite.

    Raises:
        UsageError: nothing was asked for, a name is unknown, or a suite is asked for twice.
    """
    chosen: dict[str, Suite] = {}
    for item in wanted:
        names = list(SUITES) if item == "all" else [item]
        for name in names:
            if isinstance(name, str) and name not in SUITES:
                raise unknown_name("suite", name, [*SUITES, "all"])
            suite = SUITES[name]() if isinstance(name, str) else name
            if suite.name in chosen:
                raise UsageError(f"suite '{suite.name}' is asked for twice", "name it once")
            chosen[suite.name] = suite
    if not chosen:
        raise UsageError("no suite was asked for", "give --suite clean,corruption")
    chosen.setdefault("clean", CleanSuite())
    return [chosen[name] for name in SUITES if name in chosen]
