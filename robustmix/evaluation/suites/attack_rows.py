"""What the attack suites share: radii as options, and the rows of single samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from robustmix.attacks import Goal, Norm, slope, verify
from robustmix.attacks.doubts import Doubts, not_finite
from robustmix.errors import IncompleteError, UsageError
from robustmix.evaluation.params import eps_name, read_fraction
from robustmix.evaluation.suite import Batch, Columns, Context
from robustmix.later import Tensor, torch
from robustmix.metrics.attacked import EIGHT_BIT
from robustmix.types import Model

EPS: dict[Norm, Fraction] = {"linf": Fraction(8, 255), "l2": Fraction(1, 2)}
"""The radius where none is asked for, in [0, 1] pixel units."""

SWEEPS: dict[Norm, tuple[Fraction, ...]] = {
    "linf": tuple(Fraction(k, 255) for k in (0, 1, 2, 4, 8, 16, 32, 64, 255)),
    "l2": tuple(Fraction(k, 20) for k in (0, 1, 2, 5, 10, 20, 40, 80)),
}
"""The radii of a curve that costs one gradient, where none are asked for."""

IDENTITY = "0/255"
"""Condition of radius 0."""


def parse_eps(text: str) -> tuple[Fraction, ...]:
    """Read radii such as ``8/255`` or ``8/255,4/255``, exactly.

    Raises:
        UsageError: one is no number.

    Example:
        >>> parse_eps("8/255,0.1")
        (Fraction(8, 255), Fraction(1, 10))
    """
    return tuple(parse_length(item) for item in text.split(","))


def parse_length(text: str) -> Fraction:
    """Read one length in [0, 1] pixel units, ``2/255`` or ``0.01``, exactly.

    Raises:
        UsageError: it is no number.
    """
    try:
        return read_fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"cannot read '{text[:40]}' as a length", "write 8/255 or 0.03", code="E-EPS"
        ) from None


def check_threat(norm: str, lengths: Sequence[Fraction], *, what: str = "eps") -> None:
    """Refuse an unknown norm, and lengths outside [0, 1] pixel units, in which linf is at most 1.

    Raises:
        UsageError: they are.
    """
    if norm not in EPS:
        raise UsageError(f"unknown norm '{norm[:40]}'", "choose linf or l2", code="E-NORM")
    for length in lengths:
        if length > 1 and norm == "linf":
            raise UsageError(
                f"{what} is in [0, 1] pixel units, got {length}",
                f"did you mean {length}/255?",
                code="E-EPS",
            )
        if length < 0:
            raise UsageError(f"{what} is not negative, got {length}", "write 8/255", code="E-EPS")


def headline_radius(norm: Norm, eps: Sequence[Fraction] | None) -> Fraction:
    """Give the radius that the headline is of: the first, or the usual one.

    Raises:
        UsageError: it is 0.
    """
    radius = eps[0] if eps else EPS[norm]
    if radius == 0:
        raise UsageError("an attack with eps 0 does nothing", "write --eps 8/255", code="E-EPS")
    return radius


def only_first_note(eps: Fraction, others: Sequence[Fraction]) -> list[str]:
    """Say that of several radii one is taken, where the suite has no curve."""
    asked = ", ".join(map(eps_name, (eps, *others)))
    return [f"of the radii {asked} only the first is taken"] if others else []


def eight_bit_name(eps: Fraction) -> str:
    """Name the condition whose adversarial images are rounded to 8 bits."""
    return eps_name(eps) + EIGHT_BIT


def clean_rows(context: Context) -> Columns:
    """Give what the clean image of each sample gave: ``clean_pred`` and ``loss_before``, (n,)."""
    assert context.clean is not None, "the suite clean always runs first"
    rows = context.clean.at("clean")
    return {
        "clean_pred": torch.from_numpy(rows["pred"]),
        "loss_before": torch.from_numpy(rows["nll"]),
    }


def taken(rows: Columns, batch: Batch) -> Columns:
    """Take the rows of a batch."""
    return {name: column[batch.indices] for name, column in rows.items()}


def scored(
    model: Model,
    batch: Batch,
    images: Tensor,
    raw: Tensor,
    *,
    norm: Norm,
    eps: float,
    doubts: Doubts,
) -> Columns:
    """Check an attack's images, score them, and give ``logits``, ``linf`` and ``l2``.

    What the check finds is left to ``doubts``, which the caller settles once a batch.

    Raises:
        IncompleteError: they are no images (``E-ATTACK-RESULT``), they lie outside the ball
            (``E-ATTACK-BALL``), or a logit is not finite (``E-NONFINITE``).
    """
    if raw.shape != images.shape:
        raise _no_images()
    doubts.note(not_finite(raw), _no_images)
    found = verify(model, images, batch.labels, raw, norm=norm, eps=eps, doubts=doubts).attacked
    return {"logits": found.logits, "linf": found.linf, "l2": found.l2}


def _no_images() -> IncompleteError:
    return IncompleteError(
        "the attack returned NaN, infinite pixels, or images of another shape",
        "mend the attack, or leave it out",
        code="E-ATTACK-RESULT",
    )


def unattacked(
    model: Model, batch: Batch, images: Tensor, doubts: Doubts
) -> tuple[Columns, Tensor]:
    """Give the rows of radius 0, and the gradient there, of one forward and one backward pass."""
    found = slope(model, images, Goal("ce", batch.labels), doubts)
    nothing = torch.zeros(len(images), device=images.device)
    rows = {
        "logits": found.logits,
        "linf": nothing,
        "l2": nothing,
        "zero_gradient": zeros_of(found.gradient),
        "clipped": nothing,
    }
    return rows, found.gradient


def zeros_of(gradient: Tensor) -> Tensor:
    """Give each sample's share of entries that are exactly zero, (N,)."""
    return (gradient == 0).flatten(1).float().mean(dim=1)


def rounded(
    model: Model,
    batch: Batch,
    images: Tensor,
    raw: Tensor,
    *,
    norm: Norm,
    eps: float,
    doubts: Doubts,
) -> Columns:
    """Score an attack's images after rounding to the 256 levels that a file can hold."""
    half_level = 1 / 510
    wide = eps + half_level * (1 if norm == "linf" else math.sqrt(images[0].numel()))
    return scored(model, batch, images, levels(raw), norm=norm, eps=wide, doubts=doubts)


def levels(images: Tensor) -> Tensor:
    """Round images to the 256 levels that a file can hold."""
    return (images * 255).round() / 255


def pinned(images: Tensor, adversarial: Tensor, *, eps: float) -> Tensor:
    """Give the share of values that [0, 1] holds back before the linf ball does, (N,)."""
    at_end = (adversarial <= 0) | (adversarial >= 1)
    short = (adversarial - images).abs() < eps - 1e-6
    return (at_end & short).flatten(1).float().mean(dim=1)


def cost(forwards: float, backwards: float, n: int, dtype: torch.dtype | None = None) -> Columns:
    """Give passes that are the same for every sample: ``forwards`` and ``backwards``, (n,)."""
    return {
        "forwards": torch.full((n,), forwards, dtype=dtype or torch.float64),
        "backwards": torch.full((n,), backwards, dtype=dtype or torch.float64),
    }
