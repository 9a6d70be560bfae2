"""Searches of fixed steps: best and last iterate, and whether more steps would find more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import Attack, options_of, verify
from robustmix.attacks.doubts import Doubts
from robustmix.errors import IncompleteError
from robustmix.evaluation.params import eps_name, exact_name, recorded
from robustmix.evaluation.suite import Batch, Columns, Context, Done, Part, Passes
from robustmix.evaluation.suites.attack_rows import (
    IDENTITY,
    cost,
    eight_bit_name,
    pinned,
    rounded,
    scored,
    unattacked,
)
from robustmix.evaluation.suites.attack_work import SCORES, PreparedAttack, Tools
from robustmix.later import torch
from robustmix.metrics.attacked import NEVER, area_number, convergence_numbers
from robustmix.metrics.definition import Numbers
from robustmix.report.rows import Rows
from robustmix.rng import sample_keys, seeded_subset, subset_positions

CONVERGENCE = 512
"""Samples on which twice the steps are tried."""

BLOCK = 512
"""Samples between which a search can be interrupted."""


@dataclass(frozen=True, kw_only=True)
class Search(PreparedAttack):
    """A search of fixed steps, made again with twice as many to see whether it had converged."""

    attack: str = recorded("pgd", omit_default=True)
    sweep: tuple[Fraction, ...]
    """Every radius, rising from 0."""

    steps: int
    step_size: Fraction | None
    """At every radius; None: a share of the radius."""

    step_sizes: Mapping[str, Fraction]
    """What that makes at each radius."""

    restarts: int
    loss: str
    targeted: bool
    targets: int
    """Classes towards which it goes in turn; 0 if it is not targeted."""

    random_start: bool
    convergence_samples: int = CONVERGENCE
    eot: int = recorded(1, omit_default=True)
    """Passes that a gradient is the mean of, where the network is random."""

    batch: int | None = recorded(None, omit_default=True)
    """Samples that then come together in the order of the data set."""

    options: Mapping[str, Any] | None = recorded(None, omit_default=True)
    """Further ones of an attack that has some; ``pgd`` does not."""

    @property
    def looks(self) -> int:
        """Passes that a gradient is the mean of."""
        return self.eot

    @property
    def radii(self) -> tuple[Fraction, ...]:
        """Every radius, rising from 0."""
        return self.sweep

    def passes(self, n: int) -> Passes:
        """Bound a search a radius, and the longer one of a part of the samples."""
        searches, subset = len(self.radii) - 1, min(n, self.convergence_samples)
        goals = self.restarts * (self.targets or 1) * self.eot
        grades, around = goals * self.steps, goals * SCORES
        forwards = n * (2 + searches * (grades + around)) + subset * (2 * grades + around)
        backwards = n * (1 + searches * grades) + subset * 2 * grades
        return Passes(searches + 3, forwards, backwards, most=True)

    def parts(self, context: Context) -> list[Part]:
        """List the identity, one search a radius, and the longer search of the headline's."""
        tools, name, size = self.tools(context), eps_name(self.eps), self.batch
        parts = [Part("identity", (IDENTITY,), partial(self._identity, tools), batch_size=size)]
        for eps in self.radii[1:]:
            conditions = (eps_name(eps), *((eight_bit_name(eps),) if eps == self.eps else ()))
            compute = partial(self._search, tools, eps, self.steps, conditions)
            parts.append(
                Part(f"eps{float(eps):.5f}", conditions, compute, block=BLOCK, batch_size=size)
            )
        subset = seeded_subset(context.seed, context.data.sample_ids, self.convergence_samples)
        chosen = np.arange(len(context.data)) if subset is None else subset.numpy()

        def survivors(done: Done) -> NDArray[np.int64]:
            # The first half of the longer search is the search that was made.
            held: NDArray[np.bool_] = done[name, 0]["correct"].astype(bool)
            return chosen[held[chosen]]

        longer = (f"{name} 2k",)
        compute = partial(self._search, tools, self.eps, 2 * self.steps, longer)
        parts.append(Part("2k", longer, compute, select=survivors, block=BLOCK, batch_size=size))
        return self.drawn(context, parts)

    def _identity(self, tools: Tools, batch: Batch) -> Mapping[str, Columns]:
        images, doubts = batch.pixels(), Doubts()
        rows, _ = unattacked(tools.context.model, batch, images, doubts)
        doubts.settle()
        pred = rows["logits"].argmax(dim=1)
        found = {
            "first_step": torch.where(pred == batch.labels, NEVER, 0).int(),
            "last_pred": pred.int(),
        }
        return {IDENTITY: tools.own(batch) | rows | found | cost(1, 1, len(images), torch.int64)}

    def _search(
        self,
        tools: Tools,
        eps: Fraction,
        steps: int,
        conditions: Sequence[str],
        batch: Batch,
    ) -> Mapping[str, Columns]:
        images, model, norm = batch.pixels(), tools.context.model, self.norm
        radius, labels = float(eps), batch.labels
        keys = sample_keys(tools.context.seed, self.attack, eps_name(eps), 0, batch.sample_ids)
        found = tools.attack.outcome(
            model, images, labels, eps=radius, norm=norm, keys=keys,
            **self._options(tools.attack, eps, steps),
        )  # fmt: skip
        if found.last is None or found.first_step is None or found.zero_gradient is None:
            raise IncompleteError(
                f"the outcome of {self.attack} lacks first_step, last or zero_gradient",
                "register it without traced=True",
                code="E-ATTACK-RESULT",
            )
        ball: dict[str, Any] = {"norm": norm, "eps": radius, "doubts": (doubts := Doubts())}
        last = verify(model, images, labels, found.last, **ball).attacked
        shared = tools.own(batch) | {
            "zero_gradient": found.zero_gradient,
            "clipped": pinned(images, found.images, eps=radius),
            "first_step": found.first_step,
            "last_pred": last.logits.argmax(dim=1).int(),
        }
        best = scored(model, batch, images, found.images, **ball)
        # Two scorings: of the best image and of the last one.
        passes = {"forwards": found.forwards + 2, "backwards": found.backwards}
        rows = {conditions[0]: shared | best | passes}
        for condition in conditions[1:]:
            again = rounded(model, batch, images, found.images, **ball)
            rows[condition] = shared | again | cost(1, 0, len(images), torch.int64)
        doubts.settle()
        return rows

    def _options(self, attack: Attack[...], eps: Fraction, steps: int) -> dict[str, Any]:
        """Give the options, as far as the attack has them."""
        size = self.step_sizes.get(exact_name(eps))
        known: dict[str, Any] = {
            "steps": steps,
            "step_size": None if size is None else float(size),
            "restarts": self.restarts,
            "loss": self.loss,
            "targets": self.targets or None,
            "random_start": self.random_start,
            "eot": self.eot,
        }
        names = {option.name for option in options_of(attack)}
        return {name: known[name] for name in known if name in names} | dict(self.options or {})

    def numbers(self, rows: Rows) -> Numbers:
        """Define what shorter and longer searches find, the area, and the points."""
        subset = subset_positions(rows.seed, rows.view.sample_ids, self.convergence_samples)
        chosen = np.full(len(rows.view), subset is None)
        if subset is not None:
            chosen[subset] = True
        name = eps_name(self.eps)
        return (
            convergence_numbers(rows, name, steps=self.steps, subset=chosen[rows.order])
            | area_number(self.norm, self.radii, partial(self.right, rows))
            | super().numbers(rows)
        )

    def details(self, rows: Rows) -> dict[str, Any]:
        """Give the search's parameters."""
        size = self.step_sizes.get(exact_name(self.eps))
        return {
            "steps": self.steps,
            "step_size": None if size is None else float(size),
            "restarts": self.restarts,
            "random_start": self.random_start,
            "loss": self.loss,
            "targeted": self.targeted,
        }
