"""Suites ``torchattacks:NAME``: any attack of the optional package, under the harness's rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Self

import torch

from robustmix.attacks import CountingModel, Norm, input_gradient, torchattack
from robustmix.attacks.torchattacks_adapter import PREFIX, Option, options_of
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.suites.attack import (
    EPS,
    check_identity,
    check_threat,
    clean_columns,
    eight_bit,
    eight_bit_name,
    eight_bit_radius,
    eps_name,
    exact_name,
    headline,
    passes,
    pinned,
    point,
    scored,
)
from robustmix.report.samples import Samples
from robustmix.report.schema import AttackPart
from robustmix.rng import sample_keys

BATCH = 32
"""Samples that come together: the package draws one stream for all of a batch."""

BLOCK = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class ZooSuite:
    """One attack of torchattacks, with its own defaults but for radius, norm and seed."""

    attack: str
    """Name of the class, e.g. ``CW``."""

    norm: Norm = "linf"
    eps: Fraction = EPS["linf"]
    """Radius in [0, 1] pixel units; what an attack without a radius leaves outside does not count.
    """

    options: Mapping[str, Option] = field(default_factory=dict)
    """Further arguments of the class, e.g. ``{"steps": 20}``."""

    masking: bool = True
    """Whether the gradient-masking check is to run beside it; no number here depends on it."""

    part: ClassVar[type[AttackPart]] = AttackPart

    @classmethod
    def named(cls, name: str, **knobs: Any) -> Self:
        """Return the suite called ``torchattacks:NAME``.

        Args:
            name: with or without the prefix.
            knobs: fields of the suite; of the options only those are kept that the attack takes.

        Raises:
            UsageError: torchattacks is not installed, or it has no such attack.
        """
        attack = name.removeprefix(PREFIX)
        accepted = options_of(attack)
        options = {k: v for k, v in knobs.pop("options", {}).items() if k in accepted}
        return cls(attack=attack, options=options, **knobs)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(
            attack=params["attack"].removeprefix(PREFIX),
            norm=params["norm"],
            eps=Fraction(params["eps"]),
            options=params["options"],
        )

    def __post_init__(self) -> None:
        check_threat(self.norm, self.eps, ())

    @property
    def name(self) -> str:
        """Name in the report."""
        return PREFIX + self.attack

    @property
    def trials(self) -> int:
        """One."""
        return 1

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "attack": self.name,
            "norm": self.norm,
            "eps": exact_name(self.eps),
            "options": dict(self.options),
            "seed": "of the run and the first sample of each batch",
            "batch": BATCH,
            "label": "true",
            "space": "model_input",
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one pass over fixed batches."""
        conditions = ("0/255", eps_name(self.eps), eight_bit_name(self.eps))
        compute = partial(self._rows, context)
        return [Part("attack", conditions, compute, batch_size=BATCH, block=BLOCK)]

    def _rows(self, context: Context, batch: Batch) -> Mapping[str, Columns]:
        images, model, eps = batch.pixels(), CountingModel(context.model), float(self.eps)
        gradient = input_gradient(model, images, batch.labels)
        zero = (gradient == 0).flatten(1).float().mean(dim=1)
        (key,) = sample_keys(
            context.seed, self.name, eps_name(self.eps), 0, batch.sample_ids[:1]
        ).tolist()
        raw = torchattack(
            model,
            images,
            batch.labels,
            name=self.attack,
            eps=eps,
            seed=key % 2**31,
            norm=self.norm,
            options=self.options,
        )
        found = scored(model, batch, images, raw, norm=self.norm, eps=eps)
        wide = eight_bit_radius(eps, self.norm, images)
        rounded = scored(model, batch, images, eight_bit(raw), norm=self.norm, eps=wide)
        identity = scored(model, batch, images, images, norm=self.norm, eps=0.0)
        shared = clean_columns(context, batch) | {
            "zero_gradient": zero,
            "clipped": pinned(images, raw, eps=eps),
        }
        n = len(images)

        def cost(forwards: float, backwards: float) -> Columns:
            return {
                "forwards": torch.full((n,), forwards, dtype=torch.float64),
                "backwards": torch.full((n,), backwards, dtype=torch.float64),
            }

        whole = cost(model.forwards / n - 2, model.backwards / n)
        return {
            "0/255": shared | {"clipped": torch.zeros(n)} | identity | cost(1, 0),
            eps_name(self.eps): shared | found | whole,
            eight_bit_name(self.eps): shared | rounded | cost(1, 0),
        }

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> AttackPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables[self.name]
        clean = samples.tables["clean"].at("clean")
        check_identity(table.at("0/255"), clean)
        rows = table.at(eps_name(self.eps))
        rounded = table.at(eight_bit_name(self.eps))["correct"].astype(bool)
        forwards, backwards = passes(table.columns)
        steps = self.options.get("steps", 0)
        return AttackPart(
            status="ok",
            params=self.params(),
            attack=self.name,
            metrics=headline(rows, clean, rounded),
            norm=self.norm,
            eps=float(self.eps),
            steps=steps if isinstance(steps, int) else 0,
            loss="its own",
            sweep=[point(clean["correct"], Fraction(0)), point(rows["correct"], self.eps)],
            forwards=forwards,
            backwards=backwards,
        )
