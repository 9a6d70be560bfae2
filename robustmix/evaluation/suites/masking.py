"""Suite ``masking``: sixteen checks of whether the attacks' numbers can be believed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import Norm
from robustmix.errors import UsageError
from robustmix.evaluation.engine import Context, Done, Part
from robustmix.evaluation.masking.behaviour import PASSES, behaviour_parts
from robustmix.evaluation.masking.gradients import STEP, gradient_parts
from robustmix.evaluation.masking.probes import Found, Threat
from robustmix.evaluation.masking.strength import (
    LONG,
    NOISES,
    QUERIES,
    RADII,
    STEPS,
    UNBOUNDED_STEPS,
    search_name,
    strength_parts,
)
from robustmix.evaluation.masking.verdict import LEAST, judge, too_few
from robustmix.evaluation.suites.attack import EPS, check_threat, exact_name, passes
from robustmix.models.checks import state_hash
from robustmix.models.robust_model import RobustModel
from robustmix.report.samples import Samples
from robustmix.report.schema import MaskingPart
from robustmix.rng import sample_keys

SAMPLES = 512
BLOCK = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingSuite:
    """Probes of a few hundred samples that are classified correctly."""

    norm: Norm = "linf"
    eps: Fraction = EPS["linf"]
    """Radius of the attacks that are in question, in [0, 1] pixel units."""

    samples: int = SAMPLES
    """Most samples that are checked, the first correct ones of the seeded order."""

    surrogate: RobustModel | None = field(default=None, compare=False, repr=False)
    """Another model of the same task, whose adversarial images are tried on the evaluated one."""

    surrogate_sha256: str | None = None
    part: ClassVar[type[MaskingPart]] = MaskingPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(
            norm=params["norm"],
            eps=Fraction(params["eps"]),
            samples=params["samples"],
            surrogate_sha256=params["surrogate_sha256"],
        )

    def __post_init__(self) -> None:
        check_threat(self.norm, self.eps, ())
        if self.samples < LEAST:
            raise UsageError(
                f"the masking checks need at least {LEAST} samples, got {self.samples}",
                "switch them off with --masking off, or give more",
                code="E-MASKING",
            )

    def with_surrogate(self, surrogate: RobustModel) -> "MaskingSuite":
        """Return the suite with another model to transfer attacks from."""
        return replace(self, surrogate=surrogate, surrogate_sha256=state_hash(surrogate))

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "masking"

    @property
    def trials(self) -> int:
        """One."""
        return 1

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "norm": self.norm,
            "eps": exact_name(self.eps),
            "samples": self.samples,
            "steps": STEPS,
            "long_steps": LONG,
            "radii": list(RADII),
            "unbounded_steps": UNBOUNDED_STEPS,
            "queries": QUERIES,
            "noises": NOISES,
            "passes": PASSES,
            "difference": STEP,
            "surrogate_sha256": self.surrogate_sha256,
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one part a probe; none if too few samples are classified correctly.

        Raises:
            UsageError: the surrogate is a model of another task.
        """
        self._check_surrogate(context.robust)
        assert context.clean is not None
        right = context.clean.at("clean")["correct"].astype(bool)
        order = sample_keys(context.seed, "subset", "", 0, context.data.sample_ids)
        first = order.argsort(stable=True).numpy()
        first = first[right[first]][: self.samples]
        if len(first) < LEAST:
            return []
        chosen = np.sort(first)
        threat = Threat(norm=self.norm, eps=float(self.eps), seed=context.seed)

        def checked(done: Done) -> NDArray[np.int64]:
            return chosen

        parts = [
            *behaviour_parts(context, threat, chosen, first),
            *gradient_parts(context, threat),
            *strength_parts(context, threat, self.surrogate),
        ]
        return [replace(p, select=p.select or checked, block=BLOCK) for p in parts]

    def _check_surrogate(self, robust: RobustModel) -> None:
        other = self.surrogate
        if other is None:
            return
        if (other.num_classes, other.input_size) != (robust.num_classes, robust.input_size):
            raise UsageError(
                f"the surrogate has {other.num_classes} classes and takes images "
                f"{other.input_size}, the model {robust.num_classes} and {robust.input_size}",
                "give a model of the same task",
                code="E-SURROGATE",
            )

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> MaskingPart:
        """Make the suite's part of the report from the rows alone."""
        table, clean = samples.tables.get("masking"), samples.tables["clean"].at("clean")
        part = MaskingPart(status="ok", params=self.params(), norm=self.norm, eps=float(self.eps))
        if table is None:
            part.masking = too_few(int(clean["correct"].sum()))
            return part
        attacked = ("fgsm", "noise", *map(search_name, RADII), "unbounded", "square", "transfer")
        part.masking = judge(Found(table, clean, facts["num_classes"], attacked))
        part.forwards, part.backwards = passes(table.columns)
        return part
