"""The one table of suites."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from robustmix.attacks.torchattacks_adapter import PREFIX
from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.suites.autoattack import AutoAttackSuite
from robustmix.evaluation.suites.calibration import CalibrationSuite
from robustmix.evaluation.suites.clean import CleanSuite
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.masking import MaskingSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.evaluation.suites.pgd import PgdSuite
from robustmix.evaluation.suites.shuffle import ShuffleSuite
from robustmix.evaluation.suites.zoo import ZooSuite
from robustmix.report.schema import SuiteUnion


class SuiteKind(Protocol):
    """A kind of suite: its class."""

    @property
    def part(self) -> type[SuiteUnion]:
        """What it reports."""
        ...

    def from_params(self, params: Mapping[str, Any]) -> Suite:
        """Return the suite whose recorded parameters these are."""
        ...


class SuiteType(SuiteKind, Protocol):
    """A kind of suite that needs no parameters."""

    def __call__(self) -> Suite:
        """Return the suite with its defaults."""
        ...


SUITES: dict[str, SuiteType] = {
    "clean": CleanSuite,
    "calibration": CalibrationSuite,
    "corruption": CorruptionSuite,
    "masking": MaskingSuite,
    "fgsm": FgsmSuite,
    "pgd": PgdSuite,
    "autoattack": AutoAttackSuite,
    "occlusion": OcclusionSuite,
    "shuffle": ShuffleSuite,
}
"""In the order they run. All others compare with ``clean``, which is therefore always run."""

DEFAULT_LIMITS = {"autoattack": 1000, "torchattacks": 1000}
"""Most samples of a suite where no limit was asked for."""


def suite_type(name: str) -> SuiteKind | None:
    """Return the kind of a suite by its name, ``torchattacks:NAME`` included; None if unknown."""
    return ZooSuite if name.startswith(PREFIX) else SUITES.get(name)


def with_masking(planned: Sequence[Planned]) -> list[Planned]:
    """Return the suites with the gradient-masking check before the attacks that want it.

    It is made once, for the norm and radius of the first of them.
    """
    attacks = (FgsmSuite, PgdSuite, AutoAttackSuite, ZooSuite)
    wanting = [p.suite for p in planned if isinstance(p.suite, attacks) and p.suite.masking]
    if not wanting or any(p.key == "masking" for p in planned):
        return list(planned)
    check = MaskingSuite(norm=wanting[0].norm, eps=wanting[0].eps)
    return sorted([*planned, Planned(suite=check)], key=lambda item: _rank(item.suite.name))


def _rank(name: str) -> tuple[int, str]:
    """Return the place in which a suite runs: that of the table, ``torchattacks`` at the end."""
    order = list(SUITES)
    return order.index(name) if name in order else len(order), name


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
    return sorted(chosen.values(), key=lambda item: _rank(item.suite.name))


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
            suite = _named(name) if isinstance(name, str) else name
            if suite.name in chosen:
                raise UsageError(f"suite '{suite.name}' is asked for twice", "name it once")
            chosen[suite.name] = suite
    if not chosen:
        raise UsageError("no suite was asked for", "give --suite clean,corruption")
    chosen.setdefault("clean", CleanSuite())
    return [chosen[name] for name in sorted(chosen, key=_rank)]


def _named(name: str) -> Suite:
    if name.startswith(PREFIX):
        return ZooSuite.named(name)
    if name not in SUITES:
        raise unknown_name("suite", name, [*SUITES, "all"])
    return SUITES[name]()
