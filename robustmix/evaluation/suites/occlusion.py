"""Suite ``occlusion``: accuracy as more and more patches are hidden, in several orders."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.data.images import ImageSet
from robustmix.errors import IncompleteError, UsageError, unknown_name
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.patches import (
    CONSTANT_FILLS,
    COUNT_RULES,
    FILLS,
    CountRule,
    Fill,
    filling,
    hidden_pixels,
    is_aligned,
    mask_count,
    patch_scores,
    patch_size,
    random_ranks,
    scope_ids,
    score_ranks,
)
from robustmix.metrics.conditions import shared_resamples
from robustmix.metrics.curves import curve_metrics, curve_point, gap_area
from robustmix.metrics.metric import Metric
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import OcclusionPart, OcclusionPoint
from robustmix.rng import sample_keys
from robustmix.saliency.from_file import SaliencyFile, load_maps
from robustmix.saliency.names import LABELS
from robustmix.saliency.object_regions import Regions, load_regions, regions_digest
from robustmix.saliency.registry import OF_THE_MODEL, SOURCES
from robustmix.saliency.sources import Explained, saliency_maps

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


@dataclass(frozen=True, kw_only=True, slots=True)
class OcclusionSuite:
    """PatchDrop with nested masks: random, by saliency, or by where the object is."""

    grid: tuple[int, int] | None = None
    """Rows and columns of patches; None: 8x8 up to 64 pixels, 14x14 above."""

    ratios: tuple[Fraction, ...] | None = None
    """Shares of hidden patches; None: denser near 0 up to 64 pixels, tenths above."""

    fill: Fill = "mean"
    trials: int = 5
    """Masks a sample, where they are random."""

    modes: tuple[str, ...] = RANDOM
    saliency: str | None = None
    """Source for ``salient`` and ``nonsalient``; None: ``file`` if there is one, else
    ``gradxinput``."""

    saliency_file: Path | None = None
    """Maps by sample id, for the source ``file``."""

    saliency_label: str = "prediction"
    """The class that is explained: the ``prediction`` for the clean image, or its ``label``."""

    boxes: Path | None = None
    """Boxes or masks of the objects, for ``foreground`` and ``background``."""

    offset: tuple[int, int] = (0, 0)
    """Pixels by which the grid is shifted right and down, round the edges."""

    mask_scope: str = "sample"
    """``sample``, or ``batch:100``: one mask for 100 samples, as published tools have it."""

    rounding: CountRule = "half-up"
    """How a ratio becomes a number of patches; published tools use the others."""

    saliency_sha256: str | None = None
    boxes_sha256: str | None = None
    maps: SaliencyFile | None = field(default=None, repr=False, compare=False)
    """What ``saliency_file`` holds, once it is read."""

    regions: Regions | None = field(default=None, repr=False, compare=False)
    """What ``boxes`` holds, once it is read."""

    part: ClassVar[type[OcclusionPart]] = OcclusionPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        rows, columns = params["grid"].split("x")
        across, down = params["offset"].split(",")
        saliency, boxes = params["saliency"] or {}, params["boxes"] or {}
        return cls(
            grid=(int(rows), int(columns)),
            ratios=tuple(map(Fraction, params["ratios"])),
            fill=params["fill"],
            trials=params["trials"],
            modes=tuple(params["modes"]),
            saliency=saliency.get("source"),
            saliency_label=saliency.get("class", "prediction"),
            saliency_sha256=saliency.get("sha256"),
            boxes_sha256=boxes.get("sha256"),
            offset=(int(across), int(down)),
            mask_scope=params["mask_scope"],
            rounding=params["rounding"],
        )

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"expected --trials >= 1, got {self.trials}")
        if self.fill not in FILLS:
            raise UsageError(f"unknown fill '{self.fill}'", "choose from " + ", ".join(FILLS))
        if self.ratios is not None and not all(0 <= r <= 1 for r in self.ratios):
            raise UsageError("ratios are shares of patches", "give values from 0 to 1")
        if not self.modes:
            raise UsageError("no mode was asked for", "give --mode random,salient")
        for mode in self.modes:
            if mode not in MODES:
                raise unknown_name("mode", mode, MODES)
        if self.saliency is not None and self.saliency not in SOURCES:
            raise unknown_name("saliency", self.saliency, SOURCES)
        if self.saliency_label not in LABELS:
            raise unknown_name("saliency label", self.saliency_label, LABELS)
        if self.rounding not in COUNT_RULES:
            raise unknown_name("rounding", self.rounding, COUNT_RULES)
        scope_ids(self.mask_scope, torch.empty(0), ())

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "occlusion"

    @property
    def nonstandard(self) -> tuple[str, ...]:
        """Parameters that are not those of the standard protocol, but of a published tool."""
        standard = {"mask_scope": "sample", "rounding": "half-up"}
        return tuple(key for key, value in standard.items() if getattr(self, key) != value)

    def resolved(self, size: tuple[int, int]) -> "OcclusionSuite":
        """Return the suite with grid, ratios and files chosen for images of ``size``.

        Raises:
            UsageError: the grid does not divide the images, the ratios hide nothing, or a mode
                lacks what it needs.
            IntakeError: a file cannot be read.
        """
        small = max(size) <= 64
        grid = self.grid or ((8, 8) if small else (14, 14))
        patch_size(size, grid)
        ratios = sorted({Fraction(0), *(self.ratios or (SMALL if small else TENTHS))})
        counts = {mask_count(r, grid[0] * grid[1], self.rounding): r for r in reversed(ratios)}
        if max(counts) == 0:
            raise UsageError(f"the ratios hide no patch of {grid[0]}x{grid[1]}", "give larger ones")
        suite = replace(
            self,
            grid=grid,
            ratios=tuple(sorted(counts.values())),
            modes=tuple(mode for mode in MODES if mode in self.modes),
        )
        return suite._with_maps()._with_boxes()

    def _with_maps(self) -> "OcclusionSuite":
        if not set(RANKED) & set(self.modes):
            return replace(self, saliency=None, saliency_file=None, maps=None)
        path = self.saliency_file
        source = self.saliency or ("file" if path is not None else "gradxinput")
        if (source == "file") != (path is not None or self.saliency_sha256 is not None):
            raise UsageError(
                "saliency by file and --saliency-file go together",
                "give --saliency file --saliency-file MAPS.npz, or neither",
                code="E-SALIENCY-FILE",
            )
        if path is None or self.maps is not None:
            return replace(self, saliency=source)
        maps = load_maps(path)
        return replace(self, saliency=source, maps=maps, saliency_sha256=maps.sha256)

    def _with_boxes(self) -> "OcclusionSuite":
        wanted = [mode for mode in REGIONAL if mode in self.modes]
        if not wanted:
            return replace(self, boxes=None, boxes_sha256=None, regions=None)
        if self.boxes is None and self.boxes_sha256 is None:
            raise UsageError(
                f"mode {wanted[0]} needs to know where the objects are, and the data set has no "
                "boxes or masks of them",
                "give --boxes with an npz of boxes or masks, or CUB's folder",
                code="E-BOXES",
            )
        digest = self.boxes_sha256 if self.boxes is None else regions_digest(self.boxes)
        return replace(self, boxes_sha256=digest)

    def opened(self, data: ImageSet) -> "OcclusionSuite":
        """Return the resolved suite with its files read and held against the images.

        Raises:
            IntakeError: a file is damaged, or lacks a sample of ``data``.
        """
        if self.maps is not None:
            self.maps.check(data.sample_ids)
        if self.boxes is None or self.regions is not None:
            return self
        return replace(self, regions=load_regions(self.boxes, data))

    @property
    def _grid(self) -> tuple[int, int]:
        assert self.grid is not None, "resolved for images"
        return self.grid

    @property
    def _patches(self) -> int:
        return self._grid[0] * self._grid[1]

    @property
    def _counts(self) -> tuple[int, ...]:
        """How many patches each ratio hides."""
        assert self.ratios is not None, "resolved for images"
        return tuple(mask_count(r, self._patches, self.rounding) for r in self.ratios)

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        assert self.ratios is not None, "resolved for images"
        regional = set(REGIONAL) & set(self.modes)
        return {
            "modes": list(self.modes),
            "grid": f"{self._grid[0]}x{self._grid[1]}",
            "offset": f"{self.offset[0]},{self.offset[1]}",
            "ratios": [str(r) for r in self.ratios],
            "masked": list(self._counts),
            "fill": self.fill,
            "trials": self.trials,
            "mask_scope": self.mask_scope,
            "rounding": self.rounding,
            "saliency": self._saliency(),
            "boxes": {"sha256": self.boxes_sha256} if regional else None,
            "nonstandard": list(self.nonstandard),
        }

    def _saliency(self) -> dict[str, Any] | None:
        if not set(RANKED) & set(self.modes):
            return None
        of_class = self.saliency in ("gradxinput", "smoothgrad", "gradcam")
        return {
            "source": self.saliency,
            "class": self.saliency_label if of_class else "prediction",
            "sha256": self.saliency_sha256,
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one pass an order and trial over all ratios, and one for the curves' ends.

        Saliency comes first: what does not suit the model is found before the long work. Orders
        that are not random have one trial.
        """
        suite = self.opened(context.data)
        parts = []
        ranked, regional = (
            tuple(mode for mode in kind if mode in self.modes) for kind in (RANKED, REGIONAL)
        )
        inner = [count for count in self._counts if 0 < count < self._patches]
        for modes in (ranked, tuple(m for m in RANDOM if m in self.modes), regional):
            conditions = tuple(_condition(mode, count) for mode in modes for count in inner)
            for trial in range(1 if modes == ranked else self.trials) if conditions else ():
                compute = partial(suite._masked, context, modes, inner, trial)
                name = "-".join(modes)
                parts.append(Part(name, conditions, compute, trial, modes == ranked))
        parts.append(Part(NONE, (NONE,), partial(suite._end, context, NONE, 0), all_trials=True))
        if self._patches in self._counts:
            once = self.fill != "noise"
            for trial in range(1 if once else self.trials):
                compute = partial(suite._end, context, ALL, trial)
                parts.append(Part(ALL, (ALL,), compute, trial, once))
        return parts

    def _end(
        self, context: Context, condition: str, trial: int, batch: Batch
    ) -> Mapping[str, Columns]:
        images = batch.pixels()
        ranks = torch.arange(self._patches, device=images.device).expand(len(images), -1)
        count = 0 if condition == NONE else self._patches
        show = self._shown(context, images, trial, batch)
        return {condition: {"logits": self._logits(context, images, show, ranks, count)}}

    def _masked(
        self,
        context: Context,
        modes: tuple[str, ...],
        counts: list[int],
        trial: int,
        batch: Batch,
    ) -> Mapping[str, Columns]:
        images = batch.pixels()
        show = self._shown(context, images, trial, batch)
        return {
            _condition(mode, count): {
                "logits": self._logits(context, images, show, ranks, count),
            }
            for mode, ranks in self._ranks(context, modes, images, trial, batch).items()
            for count in counts
        }

    def _logits(
        self, context: Context, images: Tensor, show: Tensor, ranks: Tensor, count: int
    ) -> Tensor:
        size = (images.shape[2], images.shape[3])
        hidden = hidden_pixels(ranks, count, size, self._grid, self.offset)
        with torch.no_grad():
            return context.model(torch.where(hidden, show, images))

    def _shown(self, context: Context, images: Tensor, trial: int, batch: Batch) -> Tensor:
        return filling(
            images,
            self.fill,
            mean=context.robust.mean.flatten().tolist(),
            std=context.robust.std.flatten().tolist(),
            patch=patch_size((images.shape[2], images.shape[3]), self._grid),
            keys=sample_keys(context.seed, "occlusion", "noise", trial, batch.sample_ids),
        )

    def _ranks(
        self,
        context: Context,
        modes: tuple[str, ...],
        images: Tensor,
        trial: int,
        batch: Batch,
    ) -> dict[str, Tensor]:
        """Return the ranking of each mode, int64 (n, patches)."""
        ids = scope_ids(self.mask_scope, batch.indices, batch.sample_ids)
        scope = f"{modes[0]}/{self._grid[0]}x{self._grid[1]}"
        keys = sample_keys(context.seed, "occlusion", scope, trial, ids).to(images.device)
        if modes == RANDOM:
            return {"random": random_ranks(keys, self._patches)}
        if modes[0] in RANKED:
            maps, ties = self._clean_maps(context, images, batch), None
        else:
            assert self.regions is not None, "opened"
            size = (images.shape[2], images.shape[3])
            maps, ties = self.regions.take(batch.sample_ids, size).to(images.device), keys
        scores = patch_scores(maps, self._grid, self.offset)
        first = (RANKED[0], REGIONAL[0])
        return {mode: score_ranks(scores, largest_first=mode in first, ties=ties) for mode in modes}

    def _clean_maps(self, context: Context, images: Tensor, batch: Batch) -> Tensor:
        assert self.saliency is not None, "resolved for images"
        explained = Explained(
            robust=context.robust,
            model=context.model,
            images=images,
            labels=batch.labels if self.saliency_label == "label" else None,
            sample_ids=batch.sample_ids,
            seed=context.seed,
            maps=self.maps,
        )
        return saliency_maps(SOURCES[self.saliency], explained)

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> OcclusionPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables["occlusion"]
        self._check_ends(table, samples.tables["clean"].at("clean")["pred"])
        weights = shared_resamples(len(samples), facts["seed"])
        x = np.array(self._counts) / self._patches
        curves: dict[str, list[OcclusionPoint]] = {}
        metrics: dict[str, Metric] = {}
        right: dict[str, NDArray[np.float64]] = {}
        for mode in self.modes:
            correct, confidence = (self._rows(table, name, mode) for name in _COLUMNS)
            right[mode] = correct.mean(axis=1)
            curves[mode] = [
                OcclusionPoint(
                    x=float(x[i]),
                    ratio=float(ratio),
                    masked=count,
                    metrics=curve_point(
                        correct[i],
                        confidence[i],
                        right[mode][0],
                        weights=weights,
                        seed=facts["seed"],
                    ),
                )
                for i, (ratio, count) in enumerate(
                    zip(self.ratios or (), self._counts, strict=True)
                )
            ]
            metrics |= curve_metrics(
                right[mode],
                x,
                facts["num_classes"],
                facts["seed"],
                self._suffix(mode),
                note=self._note(mode),
            )
        if set(RANKED) <= set(self.modes):
            metrics[f"gap_area_{self._suffix('nonsalient_salient')}"] = gap_area(
                right["nonsalient"],
                right["salient"],
                x,
                note="area under nonsalient minus area under salient",
            )
        params = self.params()
        patch = patch_size((facts["input_size"][1], facts["input_size"][2]), self._grid)
        return OcclusionPart(
            status="ok",
            params=params,
            metrics=metrics,
            grid=params["grid"],
            patch=patch,
            aligned=is_aligned(patch, self.offset, facts.get("token_patch")),
            fill=self.fill,
            modes=list(self.modes),
            trials=self.trials,
            mask_scope=self.mask_scope,
            saliency=params["saliency"],
            curves=curves,
        )

    def _suffix(self, mode: str) -> str:
        return f"{self.fill}_{mode}_{self._grid[0]}x{self._grid[1]}"

    def _note(self, mode: str) -> str | None:
        notes = []
        if mode in RANKED:
            notes.append(f"saliency: {self.saliency}")
            if self.saliency in OF_THE_MODEL:
                notes.append("the model's own, so not for comparing models")
        if "mask_scope" in self.nonstandard and mode not in RANKED:
            notes.append(f"one mask per {self.mask_scope.partition(':')[2]} samples")
        if "rounding" in self.nonstandard:
            notes.append(f"counts rounded {self.rounding}")
        return "; ".join(notes) or None

    def _rows(self, table: Table, column: str, mode: str) -> NDArray[np.float64]:
        """Return a column of a mode's points, float64 (points, trials, n)."""
        ends = {0: NONE, self._patches: ALL}
        names = [ends.get(count, _condition(mode, count)) for count in self._counts]
        trials = 1 if mode in RANKED else self.trials
        values = table.columns[column]
        return np.stack([values[table.conditions.index(name), :trials] for name in names]).astype(
            np.float64
        )

    def _check_ends(self, table: Table, clean: NDArray[Any]) -> None:
        if not np.array_equal(table.at(NONE)["pred"], clean):
            raise IncompleteError(
                "hiding nothing changed predictions: the model's answer is not repeatable",
                "make forward() deterministic and independent of the batch",
                code="E-RHO-ZERO",
            )
        constant = ALL in table.conditions and self.fill in CONSTANT_FILLS
        if constant and len(np.unique(table.at(ALL)["pred"])) > 1:
            raise IncompleteError(
                "images with everything hidden are equal, but their predictions are not",
                "make forward() deterministic and independent of the batch",
                code="E-RHO-ONE",
            )


_COLUMNS = ("correct", "confidence")


def _condition(mode: str, count: int) -> str:
    """Return the name of a condition, e.g. ``random/13``: so many patches are hidden."""
    return f"{mode}/{count}"
