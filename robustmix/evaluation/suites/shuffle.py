"""Suite ``shuffle``: accuracy when images are cut into pieces that change places."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from robustmix.errors import IncompleteError, UsageError
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.evaluation.patches import patch_size, scope_ids
from robustmix.metrics.conditions import shared_resamples
from robustmix.metrics.curves import curve_metrics, curve_point
from robustmix.report.samples import Samples
from robustmix.report.schema import ShufflePart, ShufflePoint
from robustmix.rng import permutations, sample_keys

SMALL = (4, 16, 64, 256)
"""For images up to 64 pixels: 2x2, 4x4, 8x8, 16x16."""

LARGE = (4, 8, 16, 32, 64, 196, 256)
"""For larger images: also 2x4, 4x8 and 14x14."""

IDENTITY = 1
"""One piece: nothing changes places."""


def piece_grid(pieces: int) -> tuple[int, int]:
    """Return rows and columns of so many pieces: n x n, or n x 2n.

    Raises:
        UsageError: the number is neither a square nor twice a square.

    Example:
        >>> piece_grid(16), piece_grid(8)
        ((4, 4), (2, 4))
    """
    side, half = math.isqrt(max(pieces, 0)), math.isqrt(max(pieces, 0) // 2)
    if pieces >= 1 and side * side == pieces:
        return side, side
    if pieces >= 1 and 2 * half * half == pieces:
        return half, 2 * half
    raise UsageError(
        f"{pieces} pieces make no grid",
        "give squares or twice squares: 4, 8, 16, 32, 64, 196, 256",
        code="E-GRID",
    )


def shuffle_pieces(images: Tensor, order: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return images whose piece j, counted row by row, is piece ``order[j]`` of the original.

    Args:
        images: (N, C, H, W).
        order: permutation of the pieces of each image, int64 (N, pieces).
        grid: rows and columns of pieces; it divides H and W.

    Example:
        >>> images = torch.arange(4.0).view(1, 1, 2, 2)
        >>> shuffle_pieces(images, torch.tensor([[3, 2, 1, 0]]), (2, 2))[0, 0].tolist()
        [[3.0, 2.0], [1.0, 0.0]]
    """
    n, channels = images.shape[:2]
    rows, columns = grid
    height, width = patch_size((images.shape[2], images.shape[3]), grid)
    cut = images.view(n, channels, rows, height, columns, width).transpose(3, 4)
    cut = cut.reshape(n, channels, rows * columns, height, width)
    index = order.view(n, 1, -1, 1, 1).expand_as(cut)
    moved = cut.gather(2, index).view(n, channels, rows, columns, height, width)
    return moved.transpose(3, 4).reshape(images.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffleSuite:
    """Patch permutation: one uniformly random order of the pieces a sample, grid and trial.

    An order may leave pieces where they are; derangements are not enforced.
    """

    pieces: tuple[int, ...] | None = None
    """Numbers of pieces; None: 4 to 256 by the size of the images."""

    trials: int = 5
    mask_scope: str = "sample"
    """``sample``, or ``batch:100``: one order for 100 samples, as published tools have it."""

    part: ClassVar[type[ShufflePart]] = ShufflePart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(
            pieces=tuple(params["pieces"]) or None,
            trials=params["trials"],
            mask_scope=params["mask_scope"],
        )

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"expected --trials >= 1, got {self.trials}")
        for pieces in self.pieces or ():
            piece_grid(pieces)
        scope_ids(self.mask_scope, torch.empty(0), ())

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "shuffle"

    @property
    def nonstandard(self) -> tuple[str, ...]:
        """Parameters that are not those of the standard protocol, but of a published tool."""
        return () if self.mask_scope == "sample" else ("mask_scope",)

    def resolved(self, size: tuple[int, int]) -> "ShuffleSuite":
        """Return the suite with the pieces chosen for images of ``size``; 1 is among them.

        Raises:
            UsageError: the pieces were chosen by hand and do not divide the images, or none do.
        """
        if self.pieces is None:
            known = SMALL if max(size) <= 64 else LARGE
            pieces = [count for count in known if _divides(size, piece_grid(count))]
        else:
            pieces = list(self.pieces)
            for count in pieces:
                patch_size(size, piece_grid(count))
        if not set(pieces) - {IDENTITY}:
            raise UsageError(
                f"no number of pieces for images of {size[0]}x{size[1]}",
                "give --pieces whose grids divide the image",
                code="E-GRID",
            )
        return replace(self, pieces=tuple(sorted({IDENTITY, *pieces})))

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        pieces = self.pieces or ()
        return {
            "pieces": list(pieces),
            "grids": [_grid_name(count) for count in pieces],
            "trials": self.trials,
            "mask_scope": self.mask_scope,
            "nonstandard": list(self.nonstandard),
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one pass a trial over all grids, and one for the identity."""
        suite = self.resolved((context.data.input_size[1], context.data.input_size[2]))
        assert suite.pieces is not None
        moved = [count for count in suite.pieces if count != IDENTITY]
        conditions = tuple(_grid_name(count) for count in moved)
        parts = [
            Part("shuffled", conditions, partial(suite._rows, context, moved, trial), trial)
            for trial in range(self.trials)
        ]
        identity = partial(suite._rows, context, [IDENTITY], 0)
        return [
            Part("identity", (_grid_name(IDENTITY),), identity, all_trials=True),
            *parts,
        ]

    def _rows(
        self, context: Context, pieces: Sequence[int], trial: int, batch: Batch
    ) -> Mapping[str, Columns]:
        images = batch.pixels()
        ids = scope_ids(self.mask_scope, batch.indices, batch.sample_ids)
        rows = {}
        for count in pieces:
            name = _grid_name(count)
            keys = sample_keys(context.seed, "shuffle", name, trial, ids).to(images.device)
            order = permutations(keys, count)
            with torch.no_grad():
                logits = context.model(shuffle_pieces(images, order, piece_grid(count)))
            rows[name] = {"logits": logits}
        return rows

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> ShufflePart:
        """Make the suite's part of the report from the rows alone."""
        suite = self.resolved((facts["input_size"][1], facts["input_size"][2]))
        assert suite.pieces is not None
        table = samples.tables["shuffle"]
        clean = samples.tables["clean"].at("clean")["pred"]
        if not np.array_equal(table.at(_grid_name(IDENTITY))["pred"], clean):
            raise IncompleteError(
                "one piece in its place changed predictions: the model's answer is not repeatable",
                "make forward() deterministic and independent of the batch",
                code="E-IDENTITY",
            )
        order = [table.conditions.index(_grid_name(count)) for count in suite.pieces]
        correct = table.columns["correct"][order].astype(np.float64)
        confidence = table.columns["confidence"][order].astype(np.float64)
        right = correct.mean(axis=1)
        weights = shared_resamples(len(samples), facts["seed"])
        points = [
            ShufflePoint(
                x=float(count),
                pieces=count,
                grid=_grid_name(count),
                metrics=curve_point(
                    correct[i], confidence[i], right[0], weights=weights, seed=facts["seed"]
                ),
            )
            for i, count in enumerate(suite.pieces)
        ]
        return ShufflePart(
            status="ok",
            params=suite.params(),
            metrics=curve_metrics(
                right,
                np.log2(suite.pieces),
                facts["num_classes"],
                facts["seed"],
                f"pieces{suite.pieces[-1]}",
                half=None,
                note=f"over log2 of the number of pieces, from 1 to {suite.pieces[-1]}",
            ),
            trials=self.trials,
            mask_scope=self.mask_scope,
            points=points,
        )


def _divides(size: tuple[int, int], grid: tuple[int, int]) -> bool:
    return size[0] % grid[0] == 0 and size[1] % grid[1] == 0


def _grid_name(pieces: int) -> str:
    rows, columns = piece_grid(pieces)
    return f"{rows}x{columns}"
