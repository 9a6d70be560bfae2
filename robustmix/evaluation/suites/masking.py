"""Suite ``masking``: sixteen checks of whether the attacks' numbers can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import Norm
from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.masking.behaviour import PASSES, behaviour_parts
from robustmix.evaluation.masking.gradients import STEP, gradient_parts
from robustmix.evaluation.masking.probes import Evidence, Threat
from robustmix.evaluation.masking.screen import (
    PREFIX,
    Screen,
    checks_so_far,
    is_clear,
    screen_checks,
    screen_parts,
)
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
from robustmix.evaluation.masking.verdict import LEAST, TITLE, cleared, judged, too_few
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
from robustmix.evaluation.suites.surrogate import open_surrogate
from robustmix.later import RobustModel
from robustmix.metrics.definition import Numbers
from robustmix.report.rows import Rows, damaged
from robustmix.report.schema import CheckPart, Shown, SuitePart, VerdictPart, Warn
from robustmix.rng import sample_keys

SAMPLES = 512
BLOCK = 128

Design = Literal["sequential", "full"]


class Stage(TypedDict):
    """What reports say of a stage."""

    stage: Literal["screen", "full"]
    samples: int
    forwards: int
    """Passes of single images."""

    backwards: int
    blamed: list[str]
    """Its checks that did not pass; those of a screen are why the battery was made."""


USUAL = (280, 40)
"""Forward and backward passes that a sample of the full battery takes of a plain network."""

USUAL_SCREEN = (28, 13)
"""Those of the screen."""

OTHER_PROBES = 14
"""Most passes of the checks that are no search: gradients, differences, repetitions."""


@dataclass(frozen=True, kw_only=True)
class PreparedMasking(Prepared):
    """The checks, everything decided."""

    kind: ClassVar[str] = "masking"
    divided: ClassVar[Divided] = "one"
    own_correct: ClassVar[tuple[str, ...]] = ("repeat", f"{PREFIX}repeat")

    norm: Norm
    eps: Fraction
    samples: int
    """Most samples that are checked, the first correct ones of the seeded order."""

    design: Design | None = recorded(None, omit_default=True)
    """Which stages there are; None in reports of older versions, which have the full battery."""

    screen: Screen | None = recorded(None, omit_default=True)
    """How the screen is made, in the sequential design."""

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
        """Bound the passes, as if no sample were broken and no screen clear."""
        checked, transfer = min(n, self.samples), self.surrogate_sha256 is not None
        steps = (len(RADII) - 1) * STEPS + LONG + UNBOUNDED_STEPS
        attacks = len(RADII) + 3 + transfer * 2
        forwards = PASSES + NOISES + OTHER_PROBES + steps + QUERIES + attacks * SCORES
        bound = Passes(attacks + 9, checked * forwards, checked * (steps + OTHER_PROBES), most=True)
        if self.screen is None:
            return bound
        few, screen = min(checked, self.screen.samples), self.screen
        steps = screen.steps + STEPS + UNBOUNDED_STEPS
        attacks = 4 + transfer
        forwards = screen.repeats + screen.noises + OTHER_PROBES + steps + attacks * SCORES
        square = min(few, screen.survivors) * (screen.queries + SCORES)
        return Passes(
            bound.conditions + 14 + transfer,
            (bound.forwards or 0) + few * forwards + square,
            (bound.backwards or 0) + few * (steps + OTHER_PROBES),
            most=True,
        )

    def usual_passes(self, n: int) -> tuple[int, int]:
        """Tell the passes of a plain network, whose screen is clear."""
        checked = min(n, self.samples)
        each = USUAL if self.screen is None else USUAL_SCREEN
        if self.screen is not None:
            checked = min(checked, self.screen.samples)
        return checked * each[0], checked * each[1]

    def numbers(self, rows: Rows) -> Numbers:
        """Define none: what is found is a verdict."""
        return {}

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report the verdict, and what the checks cost."""
        details: dict[str, Any] = {
            "norm": self.norm,
            "eps": float(self.eps),
            "forwards": 0,
            "backwards": 0,
        }
        notes = only_first_note(self.eps, self.not_taken)
        table = rows.view.tables.get(rows.suite)
        clean = rows.view.tables["clean"].at("clean")
        if table is None:  # too few samples are right, so none was probed
            few = too_few(int(clean["correct"].sum()))
            return Found(verdicts=[few], details=details, notes=notes)
        stages: list[Stage] = []
        verdict: VerdictPart | None = None
        if self.screen is not None:
            checks = screen_checks(table, clean, num_classes=rows.num_classes, screen=self.screen)
            stages.append(_stage(rows, "screen", checks))
            if self._clear(checks):
                verdict = cleared(checks, stages[0]["samples"])
        if verdict is None:
            attacked = ("fgsm", "noise", *map(search_name, RADII))
            found = Evidence(
                table, clean, rows.num_classes, (*attacked, "unbounded", "square", "transfer")
            )
            if not found.n:
                raise damaged("the masking checks that were to decide are missing")
            verdict = judged(found)
            stages.append(_stage(rows, "full", verdict.checks))
        details |= {name: spent(rows, name) for name in ("forwards", "backwards")}
        if self.design is not None:
            details |= {"decided_by": stages[-1]["stage"], "stages": stages}
        return Found(verdicts=[verdict], details=details, notes=notes)

    def _clear(self, checks: Sequence[CheckPart]) -> bool:
        return is_clear(checks, surrogate=self.surrogate_sha256 is not None)

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

        screen = self.screen
        full = [
            *behaviour_parts(context, first),
            *gradient_parts(context, threat),
            *strength_parts(context, threat, self.surrogate),
        ]
        opening = full[0].conditions[0], 0

        def spared(done: Done) -> bool:
            if screen is None:
                return False
            if opening in done:  # decided when the battery's first part was due
                return not done[opening]["tested"].any()
            return self._clear(checks_so_far(context, screen, done))

        def taken(part: Part) -> Part:
            def select(done: Done) -> NDArray[np.int64]:
                if spared(done):
                    return chosen[:0]
                return chosen if part.select is None else part.select(done)

            return replace(part, select=select)

        parts = list(map(taken, full))
        if screen is not None:
            parts = [*screen_parts(context, threat, self.surrogate, screen, first), *parts]
        return [replace(part, block=BLOCK) for part in parts]


def _stage(rows: Rows, name: Literal["screen", "full"], checks: Sequence[CheckPart]) -> Stage:
    """Tell what a stage took, and which of its checks did not pass."""
    mine = [one for one in rows.conditions if one.startswith(PREFIX) == (name == "screen")]
    looked = np.any([rows.table.at(one)["tested"] for one in mine], axis=0)
    return {
        "stage": name,
        "samples": int(looked.sum()),
        "forwards": spent(rows, "forwards", *mine),
        "backwards": spent(rows, "backwards", *mine),
        "blamed": [one.id for one in checks if one.status in ("warn", "fail")],
    }


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

    masking_design: Design = "sequential"
    """sequential: a screen on a few of them, and the full battery only where that is not clear;
    full: the full battery on all of them, whatever a screen would say."""

    surrogate: str | Path | RobustModel | None = option(None, form="MODEL", shown="none")
    """Another model of the same task, whose adversarial images are tried on the evaluated one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threat(self.norm, self.eps or ())
        headline_radius(self.norm, self.eps)
        if self.masking_design not in get_args(Design):
            raise unknown_name(
                "masking design", self.masking_design, get_args(Design), code="E-MASKING"
            )
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

        other = None if self.surrogate is None else open_surrogate(self.surrogate, scene)
        return OpenedMasking(
            norm=self.norm,
            eps=headline_radius(self.norm, self.eps),
            samples=self.masking_samples,
            design=self.masking_design,
            screen=Screen() if self.masking_design == "sequential" else None,
            not_taken=(self.eps or ())[1:],
            surrogate_sha256=None if other is None else state_hash(other),
            surrogate=other,
        )
