"""The numbers of suite ``occlusion`` from its rows, and what its conditions are called."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

import numpy as np

from robustmix.errors import IncompleteError
from robustmix.evaluation.params import read_fraction, recorded
from robustmix.evaluation.patches import (
    CONSTANT_FILLS,
    CountRule,
    Fill,
    is_aligned,
    mask_count,
    own_grid,
    patch_size,
    usual_grid,
)
from robustmix.evaluation.suite import (
    Found,
    Passes,
    Prepared,
    same_predictions,
)
from robustmix.metrics.curves import (
    Curve,
    area,
    curve_numbers,
    point_numbers,
    right_along,
    shown_curves,
)
from robustmix.metrics.definition import Definition, Numbers, mean, metric_path
from robustmix.report.rows import Rows
from robustmix.report.schema import CurvePart, Shown, SuitePart
from robustmix.report.text import sparkline
from robustmix.saliency.registry import SALIENCY
from robustmix.saliency.sources import COPIES
from robustmix.tables import Origin

RANDOM = ("random",)
RANKED = ("salient", "nonsalient")
"""The most salient patches first, or the least salient; nothing is random."""

REGIONAL = ("foreground", "background")
"""Patches with most of the object first, or with least; random among equals."""

MODES = (*RANDOM, *RANKED, *REGIONAL)

TENTHS = tuple(Fraction(k, 10) for k in range(11))
SMALL = tuple(Fraction(k, 20) for k in (0, 1, 2, 3, 4, 6, 8, 10, 14, 18, 20))
"""For images of 64 pixels or less: small networks collapse early, so the curve is denser there."""

NONE, ALL = "none", "all"
"""Conditions that all modes share: nothing hidden, everything hidden."""

MASS_NOTE = (
    "salient and nonsalient go by shares of the saliency, not of the patches; nonsalient shows its "
    "share and hides the rest, so that its curve runs backwards"
)

CLASSLESS = ("rollout", "attention", "center", "file")
"""Saliency sources that explain no class, whatever was asked for."""

PASSES = {
    "gradxinput": 1, "gradcam": 1, "smoothgrad": COPIES, "rollout": 1, "attention": 1, "center": 0,
    "file": 0,
}  # fmt: skip
"""Forward passes of an image that a source takes, each with its backward pass but for ATTENTIVE."""

ATTENTIVE = ("rollout", "attention")


@dataclass(frozen=True, kw_only=True)
class RankedBy:
    """Where the order of the modes ``salient`` and ``nonsalient`` comes from."""

    source: str
    explained: str
    """The class whose score is explained: the ``prediction`` for the clean image, or its label."""

    sha256: str | None
    """Of the file of maps, if there is one."""

    made: str = ""
    """What the file says of itself: a source, and the model that was asked."""

    def as_params(self) -> dict[str, str | None]:
        """Give it as reports record it."""
        made = {"made": self.made} if self.made else {}
        return {"source": self.source, "class": self.explained, "sha256": self.sha256, **made}

    @classmethod
    def of_params(cls, params: Mapping[str, Any]) -> "RankedBy":
        """Read it back.

        Raises:
            KeyError, TypeError: these are not its parameters.
        """
        found = cls(
            source=params["source"],
            explained=params["class"],
            sha256=params["sha256"],
            made=params.get("made", ""),
        )
        if not isinstance(found.source, str) or not isinstance(found.made, str):
            raise TypeError("a saliency source has a name")
        return found

    @property
    def of_the_model(self) -> bool:
        """Whether each model makes an order of its own; said of unknown sources, to be safe."""
        return self.source not in SALIENCY or SALIENCY.row(self.source).of_the_model


@dataclass(frozen=True, kw_only=True)
class BoxesFile:
    """The file that says where the objects are; its place is nobody's business."""

    sha256: str | None


def _pair(text: str, between: str) -> tuple[int, int]:
    first, second = map(int, text.split(between))
    return first, second


@dataclass(frozen=True, kw_only=True)
class PreparedOcclusion(Prepared):
    """The curves for the images at hand: PatchDrop with nested masks."""

    kind: ClassVar[str] = "occlusion"

    modes: tuple[str, ...]
    """In the order of ``MODES``."""

    grid: tuple[int, int] = recorded(
        encode=lambda grid: f"{grid[0]}x{grid[1]}", decode=partial(_pair, between="x")
    )
    """Rows and columns of patches."""

    offset: tuple[int, int] = recorded(
        encode=lambda offset: f"{offset[0]},{offset[1]}", decode=partial(_pair, between=",")
    )
    ratios: tuple[Fraction, ...] = recorded(
        # As fractions, not decimals: 0.1 of older reports' records is 1/10.
        encode=lambda ratios: [str(ratio) for ratio in ratios],
        decode=lambda ratios: tuple(map(read_fraction, ratios)),
    )
    """Shares of hidden patches, rising from 0, each of another number of patches."""

    masked: tuple[int, ...]
    """Numbers of hidden patches."""

    fill: Fill
    trials: int
    mask_scope: str
    rounding: CountRule
    saliency: RankedBy | None = recorded(
        encode=lambda ranked: ranked and ranked.as_params(),
        decode=lambda params: params and RankedBy.of_params(params),
    )
    """None where no mode needs it."""

    boxes: BoxesFile | None
    """None where no mode needs it."""

    nonstandard: tuple[str, ...]
    """Parameters that are not those of the standard protocol, but of a published tool."""

    nearest_to: tuple[int, int] | None = recorded(None, omit_default=True)
    """The usual grid, where it does not divide the images and the nearest that does is taken."""

    mass: tuple[Fraction, ...] | None = recorded(
        None,
        encode=lambda shares: shares and [str(share) for share in shares],
        decode=lambda shares: shares and tuple(map(read_fraction, shares)),
        omit_default=True,
    )
    """Shares of the saliency by which modes salient and nonsalient go, rising from 0 to 1; None:
    they go by shares of the patches, as the others do. ``ratios`` are empty if no mode does."""

    def __post_init__(self) -> None:
        # What is read back may be a stranger's: points must be where the ratios say they are.
        if not self.modes or not set(self.modes) <= set(MODES):
            raise ValueError("the modes are not this suite's")
        if self.masked != tuple(mask_count(r, self.patches, self.rounding) for r in self.ratios):
            raise ValueError("the ratios hide other numbers of patches")
        if (self.saliency is not None) != bool(set(RANKED) & set(self.modes)):
            raise ValueError("the saliency does not go with the modes")
        if self.mass is not None and (
            self.saliency is None
            or tuple(sorted({Fraction(0), *self.mass, Fraction(1)})) != self.mass
        ):
            raise ValueError("the shares of the saliency do not rise from 0 to 1")

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def inner(self) -> tuple[int, ...]:
        """The numbers of hidden patches between the ends, which differ from mode to mode."""
        return tuple(count for count in self.masked if 0 < count < self.patches)

    def by_mass(self, mode: str) -> bool:
        """Tell whether a mode goes by shares of the saliency, not of the patches."""
        return self.mass is not None and mode in RANKED

    def inside(self, mode: str) -> dict[str, int | Fraction]:
        """Name a mode's conditions between the ends, and the patches or the saliency of each."""
        if self.by_mass(mode):
            assert self.mass is not None
            return {mass_name(mode, share): share for share in self.mass[1:]}
        return {condition_name(mode, count): count for count in self.inner}

    @property
    def hides_all(self) -> bool:
        """Whether a curve ends, or begins, with everything hidden."""
        kept = "nonsalient" in self.modes and self.by_mass("nonsalient")
        return kept or self.patches in self.masked

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The modes by what their orders are made from; those of one group share the work.

        Saliency comes first: what does not suit the model is found before the long work.
        """
        kinds = (RANKED, RANDOM, REGIONAL)
        found = (tuple(mode for mode in kind if mode in self.modes) for kind in kinds)
        return tuple(modes for modes in found if modes)

    def foreign(self) -> list[tuple[str, str, Origin | None]]:
        """Name the saliency source."""
        if self.saliency is None:
            return []
        return [("saliency", self.saliency.source, SALIENCY.origin(self.saliency.source))]

    def passes(self, n: int) -> Passes:
        """Count a pass a point, mode and trial, the ends once for all modes, and the saliency."""
        whole = self.hides_all
        ends = 1 + whole * (self.trials if self.fill == "noise" else 1)
        points = {mode: len(self.inside(mode)) for mode in self.modes}
        conditions = sum(points.values()) + 1 + whole
        trials = {mode: 1 if mode in RANKED else self.trials for mode in self.modes}
        forwards = sum(points[mode] * trials[mode] for mode in self.modes) + ends
        if self.saliency is None:
            return Passes(conditions, n * forwards, 0)
        source = self.saliency.source
        if source not in PASSES:
            return Passes(conditions, None, None)
        # Noisy copies cannot tell what the clean image is taken for.
        asked = source == "smoothgrad" and self.saliency.explained == "prediction"
        backwards = 0 if source in ATTENTIVE else PASSES[source]
        return Passes(conditions, n * (forwards + PASSES[source] + asked), n * backwards)

    def check(self, rows: Rows) -> None:
        """Refuse rows in which hiding nothing, or all, changed what it cannot change."""
        same_predictions(rows, NONE, "hiding nothing", code="E-RHO-ZERO")
        if ALL not in rows.conditions or self.fill not in CONSTANT_FILLS:
            return
        if len(np.unique(rows.column(ALL, "pred"))) > 1:
            raise IncompleteError(
                "images with everything hidden are equal, but their predictions are not",
                "make forward() deterministic and independent of the batch",
                code="E-RHO-ONE",
            )

    def numbers(self, rows: Rows) -> Numbers:
        """Define each curve's area and its relatives, then every point of every curve."""
        numbers: Numbers = {}
        for mode in self.modes:
            numbers |= curve_numbers(rows, self._curve(mode))
        if set(RANKED) <= set(self.modes):
            numbers["", f"gap_area_{self._suffix('nonsalient_salient')}"] = partial(self._gap, rows)
        # By name, as they are in files of older versions: tables of numbers keep their order.
        for mode in sorted(self.modes):
            names = zip(self._points(mode), self._conditions(mode), strict=True)
            # The last point of a curve that runs backwards is the one of the whole image.
            points = dict(reversed([*names]) if self._backwards(mode) else names)
            numbers |= point_numbers(rows, points, trials=self._trials(mode))
        return numbers

    def _backwards(self, mode: str) -> bool:
        return mode == "nonsalient" and self.by_mass(mode)

    def _curve(self, mode: str) -> Curve:
        conditions, x = self._conditions(mode), self._x(mode)
        if self._backwards(mode):
            # What is shown rises along the curve; its numbers are over what is hidden.
            conditions, x = conditions[::-1], tuple(1 - share for share in x[::-1])
        return Curve(
            conditions=conditions,
            x=x,
            suffix=self._suffix(mode),
            note=self._note(mode),
            half="rho50",
            trials=self._trials(mode),
        )

    def _gap(self, rows: Rows) -> Definition:
        salient, nonsalient = (right_along(rows, self._curve(mode)) for mode in RANKED)
        if self.mass is None:
            areas = area((nonsalient - salient).T, np.array(self._x(RANKED[0])))
        else:
            places = [np.array(self._curve(mode).x) for mode in RANKED]
            areas = area(nonsalient.T, places[1]) - area(salient.T, places[0])
        note = "area under nonsalient minus area under salient"
        return mean(areas, direction="neither", note=note)

    def _x(self, mode: str) -> tuple[float, ...]:
        """The shares that are really hidden, which rounding moves off the ratios."""
        if self.by_mass(mode):
            assert self.mass is not None
            return tuple(map(float, self.mass))
        return tuple((np.array(self.masked) / self.patches).tolist())

    def _points(self, mode: str) -> tuple[str, ...]:
        """Name a mode's points in the report; those of the first mode bear no mode."""
        before = "" if mode == self.modes[0] else f"{mode}:"
        if self.by_mass(mode):
            assert self.mass is not None
            return tuple(f"{before}{share_name(share)}" for share in self.mass)
        return tuple(f"{before}{x:.6g}" for x in self._x(mode))

    def _conditions(self, mode: str) -> tuple[str, ...]:
        if self.by_mass(mode):
            return (ALL if self._backwards(mode) else NONE, *self.inside(mode))
        ends = {0: NONE, self.patches: ALL}
        return tuple(ends.get(count, condition_name(mode, count)) for count in self.masked)

    def _trials(self, mode: str) -> int | None:
        return 1 if mode in RANKED else None

    def _suffix(self, mode: str) -> str:
        mass = "" if self.mass is None or not set(RANKED) & {*mode.split("_")} else "mass_"
        return f"{self.fill}_{mode}_{mass}{self.grid[0]}x{self.grid[1]}"

    @property
    def _stand_in(self) -> str:
        if self.nearest_to is None:
            return ""
        (rows, columns), usual = self.grid, self.nearest_to
        return f"grid {rows}x{columns}, the nearest to {usual[0]}x{usual[1]} that divides"

    def _of_the_network(self, rows: Rows) -> str:
        """Say that the grid is the network's, where it is not the usual one anyway."""
        size = (rows.input_size[1], rows.input_size[2])
        if self.grid == usual_grid(size) or self.grid != own_grid(size, rows.token_patch):
            return ""
        return f"grid {self.grid[0]}x{self.grid[1]}, that of the network's own patches"

    @property
    def _departures(self) -> list[str]:
        """Say what differs from the standard protocol, as in a published tool."""
        found = []
        if "mask_scope" in self.nonstandard:
            found.append(f"one mask per {self.mask_scope.partition(':')[2]} samples")
        if "rounding" in self.nonstandard:
            found.append(f"counts rounded {self.rounding}")
        if self.mass is not None:
            found.append(MASS_NOTE)
        return found

    def _note(self, mode: str) -> str | None:
        notes = [self._stand_in] if self._stand_in else []
        if mode in RANKED and self.saliency is not None:
            made = f", {self.saliency.made}" if self.saliency.made else ""
            notes.append(f"saliency: {self.saliency.source}{made}")
            if self.saliency.of_the_model:
                notes.append("the model's own, so not for comparing models")
        if "mask_scope" in self.nonstandard and mode not in RANKED:
            notes.append(f"one mask per {self.mask_scope.partition(':')[2]} samples")
        if "rounding" in self.nonstandard and not self.by_mass(mode):
            notes.append(f"counts rounded {self.rounding}")
        if self.by_mass(mode):
            notes.append("over the share of the saliency that is hidden, not of the patches")
        return "; ".join(notes) or None

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report the curves, and what was hidden with what."""
        params, patch = self.params, patch_size(rows.input_size[1:], self.grid)
        notes = (self._stand_in, self._of_the_network(rows), "; ".join(self._departures))
        return Found(
            notes=[note for note in notes if note],
            curves=[self._drawn(mode, numbers) for mode in self.modes],
            details={
                "grid": params["grid"],
                "patch": list(patch),
                "aligned": is_aligned(patch, self.offset, rows.token_patch),
                "fill": self.fill,
                "modes": params["modes"],
                "trials": self.trials,
                "mask_scope": self.mask_scope,
                "saliency": params["saliency"],
                "curve_kind": "masked-share",
            }
            | ({} if self.mass is None else {"mass": params["mass"]}),
        )

    def _drawn(self, mode: str, numbers: SuitePart) -> CurvePart:
        auc = numbers.metrics[f"auc_{self._suffix(mode)}"].value or 0.0
        x_label, panel = "share of hidden patches", ""
        if self.by_mass(mode):
            x_label = "share of saliency hidden, of nonsalient: shown"
            panel = "by shares of the saliency"
        return CurvePart(
            name=mode,
            x_label=x_label,
            x=list(self._x(mode)),
            at=list(self._points(mode)),
            dotted="confidence",
            label=f"{mode}, area {100 * auc:.1f} %",
            panel=panel,
        )

    def shown(self, part: SuitePart) -> Shown:
        """Show the areas, with a small picture of the first curve."""
        line = sparkline([metric.value or 0.0 for metric in part.along(part.curves[0])])
        note = ", ".join(filter(None, (line, self._stand_in)))
        drawings = ["occlusion-curves"]
        shown = shown_curves(part, section="Occlusion and shuffling", drawings=drawings, note=note)
        return shown.model_copy(update={"own_choice": self._own_choice(part)})

    def _own_choice(self, part: SuitePart) -> list[str]:
        if self.saliency is None or not self.saliency.of_the_model:
            return []
        ranked = [mode for mode in RANKED if mode in self.modes]
        # The gap's name holds both modes; it is of their order as much as the areas are.
        names = sorted(part.metrics)
        areas = [name for name in names if any(f"_{mode}_" in name for mode in ranked)]
        points = [
            metric_path(at, name)
            for mode in ranked
            for at in part.curve(mode).at
            for name in sorted(part.condition(at))
        ]
        return areas + points


def condition_name(mode: str, count: int) -> str:
    """Name a condition of the rows, e.g. ``random/13``: so many patches are hidden."""
    return f"{mode}/{count}"


def mass_name(mode: str, share: Fraction) -> str:
    """Name a condition of the rows, e.g. ``salient/mass0.1``: such a share of the saliency."""
    return f"{mode}/mass{share_name(share)}"


def share_name(share: Fraction) -> str:
    """Name a share by its decimal where that is exact and short, else by the fraction.

    Example:
        >>> share_name(Fraction(1, 10)), share_name(Fraction(1)), share_name(Fraction(1, 3))
        ('0.1', '1', '1/3')
    """
    text = f"{float(share):g}"
    return text if Fraction(text) == share else str(share)
