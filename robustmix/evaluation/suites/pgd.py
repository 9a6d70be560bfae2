"""Suite ``pgd``: projected gradient ascent, best and last iterate, with a convergence check."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.attacks import CountingModel, Loss, Norm, PgdOutcome, input_gradient, pgd, verify
from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.engine import Batch, Columns, Context, Done, Part
from robustmix.evaluation.planned import seeded_subset
from robustmix.evaluation.suites.attack import (
    EPS,
    check_identity,
    check_threat,
    clean_columns,
    curve_area,
    eight_bit,
    eight_bit_name,
    eight_bit_radius,
    eps_name,
    exact_name,
    headline,
    passes,
    pinned,
    point,
    radii_of,
    rises,
    scored,
    share,
)
from robustmix.metrics.intervals import clustered_mean
from robustmix.metrics.metric import Metric
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import AttackPart
from robustmix.rng import sample_keys

TARGETS = 9
"""Classes that a targeted search tries, one after another."""

CONVERGENCE = 512
"""Samples on which twice the steps are tried."""

BLOCK = 512
NEVER = -1

STEP_SHARES: dict[Norm, Fraction] = {"linf": Fraction(1, 4), "l2": Fraction(1, 5)}
"""Length of a step as a share of the radius, where none is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PgdSuite:
    """PGD with the true label; a sample counts as broken if any iterate is misclassified."""

    norm: Norm = "linf"
    eps: Fraction = EPS["linf"]
    """Radius that the headline metrics are for, in [0, 1] pixel units."""

    sweep: tuple[Fraction, ...] = ()
    """Further radii of the curve; each costs a whole search."""

    steps: int = 20
    step_size: Fraction | None = None
    """Length of a step at every radius; None: a quarter of the radius in linf, a fifth in l2."""

    restarts: int = 1
    loss: Loss = "ce"
    targeted: bool = False
    """Search towards each of the nine highest other classes in turn; as without targets, any wrong
    class counts."""

    random_start: bool = True
    masking: bool = True
    """Whether the gradient-masking check is to run beside it; no number here depends on it."""

    part: ClassVar[type[AttackPart]] = AttackPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(
            norm=params["norm"],
            eps=Fraction(params["eps"]),
            sweep=tuple(map(Fraction, params["sweep"])),
            steps=params["steps"],
            step_size=None if params["step_size"] is None else Fraction(params["step_size"]),
            restarts=params["restarts"],
            loss=params["loss"],
            targeted=params["targeted"],
            random_start=params["random_start"],
        )

    def __post_init__(self) -> None:
        check_threat(self.norm, self.eps, self.sweep)
        if self.loss not in get_args(Loss):
            raise unknown_name("loss", self.loss, get_args(Loss), code="E-LOSS")
        if self.steps < 1 or self.restarts < 1:
            raise UsageError(
                f"expected --steps >= 1 and --restarts >= 1, got {self.steps} and {self.restarts}",
                code="E-STEPS",
            )
        if self.step_size is not None and self.step_size <= 0:
            raise UsageError("the step size is positive", "write 2/255", code="E-STEP-SIZE")
        if self.restarts > 1 and not self.random_start:
            raise UsageError(
                "restarts without a random start repeat the same search",
                "drop --restarts or --no-random-start",
                code="E-RESTARTS",
            )

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "pgd"

    @property
    def trials(self) -> int:
        """One: restarts belong to a single search."""
        return 1

    @property
    def radii(self) -> tuple[Fraction, ...]:
        """Every radius that is evaluated, rising."""
        return radii_of(self.eps, self.sweep)

    def step(self, eps: Fraction) -> Fraction:
        """Return the length of a step at a radius."""
        return self.step_size or eps * STEP_SHARES[self.norm]

    def check_classes(self, num_classes: int) -> None:
        """Refuse a loss that needs more classes than there are.

        Raises:
            UsageError: DLR with fewer than 3 classes, targeted with fewer than 4.
        """
        least = 4 if self.targeted else 3
        if self.loss == "dlr" and num_classes < least:
            raise UsageError(
                f"the {'targeted ' if self.targeted else ''}DLR loss needs at least {least} "
                f"classes, got {num_classes}",
                "choose --loss ce or margin",
                code="E-LOSS",
            )

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "norm": self.norm,
            "eps": exact_name(self.eps),
            "sweep": [exact_name(e) for e in self.radii],
            "steps": self.steps,
            "step_size": None if self.step_size is None else exact_name(self.step_size),
            "step_sizes": {exact_name(e): exact_name(self.step(e)) for e in self.radii if e},
            "restarts": self.restarts,
            "loss": self.loss,
            "targeted": self.targeted,
            "targets": TARGETS if self.targeted else 0,
            "random_start": self.random_start,
            "label": "true",
            "space": "model_input",
            "convergence_samples": CONVERGENCE,
        }

    def parts(self, context: Context) -> list[Part]:
        """Return the identity, one search a radius, and the longer search of the headline's."""
        rounded, longer = eight_bit_name(self.eps), f"{eps_name(self.eps)} 2k"
        parts = [Part("identity", ("0/255",), partial(self._identity, context))]
        for eps in self.radii[1:]:
            conditions = (eps_name(eps), *((rounded,) if eps == self.eps else ()))
            compute = partial(self._search, context, eps, self.steps, conditions)
            parts.append(Part(f"eps{float(eps):.5f}", conditions, compute, block=BLOCK))
        subset = seeded_subset(context.seed, context.data.sample_ids, CONVERGENCE)
        chosen = np.arange(len(context.data)) if subset is None else subset.numpy()

        def survivors(done: Done) -> NDArray[np.int64]:
            # The first half of the longer search is the search that was made.
            held: NDArray[np.bool_] = done[eps_name(self.eps), 0]["correct"].astype(bool)
            return chosen[held[chosen]]

        compute = partial(self._search, context, self.eps, 2 * self.steps, (longer,))
        parts.append(Part("2k", (longer,), compute, select=survivors, block=BLOCK))
        return parts

    def _identity(self, context: Context, batch: Batch) -> Mapping[str, Columns]:
        images, model = batch.pixels(), CountingModel(context.model)
        gradient = input_gradient(model, images, batch.labels)
        rows = scored(model, batch, images, images, norm=self.norm, eps=0.0)
        pred = rows["logits"].argmax(dim=1)
        return {
            "0/255": clean_columns(context, batch)
            | rows
            | {
                "zero_gradient": (gradient == 0).flatten(1).float().mean(dim=1),
                "clipped": torch.zeros(len(images)),
                "first_step": torch.where(pred == batch.labels, NEVER, 0).int(),
                "last_pred": pred.int(),
                "forwards": torch.full((len(images),), 2),
                "backwards": torch.full((len(images),), 1),
            }
        }

    def _search(
        self,
        context: Context,
        eps: Fraction,
        steps: int,
        conditions: tuple[str, ...],
        batch: Batch,
    ) -> Mapping[str, Columns]:
        images, model, radius = batch.pixels(), CountingModel(context.model), float(eps)
        found = pgd(
            model,
            images,
            batch.labels,
            eps=radius,
            step_size=float(self.step(eps)),
            steps=steps,
            norm=self.norm,
            restarts=self.restarts,
            random_start=self.random_start,
            loss=self.loss,
            targets=TARGETS if self.targeted else None,
            keys=sample_keys(context.seed, "pgd", eps_name(eps), 0, batch.sample_ids),
        )
        last = verify(model, images, batch.labels, found.last, norm=self.norm, eps=radius)
        shared = clean_columns(context, batch) | {
            "zero_gradient": found.zero_gradient,
            "clipped": pinned(images, found.best, eps=radius),
            "first_step": first_step(found),
            "last_pred": last.attacked.logits.argmax(dim=1).int(),
        }
        costs = {"forwards": found.forwards + 2, "backwards": found.backwards}
        best = scored(model, batch, images, found.best, norm=self.norm, eps=radius)
        rows = {conditions[0]: shared | costs | best}
        for rounded in conditions[1:]:
            raw, wide = eight_bit(found.best), eight_bit_radius(radius, self.norm, images)
            free = {"forwards": torch.ones_like(found.forwards)}
            free["backwards"] = torch.zeros_like(found.backwards)
            again = scored(model, batch, images, raw, norm=self.norm, eps=wide)
            rows[rounded] = shared | free | again
        return rows

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> AttackPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables["pgd"]
        clean = samples.tables["clean"].at("clean")
        check_identity(table.at("0/255"), clean)
        name = eps_name(self.eps)
        rows = table.at(name)
        rounded = table.at(eight_bit_name(self.eps))["correct"].astype(bool)
        curve = np.stack([table.at(eps_name(e))["correct"] for e in self.radii])
        forwards, backwards = passes(table.columns)
        return AttackPart(
            status="ok",
            params=self.params(),
            metrics=headline(rows, clean, rounded)
            | _last(rows, samples)
            | self._convergence(table, samples, facts)
            | curve_area(curve, self.radii, self.norm),
            norm=self.norm,
            eps=float(self.eps),
            steps=self.steps,
            step_size=float(self.step(self.eps)),
            restarts=self.restarts,
            random_start=self.random_start,
            loss=self.loss,
            targeted=self.targeted,
            sweep=[point(table.at(eps_name(e))["correct"], e) for e in self.radii],
            nonmonotone=rises(curve),
            forwards=forwards,
            backwards=backwards,
        )

    def _convergence(
        self, table: Table, samples: Samples, facts: Mapping[str, Any]
    ) -> dict[str, Metric]:
        """Return the error after half the steps, and after twice the steps on a subset."""
        rows, longer = table.at(eps_name(self.eps)), table.at(f"{eps_name(self.eps)} 2k")
        half = self.steps // 2
        first = rows["first_step"].astype(int)
        early = (first != NEVER) & (first <= half)
        subset = seeded_subset(facts["seed"], samples.sample_ids, CONVERGENCE)
        chosen = np.arange(len(samples)) if subset is None else subset.numpy()
        wrong = ~rows["correct"][chosen].astype(bool)
        more = (longer["tested"].astype(bool) & ~longer["correct"].astype(bool))[chosen]
        of = f"of a seeded subset of {len(chosen)}"
        return {
            "error_half_steps": share(early, "lower", f"after {half} of {self.steps} steps"),
            "error_subset": share(wrong, "lower", of),
            "error_double_steps": share(
                wrong | more, "lower", f"after {2 * self.steps} steps, {of}"
            ),
            "unconverged": clustered_mean(
                more.astype(float),
                direction="lower",
                note=f"error that {self.steps} more steps add, {of}",
            ),
        }


def first_step(found: PgdOutcome) -> Tensor:
    """Return after how many steps each sample first reached the goal, int32 (N,); -1 for never.

    Of several restarts, the fewest steps of any.
    """
    first = found.reached_at.int().argmax(dim=0)
    return torch.where(found.reached_at.any(dim=0), first, NEVER).int()


def _last(rows: Mapping[str, NDArray[Any]], samples: Samples) -> dict[str, Metric]:
    wrong = rows["last_pred"] != samples.labels
    return {"error_last": share(wrong, "lower", "the iterate of the last step alone")}
