"""Suite ``fgsm``: the fast gradient sign method in pixel space, with an eps sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from robustmix.attacks import fgsm_step, input_gradient, rescore
from robustmix.errors import IncompleteError, UsageError
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.metrics.statistics import clustered_mean, proportion
from robustmix.report.metric import Metric
from robustmix.report.samples import Samples
from robustmix.report.schema import AttackPart, PointPart

SWEEP = tuple(Fraction(k, 255) for k in (0, 1, 2, 4, 8, 16, 32, 64, 255))
AREA_LIMIT = Fraction(16, 255)


def eps_name(eps: Fraction) -> str:
    """Return the name of a condition: ``8/255`` where that is exact, else the decimal.

    Example:
        >>> eps_name(Fraction(8, 255)), eps_name(Fraction(1, 10))
        ('8/255', '0.1')
    """
    levels = eps * 255
    return f"{levels.numerator}/255" if levels.denominator == 1 else f"{float(eps):g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FgsmSuite:
    """FGSM with the true label, no random start, scored over all samples."""

    eps: Fraction = Fraction(8, 255)
    """Radius that the headline metrics are for, in [0, 1] pixel units."""

    sweep: tuple[Fraction, ...] = SWEEP
    """Radii of the curve; 0 and the headline radius are always among them."""

    part: ClassVar[type[AttackPart]] = AttackPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(eps=Fraction(params["eps"]), sweep=tuple(map(Fraction, params["sweep"])))

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1 or any(not 0 <= e <= 1 for e in self.sweep):
            raise UsageError("eps is in [0, 1] pixel units", "write --eps 8/255", code="E-EPS")

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
        return tuple(sorted({Fraction(0), self.eps, *self.sweep}))

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "norm": "linf",
            "eps": eps_name(self.eps),
            "sweep": [eps_name(e) for e in self.radii],
            "steps": 1,
            "random_start": False,
            "loss": "ce-sum",
            "label": "true",
            "space": "model_input",
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one pass: the gradient is taken once and used for every radius."""
        eight_bit = f"{eps_name(self.eps)} 8-bit"
        conditions = (*map(eps_name, self.radii), eight_bit)

        def compute(batch: Batch) -> Mapping[str, Columns]:
            images = batch.pixels()
            gradient = input_gradient(context.model, images, batch.labels)
            zero = (gradient == 0).flatten(1).float().mean(dim=1)
            sign = gradient.sign()
            rows = {}
            for eps in self.radii:
                raw = fgsm_step(images, gradient, eps=float(eps))
                free = images + float(eps) * sign
                shares = {
                    "zero_gradient": zero,
                    "clipped": ((free < 0) | (free > 1)).flatten(1).float().mean(dim=1),
                }
                rows[eps_name(eps)] = _attack(context, images, raw, eps) | shares
                if eps == self.eps:
                    rounded = (raw * 255).round() / 255
                    radius = eps + Fraction(1, 510)  # half a grey level of rounding
                    rows[eight_bit] = _attack(context, images, rounded, radius) | shares
            return rows

        return [Part("sweep", conditions, compute)]

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> AttackPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables["fgsm"]
        clean = samples.tables["clean"].at("clean")
        if not np.array_equal(table.at("0/255")["pred"], clean["pred"]):
            raise IncompleteError(
                "an attack with eps 0 changed predictions: the model's answer is not repeatable",
                "make forward() deterministic and independent of the batch",
                code="E-EPS-ZERO",
            )
        headline = table.at(eps_name(self.eps))
        metrics = _headline(headline, clean["correct"].astype(bool))
        rounded = table.at(f"{eps_name(self.eps)} 8-bit")
        metrics["error_uint8"] = _share(~rounded["correct"].astype(bool), "lower")
        curve = np.stack([table.at(eps_name(e))["correct"] for e in self.radii]).astype(float)
        inside = [i for i, e in enumerate(self.radii) if e <= AREA_LIMIT]
        if len(inside) > 1 and self.radii[inside[-1]] == AREA_LIMIT:
            x = np.array([float(self.radii[i]) for i in inside])
            metrics["auc_eps_16"] = clustered_mean(
                np.trapezoid(curve[inside], x, axis=0) / float(AREA_LIMIT),
                unit="fraction",
                direction="higher",
                note="area under accuracy against eps from 0 to 16/255, divided by 16/255",
            )
        points = [self._point(table.at(eps_name(e)), float(e)) for e in self.radii]
        accuracy = curve.mean(axis=1)
        return AttackPart(
            status="ok",
            params=self.params(),
            metrics=metrics,
            eps=float(self.eps),
            sweep=points,
            nonmonotone=bool((np.diff(accuracy) > 0).any()),
        )

    def _point(self, rows: Mapping[str, NDArray[Any]], eps: float) -> PointPart:
        wrong = ~rows["correct"].astype(bool)
        return PointPart(
            x=eps,
            metrics={"error": _share(wrong, "lower"), "robust_acc": _share(~wrong, "higher")},
        )


def _attack(
    context: Context,
    images: torch.Tensor,
    adversarial: torch.Tensor,
    eps: Fraction,
) -> Columns:
    # The sum image + eps rounds to float32, so an exact step may measure longer by that much.
    checked = rescore(context.model, images, adversarial, norm="linf", eps=float(eps) + 1e-6)
    if checked.overshoot > 0:
        raise IncompleteError(
            f"the attack left its ball by {checked.overshoot:.2g}", code="E-ATTACK-BALL"
        )
    return {"logits": checked.logits, "linf": checked.linf, "l2": checked.l2}


def _share(hits: NDArray[np.bool_], direction: Any, note: str | None = None) -> Metric:
    return proportion(int(hits.sum()), len(hits), direction=direction, note=note)


def _headline(rows: Mapping[str, NDArray[Any]], clean: NDArray[np.bool_]) -> dict[str, Metric]:
    right = rows["correct"].astype(bool)
    broken = clean & ~right
    metrics = {
        "error": _share(~right, "lower", "over all samples; already wrong ones stay counted"),
        "robust_acc": _share(right, "higher"),
        "clean_acc": _share(clean, "higher"),
        "delta_error": clustered_mean(
            clean.astype(float) - right.astype(float), unit="fraction", direction="lower"
        ),
        "newly_right": _share(~clean & right, "neither", "wrong before the attack, right after"),
        "frac_zero_grad_samples": _share(rows["zero_gradient"] == 1, "lower"),
        "frac_zero_grad": _mean(rows["zero_gradient"], "fraction"),
        "frac_clipped": _mean(rows["clipped"], "fraction"),
        "linf": _mean(rows["linf"], "pixels", "mean over samples, in [0, 1] pixel units"),
        "max_linf": Metric(
            value=float(rows["linf"].max()),
            unit="pixels",
            direction="neither",
            n=len(right),
            reason="a maximum has no interval",
        ),
        "l2": _mean(rows["l2"], "pixels", "mean over samples, in [0, 1] pixel units"),
        "nll": clustered_mean(rows["nll"], unit="nats", direction="lower"),
    }
    if clean.any():
        metrics["asr"] = proportion(
            int(broken.sum()), int(clean.sum()), direction="lower", note="of the clean-correct"
        )
    else:
        metrics["asr"] = Metric(
            value=None, unit="fraction", direction="lower", n=0, reason="no sample is right clean"
        )
    return metrics


def _mean(values: NDArray[Any], unit: Any, note: str | None = None) -> Metric:
    return clustered_mean(values.astype(float), unit=unit, direction="neither", note=note)
