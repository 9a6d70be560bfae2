"""Suite ``autoattack``: the ensemble of APGD-CE, APGD-T, FAB-T and Square over survivors."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from robustmix.attacks import AUTOATTACK, CountingModel, Member, Norm, ensemble, input_gradient
from robustmix.attacks.autoattack import fork_keys
from robustmix.errors import UsageError
from robustmix.evaluation.engine import Batch, Columns, Context, Done, Part
from robustmix.evaluation.suites.attack import (
    EPS,
    check_identity,
    check_threat,
    clean_columns,
    eight_bit,
    eight_bit_radius,
    eps_name,
    exact_name,
    headline,
    passes,
    pinned,
    point,
    scored,
    share,
)
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import AttackPart, MemberPart
from robustmix.rng import sample_keys

MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")
STEPS, QUERIES = 100, 5000
BATCH = 64
"""Samples that come together, in the order of the data set, whatever the batch size is."""

BLOCK = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoAttackSuite:
    """The standard parameters, each member on the samples that no earlier one has broken."""

    norm: Norm = "linf"
    eps: Fraction = EPS["linf"]
    """Radius in [0, 1] pixel units."""

    steps: int = STEPS
    """Of APGD and FAB. Another number than 100 is another, weaker test and named so."""

    queries: int = QUERIES
    """Of Square; likewise for other numbers than 5,000."""

    masking: bool = True
    """Whether the gradient-masking check is to run beside it; no number here depends on it."""

    part: ClassVar[type[AttackPart]] = AttackPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(
            norm=params["norm"],
            eps=Fraction(params["eps"]),
            steps=params["steps"],
            queries=params["queries"],
        )

    def __post_init__(self) -> None:
        check_threat(self.norm, self.eps, ())
        if self.steps < 1 or self.queries < 1:
            raise UsageError("expected at least one step and one query", code="E-STEPS")

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "autoattack"

    @property
    def trials(self) -> int:
        """One: the members search once."""
        return 1

    @property
    def attack(self) -> str:
        """What the ensemble may be called."""
        standard = (self.steps, self.queries) == (STEPS, QUERIES)
        return AUTOATTACK if standard else f"{AUTOATTACK}-shortened"

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "attack": self.attack,
            "norm": self.norm,
            "eps": exact_name(self.eps),
            "members": list(MEMBERS),
            "steps": self.steps,
            "targets": "the 9 highest other classes, all of them if there are fewer",
            "queries": self.queries,
            "reschedule": False,
            "restarts": 1,
            "seed": "of the run, one key a sample",
            "batch": BATCH,
            "label": "true",
            "space": "model_input",
        }

    def members(self, num_classes: int) -> tuple[Member, ...]:
        """Return the attacks.

        Raises:
            UsageError: fewer than 4 classes, or no torchattacks.
        """
        return ensemble(
            norm=self.norm,
            eps=float(self.eps),
            num_classes=num_classes,
            steps=self.steps,
            queries=self.queries,
        )

    def parts(self, context: Context) -> list[Part]:
        """Return the identity and one part a member, on what the parts before it have left.

        Raises:
            UsageError: fewer than 4 classes, or no torchattacks.
        """
        parts = [Part("clean", ("clean",), partial(self._clean, context))]
        for place, member in enumerate(self.members(context.robust.num_classes)):
            before = ("clean", *MEMBERS[:place])

            def survivors(done: Done, before: tuple[str, ...] = before) -> NDArray[np.int64]:
                return np.flatnonzero(~broken_by({name: done[name, 0] for name in before}))

            compute = partial(self._member, context, member)
            parts.append(
                Part(
                    member.name,
                    (member.name,),
                    compute,
                    select=survivors,
                    batch_size=BATCH,
                    block=BLOCK,
                )
            )
        return parts

    def _clean(self, context: Context, batch: Batch) -> Mapping[str, Columns]:
        images, model = batch.pixels(), CountingModel(context.model)
        gradient = input_gradient(model, images, batch.labels)
        found = scored(model, batch, images, images, norm=self.norm, eps=0.0)
        return {
            "clean": clean_columns(context, batch)
            | found
            | {
                "zero_gradient": (gradient == 0).flatten(1).float().mean(dim=1),
                "clipped": torch.zeros(len(images)),
                "uint8_correct": found["logits"].argmax(dim=1) == batch.labels,
            }
            | _shared_cost(model, len(images))
        }

    def _member(self, context: Context, member: Member, batch: Batch) -> Mapping[str, Columns]:
        images, model, eps = batch.pixels(), CountingModel(context.model), float(self.eps)
        keys = sample_keys(context.seed, "autoattack", eps_name(self.eps), 0, batch.sample_ids)
        own = fork_keys(keys.to(images.device), member.number)
        raw = member.attack(model, images, batch.labels, own)
        found = scored(model, batch, images, raw, norm=self.norm, eps=eps)
        wide = eight_bit_radius(eps, self.norm, images)
        rounded = scored(model, batch, images, eight_bit(raw), norm=self.norm, eps=wide)
        return {
            member.name: clean_columns(context, batch)
            | found
            | {
                "zero_gradient": torch.zeros(len(images)),  # that of the clean image counts
                "clipped": pinned(images, raw, eps=eps),
                "uint8_correct": rounded["logits"].argmax(dim=1) == batch.labels,
            }
            | _shared_cost(model, len(images))
        }

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> AttackPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables["autoattack"]
        clean = samples.tables["clean"].at("clean")
        check_identity(table.at("clean"), clean)
        final = final_rows(table)
        forwards, backwards = passes(table.columns)
        return AttackPart(
            status="ok",
            params=self.params(),
            attack=self.attack,
            metrics=headline(final, clean, final["uint8_correct"].astype(bool)),
            norm=self.norm,
            eps=float(self.eps),
            steps=self.steps,
            random_start=True,
            loss="ce, dlr, margin",
            targeted=True,
            sweep=[point(clean["correct"], Fraction(0)), point(final["correct"], self.eps)],
            members=self._members(table, facts["num_classes"]),
            forwards=forwards,
            backwards=backwards,
        )

    def _members(self, table: Table, num_classes: int) -> list[MemberPart]:
        found, before = [], {"clean": table.at("clean")}
        for name in MEMBERS:
            rows = table.at(name)
            before[name] = rows
            forwards, backwards = passes(rows)
            found.append(
                MemberPart(
                    name=name,
                    params=self._member_params(name, num_classes),
                    tried=int(rows["tested"].sum()),
                    broken=int((rows["tested"] & ~rows["correct"].astype(bool)).sum()),
                    robust_acc=share(~broken_by(before), "higher", f"after {name}"),
                    forwards=forwards,
                    backwards=backwards,
                )
            )
        return found

    def _member_params(self, name: str, num_classes: int) -> dict[str, Any]:
        # Not read off the ensemble: a report is recomputed where torchattacks is not installed.
        targets = min(9, num_classes - 1)
        climb: dict[str, Any] = {"steps": self.steps, "restarts": 1}
        params: dict[str, dict[str, Any]] = {
            "apgd-ce": climb | {"loss": "ce"},
            "apgd-t": climb | {"loss": "dlr", "targets": targets},
            "fab-t": climb | {"targets": targets},
            "square": {
                "queries": self.queries,
                "loss": "margin",
                "reschedule": False,
                "restarts": 1,
            },
        }
        return params[name]


def broken_by(rows: Mapping[str, Mapping[str, NDArray[Any]]]) -> NDArray[np.bool_]:
    """Return which samples are wrong in any of these conditions that tested them, (n,)."""
    wrong = [found["tested"] & ~found["correct"].astype(bool) for found in rows.values()]
    return np.asarray(np.array(wrong).any(axis=0))


def final_rows(table: Table) -> dict[str, NDArray[Any]]:
    """Return each sample's row of the last attack that tried it, of the clean image if none did."""
    final = {name: column.copy() for name, column in table.at("clean").items()}
    zero = final["zero_gradient"].copy()
    for member in MEMBERS:
        rows = table.at(member)
        for name, column in rows.items():
            final[name] = np.where(rows["tested"], column, final[name])
    return final | {"zero_gradient": zero}


def _shared_cost(model: CountingModel, n: int) -> Columns:
    """Return what a batch cost, in equal parts: an attack may not tell its samples apart."""
    return {
        "forwards": torch.full((n,), model.forwards / n, dtype=torch.float64),
        "backwards": torch.full((n,), model.backwards / n, dtype=torch.float64),
    }
