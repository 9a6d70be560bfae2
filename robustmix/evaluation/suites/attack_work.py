"""Attacks with everything decided: what they run, and which numbers follow from the rows.

How an attack is run depends on what its row in the table says it can do, never on its name:
``EachRadius`` calls it once for every radius, ``OneStep`` takes one gradient for all radii; a
``Search`` also tells whether it had converged, an ``Ensemble`` runs its members over survivors.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field

from robustmix.attacks import (
    ATTACKS,
    Attack,
    AttackRow,
    CountingModel,
    Norm,
    find_attack,
)
from robustmix.attacks.attack import is_plain
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.expectation import own_stream
from robustmix.errors import IncompleteError, RobustmixError
from robustmix.evaluation.faults import out_of_memory
from robustmix.evaluation.params import eps_name, exact_name, recorded
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Found,
    Part,
    Passes,
    Prepared,
    same_predictions,
)
from robustmix.evaluation.suites.attack_rows import (
    IDENTITY,
    SWEEPS,
    clean_rows,
    cost,
    eight_bit_name,
    levels,
    pinned,
    rounded,
    scored,
    taken,
    unattacked,
)
from robustmix.later import Tensor, torch
from robustmix.metrics.attacked import (
    area_number,
    point_name,
    point_numbers,
)
from robustmix.metrics.definition import Numbers
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import FloatArray
from robustmix.report.rows import Rows, damaged
from robustmix.report.schema import CurvePart, JsonDict, Shown, SuitePart, TablePart, Warn
from robustmix.report.schema import Part as Fields
from robustmix.rng import sample_keys
from robustmix.tables import Origin

Result = TypeVar("Result")

TARGETS = 9
"""Classes that a targeted search tries, one after another."""

BLOCK = 128
"""Samples between which long work can be interrupted."""

SCORES = 4
"""Most passes around a search: its plan, its best and its last image, the harness's own."""

SINGLE_STEP = (
    "FGSM is a single step: methods of the mixup family lower this error without becoming robust, "
    "as any attack of several steps shows; run the suite pgd beside it before drawing conclusions"
)


class MemberDetails(Fields):
    """One attack of an ensemble."""

    name: str
    params: JsonDict
    tried: int
    """Number of samples it attacked: those that no member before it had broken."""

    broken: int
    """How many of these it broke."""

    robust_acc: Metric
    """Of all samples, after this member."""

    forwards: int
    backwards: int


class AttackDetails(Fields):
    """What reports say of an attack beside its numbers."""

    norm: str
    eps: float
    attack: str = ""
    """What it is called where that is not the suite's name."""

    steps: int = 1
    """Gradient steps or queries of a search; 0 where it does not say."""

    step_size: float | None = None
    restarts: int = 1
    random_start: bool = False
    loss: str = "ce"
    targeted: bool = False
    space: str = "model_input"
    nonmonotone: bool = False
    """Whether accuracy rises anywhere along eps; a single step may overshoot, so it may."""

    members: list[MemberDetails] = Field(default_factory=list)
    forwards: int = 0
    """Forward passes of single images that the rows cost."""

    backwards: int = 0


@dataclass(frozen=True)
class Tools:
    """What every pass of an attack suite works with."""

    context: Context
    attack: Attack[...]
    before: Columns
    """What suite ``clean`` has of each sample."""

    def own(self, batch: Batch) -> Columns:
        """Take what suite ``clean`` has of a batch."""
        return taken(self.before, batch)


@dataclass(frozen=True, kw_only=True)
class PreparedAttack(Prepared):
    """What all attacks have in common."""

    kind: ClassVar[str] = "attack"

    attack: str
    """Its name in the table."""

    norm: Norm
    eps: Fraction
    """The headline radius."""

    label: str = "true"
    space: str = "model_input"

    @property
    def radii(self) -> tuple[Fraction, ...]:
        """Every radius, rising from 0."""
        return (Fraction(0), self.eps)

    @property
    def entry(self) -> str:
        """Name of the attack in the table."""
        return self.attack

    def foreign(self) -> list[tuple[str, str, Origin | None]]:
        """Name the attack, for the record where it is not robustmix's own."""
        return [("attack", self.entry, ATTACKS.origin(self.entry))]

    def tools(self, context: Context) -> Tools:
        """Open what the passes work with."""
        return Tools(context, find_attack(self.entry), clean_rows(context))

    @property
    def looks(self) -> int:
        """Passes that a gradient is the mean of; more than one of a network that is random."""
        return 1

    def drawn(self, context: Context, parts: Sequence[Part]) -> list[Part]:
        """Give parts whose random networks draw what follows from the seed and the samples."""
        if self.looks == 1:
            return list(parts)
        return [replace(one, compute=partial(_drawn, context.seed, one)) for one in parts]

    def same(self, rows: Rows, condition: str) -> None:
        """Refuse an attack of radius 0 that changed a prediction; a random network may do that.

        Raises:
            IncompleteError: it did.
        """
        if self.looks == 1:
            hint = "where it is to be random, attack it with pgd, apgd or mifgsm and --eot 20"
            same_predictions(rows, condition, "an attack with eps 0", code="E-EPS-ZERO", hint=hint)

    def check(self, rows: Rows) -> None:
        """Refuse an attack of radius 0 that changed a prediction, and images outside the ball."""
        self.same(rows, IDENTITY)
        for eps in self.radii:
            # What the attack returned was held against the ball; float32 rounds a little.
            if rows.column(eps_name(eps), self.norm).max() > float(eps) * (1 + 1e-5) + 1e-5:
                raise damaged(f"images at eps {eps_name(eps)} are farther from the clean ones")

    def right(self, rows: Rows, eps: Fraction) -> FloatArray:
        """Tell which images are classified correctly at a radius, 0 or 1, (n,)."""
        found: FloatArray = rows.column(eps_name(eps), "correct")[0]
        return found

    def numbers(self, rows: Rows) -> Numbers:
        """Define error and accuracy at every radius; what is of the headline is registered."""
        return point_numbers({eps: partial(self.right, rows, eps) for eps in self.radii})

    def details(self, rows: Rows) -> dict[str, Any]:
        """Give what differs from the defaults of ``AttackDetails``."""
        raise NotImplementedError

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report the curve, and what the rows cost."""
        curve = [float(self.right(rows, eps).mean()) for eps in self.radii]
        details = AttackDetails(
            norm=self.norm,
            eps=float(self.eps),
            nonmonotone=bool((np.diff(curve) > 0).any()),
            forwards=spent(rows, "forwards"),
            backwards=spent(rows, "backwards"),
            **self.details(rows),
        )
        sweep = CurvePart(
            name="sweep",
            x_label=f"eps in {self.norm}",
            x=[float(eps) for eps in self.radii],
            at=[point_name(eps) for eps in self.radii],
            y="robust_acc",
            scale="symlog",
            ticks=[eps_name(eps) for eps in self.radii],
            panel=self.norm,
        )
        members = [member_table(details.members)] if details.members else []
        return Found(
            curves=[sweep],
            tables=members,
            notes=self._headline_note() + self._random_note(),
            details=details.model_dump(mode="json"),
        )

    def shown(self, part: SuitePart) -> Shown:
        """Show what is left of the accuracy."""
        return shown_attack(part, f"{self.norm}, eps {exact_name(self.eps)}")

    def _random_note(self) -> list[str]:
        """Say what was made of a network that may be random."""
        if self.looks == 1:
            return []
        return [
            f"each gradient is the mean of {self.looks} passes; predictions are "
            "those of one, drawn by the run's seed"
        ]

    def _headline_note(self) -> list[str]:
        """Say which of the radii that were asked for is the headline's."""
        asked = [eps_name(eps) for eps in self.radii if eps]
        if len(asked) < 2 or {*self.radii} == {Fraction(0), self.eps, *SWEEPS[self.norm]}:
            return []
        first = eps_name(self.eps)
        return [f"of the radii {', '.join(asked)} the first given, {first}, is the headline's"]


def _drawn(seed: int, part: Part, batch: Batch) -> Mapping[str, Columns]:
    (key,) = sample_keys(seed, "draws", part.name, 0, batch.sample_ids[:1]).tolist()
    with own_stream(batch.labels.device, key % 2**63):
        return part.compute(batch)


def shown_attack(part: SuitePart, note: str) -> Shown:
    """Show what an attack leaves of the accuracy, of the numbers that there are."""

    def present(*names: str) -> list[str]:
        return [name for name in names if name in part.metrics]

    return Shown(
        headline=present("robust_acc", "error", "error_clamp_only", "asr", "auc_eps_16"),
        compared=present("robust_acc", "asr", "auc_eps_16"),
        gated=present("robust_acc"),
        note=note,
        section="Attacks",
        drawings=["attack-curves"],
    )


def spent(rows: Rows, column: str, *conditions: str) -> int:
    """Sum the passes of some conditions, all of them if none is named."""
    chosen = conditions or rows.conditions
    return round(float(sum(rows.column(condition, column).sum() for condition in chosen)))


def single_step_warnings(key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
    """Warn of a single step that has no attack of several steps beside it, once a report."""
    steps = {
        name: int(part.details.get("steps", 0))
        for name, part in parts.items()
        if part.kind == "attack" and part.status == "ok"
    }
    alone = [name for name, count in steps.items() if count == 1]
    if key not in alone[:1] or max(steps.values()) > 1:
        return []
    return [Warn(code="W-SINGLE-STEP", suite=key.partition("@")[0], message=SINGLE_STEP)]


@dataclass(frozen=True, kw_only=True)
class EachRadius(PreparedAttack):
    """Any attack: it is called once for every radius, and nothing is asked of it but images."""

    sweep: tuple[Fraction, ...] | None = recorded(None, omit_default=True)
    """Every radius, rising from 0; None: 0 and the headline's."""

    options: Mapping[str, Any]
    """The attack's own."""

    seed: str
    """What its random numbers follow from, in words."""

    batch: int | None = recorded(None, omit_default=True)
    """Samples that come together in the order of the data set, where what the attack finds or costs
    may depend on that; None: those of the evaluation."""

    @property
    def radii(self) -> tuple[Fraction, ...]:
        """Every radius, rising from 0."""
        return self.sweep or (Fraction(0), self.eps)

    def passes(self, n: int) -> Passes:
        """Bound the passes by the steps or queries of an attack that says what these cost."""
        row = ATTACKS.row(self.attack) if self.attack in ATTACKS else AttackRow("")
        steps, queries = self._told("steps", 0), self._told("queries", 0)
        if not row.step_passes or not (steps or queries):
            return Passes(len(self.radii) + 1, None, None)
        goals = self._told("restarts", 1) * (self._told("targets", 0) or 1)
        goals *= self._told(row.searches, 1) * self.looks
        searches = len(self.radii) - 1
        # A search and the gradient at the clean image, then the rounded images.
        forwards = searches * (goals * (row.step_passes * (steps + queries) + SCORES) + 2) + 1
        gradients = self._told(row.step_gradients, 1)
        backwards: int | None = n * searches * (goals * (gradients * steps + 1) + 1)
        if self.options.get("targets", 0) is None and row.every_class:
            backwards = None  # how many classes there are is not known here
        return Passes(len(self.radii) + 1, n * forwards, backwards, most=True)

    @property
    def looks(self) -> int:
        """Passes that a gradient is the mean of."""
        return self._told("eot", 1)

    def parts(self, context: Context) -> list[Part]:
        """List a pass a radius; that of the headline also scores radius 0 and rounded images."""
        tools, parts = self.tools(context), []
        for eps in self.radii[1:]:
            name = f"eps{float(eps):.5f}"
            conditions: tuple[str, ...] = (eps_name(eps),)
            if eps == self.eps:
                name, conditions = "attack", (IDENTITY, eps_name(eps), eight_bit_name(eps))
            compute = partial(self._rows, tools, eps)
            parts.append(Part(name, conditions, compute, batch_size=self.batch, block=BLOCK))
        return self.drawn(context, parts)

    def _rows(self, tools: Tools, eps: Fraction, batch: Batch) -> Mapping[str, Columns]:
        images, model, radius = batch.pixels(), tools.context.model, float(eps)
        doubts = Doubts()
        clean, _ = unattacked(model, batch, images, doubts)
        raw, forwards, backwards = self._attacked(tools, eps, images, batch)
        ball: dict[str, Any] = {"norm": self.norm, "eps": radius, "doubts": doubts}
        found = scored(model, batch, images, raw, **ball)
        shared = tools.own(batch) | {
            "zero_gradient": clean["zero_gradient"],
            "clipped": pinned(images, raw, eps=radius),
        }
        # The gradient at the clean image is charged to the attack, and the scoring of its images.
        spent = {"forwards": forwards + 2, "backwards": backwards + 1}
        rows = {eps_name(eps): shared | found | spent | self.beside(raw, batch)}
        if eps == self.eps:
            again = rounded(model, batch, images, raw, **ball) | self.beside(levels(raw), batch)
            # The clean images were scored on the way to their gradient.
            clean |= self.beside(images, batch)
            rows[IDENTITY] = shared | clean | cost(0, 0, len(images))
            rows[eight_bit_name(eps)] = shared | again | cost(1, 0, len(images))
        doubts.settle()
        return rows

    def given(self) -> Mapping[str, Any]:
        """Give what the attack is called with, beside what all attacks are."""
        return self.options

    def beside(self, images: Tensor, batch: Batch) -> Columns:
        """Give further columns of images, (n,); none, as a rule."""
        return {}

    def _attacked(
        self, tools: Tools, eps: Fraction, images: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give the attack's images, and the passes that it made of each sample, float64 (n,)."""
        model, n = CountingModel(tools.context.model), len(images)
        keys = sample_keys(tools.context.seed, self.attack, eps_name(eps), 0, batch.sample_ids)
        knobs = {"eps": float(eps), "norm": self.norm, "keys": keys, **self.given()}
        if not is_plain(tools.attack):
            found = self._called(
                partial(tools.attack.outcome, model, images, batch.labels, **knobs)
            )
            return found.images, found.forwards.double(), found.backwards.double()
        # Others' code may draw from torch's own stream; the same batch must give the same again.
        with own_stream(images.device, int(keys[0]) % 2**31):
            raw = self._called(partial(tools.attack, model, images, batch.labels, **knobs))
        # A function of whole batches does not tell what it cost each sample: all bear as much.
        passes = cost(model.forwards / n, model.backwards / n, n)
        return raw, passes["forwards"], passes["backwards"]

    def _called(self, call: Callable[[], Result]) -> Result:
        """Call an attack; what others' code raises fails this suite, not the whole evaluation.

        Raises:
            IncompleteError: it raised, and is not robustmix's own.
        """
        try:
            return call()
        except RobustmixError:
            raise
        except Exception as error:
            ours = self.attack in ATTACKS and ATTACKS.origin(self.attack) is None
            if ours or out_of_memory(error):  # the engine tries again with less
                raise
            raise IncompleteError(
                f"the attack {self.attack} raised {type(error).__name__}: {error}"[:500],
                "mend the attack, or leave it out",
                code="E-ATTACK-RAISED",
            ) from error

    def numbers(self, rows: Rows) -> Numbers:
        """Define the area under the curve, if one was asked for, and the points."""
        area = area_number(self.norm, self.sweep or (), partial(self.right, rows))
        return area | super().numbers(rows)

    def details(self, rows: Rows) -> dict[str, Any]:
        """Give what the options say, by the names that attacks have for the same things."""
        return {
            "attack": self.attack,
            "steps": self._told("steps", self._told("queries", 0)),
            "restarts": self._told("restarts", 1),
            "random_start": self._told("random_start", False),
            "loss": self._told("loss", "its own"),
            "targeted": self._told("targets", 0) > 0,
        }

    def _told(self, name: str, default: Result) -> Result:
        """Give an option by its usual name; a stranger may call something else so."""
        value = self.options.get(name, default)
        return value if type(value) is type(default) else default


@dataclass(frozen=True, kw_only=True)
class OneStep(PreparedAttack):
    """An attack of one step: the gradient is taken once and used for every radius."""

    attack: str = recorded("fgsm", omit_default=True)
    sweep: tuple[Fraction, ...]
    """Every radius, rising from 0."""

    steps: int = 1
    random_start: bool = False
    loss: str = "ce-sum"

    @property
    def radii(self) -> tuple[Fraction, ...]:
        """Every radius, rising from 0."""
        return self.sweep

    def passes(self, n: int) -> Passes:
        """Count a gradient, and a scoring of every other radius and of the rounded images."""
        radii = len(self.radii)
        return Passes(radii + 1, (radii + 1) * n, n)

    def parts(self, context: Context) -> list[Part]:
        """List one pass over all radii."""
        conditions = (*map(eps_name, self.radii), eight_bit_name(self.eps))
        return [Part("sweep", conditions, partial(self._rows, self.tools(context)))]

    def _rows(self, tools: Tools, batch: Batch) -> Mapping[str, Columns]:
        images, model, norm = batch.pixels(), tools.context.model, self.norm
        doubts = Doubts()
        unmoved, gradient = unattacked(model, batch, images, doubts)
        # The attack is this direction and a length: calling it would take a gradient a radius.
        direction = pkgutil.resolve_name(ATTACKS.row(self.attack).direction)(gradient, norm=norm)
        clean = tools.own(batch) | {"zero_gradient": unmoved["zero_gradient"]}
        rows: dict[str, Columns] = {}
        for eps in self.radii:
            if not eps:  # was scored on the way to the gradient, which its row bears the cost of
                rows[eps_name(eps)] = clean | unmoved | cost(1, 1, len(images), torch.int32)
                continue
            length = float(eps)
            free = images + length * direction
            raw = free.clamp(0, 1)
            clipped = ((free < 0) | (free > 1)).flatten(1).float().mean(dim=1)
            shared = clean | {"clipped": clipped} | cost(1, 0, len(images), torch.int32)
            ball: dict[str, Any] = {"norm": norm, "eps": length, "doubts": doubts}
            rows[eps_name(eps)] = shared | scored(model, batch, images, raw, **ball)
            if eps == self.eps:
                rows[eight_bit_name(eps)] = shared | rounded(model, batch, images, raw, **ball)
        doubts.settle()
        return rows

    def numbers(self, rows: Rows) -> Numbers:
        """Define the area under the curve, if it reaches its end, and the points."""
        area = area_number(self.norm, self.radii, partial(self.right, rows))
        return area | super().numbers(rows)

    def details(self, rows: Rows) -> dict[str, Any]:
        """Differ in nothing."""
        return {}

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn where no attack of several steps stands beside it."""
        return single_step_warnings(key, parts)


def member_table(members: Sequence[MemberDetails]) -> TablePart:
    """Say what each member of an ensemble did."""
    return TablePart(
        name="members",
        caption="Robust accuracy after each member of the ensemble",
        columns=["member", "attacked", "broken", "robust_acc", "low", "high", "n"],
        rows=[
            [
                member.name,
                member.tried,
                member.broken,
                member.robust_acc.value,
                *(member.robust_acc.ci or (None, None)),
                member.robust_acc.n,
            ]
            for member in members
        ],
        units={"robust_acc": "fraction", "low": "fraction", "high": "fraction"},
    )
