"""The attack suites with the parameters that a command line gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import get_args

from robustmix.attacks import Loss, Norm
from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.suites.attack import EPS
from robustmix.evaluation.suites.autoattack import AutoAttackSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.masking import SAMPLES, MaskingSuite
from robustmix.evaluation.suites.pgd import PgdSuite
from robustmix.evaluation.suites.zoo import ZooSuite
from robustmix.models.robust_model import RobustModel

Attack = FgsmSuite | PgdSuite | AutoAttackSuite | ZooSuite

LOSS_NAMES: dict[str, Loss] = {"ce": "ce", "margin": "margin", "cw": "margin", "dlr": "dlr"}
"""Of Carlini and Wagner's loss, the name ``cw`` is usual too."""


@dataclass(frozen=True, kw_only=True)
class AttackChoices:
    """What may be asked for of the attacks; None leaves a suite's default."""

    norm: str = "linf"
    eps: tuple[Fraction, ...] | None = None
    """The first is the headline radius; several set the sweep."""

    steps: int | None = None
    """Of ``pgd``, and of ``torchattacks:NAME`` where it has steps; AutoAttack's are fixed."""

    step_size: Fraction | None = None
    restarts: int = 1
    loss: str = "ce"
    targeted: bool = False
    random_start: bool = True
    masking: str = "auto"
    """``auto`` checks for gradient masking once a run with attacks, ``off`` does not."""

    masking_samples: int = SAMPLES

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise unknown_name("norm", self.norm, get_args(Norm), code="E-NORM")
        if self.loss not in LOSS_NAMES:
            raise unknown_name("loss", self.loss, LOSS_NAMES, code="E-LOSS")
        if self.masking not in ("auto", "off"):
            raise unknown_name("masking", self.masking, ("auto", "off"), code="E-MASKING")

    @property
    def _norm(self) -> Norm:
        return "linf" if self.norm == "linf" else "l2"

    @property
    def _radius(self) -> Fraction:
        return self.eps[0] if self.eps else EPS[self._norm]

    def planned(self, suites: Sequence[Suite]) -> list[Suite]:
        """Return the suites, those of attacks with these choices, and the masking check.

        Raises:
            UsageError: choices that cannot be meant.
        """
        made = [self._made(suite) for suite in suites]
        attacks = any(isinstance(suite, Attack) for suite in made)
        if attacks and self.masking == "auto" and not any(s.name == "masking" for s in made):
            made.append(self._masking())
        return made

    def _made(self, suite: Suite) -> Suite:
        if isinstance(suite, ZooSuite):
            return self._zoo(suite)
        makers: dict[str, Callable[[], Suite]] = {
            "masking": self._masking,
            "fgsm": self._fgsm,
            "pgd": self._pgd,
            "autoattack": self._autoattack,
        }
        return makers[suite.name]() if suite.name in makers else suite

    def _masking(self) -> MaskingSuite:
        return MaskingSuite(norm=self._norm, eps=self._radius, samples=self.masking_samples)

    def _fgsm(self) -> FgsmSuite:
        return FgsmSuite(
            norm=self._norm,
            eps=self._radius,
            sweep=self.eps if self.eps and len(self.eps) > 1 else None,
            masking=self.masking == "auto",
        )

    def _pgd(self) -> PgdSuite:
        plain = PgdSuite(
            norm=self._norm,
            eps=self._radius,
            sweep=self.eps or (),
            step_size=self.step_size,
            restarts=self.restarts,
            loss=LOSS_NAMES[self.loss],
            targeted=self.targeted,
            random_start=self.random_start,
            masking=self.masking == "auto",
        )
        return plain if self.steps is None else replace(plain, steps=self.steps)

    def _autoattack(self) -> AutoAttackSuite:
        return AutoAttackSuite(norm=self._norm, eps=self._radius, masking=self.masking == "auto")

    def _zoo(self, suite: ZooSuite) -> ZooSuite:
        size = None if self.step_size is None else float(self.step_size)
        asked = {"steps": self.steps, "alpha": size}
        return ZooSuite.named(
            suite.attack,
            norm=self._norm,
            eps=self._radius,
            options={name: value for name, value in asked.items() if value is not None},
            masking=self.masking == "auto",
        )


def with_surrogate(suites: Sequence[Suite], surrogate: RobustModel) -> list[Suite]:
    """Return the suites, the masking check among them with a surrogate.

    Raises:
        UsageError: the masking check is not among them.
    """
    if not any(isinstance(suite, MaskingSuite) for suite in suites):
        raise UsageError(
            "a surrogate is of use to the masking check alone",
            "evaluate an attack suite without --masking off",
            code="E-SURROGATE",
        )
    return [s.with_surrogate(surrogate) if isinstance(s, MaskingSuite) else s for s in suites]
