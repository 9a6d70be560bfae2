"""Numbers of attacks: what is left of the accuracy, and how far the images had to go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np

from robustmix.metrics.definition import Definition, Numbers, function, mean, share
from robustmix.metrics.metric import Direction, Unit
from robustmix.metrics.scores import BoolArray, FloatArray
from robustmix.report.rows import Rows

EIGHT_BIT = " 8-bit"
"""Ends the name of a condition whose adversarial images are rounded to the levels of a file."""

ALL_SAMPLES = "mean over samples, in [0, 1] pixel units"


@dataclass(frozen=True, eq=False)
class Attacked:
    """The images that an attack's numbers are of: those of its headline radius."""

    rows: Rows
    conditions: tuple[str, ...]
    """One condition; of an ensemble the clean images and then its members, each of which tested
    what those before had left."""

    @classmethod
    def of(cls, rows: Rows) -> "Attacked | None":
        """Find them; None for rows of another form, such as a published tool's."""
        if rows.has("uint8_correct"):
            return cls(rows, rows.conditions)
        # The headline radius is the one whose images were also rounded.
        named = [name for name in rows.conditions if name + EIGHT_BIT in rows.conditions]
        return cls(rows, (named[0],)) if named else None

    def after(self, name: str) -> FloatArray:
        """Give a column of each image after the attack, (n,): of the last that attacked it."""
        first, *members = self.conditions
        found: FloatArray = self.rows.column(first, name)[0]
        for member in members:
            tested = self.rows.column(member, "tested")[0] == 1
            found = np.where(tested, self.rows.column(member, name)[0], found)
        return found

    def zero_gradient(self) -> FloatArray:
        """Give each image's share of zero gradient entries, (n,); members have none."""
        found: FloatArray = self.rows.column(self.conditions[0], "zero_gradient")[0]
        return found

    def rounded(self) -> FloatArray:
        """Tell whether each image is classified correctly after rounding, (n,)."""
        if len(self.conditions) > 1:
            return self.after("uint8_correct")
        found: FloatArray = self.rows.column(self.conditions[0] + EIGHT_BIT, "correct")[0]
        return found

    def column(self, name: str) -> tuple[str, str] | None:
        """Say where in the rows a column stands; None if it is put together of several."""
        return (self.conditions[0], name) if len(self.conditions) == 1 else None

    def average(
        self, name: str, unit: Unit, direction: Direction = "neither", note: str | None = None
    ) -> Definition:
        """Define the mean of a column over all images."""
        where = self.column(name)
        return mean(self.after(name), unit=unit, direction=direction, note=note, column=where)


Number = Callable[[Attacked], Definition]


def of_attacks(define: Number) -> Callable[[Rows], Definition | None]:
    """Make a metric of attacks; a decorator."""

    def metric(rows: Rows) -> Definition | None:
        found = Attacked.of(rows)
        return None if found is None else define(found)

    metric.__doc__, metric.__name__ = define.__doc__, define.__name__
    return metric


@of_attacks
def error(found: Attacked) -> Definition:
    """Share of images that are wrong after the attack."""
    note = "over all samples; already wrong ones stay counted"
    return share(1 - found.after("correct"), direction="lower", note=note)


@of_attacks
def robust_acc(found: Attacked) -> Definition:
    """Share of images that are still right after the attack."""
    return share(found.after("correct"), column=found.column("correct"))


@of_attacks
def clean_acc(found: Attacked) -> Definition:
    """Share of images that were right before."""
    return share(found.rows.clean("correct"))


@of_attacks
def delta_error(found: Attacked) -> Definition:
    """Error that the attack adds."""
    return mean(found.rows.clean("correct") - found.after("correct"), direction="lower")


@of_attacks
def newly_right(found: Attacked) -> Definition:
    """Share of images that were wrong before and are right after the attack."""
    righted = (1 - found.rows.clean("correct")) * found.after("correct")
    return share(righted, direction="neither", note="wrong before the attack, right after")


@of_attacks
def asr(found: Attacked) -> Definition:
    """Share of the images that were right before and are wrong after the attack."""
    before = found.rows.clean("correct") == 1
    return share(
        before * (1 - found.after("correct")),
        direction="lower",
        within=before,
        note="of the clean-correct" if before.any() else None,
        reason=None if before.any() else "no sample is right clean",
    )


@of_attacks
def error_uint8(found: Attacked) -> Definition:
    """Share of images that are wrong after the attack and rounding to 8 bits."""
    return share(1 - found.rounded(), direction="lower", note="after rounding to 8 bits")


@of_attacks
def frac_zero_grad_samples(found: Attacked) -> Definition:
    """Share of images without any gradient."""
    return share(found.zero_gradient() == 1, direction="lower")


@of_attacks
def frac_zero_grad(found: Attacked) -> Definition:
    """Share of the gradients' entries that are exactly zero."""
    where = found.column("zero_gradient")
    return mean(found.zero_gradient(), direction="neither", column=where)


@of_attacks
def frac_clipped(found: Attacked) -> Definition:
    """Share of pixel values that [0, 1] held back before the ball did."""
    return found.average("clipped", "fraction")


@of_attacks
def linf(found: Attacked) -> Definition:
    """Mean of the largest change of a value."""
    return found.average("linf", "pixels", note=ALL_SAMPLES)


@of_attacks
def l2(found: Attacked) -> Definition:
    """Mean Euclidean length of the change."""
    return found.average("l2", "pixels", note=ALL_SAMPLES)


@of_attacks
def max_linf(found: Attacked) -> Definition:
    """Largest change of a value in any image."""
    return _largest(found.after("linf"))


@of_attacks
def max_l2(found: Attacked) -> Definition:
    """Largest Euclidean length of a change."""
    return _largest(found.after("l2"))


def _largest(values: FloatArray) -> Definition:
    def statistic(weights: FloatArray) -> FloatArray:
        return np.asarray(np.where(weights > 0, values, -np.inf).max(axis=1))

    return function(
        len(values), statistic, direction="neither", unit="pixels", interval="none",
        reason="a maximum has no interval",
    )  # fmt: skip


@of_attacks
def nll(found: Attacked) -> Definition:
    """Mean negative log-likelihood of the label after the attack."""
    return found.average("nll", "nats", "lower")


@of_attacks
def loss_raised(found: Attacked) -> Definition:
    """Share of images whose negative log-likelihood is higher after the attack."""
    raised = found.after("nll") > found.rows.clean("nll")
    return share(raised, direction="neither", note="loss higher than before")


def error_last(rows: Rows) -> Definition | None:
    """Share of images that are wrong at the last step of a search, which need not be its best."""
    found = Attacked.of(rows)
    if found is None or not rows.has("last_pred"):
        return None
    wrong = found.after("last_pred") != rows.labels
    return share(wrong, direction="lower", note="the iterate of the last step alone")


def point_numbers(points: Mapping[Fraction, Callable[[], FloatArray]]) -> Numbers:
    """Define error and accuracy at each radius; points give who is right, 0 or 1, (n,)."""
    numbers: Numbers = {}
    for eps, right in points.items():
        numbers[point_name(eps), "error"] = partial(_wrong, right)
        numbers[point_name(eps), "robust_acc"] = partial(_right, right)
    return numbers


def point_name(eps: Fraction) -> str:
    """Name a radius as the points of curves are named.

    Example:
        >>> point_name(Fraction(8, 255))
        '0.0313725'
    """
    return f"{float(eps):.6g}"


def _right(right: Callable[[], FloatArray]) -> Definition:
    return share(right())


def _wrong(right: Callable[[], FloatArray]) -> Definition:
    return share(1 - right(), direction="lower")


AREAS: dict[str, tuple[str, Fraction, str]] = {
    "linf": ("auc_eps_16", Fraction(16, 255), "16/255"),
    "l2": ("auc_eps_l2_1", Fraction(1), "255/255"),
}
"""Name of the area under the curve of each norm, up to which radius it goes, and its name."""


def area_number(
    norm: str, radii: Sequence[Fraction], right: Callable[[Fraction], FloatArray]
) -> Numbers:
    """Define the area under accuracy against eps, if a radius is exactly the end of it.

    Args:
        norm: decides how far the area goes.
        radii: rising, from 0.
        right: who is right at a radius, 0 or 1, (n,).
    """
    name, limit, end = AREAS[norm]
    inside = [eps for eps in radii if eps <= limit]
    if len(inside) < 2 or inside[-1] != limit:
        return {}

    def area() -> Definition:
        curve, x = np.stack([right(eps) for eps in inside]), np.array([float(e) for e in inside])
        note = f"area under accuracy against eps from 0 to {end}, divided by {end}"
        return mean(np.trapezoid(curve, x, axis=0) / float(limit), note=note)

    return {("", name): area}


NEVER = -1
"""Stands for the first step that reached the goal where none did."""


def convergence_numbers(rows: Rows, name: str, *, steps: int, subset: BoolArray) -> Numbers:
    """Define what half the steps of a search find, and what twice as many do on some images.

    Args:
        rows: with a condition ``NAME 2k``, the longer search of images that withstood the other.
        name: the condition of the search.
        steps: its gradient steps.
        subset: the images that the longer search was to take, (n,).
    """
    half, of = steps // 2, f"of a seeded subset of {int(subset.sum())}"

    def early() -> Definition:
        first = rows.column(name, "first_step")[0]
        found = (first != NEVER) & (first <= half)
        return share(found, direction="lower", note=f"after {half} of {steps} steps")

    def wrong() -> FloatArray:
        return np.asarray(1 - rows.column(name, "correct")[0])

    def more() -> FloatArray:
        longer = f"{name} 2k"
        return np.asarray(
            rows.column(longer, "tested")[0] * (1 - rows.column(longer, "correct")[0])
        )

    def double() -> Definition:
        note, either = f"after {2 * steps} steps, {of}", np.maximum(wrong(), more())
        return share(either, direction="lower", within=subset, note=note)

    return {
        ("", "error_half_steps"): early,
        ("", "error_subset"): lambda: share(wrong(), direction="lower", within=subset, note=of),
        ("", "error_double_steps"): double,
        ("", "unconverged"): lambda: mean(
            more(),
            direction="lower",
            within=subset,
            note=f"error that {steps} more steps add, {of}",
        ),
    }
