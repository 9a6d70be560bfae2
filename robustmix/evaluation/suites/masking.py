"""Suite ``masking``: sixteen checks of whether the attacks' numbers can be believed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import Norm
from robustmix.errors import UsageError
from robustmix.evaluation.class_names import check_class_names
from robustmix.evaluation.masking.behaviour import PASSES, behaviour_parts
from robustmix.evaluation.masking.gradients import STEP, gradient_parts
from robustmix.evaluation.masking.probes import Evidence, Threat
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
from robustmix.evaluation.masking.verdict import LEAST, TITLE, judged, too_few
from robustmix.evaluation.options import option
from robustmix.evaluation.params import exact_name, recorded, unrecorded
from robustmix.evaluation.shard import Divided
from robustmix.evaluation.suite import (
    Context,
    Done,
    Found,
    Part,
    Passes,
    Prepared,
    Scene,
    Suite,
)
from robustmix.evaluation.suites.attack_rows import (
    check_threat,
    headline_radius,
    only_first_note,
    parse_eps,
)
from robustmix.evaluation.suites.attack_work import SCORES, spent
from robustmix.later import RobustModel
from robustmix.metrics.definition import Numbers
from robustmix.report.rows import Rows
from robustmix.report.schema import Shown, SuitePart, Warn
from robustmix.rng import sample_keys

SAMPLES = 512
BLOCK = 128

OTHER_PROBES = 14
"""Most passes of the checks that are no search: gradients, differences, repetitions."""


@dataclass(frozen=True, kw_only=True)
class PreparedMasking(Prepared):
    """The checks, everything decided."""

    kind: ClassVar[str] = "masking"
    divided: ClassVar[Divided] = "one"
    own_correct: ClassVar[tuple[str, ...]] = ("repeat",)

    norm: Norm
    eps: Fraction
    samples: int
    """Most samples that are checked, the first correct ones of the seeded order."""

    steps: int = STEPS
    long_steps: int = LONG
    radii: tuple[float, ...] = RADII
    unbounded_steps: int = UNBOUNDED_STEPS
    queries: int = QUERIES
    noises: int = NOISES
    repeats: int = recorded(PASSES, key="passes")
    difference: float = STEP
    surrogate_sha256: str | None
    not_taken: tuple[Fraction, ...] = recorded((), omit_default=True)
    """Further radii that were asked for; the checks are made at one."""

    def passes(self, n: int) -> Passes:
        """Bound the passes, as if no sample were broken."""
        checked = min(n, self.samples)
        steps = (len(RADII) + 1) * STEPS + UNBOUNDED_STEPS
        attacks = len(RADII) + 3 + (self.surrogate_sha256 is not None) * 2
        forwards = PASSES + NOISES + OTHER_PROBES + steps + QUERIES + attacks * SCORES
        backwards = steps + OTHER_PROBES
        return Passes(attacks + 9, checked * forwards, checked * backwards, most=True)

    def numbers(self, rows: Rows) -> Numbers:
        """Define none: what is found is a verdict."""
        return {}

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report the verdict, and what the checks cost."""
        details = {"norm": self.norm, "eps": float(self.eps), "forwards": 0, "backwards": 0}
        notes = only_first_note(self.eps, self.not_taken)
        table = rows.view.tables.get(rows.suite)
        clean = rows.view.tables["clean"].at("clean")
        if table is None:  # too few samples are right, so none was probed
            verdict = too_few(int(clean["correct"].sum()))
            return Found(verdicts=[verdict], details=details, notes=notes)
        attacked = ("fgsm", "noise", *map(search_name, RADII), "unbounded", "square", "transfer")
        verdict = judged(Evidence(table, clean, rows.num_classes, attacked))
        details |= {name: spent(rows, name) for name in ("forwards", "backwards")}
        return Found(verdicts=[verdict], details=details, notes=notes)

    def shown(self, part: SuitePart) -> Shown:
        """Show the verdict alone, beside the attacks that it is of."""
        return Shown(note=f"{self.norm}, eps {exact_name(self.eps)}", section="Attacks")

    def judge(self, key: str, parts: Mapping[str, SuitePart]) -> None:
        """Write the verdict into the parts of the attacks.

        One under a protocol gets that of the same protocol, if it was checked under it.
        """
        for name, part in parts.items():
            if part.kind != "attack" or part.status != "ok":
                continue
            own = f"masking@{name.partition('@')[2]}"
            if key == (own if own in parts else "masking"):
                rest = [verdict for verdict in part.verdicts if verdict.title != TITLE]
                part.verdicts = [*rest, *parts[key].verdicts]

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn unless the verdict is clean."""
        return [
            Warn(
                code="W-MASKING",
                suite=key,
                message=f"masking verdict {verdict.verdict}: {verdict.reason}",
            )
            for verdict in parts[key].verdicts
            if verdict.verdict != "clean"
        ]


@dataclass(frozen=True, kw_only=True)
class OpenedMasking(PreparedMasking):
    """The checks with the surrogate at hand."""

    surrogate: RobustModel | None = unrecorded()

    def parts(self, context: Context) -> list[Part]:
        """List one part a probe; none if too few samples are classified correctly.

        Raises:
            UsageError: the surrogate is a model of another task.
        """
        assert context.clean is not None, "the suite clean always runs first"
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
            *behaviour_parts(context, first),
            *gradient_parts(context, threat),
            *strength_parts(context, threat, self.surrogate),
        ]
        return [replace(part, select=part.select or checked, block=BLOCK) for part in parts]


@dataclass(frozen=True, kw_only=True)
class Masking(Suite):
    """Whether the model merely hides its gradients: checks on images that it classifies right."""

    recorded: ClassVar[type[Prepared]] = PreparedMasking

    norm: Norm = option("linf", parse=str, form="linf|l2")
    """Norm of the attacks that are in question: linf or l2."""

    eps: tuple[Fraction, ...] | None = option(
        None, parse=parse_eps, form="8/255", shown="8/255, in l2 1/2"
    )
    """Radius of these attacks in [0, 1] pixel units; of several the first."""

    masking_samples: int = SAMPLES
    """Most images that are checked, the first that are classified right in the seed's order."""

    surrogate: str | Path | RobustModel | None = option(None, form="MODEL", shown="none")
    """Another model of the same task, whose adversarial images are tried on the evaluated one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threat(self.norm, self.eps or ())
        headline_radius(self.norm, self.eps)
        if self.masking_samples < LEAST:
            raise UsageError(
                f"the masking checks need at least {LEAST} samples, got {self.masking_samples}",
                "switch them off with --masking off, or give more",
                code="E-MASKING",
            )

    def prepare(self, scene: Scene) -> OpenedMasking:
        """Load the surrogate.

        Raises:
            UsageError: it is a model of another task.
            IntakeError: it cannot be loaded, or has other classes.
        """
        from robustmix.models.checks import state_hash
        from robustmix.models.load import load_model

        given, robust = self.surrogate, scene.robust
        other = load_model(given) if isinstance(given, str | Path) else given
        if other is not None and (other.num_classes, other.input_size) != (
            robust.num_classes,
            robust.input_size,
        ):
            raise UsageError(
                f"the surrogate has {other.num_classes} classes and takes images "
                f"{other.input_size}, the model {robust.num_classes} and {robust.input_size}",
                "give a model of the same task",
                code="E-SURROGATE",
            )
        if other is not None:
            check_class_names(other, scene.data)
        return OpenedMasking(
            norm=self.norm,
            eps=headline_radius(self.norm, self.eps),
            samples=self.masking_samples,
            not_taken=(self.eps or ())[1:],
            surrogate_sha256=None if other is None else state_hash(other),
            surrogate=other,
        )
