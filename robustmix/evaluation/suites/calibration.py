"""Suite ``calibration``: is a confidence of 80 % right eight times in ten?"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from robustmix.data.images import ImageSet
from robustmix.errors import RobustmixError, unknown_name
from robustmix.evaluation.held_out import CalibSplit, HeldOut, open_held_out, score_split
from robustmix.evaluation.options import option
from robustmix.evaluation.params import unrecorded
from robustmix.evaluation.shard import Divided
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Found,
    Part,
    Passes,
    Prepared,
    Scene,
    Suite,
)
from robustmix.later import torch
from robustmix.metrics.calibration import (
    BINS,
    bin_counts,
    binned_numbers,
    recalibrated,
    reliability_tables,
    scale,
    temperature_block,
)
from robustmix.metrics.definition import Numbers
from robustmix.metrics.from_logits import stored_logits
from robustmix.metrics.metric import FIRST_RULES, RULES
from robustmix.metrics.recalibration import RECALIBRATORS
from robustmix.metrics.scores import FloatArray, IntArray, order_by_id
from robustmix.metrics.temperature import (
    LOG_T_BOUND,
    FittedElsewhere,
    Temperature,
    fit_temperature,
    refuse_overlap,
    two_fold_temperature,
)
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples
from robustmix.report.schema import Shown, SuitePart, Warn

_PAPER = (
    "W-PAPER-ECE: ece_paper_tool repeats the arithmetic of a published script, which sorts the "
    "bins' accuracies and confidences independently; it is not a calibration error, and mostly "
    "smaller than one"
)
_BOUND = (
    "W-TEMPERATURE-BOUND: a temperature lies at the end of what is searched, "
    f"exp(-{LOG_T_BOUND:g}) to exp({LOG_T_BOUND:g}); the logits are of an odd scale, or too few "
    "samples were fitted to"
)
"""Said by the first rules, which showed such a temperature."""

_COLUMNS = ("T", "fit_nll_before", "fit_nll_after", "fit_converged", "fit_wrong", "fit_log_sd")
_FLAT = 1e9
"""Stands for an infinite standard error among the rows, which are finite."""

_FIRST_COLUMNS = 4
"""So many were there by the first rules."""


@dataclass(frozen=True, kw_only=True)
class PreparedCalibration(Prepared):
    """What the temperature is fitted to, and what is reported beside the errors."""

    kind: ClassVar[str] = "calibration"
    divided: ClassVar[Divided] = "whole"

    bins: tuple[int, ...]
    """Rising; 10 and 15 are always among them."""

    paper_tool: bool = False
    recalibrators: tuple[str, ...] = ()
    temperature: Literal["two-fold"] | HeldOut
    """Fitted to images that are held out, or to each half of the samples and judged on the other.
    """

    carried: float | None = None
    """Temperature that the model itself divides its logits by, of a calibrated checkpoint."""

    notes: tuple[str, ...] = ()
    """Why there is no calibration split, if one was expected."""

    def __post_init__(self) -> None:
        _check(self.bins, self.recalibrators)

    @property
    def _split(self) -> HeldOut | None:
        return self.temperature if isinstance(self.temperature, HeldOut) else None

    def order(self, view: Samples) -> IntArray:
        """Take the samples by their ids, which settles ties between confidences."""
        return order_by_id(view.sample_ids)

    def passes(self, n: int) -> Passes:
        """Count the passes over the calibration images; the clean logits are shared."""
        return Passes(0, 0 if self._split is None else self._split.n, 0)

    def numbers(self, rows: Rows) -> Numbers:
        """Define the errors over each number of bins; all others are in the table of metrics."""
        return binned_numbers(rows, bin_counts(self.bins), paper_tool=self.paper_tool)

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report the bins, the temperature and what was tried beside it."""
        tables = reliability_tables(rows, bin_counts(self.bins))
        temperature = temperature_block(scale(rows, self._fitted(rows.view)))
        if self._split is not None:
            temperature["source"] = self._split.source
        if self.carried is not None:
            temperature["carried"] = self.carried
        details = {
            "bins_10": tables.pop(10),
            "bins_15": tables.pop(15),
            "bins": {str(b): table for b, table in tables.items()},
            "temperature": temperature,
            "recalibrated": recalibrated(rows, self.recalibrators),
        }
        return Found(notes=self._remarks(temperature), details=details)

    def _fitted(self, view: Samples) -> FittedElsewhere | None:
        if self._split is None:
            return None
        n, ids = self._split.n, self._split.ids_sha256
        return FittedElsewhere(fit=_fit_in(view, n), n=n, ids_sha256=ids)

    def _remarks(self, temperature: Mapping[str, Any]) -> list[str]:
        remarks = [*self.notes, *(self._split.notes if self._split else ())]
        if self.paper_tool:
            remarks.append(_PAPER)
        if "split" in temperature and temperature["T"] is None:
            remarks.append(
                f"W-TEMPERATURE: nothing is scaled by a temperature: {temperature['reason']}"
            )
        elif temperature.get("bound_hit"):
            remarks.append(_BOUND)
        elif temperature.get("converged") is False:
            remarks.append("W-TEMPERATURE: the fit of a temperature did not converge")
        return remarks

    def shown(self, part: SuitePart) -> Shown:
        """Show the ECE; a published tool's figure only where it was asked for."""
        wanted = ["ece_paper_tool", "ece_15", "ece_10", "gap"]
        scaled = "before scaling" if self.carried is None else f"calibrated, T = {self.carried:.3f}"
        return Shown(
            headline=[name for name in wanted if name in part.metrics],
            compared=["ece_15", "ece_10", "aurc"],
            note=scaled,
            section="Calibration",
            drawings=["reliability"],
        )

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn of what the notes say."""
        notes = [note.partition(": ") for note in parts[key].notes]
        return [Warn(code=code, suite=key, message=text) for code, _, text in notes]


@dataclass(frozen=True, kw_only=True)
class OpenedCalibration(PreparedCalibration):
    """With the images that the temperature is fitted to."""

    images: ImageSet | None = unrecorded()
    """None where two folds are made."""

    def parts(self, context: Context) -> list[Part]:
        """List the fit to the calibration images, or nothing: the clean logits are shared.

        Raises:
            UsageError: a sample is scored that the temperature, or the model's own one, was fitted
                to (``E-CALIB-OVERLAP``).
        """
        own = context.robust.info.calibration
        if own is not None:
            refuse_overlap(context.data.sample_ids, own["sample_ids"])
        if self.images is None:
            return []
        refuse_overlap(context.data.sample_ids, self.images.sample_ids)
        fit = functools.cache(functools.partial(_fit, context, self.images))  # once, not a batch

        def compute(batch: Batch) -> Mapping[str, Columns]:
            n = len(batch.indices)
            columns = {
                name: torch.full((n,), value, dtype=torch.float64)
                for name, value in zip(_COLUMNS, fit(), strict=True)
            }
            return {"held-out": columns}

        return [Part("fit", ("held-out",), compute)]


def _fit(context: Context, images: ImageSet) -> tuple[float, ...]:
    split = score_split(context.model, images, context.device)
    found = fit_temperature(split.logits, split.labels)
    columns = (found.T, found.nll_before, found.nll_after, float(found.converged))
    return *columns, float(found.wrong), min(found.log_sd, _FLAT)


@dataclass(frozen=True, kw_only=True)
class Calibration(Suite):
    """Calibration of the clean predictions, before and after temperature scaling."""

    recorded: ClassVar[type[Prepared]] = PreparedCalibration

    ece_bins: tuple[int, ...] = BINS
    """Numbers of bins of calibration errors; 10 and 15 are always among them."""

    recalibrate: tuple[str, ...] = option((), form="vector,isotonic")
    """Experimental recalibrators to try beside the temperature."""

    calib_data: str | ImageSet | None = option(
        None, form="NAME", shown="the training's validation split"
    )
    """Data set to fit the temperature to."""

    calib_split: CalibSplit = "auto"
    """Images to fit the temperature to: val (kept out of the training), two-fold (of the test
    images), or train or test of --calib-data."""

    paper_tool: bool = False
    """Add ece_paper_tool, a published script's figure, which is no ECE."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.ece_bins, self.recalibrate)

    def prepare(self, scene: Scene) -> OpenedCalibration:
        """Find the images to fit the temperature to.

        A validation split that the checkpoint records but that cannot be read is passed over with a
        note, unless it was asked for by name.
        """
        carried = scene.robust.info.calibration
        notes: tuple[str, ...] = ()
        try:
            split = open_held_out(
                scene.robust,
                calib_data=self.calib_data,
                calib_split=self.calib_split,
                data_dir=scene.folder,
                allow_partial=scene.allow_partial,
            )
        except RobustmixError as error:
            if self.calib_data is not None or self.calib_split != "auto":
                raise
            split, notes = (
                None,
                (
                    "W-CALIB-FALLBACK: the validation images of the training cannot be read "
                    f"({error.code}), so the temperature is fitted by two folds of the test images",
                ),
            )
        return OpenedCalibration(
            bins=bin_counts(self.ece_bins),
            paper_tool=self.paper_tool,
            recalibrators=self.recalibrate,
            temperature="two-fold" if split is None else split.record,
            carried=None if carried is None else float(carried["T"]),
            notes=notes,
            images=None if split is None else split.images,
        )


def _check(bins: Sequence[int], recalibrators: Sequence[str]) -> None:
    bin_counts(bins)
    for name in recalibrators:
        if name not in RECALIBRATORS:
            raise unknown_name("recalibrator", name, RECALIBRATORS)


def _fit_in(view: Samples, n: int) -> Temperature:
    row = view.tables["calibration"].at("held-out")
    t, before, after, converged = (float(row[name][0]) for name in _COLUMNS[:_FIRST_COLUMNS])
    wrong, log_sd = (
        (float(row[name][0]) for name in _COLUMNS[_FIRST_COLUMNS:])
        if _COLUMNS[-1] in row
        else (n, 0.0)
    )
    return Temperature(
        T=t,
        nll_before=before,
        nll_after=after,
        converged=bool(converged),
        bound_hit=math.isclose(abs(math.log(t)), LOG_T_BOUND),
        n=n,
        wrong=int(wrong),
        log_sd=log_sd,
    )


def clean_temperatures(
    samples: Samples, seed: int, *, rules: str = RULES
) -> tuple[FloatArray, dict[str, Any]] | None:
    """Give the temperature of each clean sample, fitted without it, for other suites.

    It is what suite ``calibration`` fitted to its calibration split, if that is among the rows;
    else it is fitted by two folds of the samples.

    Args:
        samples: with the rows of suite ``clean``.
        seed: seed of the folds.
        rules: ``RULES``, or those that the rows were made by.

    Returns:
        Temperatures (n,), and ``T T_fits split converged bound_hit`` of the fit, JSON-like; None
        for a single sample without a calibration split, and where the samples fitted to do not
        determine a temperature.
    """
    keys = ("T", "T_fits", "split", "converged", "bound_hit")
    if "calibration" in samples.tables:
        fit = _fit_in(samples, len(samples))
        if fit.reason is not None and rules != FIRST_RULES:
            return None
        known = (fit.T, [fit.T], "held-out", fit.converged, fit.bound_hit)
        return np.full(len(samples), fit.T), dict(zip(keys, known, strict=True))
    if len(samples) < 2:
        return None
    scaled = two_fold_temperature(
        stored_logits(samples),
        samples.labels,
        samples.sample_ids,
        seed=seed,
        replicates=0,
        rules=rules,
    )
    if scaled.reason is not None:
        return None
    block = scaled.as_dict()
    return scaled.temperature, {key: block[key] for key in keys}
