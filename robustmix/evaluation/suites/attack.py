"""What the attack suites share: radii and their names, per-sample rows, the common metrics."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.attacks import Norm, verify
from robustmix.errors import IncompleteError, UsageError
from robustmix.evaluation.engine import Batch, Columns, Context
from robustmix.metrics.intervals import clustered_mean, proportion
from robustmix.metrics.metric import Direction, Metric, Unit
from robustmix.report.schema import PointPart
from robustmix.types import Model

Rows: TypeAlias = Mapping[str, NDArray[Any]]
"""Columns (n,) of one condition."""

EPS: dict[Norm, Fraction] = {"linf": Fraction(8, 255), "l2": Fraction(1, 2)}
"""The radius where none is asked for, in [0, 1] pixel units."""

SWEEPS: dict[Norm, tuple[Fraction, ...]] = {
    "linf": tuple(Fraction(k, 255) for k in (0, 1, 2, 4, 8, 16, 32, 64, 255)),
    "l2": tuple(Fraction(k, 20) for k in (0, 1, 2, 5, 10, 20, 40, 80)),
}
"""The radii of a curve where none are asked for."""

AREAS: dict[Norm, tuple[str, Fraction]] = {
    "linf": ("auc_eps_16", Fraction(16, 255)),
    "l2": ("auc_eps_l2_1", Fraction(1)),
}
"""Name of the area under the curve, and up to which radius it goes."""


def eps_name(eps: Fraction) -> str:
    """Return the name of a condition: ``8/255`` where that is exact, else the decimal.

    Example:
        >>> eps_name(Fraction(8, 255)), eps_name(Fraction(1, 10))
        ('8/255', '0.1')
    """
    levels = eps * 255
    return f"{levels.numerator}/255" if levels.denominator == 1 else f"{float(eps):g}"


def exact_name(eps: Fraction) -> str:
    """Return what a radius is recorded as: its name, or the fraction where that is rounded.

    Example:
        >>> exact_name(Fraction(8, 255)), exact_name(Fraction(1, 10)), exact_name(Fraction(1, 7))
        ('8/255', '0.1', '1/7')
    """
    name = eps_name(eps)
    return name if Fraction(name) == eps else str(eps)


def eight_bit_name(eps: Fraction) -> str:
    """Return the name of the condition whose adversarial images are rounded to 8 bits."""
    return f"{eps_name(eps)} 8-bit"


def check_threat(norm: str, eps: Fraction, sweep: Sequence[Fraction]) -> None:
    """Refuse radii that cannot be meant.

    Raises:
        UsageError: an unknown norm, a headline radius of 0, or a radius outside [0, 1] pixel
            units, in which linf is bounded by 1.
    """
    if norm not in EPS:
        raise UsageError(f"unknown norm '{norm}'", "choose linf or l2", code="E-NORM")
    most = 1 if norm == "linf" else math.inf
    if not 0 < eps <= most or any(not 0 <= e <= most for e in sweep):
        raise UsageError("eps is in [0, 1] pixel units", "write --eps 8/255", code="E-EPS")


def radii_of(eps: Fraction, sweep: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Return every radius that is evaluated, rising: 0, the headline's and those of the sweep."""
    return tuple(sorted({Fraction(0), eps, *sweep}))


def clean_columns(context: Context, batch: Batch) -> Columns:
    """Return what the clean image of each sample gave: ``clean_pred`` and ``loss_before``."""
    assert context.clean is not None  # the suite clean always runs first
    rows, where = context.clean.at("clean"), batch.indices.numpy()
    return {
        "clean_pred": torch.from_numpy(rows["pred"][where]),
        "loss_before": torch.from_numpy(rows["nll"][where]),
    }


def scored(
    model: Model, batch: Batch, images: Tensor, raw: Tensor, *, norm: Norm, eps: float
) -> Columns:
    """Check an attack's images, score them, and return ``logits``, ``linf`` and ``l2``.

    Raises:
        IncompleteError: the attack left its ball (``E-ATTACK-BALL``).
    """
    found = verify(model, images, batch.labels, raw, norm=norm, eps=eps).attacked
    return {"logits": found.logits, "linf": found.linf, "l2": found.l2}


def eight_bit(images: Tensor) -> Tensor:
    """Return images rounded to the 256 levels that a file can hold."""
    return (images * 255).round() / 255


def eight_bit_radius(eps: float, norm: Norm, images: Tensor) -> float:
    """Return how far an image of the ball may lie from its centre after rounding to 8 bits."""
    half_level = 1 / 510
    return eps + half_level * (1 if norm == "linf" else math.sqrt(images[0].numel()))


def pinned(images: Tensor, adversarial: Tensor, *, eps: float) -> Tensor:
    """Return the share of values that [0, 1] holds back before the linf ball does, (N,)."""
    at_end = (adversarial <= 0) | (adversarial >= 1)
    short = (adversarial - images).abs() < eps - 1e-6
    return (at_end & short).flatten(1).float().mean(dim=1)


def constant(value: int, like: Tensor) -> Tensor:
    """Return a count that is the same for every sample, int32 (N,)."""
    return torch.full((len(like),), value, dtype=torch.int32)


def check_identity(rows: Rows, clean: Rows) -> None:
    """Refuse an attack of radius 0 that changed a prediction.

    Raises:
        IncompleteError: the model does not repeat its answers (``E-EPS-ZERO``).
    """
    if not np.array_equal(rows["pred"], clean["pred"]):
        raise IncompleteError(
            "an attack with eps 0 changed predictions: the model's answer is not repeatable",
            "make forward() deterministic and independent of the batch",
            code="E-EPS-ZERO",
        )


def share(hits: NDArray[np.bool_], direction: Direction, note: str | None = None) -> Metric:
    """Return a share of samples with its Wilson interval."""
    return proportion(int(hits.sum()), len(hits), direction=direction, note=note)


def mean(values: NDArray[Any], unit: Unit, note: str | None = None) -> Metric:
    """Return a mean over samples."""
    return clustered_mean(values.astype(float), unit=unit, direction="neither", note=note)


def headline(rows: Rows, clean: Rows, rounded: NDArray[np.bool_]) -> dict[str, Metric]:
    """Return the metrics of one radius.

    Args:
        rows: of the attack: ``correct nll linf l2 zero_gradient clipped``.
        clean: of the same samples: ``correct`` and ``nll``.
        rounded: whether the adversarial images are classified correctly after rounding to 8 bits.
    """
    right, before = rows["correct"].astype(bool), clean["correct"].astype(bool)
    metrics = {
        "error": share(~right, "lower", "over all samples; already wrong ones stay counted"),
        "robust_acc": share(right, "higher"),
        "clean_acc": share(before, "higher"),
        "delta_error": clustered_mean(
            before.astype(float) - right.astype(float), unit="fraction", direction="lower"
        ),
        "newly_right": share(~before & right, "neither", "wrong before the attack, right after"),
        "error_uint8": share(~rounded, "lower", "after rounding to 8 bits"),
        "frac_zero_grad_samples": share(rows["zero_gradient"] == 1, "lower"),
        "frac_zero_grad": mean(rows["zero_gradient"], "fraction"),
        "frac_clipped": mean(rows["clipped"], "fraction"),
        "linf": mean(rows["linf"], "pixels", "mean over samples, in [0, 1] pixel units"),
        "max_linf": _largest(rows["linf"]),
        "l2": mean(rows["l2"], "pixels", "mean over samples, in [0, 1] pixel units"),
        "max_l2": _largest(rows["l2"]),
        "nll": clustered_mean(rows["nll"], unit="nats", direction="lower"),
        "loss_raised": share(rows["nll"] > clean["nll"], "neither", "loss higher than before"),
    }
    if before.any():
        metrics["asr"] = proportion(
            int((before & ~right).sum()),
            int(before.sum()),
            direction="lower",
            note="of the clean-correct",
        )
    else:
        metrics["asr"] = Metric(
            value=None, unit="fraction", direction="lower", n=0, reason="no sample is right clean"
        )
    return metrics


def _largest(values: NDArray[Any]) -> Metric:
    return Metric(
        value=float(values.max()) if len(values) else None,
        unit="pixels",
        direction="neither",
        n=len(values),
        reason="a maximum has no interval" if len(values) else "no samples",
    )


def point(correct: NDArray[Any], eps: Fraction) -> PointPart:
    """Return one point of the accuracy-eps curve."""
    right = correct.astype(bool)
    return PointPart(
        x=float(eps),
        metrics={"error": share(~right, "lower"), "robust_acc": share(right, "higher")},
    )


def curve_area(correct: NDArray[Any], radii: Sequence[Fraction], norm: Norm) -> dict[str, Metric]:
    """Return the area under the accuracy-eps curve, if the curve reaches its end exactly.

    Args:
        correct: (radii, n).
        radii: rising, from 0.
        norm: decides how far the area goes.
    """
    name, limit = AREAS[norm]
    inside = [i for i, e in enumerate(radii) if e <= limit]
    if len(inside) < 2 or radii[inside[-1]] != limit:
        return {}
    x = np.array([float(radii[i]) for i in inside])
    end = eps_name(limit)
    return {
        name: clustered_mean(
            np.trapezoid(correct[inside].astype(float), x, axis=0) / float(limit),
            unit="fraction",
            direction="higher",
            note=f"area under accuracy against eps from 0 to {end}, divided by {end}",
        )
    }


def rises(correct: NDArray[Any]) -> bool:
    """Tell whether accuracy (radii, n) rises anywhere along eps."""
    return bool((np.diff(correct.astype(float).mean(axis=1)) > 0).any())


def passes(rows: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """Return the forward and backward passes of single images that a whole table cost."""
    return round(float(rows["forwards"].sum())), round(float(rows["backwards"].sum()))
