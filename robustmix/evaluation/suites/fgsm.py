"""Suite ``fgsm``: the fast gradient sign method in pixel space, with an eps sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np

from robustmix.attacks import CountingModel, Norm, fgsm_step, input_gradient
from robustmix.attacks.ball import ascent_direction
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.suites.attack import (
    EPS,
    SWEEPS,
    check_identity,
    check_threat,
    clean_columns,
    constant,
    curve_area,
    eight_bit,
    eight_bit_name,
    eight_bit_radius,
    eps_name,
    exact_name,
    headline,
    passes,
    point,
    radii_of,
    rises,
    scored,
)
from robustmix.report.samples import Samples
from robustmix.report.schema import AttackPart


@dataclass(frozen=True, kw_only=True, slots=True)
class FgsmSuite:
    """FGSM with the true label, no random start, scored over all samples."""

    norm: Norm = "linf"
    """``linf`` steps along the sign of the gradient, ``l2`` along the gradient itself."""

    eps: Fraction = EPS["linf"]
    """Radius that the headline metrics are for, in [0, 1] pixel units."""

    sweep: tuple[Fraction, ...] | None = None
    """Radii of the curve (None: those usual in the norm); 0 and the headline radius are always
    among them."""

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
        )

    def __post_init__(self) -> None:
        check_threat(self.norm, self.eps, self.sweep or ())

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "fgsm"

    @property
    def trials(self) -> int:
        """One: nothing is random."""
        return 1

    @property
    def radii(self) -> tuple[Fraction, ...]:
        """Every radius that is evaluated, rising."""
        return radii_of(self.eps, SWEEPS[self.norm] if self.sweep is None else self.sweep)

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "norm": self.norm,
            "eps": exact_name(self.eps),
            "sweep": [exact_name(e) for e in self.radii],
            "steps": 1,
            "random_start": False,
            "loss": "ce-sum",
            "label": "true",
            "space": "model_input",
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one pass: the gradient is taken once and used for every radius."""
        conditions = (*map(eps_name, self.radii), eight_bit_name(self.eps))

        def compute(batch: Batch) -> Mapping[str, Columns]:
            images, model = batch.pixels(), CountingModel(context.model)
            gradient = input_gradient(model, images, batch.labels)
            direction = ascent_direction(gradient, norm=self.norm)
            zero = (gradient == 0).flatten(1).float().mean(dim=1)
            clean = clean_columns(context, batch)
            rows: dict[str, Columns] = {}
            for eps in self.radii:
                raw = fgsm_step(images, gradient, eps=float(eps), norm=self.norm)
                free = images + float(eps) * direction
                shared = clean | {
                    "zero_gradient": zero,
                    "clipped": ((free < 0) | (free > 1)).flatten(1).float().mean(dim=1),
                    # The row of radius 0 also bears the cost of the gradient.
                    "forwards": constant(1 if eps else 2, images),
                    "backwards": constant(0 if eps else 1, images),
                }
                rows[eps_name(eps)] = shared | scored(
                    model, batch, images, raw, norm=self.norm, eps=float(eps)
                )
                if eps == self.eps:
                    radius = eight_bit_radius(float(eps), self.norm, images)
                    rows[eight_bit_name(eps)] = shared | scored(
                        model, batch, images, eight_bit(raw), norm=self.norm, eps=radius
                    )
            return rows

        return [Part("sweep", conditions, compute)]

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> AttackPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables["fgsm"]
        clean = samples.tables["clean"].at("clean")
        check_identity(table.at("0/255"), clean)
        rounded = table.at(eight_bit_name(self.eps))["correct"].astype(bool)
        curve = np.stack([table.at(eps_name(e))["correct"] for e in self.radii])
        forwards, backwards = passes(table.columns)
        return AttackPart(
            status="ok",
            params=self.params(),
            metrics=headline(table.at(eps_name(self.eps)), clean, rounded)
            | curve_area(curve, self.radii, self.norm),
            norm=self.norm,
            eps=float(self.eps),
            sweep=[point(table.at(eps_name(e))["correct"], e) for e in self.radii],
            nonmonotone=rises(curve),
            forwards=forwards,
            backwards=backwards,
        )
