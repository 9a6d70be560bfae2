"""AutoAttack: APGD-CE, APGD-T, FAB-T and Square, member by member over survivors."""

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import ATTACKS, Member
from robustmix.attacks.autoattack import fork_keys
from robustmix.attacks.doubts import Doubts
from robustmix.evaluation.params import eps_name, recorded
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Done,
    Part,
    Passes,
)
from robustmix.evaluation.suites.attack_rows import cost, pinned, rounded, scored, unattacked
from robustmix.evaluation.suites.attack_work import (
    BLOCK,
    SCORES,
    TARGETS,
    MemberDetails,
    PreparedAttack,
    Tools,
    spent,
)
from robustmix.later import torch
from robustmix.metrics.attacked import Attacked
from robustmix.metrics.definition import share
from robustmix.metrics.scores import FloatArray
from robustmix.report.rows import Rows
from robustmix.report.schema import JsonDict, Shown, SuitePart
from robustmix.rng import sample_keys

STANDARD = "standard"


@dataclass(frozen=True, kw_only=True)
class Ensemble(PreparedAttack):
    """AutoAttack: each member on the samples that no earlier one has broken."""

    entry_name: str = recorded("autoattack", omit_default=True)
    """Its name in the table; ``attack`` is what it may be called."""

    members: tuple[str, ...]
    version: str = recorded(STANDARD, omit_default=True)
    """``standard``, ``plus`` or ``rand``."""

    steps: int
    """Of APGD and FAB. Another number than 100 is another, weaker test and named so."""

    queries: int
    """Of Square; likewise for other numbers than 5,000."""

    targets: str = "the 9 highest other classes, all of them if there are fewer"
    reschedule: bool = False
    restarts: int = 1
    """Of APGD and FAB without targets."""

    eot: int = recorded(1, omit_default=True)
    """Passes that a gradient is the mean of, where the network is random."""

    seed: str = "of the run, one key a sample"
    batch: int | None = recorded(None, omit_default=True)
    """Samples that come together, of random networks and of reports from when FAB was a function of
    whole batches."""

    @property
    def entry(self) -> str:
        """Name of the attack in the table."""
        return self.entry_name

    @property
    def looks(self) -> int:
        """Passes that a gradient is the mean of."""
        return self.eot

    def passes(self, n: int) -> Passes:
        """Bound the members' passes, as if no sample were broken.

        FAB without targets goes back once for every class, and how many there are is not known.
        """
        climb, walk = self.eot * (self.steps + 1), 2 * self.steps
        forth = {
            "apgd-ce": self.restarts * climb,
            "apgd-dlr": self.restarts * climb,
            "apgd-t": TARGETS * climb,
            "fab": self.restarts * walk,
            "fab-t": TARGETS * walk,
            "square": self.queries,
        }
        back = forth | {"fab-t": TARGETS * self.steps, "square": 0}
        around = 2 + len(self.members) * SCORES
        forwards = n * (around + sum(forth.get(name, 0) for name in self.members))
        backwards = n * (1 + TARGETS + sum(back.get(name, 0) for name in self.members))
        known = None if "fab" in self.members else backwards
        return Passes(len(self.members) + 1, forwards, known, most=True)

    def parts(self, context: Context) -> list[Part]:
        """List the identity and one part a member, on what the parts before it have left.

        Raises:
            UsageError: fewer than 4 classes.
        """
        tools = self.tools(context)
        parts = [Part("clean", ("clean",), partial(self._clean, tools), batch_size=self.batch)]
        for member in members_of(self, context.robust.num_classes):
            before = ("clean", *self.members[: len(parts) - 1])

            def survivors(done: Done, before: tuple[str, ...] = before) -> NDArray[np.int64]:
                return np.flatnonzero(~broken_by([done[name, 0] for name in before]))

            parts.append(
                Part(
                    member.name,
                    (member.name,),
                    partial(self._member, tools, member),
                    select=survivors,
                    block=BLOCK,
                    batch_size=self.batch,
                )
            )
        return self.drawn(context, parts)

    def _clean(self, tools: Tools, batch: Batch) -> Mapping[str, Columns]:
        images, doubts = batch.pixels(), Doubts()
        found, _ = unattacked(tools.context.model, batch, images, doubts)
        doubts.settle()
        extra = {"uint8_correct": found["logits"].argmax(dim=1) == batch.labels}
        return {"clean": tools.own(batch) | found | extra | cost(1, 1, len(images))}

    def _member(self, tools: Tools, member: Member, batch: Batch) -> Mapping[str, Columns]:
        images, model, eps = batch.pixels(), tools.context.model, float(self.eps)
        keys = sample_keys(tools.context.seed, self.entry, eps_name(self.eps), 0, batch.sample_ids)
        own = fork_keys(keys.to(images.device), member.number)
        made = member.attack(model, images, batch.labels, own)
        raw = made.images
        ball: dict[str, Any] = {"norm": self.norm, "eps": eps, "doubts": (doubts := Doubts())}
        found = scored(model, batch, images, raw, **ball)
        again = rounded(model, batch, images, raw, **ball)
        doubts.settle()
        extra = {
            "zero_gradient": torch.zeros(len(images)),  # that of the clean image counts
            "clipped": pinned(images, raw, eps=eps),
            "uint8_correct": again["logits"].argmax(dim=1) == batch.labels,
        }
        # Its images are scored as they are and rounded.
        passes = {"forwards": made.forwards.double() + 2, "backwards": made.backwards.double()}
        return {member.name: tools.own(batch) | found | extra | passes}

    def shown(self, part: SuitePart) -> Shown:
        """Show what is left of the accuracy, and after which version if it is not the standard."""
        made = super().shown(part)
        if self.version == STANDARD:
            return made
        return made.model_copy(update={"note": f"{made.note}, version {self.version}"})

    def check(self, rows: Rows) -> None:
        """Refuse an identity that changed a prediction."""
        self.same(rows, "clean")

    def right(self, rows: Rows, eps: Fraction) -> FloatArray:
        """Tell which images no member has broken, 0 or 1, (n,)."""
        return (
            rows.clean("correct") if eps == 0 else Attacked(rows, rows.conditions).after("correct")
        )

    def details(self, rows: Rows) -> dict[str, Any]:
        """Tell of each member what it did."""
        return {
            "attack": self.attack,
            "steps": self.steps,
            "random_start": True,
            "loss": "ce, dlr, margin" if "square" in self.members else "ce, dlr",
            "targeted": "apgd-t" in self.members,
            "members": self._members(rows),
        }

    def _members(self, rows: Rows) -> list[MemberDetails]:
        found, params = [], self._member_params(rows.num_classes)
        done = [_tested(rows, "clean")]
        for name in self.members:
            done.append(_tested(rows, name))
            found.append(
                MemberDetails(
                    name=name,
                    params=params.get(name, {}),
                    tried=int(done[-1]["tested"].sum()),
                    broken=int(broken_by(done[-1:]).sum()),
                    robust_acc=share(~broken_by(done), note=f"after {name}").metric(),
                    forwards=spent(rows, "forwards", name),
                    backwards=spent(rows, "backwards", name),
                )
            )
        return found

    def _member_params(self, num_classes: int) -> dict[str, JsonDict]:
        # Not read off the members: a report is recomputed where they may not be installed.
        targets = min(TARGETS, num_classes - 1)
        several: JsonDict = {"steps": self.steps, "restarts": self.restarts}
        one: JsonDict = {"steps": self.steps, "restarts": 1}
        looks: JsonDict = {} if self.eot == 1 else {"eot": self.eot}
        known: dict[str, JsonDict] = {
            "apgd-ce": several | looks | {"loss": "ce"},
            "apgd-dlr": several | looks | {"loss": "dlr"},
            "apgd-t": one | {"loss": "dlr", "targets": targets},
            "fab": several | {"untargeted": True},
            "fab-t": one | {"targets": targets},
            "square": {
                "queries": self.queries,
                "loss": "margin",
                "reschedule": self.reschedule,
                "restarts": 1,
            },
        }
        return {name: known[name] for name in self.members if name in known}


def members_of(prepared: Ensemble, num_classes: int) -> tuple[Member, ...]:
    """Make the members of an ensemble.

    Raises:
        UsageError: fewer than 4 classes.
    """
    # Others' ensembles have but one version, and are not asked for it.
    more = {} if prepared.version == STANDARD else {"version": prepared.version}
    made: tuple[Member, ...] = pkgutil.resolve_name(ATTACKS.row(prepared.entry).members)(
        norm=prepared.norm,
        eps=float(prepared.eps),
        num_classes=num_classes,
        steps=prepared.steps,
        queries=prepared.queries,
        **more,
    )
    return made


def _tested(rows: Rows, condition: str) -> dict[str, FloatArray]:
    return {name: rows.column(condition, name)[0] for name in ("tested", "correct")}


def broken_by(rows: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[np.bool_]:
    """Tell which samples are wrong in any of these conditions that tested them, (n,)."""
    wrong = [(found["tested"] == 1) & (found["correct"] == 0) for found in rows]
    return np.asarray(np.array(wrong).any(axis=0))
