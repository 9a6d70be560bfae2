"""Suite ``occlusion``: accuracy as more and more random patches are hidden."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from robustmix.errors import IncompleteError, UsageError
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.masks import (
    FILLS,
    Fill,
    filling,
    mask_count,
    nested_masks,
    patch_size,
)
from robustmix.evaluation.metrics.conditions import condition_ece, shared_resamples
from robustmix.evaluation.metrics.statistics import (
    bootstrap,
    bootstrap_metric,
    bootstrap_rng,
    clustered_mean,
)
from robustmix.report.metric import Metric
from robustmix.report.samples import Samples
from robustmix.report.schema import OcclusionPart, PointPart
from robustmix.rng import sample_keys

TENTHS = tuple(Fraction(k, 10) for k in range(11))
SMALL = tuple(Fraction(k, 20) for k in (0, 1, 2, 3, 4, 6, 8, 10, 14, 18, 20))
"""For images of 64 pixels or less: small networks collapse early, so the curve is denser there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OcclusionSuite:
    """Random PatchDrop with one nested mask a sample and trial."""

    grid: tuple[int, int] | None = None
    """Rows and columns of patches; None: 8x8 up to 64 pixels, 14x14 above."""

    ratios: tuple[Fraction, ...] | None = None
    """Shares of hidden patches; None: denser near 0 up to 64 pixels, tenths above."""

    fill: Fill = "mean"
    trials: int = 5

    part: ClassVar[type[OcclusionPart]] = OcclusionPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        rows, columns = params["grid"].split("x")
        return cls(
            grid=(int(rows), int(columns)),
            ratios=tuple(map(Fraction, params["ratios"])),
            fill=params["fill"],
            trials=params["trials"],
        )

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"expected --trials >= 1, got {self.trials}")
        if self.fill not in FILLS:
            raise UsageError(f"unknown fill '{self.fill}'", "choose from " + ", ".join(FILLS))
        if self.ratios is not None and not all(0 <= r <= 1 for r in self.ratios):
            raise UsageError("ratios are shares of patches", "give values from 0 to 1")

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "occlusion"

    def resolved(self, size: tuple[int, int]) -> "OcclusionSuite":
        """Return the suite with grid and ratios chosen for images of ``size``."""
        small = max(size) <= 64
        grid = self.grid or ((8, 8) if small else (14, 14))
        patch_size(size, grid)
        ratios = self.ratios or (SMALL if small else TENTHS)
        return OcclusionSuite(
            grid=grid,
            ratios=tuple(sorted({Fraction(0), *ratios})),
            fill=self.fill,
            trials=self.trials,
        )

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        grid, ratios = self.grid, self.ratios
        assert grid is not None
        assert ratios is not None
        return {
            "mode": "random",
            "grid": f"{grid[0]}x{grid[1]}",
            "ratios": [str(r) for r in ratios],
            "masked": [mask_count(r, grid[0] * grid[1]) for r in ratios],
            "fill": self.fill,
            "trials": self.trials,
            "mask_scope": "sample",
            "rounding": "half-up",
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one pass a ratio and trial; constant ends of the curve are shared by trials."""
        assert self.grid is not None
        assert self.ratios is not None
        parts = []
        for ratio in self.ratios:
            count = mask_count(ratio, self.grid[0] * self.grid[1])
            whole = count == 0 or (ratio == 1 and self.fill != "noise")
            for trial in range(1 if whole else self.trials):
                compute = partial(self._rows, context, str(ratio), count, trial)
                name = f"ratio{float(ratio):.4f}"
                parts.append(Part(name, (str(ratio),), compute, trial, whole))
        return parts

    def _rows(
        self, context: Context, condition: str, count: int, trial: int, batch: Batch
    ) -> Mapping[str, Columns]:
        assert self.grid is not None
        images = batch.pixels()
        size = (images.shape[2], images.shape[3])
        scope = f"random/{self.grid[0]}x{self.grid[1]}"
        keys = sample_keys(context.seed, "occlusion", scope, trial, batch.sample_ids)
        (hidden,) = nested_masks(keys.to(images.device), [count], size, self.grid)
        show = filling(
            images,
            self.fill,
            mean=context.robust.mean.flatten().tolist(),
            std=context.robust.std.flatten().tolist(),
            patch=patch_size(size, self.grid),
            keys=sample_keys(context.seed, "occlusion", "noise", trial, batch.sample_ids),
        )
        with torch.no_grad():
            logits = context.model(torch.where(hidden, show, images))
        return {condition: {"logits": logits}}

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> OcclusionPart:
        """Make the suite's part of the report from the rows alone."""
        assert self.grid is not None
        assert self.ratios is not None
        table = samples.tables["occlusion"]
        clean = samples.tables["clean"].at("clean")
        if not np.array_equal(table.at("0")["pred"], clean["pred"]):
            raise IncompleteError(
                "hiding nothing changed predictions: the model's answer is not repeatable",
                "make forward() deterministic and independent of the batch",
                code="E-RHO-ZERO",
            )
        patches = self.grid[0] * self.grid[1]
        shares = np.array([mask_count(r, patches) / patches for r in self.ratios])
        correct = table.columns["correct"].astype(float)
        confidence = table.columns["confidence"].astype(float)
        weights = shared_resamples(len(samples), facts["seed"])
        points = [
            PointPart(
                x=float(share),
                metrics=_point(correct[i], confidence[i], weights, facts["seed"]),
            )
            for i, share in enumerate(shares)
        ]
        rows, columns = self.grid
        suffix = f"{self.fill}_random_{rows}x{columns}"
        return OcclusionPart(
            status="ok",
            params=self.params(),
            metrics=_curve_metrics(
                correct.mean(axis=1), shares, facts["num_classes"], facts["seed"], suffix
            ),
            grid=f"{rows}x{columns}",
            patch=patch_size(tuple(facts["input_size"][1:]), self.grid),
            fill=self.fill,
            trials=self.trials,
            points=points,
        )


def _point(
    correct: NDArray[np.float64],
    confidence: NDArray[np.float64],
    weights: NDArray[np.int64],
    seed: int,
) -> dict[str, Metric]:
    """Return the metrics of one ratio; rows are (trials, samples), intervals cluster by image."""
    trials, n = correct.shape
    return {
        "acc": clustered_mean(correct.mean(axis=0), direction="higher"),
        "trial_sd": Metric(
            value=float(correct.mean(axis=1).std(ddof=1)) if trials > 1 else None,
            unit="fraction",
            direction="neither",
            n=n,
            reason="spread over trials, itself an uncertainty" if trials > 1 else "one trial",
        ),
        "confidence": clustered_mean(confidence.mean(axis=0), direction="neither"),
        "ece_15": condition_ece(list(confidence), list(correct.astype(bool)), weights, seed),
    }


def area(curves: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the trapezoid area of accuracy curves (..., ratios) over the range of the shares."""
    areas: NDArray[np.float64] = np.trapezoid(curves, shares, axis=-1) / (shares[-1] - shares[0])
    return areas


def half_ratio(curve: NDArray[np.float64], shares: NDArray[np.float64]) -> float:
    """Return the smallest share where accuracy is half the unmasked one, linearly interpolated.

    NaN if accuracy never falls that low, or is 0 from the start.

    Example:
        >>> half_ratio(np.array([0.8, 0.6, 0.2]), np.array([0.0, 0.5, 1.0]))
        0.75
    """
    below = np.flatnonzero(curve <= curve[0] / 2)
    if curve[0] <= 0 or len(below) == 0:
        return math.nan
    i = int(below[0])
    fall = (curve[i - 1] - curve[0] / 2) / (curve[i - 1] - curve[i])
    return float(shares[i - 1] + fall * (shares[i] - shares[i - 1]))


def _curve_metrics(
    correct: NDArray[np.float64],
    shares: NDArray[np.float64],
    num_classes: int,
    seed: int,
    suffix: str,
) -> dict[str, Metric]:
    """Return the metrics of a curve from per-image accuracy (ratios, samples)."""
    n = correct.shape[1]
    chance = 1 / num_classes

    def derived(curves: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        start, auc = curves[:, 0], area(curves, shares)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "nauc": np.where(start > 0, auc / start, np.nan),
                "nauc_chance": np.where(start > chance, (auc - chance) / (start - chance), np.nan),
                "rho50": np.array([half_ratio(curve, shares) for curve in curves]),
            }

    estimates = derived(correct.mean(axis=1)[None])
    replicates = bootstrap(lambda w: derived(w @ correct.T / n), n, rng=bootstrap_rng(seed))
    meaning = {
        "nauc": ("accuracy without occlusion is 0", "area over the accuracy without occlusion"),
        "nauc_chance": (
            "accuracy without occlusion is not above chance",
            "as nauc with the chance level taken off both",
        ),
        "rho50": (
            "accuracy never falls to half of its unmasked value",
            "share of hidden patches that halves the accuracy",
        ),
    }
    metrics = {
        f"auc_{suffix}": clustered_mean(area(correct.T, shares), direction="higher"),
    }
    for name, (undefined, note) in meaning.items():
        metrics[f"{name}_{suffix}"] = bootstrap_metric(
            float(estimates[name][0]),
            replicates[name],
            unit="fraction",
            direction="higher",
            n=n,
            seed=seed,
            note=note,
            undefined=undefined,
        )
    return metrics
