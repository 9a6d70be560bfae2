"""Suite ``calibration``: is a confidence of 80 % right eight times in ten?"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from robustmix.errors import RobustmixError, unknown_name
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.held_out import CalibSplit, HeldOut, open_held_out, score_split
from robustmix.evaluation.suites.clean import stored_logits
from robustmix.metrics.calibration import BINS, bin_counts, calibration_metrics
from robustmix.metrics.recalibration import RECALIBRATORS
from robustmix.metrics.scores import FloatArray
from robustmix.metrics.temperature import (
    LOG_T_BOUND,
    FittedElsewhere,
    Temperature,
    fit_temperature,
    refuse_overlap,
    two_fold_temperature,
)
from robustmix.models.robust_model import RobustModel
from robustmix.report.samples import Samples
from robustmix.report.schema import CalibrationPart

_PAPER = (
    "W-PAPER-ECE: ece_paper_tool repeats the arithmetic of a published script, which sorts the "
    "bins' accuracies and confidences independently; it is not a calibration error, and mostly "
    "smaller than one"
)
_COLUMNS = ("T", "fit_nll_before", "fit_nll_after", "fit_converged")


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationSuite:
    """Calibration of the clean predictions; uses the rows of suite ``clean``.

    The temperature is fitted to images that are not scored: to a calibration split if there is one,
    else to one stratified half of the samples and judged on the other, both ways.
    """

    bins: tuple[int, ...] = BINS
    """Bin counts; 10 and 15 are always among them."""

    paper_tool: bool = False
    """Whether to add ``ece_paper_tool``, which is no ECE."""

    recalibrators: tuple[str, ...] = ()
    """Experimental ones to try beside the temperature: ``vector``, ``isotonic``."""

    calib_data: str | None = None
    """Data set to fit the temperature to."""

    calib_split: CalibSplit = "auto"
    data_dir: Path | None = field(default=None, repr=False, compare=False)
    """Where data sets lie."""

    held_out: HeldOut | None = None
    """The calibration split, once it is found."""

    carried: float | None = None
    """Temperature that the model itself divides its logits by, of a calibrated checkpoint."""

    notes: tuple[str, ...] = ()
    """Why there is no calibration split, if one was expected."""

    part: ClassVar[type[CalibrationPart]] = CalibrationPart

    def __post_init__(self) -> None:
        bin_counts(self.bins)
        for name in self.recalibrators:
            if name not in RECALIBRATORS:
                raise unknown_name("recalibrator", name, RECALIBRATORS)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        temperature = params["temperature"]
        held_out = None if temperature == "two-fold" else HeldOut.from_params(temperature)
        return cls(
            bins=tuple(params["bins"]),
            paper_tool=params.get("paper_tool", False),
            recalibrators=tuple(params.get("recalibrators", ())),
            held_out=held_out,
            carried=params.get("carried"),
            notes=tuple(params.get("notes", ())),
        )

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "calibration"

    @property
    def trials(self) -> int:
        """One: nothing is random but the halves, which the seed fixes."""
        return 1

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "bins": list(bin_counts(self.bins)),
            "paper_tool": self.paper_tool,
            "recalibrators": list(self.recalibrators),
            "temperature": "two-fold" if self.held_out is None else self.held_out.params(),
            "carried": self.carried,
            "notes": list(self.notes),
        }

    def resolved(self, robust: RobustModel, data_dir: Path | None = None) -> "CalibrationSuite":
        """Return the suite with its calibration split found; once found, it stays.

        A validation split that the checkpoint records but that cannot be read is passed over with a
        note, unless it was asked for by name.

        Args:
            robust: the model.
            data_dir: where data sets lie, if the suite does not say.

        Raises:
            UsageError: see ``open_held_out``.
            IntakeError: likewise.
        """
        carried = robust.info.calibration
        suite = replace(self, carried=None if carried is None else float(carried["T"]))
        if self.held_out is not None:
            return suite
        try:
            held_out = open_held_out(
                robust,
                calib_data=self.calib_data,
                calib_split=self.calib_split,
                data_dir=self.data_dir or data_dir,
            )
        except RobustmixError as error:
            if self.calib_data is not None or self.calib_split != "auto":
                raise
            note = (
                "W-CALIB-FALLBACK: the validation images of the training cannot be read "
                f"({error.code}), so the temperature is fitted by two folds of the test images"
            )
            return replace(suite, notes=(note,))
        return replace(suite, held_out=held_out)

    def parts(self, context: Context) -> list[Part]:
        """Return the fit to the calibration split, or nothing: the clean logits are shared.

        Raises:
            UsageError: a sample is scored that the temperature, or the model's own one, was fitted
                to (``E-CALIB-OVERLAP``).
        """
        carried = context.robust.info.calibration
        if carried is not None:
            refuse_overlap(context.data.sample_ids, carried["sample_ids"])
        if self.held_out is None:
            return []
        images = self.held_out.images
        assert images is not None, "the split was not opened"
        refuse_overlap(context.data.sample_ids, images.sample_ids)

        @functools.cache
        def fit() -> tuple[float, ...]:
            split = score_split(context.model, images, context.device)
            found = fit_temperature(split.logits, split.labels)
            return found.T, found.nll_before, found.nll_after, float(found.converged)

        def compute(batch: Batch) -> Mapping[str, Columns]:
            n = len(batch.indices)
            columns = {
                name: torch.full((n,), value, dtype=torch.float64)
                for name, value in zip(_COLUMNS, fit(), strict=True)
            }
            return {"held-out": columns}

        return [Part("fit", ("held-out",), compute)]

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> CalibrationPart:
        """Make the suite's part of the report from the rows alone."""
        result = calibration_metrics(
            stored_logits(samples),
            samples.labels,
            seed=facts["seed"],
            sample_ids=samples.sample_ids,
            held_out=self._fitted(samples),
            bins=self.bins,
            paper_tool=self.paper_tool,
            recalibrators=self.recalibrators,
        )
        temperature = dict(result.temperature)
        if self.held_out is not None:
            temperature["source"] = self.held_out.source
        if self.carried is not None:
            temperature["carried"] = self.carried
        return CalibrationPart(
            status="ok",
            params=self.params(),
            metrics=result.metrics,
            bins_10=result.bins_10,
            bins_15=result.bins_15,
            bins={str(b): table for b, table in result.bins.items() if b not in BINS},
            temperature=temperature,
            recalibrated=result.recalibrated,
            notes=self._remarks(temperature),
        )

    def _fitted(self, samples: Samples) -> FittedElsewhere | None:
        if self.held_out is None:
            return None
        return FittedElsewhere(
            fit=_fit_in(samples), n=self.held_out.n, ids_sha256=self.held_out.ids_sha256
        )

    def _remarks(self, temperature: Mapping[str, Any]) -> list[str]:
        remarks = [*self.notes, *(self.held_out.notes if self.held_out else ())]
        if self.paper_tool:
            remarks.append(_PAPER)
        if temperature.get("bound_hit"):
            remarks.append(
                f"W-TEMPERATURE-BOUND: a temperature lies at the end of what is searched, "
                f"exp(-{LOG_T_BOUND:g}) to exp({LOG_T_BOUND:g}); the logits are of an odd scale, "
                "or too few samples were fitted to"
            )
        if temperature.get("converged") is False:
            remarks.append("W-TEMPERATURE: the fit of a temperature did not converge")
        return remarks


def _fit_in(samples: Samples) -> Temperature:
    row = samples.tables["calibration"].at("held-out")
    t, before, after, converged = (float(row[name][0]) for name in _COLUMNS)
    return Temperature(
        T=t,
        nll_before=before,
        nll_after=after,
        converged=bool(converged),
        bound_hit=math.isclose(abs(math.log(t)), LOG_T_BOUND),
    )


def clean_temperatures(samples: Samples, seed: int) -> tuple[FloatArray, dict[str, Any]] | None:
    """Return the temperature of each clean sample, fitted without it, for other suites.

    It is what suite ``calibration`` fitted to its calibration split, if that is among the rows;
    else it is fitted by two folds of the samples.

    Args:
        samples: with the rows of suite ``clean``.
        seed: seed of the folds.

    Returns:
        Temperatures (n,), and ``T T_fits split converged bound_hit`` of the fit, JSON-like; None
        for a single sample without a calibration split.
    """
    keys = ("T", "T_fits", "split", "converged", "bound_hit")
    if "calibration" in samples.tables:
        fit = _fit_in(samples)
        known = (fit.T, [fit.T], "held-out", fit.converged, fit.bound_hit)
        return np.full(len(samples), fit.T), dict(zip(keys, known, strict=True))
    if len(samples) < 2:
        return None
    scaled = two_fold_temperature(
        stored_logits(samples), samples.labels, samples.sample_ids, seed=seed, replicates=0
    )
    block = scaled.as_dict()
    return scaled.temperature, {key: block[key] for key in keys}
