"""Suite ``shuffle``: accuracy when images are cut into pieces that change places."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from robustmix.errors import UsageError
from robustmix.evaluation.options import option
from robustmix.evaluation.params import recorded
from robustmix.evaluation.patches import (
    check_trials,
    nearest_divisor,
    own_grid,
    patch_size,
    scope_ids,
    scope_size,
    token_patch,
)
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
    same_predictions,
)
from robustmix.later import Tensor
from robustmix.metrics.curves import Curve, curve_numbers, point_numbers, shown_curves
from robustmix.metrics.definition import Numbers
from robustmix.report.rows import Rows
from robustmix.report.schema import CurvePart, Shown, SuitePart
from robustmix.rng import permutations, sample_keys

SMALL = (4, 16, 64, 256)
"""For images up to 64 pixels: 2x2, 4x4, 8x8, 16x16."""

LARGE = (4, 8, 16, 32, 64, 196, 256)
"""For larger images: also 2x4, 4x8 and 14x14."""

IDENTITY = 1
"""One piece: nothing changes places."""


def piece_grid(pieces: int) -> tuple[int, int]:
    """Give rows and columns of so many pieces: n x n, or n x 2n.

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
    """Make images whose piece j, counted row by row, is piece ``order[j]`` of the original.

    Args:
        images: (N, C, H, W).
        order: permutation of the pieces of each image, int64 (N, pieces).
        grid: rows and columns of pieces; it divides H and W.

    Example:
        >>> import torch
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


@dataclass(frozen=True, kw_only=True)
class PreparedShuffle(Prepared):
    """The pieces for the images at hand."""

    kind: ClassVar[str] = "shuffle"

    pieces: tuple[int, ...]
    """Rising, from 1."""

    grids: tuple[str, ...]
    mask_scope: str
    nonstandard: tuple[str, ...]
    trials: int
    nearest_to: tuple[int, ...] | None = recorded(None, omit_default=True)
    """The usual numbers of pieces, where none divides the images and the nearest are taken."""

    def __post_init__(self) -> None:
        for count in (*self.pieces, *(self.nearest_to or ())):  # may be a stranger's
            piece_grid(count)

    def parts(self, context: Context) -> list[Part]:
        """List one pass for the identity, and one a trial over all grids."""
        moved = [count for count in self.pieces if count != IDENTITY]
        conditions = tuple(grid_name(count) for count in moved)
        identity = partial(self._rows, context, [IDENTITY], 0)
        return [
            Part("identity", (grid_name(IDENTITY),), identity, all_trials=True),
            *(
                Part("shuffled", conditions, partial(self._rows, context, moved, trial), trial)
                for trial in range(self.trials)
            ),
        ]

    def _rows(
        self, context: Context, pieces: Sequence[int], trial: int, batch: Batch
    ) -> Mapping[str, Columns]:
        images = batch.pixels()
        ids = scope_ids(self.mask_scope, batch.indices, batch.sample_ids)
        rows = {}
        for count in pieces:
            name = grid_name(count)
            keys = sample_keys(context.seed, "shuffle", name, trial, ids).to(images.device)
            order = permutations(keys, count)
            with context.scoring():
                logits = context.model(shuffle_pieces(images, order, piece_grid(count)))
            rows[name] = {"logits": logits}
        return rows

    def passes(self, n: int) -> Passes:
        """Count a pass a grid and trial, and one for the identity."""
        shuffled = len(self.pieces) - 1
        return Passes(shuffled + 1, n * (shuffled * self.trials + 1), 0)

    def check(self, rows: Rows) -> None:
        """Refuse rows in which one piece in its place changed a prediction."""
        what = "one piece in its place"
        same_predictions(rows, grid_name(IDENTITY), what, code="E-IDENTITY")

    def numbers(self, rows: Rows) -> Numbers:
        """Define the area under the curve and its relatives, then every point of it."""
        over = f"over log2 of the number of pieces, from 1 to {self.pieces[-1]}"
        curve = Curve(
            conditions=tuple(grid_name(count) for count in self.pieces),
            x=tuple(np.log2(self.pieces).tolist()),
            suffix=f"pieces{self.pieces[-1]}",
            note="; ".join(filter(None, (over, self._stand_in))),
        )
        points = {str(count): grid_name(count) for count in self.pieces}
        return curve_numbers(rows, curve) | point_numbers(rows, points)

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report the curve."""
        curve = CurvePart(
            name="shuffled",
            x_label="shuffled pieces",
            x=np.log2(self.pieces).tolist(),
            at=[str(count) for count in self.pieces],
            dotted="confidence",
            scale="log2",
            ticks=[f"{count}\n{grid_name(count)}" for count in self.pieces],
        )
        notes = [note for note in (self._stand_in, self._of_the_network(rows)) if note]
        return Found(curves=[curve], notes=notes)

    def _of_the_network(self, rows: Rows) -> str:
        """Say that pieces are the network's patches, where they are not the usual ones anyway."""
        size = (rows.input_size[1], rows.input_size[2])
        own = [IDENTITY, *own_pieces(own_grid(size, rows.token_patch))]
        if [*self.pieces] != own or {*own} <= {IDENTITY, *usual_pieces(size)}:
            return ""
        return f"pieces are whole patches of the network's own, up to {self.grids[-1]}"

    @property
    def _stand_in(self) -> str:
        if self.nearest_to is None:
            return ""
        wanted = ", ".join(grid_name(count) for count in self.nearest_to)
        return f"the nearest grids to {wanted} that divide the images"

    def shown(self, part: SuitePart) -> Shown:
        """Show the areas."""
        section, drawings = "Occlusion and shuffling", ["shuffle-curve"]
        return shown_curves(part, section=section, drawings=drawings, note=self._stand_in)


@dataclass(frozen=True, kw_only=True)
class Shuffle(Suite):
    """Accuracy as pieces of the image change places."""

    recorded: ClassVar[type[Prepared]] = PreparedShuffle

    pieces: tuple[int, ...] | None = option(
        None, shown="of a transformer whole patches of its own, else by the size of the images"
    )
    """Numbers of pieces, squares or twice squares, e.g. 4,16,64."""

    trials: int = 5
    """Random orders a sample; the accuracy is their mean."""

    mask_scope: str = "sample"
    """sample: an order of its own for each; batch:100: one for 100 samples, as a published tool."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trials(self.trials)
        for pieces in self.pieces or ():
            piece_grid(pieces)
        scope_size(self.mask_scope)

    def prepare(self, scene: Scene) -> PreparedShuffle:
        """Choose the pieces whose grids divide the images; 1 is among them."""
        known = usual_pieces(scene.size)
        nearest: tuple[int, ...] = ()
        if self.pieces is None:
            own = own_grid(scene.size, token_patch(scene.robust))
            usual = (count for count in known if _divides(scene.size, piece_grid(count)))
            pieces = own_pieces(own) or [*usual]
            nearest = () if pieces else nearest_pieces(scene.size, known)
            pieces += nearest
        else:
            pieces = list(self.pieces)
            for count in pieces:
                patch_size(scene.size, piece_grid(count))
        if not set(pieces) - {IDENTITY}:
            raise UsageError(
                f"no number of pieces for images of {scene.size[0]}x{scene.size[1]}",
                "give --pieces whose grids divide the image",
                code="E-GRID",
            )
        chosen = tuple(sorted({IDENTITY, *pieces}))
        return PreparedShuffle(
            pieces=chosen,
            grids=tuple(grid_name(count) for count in chosen),
            mask_scope=self.mask_scope,
            nonstandard=() if self.mask_scope == "sample" else ("mask_scope",),
            trials=self.trials,
            nearest_to=known if nearest else None,
        )


def usual_pieces(size: tuple[int, int]) -> tuple[int, ...]:
    """Give the numbers of pieces for images of a size, where the network cuts none of its own."""
    return SMALL if max(size) <= 64 else LARGE


def own_pieces(grid: tuple[int, int] | None) -> list[int]:
    """Give the grids of pieces that are whole patches of a transformer, up to its own; rising.

    They are square, but for its own grid. None of its patches is cut, so the network sees what it
    saw before, in another order.

    Args:
        grid: rows and columns of its patches; None gives none.

    Example:
        >>> own_pieces((14, 14)), own_pieces((4, 8)), own_pieces(None)
        ([4, 49, 196], [4, 16, 32], [])
    """
    if grid is None:
        return []
    sides = [n for n in range(2, min(grid) + 1) if grid[0] % n == 0 and grid[1] % n == 0]
    last = [2 * grid[0] ** 2] if grid[1] == 2 * grid[0] else []
    return [n * n for n in sides] + last


def nearest_pieces(size: tuple[int, int], wanted: Sequence[int]) -> tuple[int, ...]:
    """Give the square grids of pieces that divide images, nearest to the wanted ones; rising.

    Example:
        >>> nearest_pieces((299, 299), LARGE), nearest_pieces((45, 45), SMALL)
        ((169,), (9, 25, 81, 225))
    """
    common = math.gcd(*size)
    if common == 1:
        return ()
    sides = [math.sqrt(count) for count in wanted]
    return tuple(sorted({nearest_divisor(common, side) ** 2 for side in sides}))


def _divides(size: tuple[int, int], grid: tuple[int, int]) -> bool:
    return size[0] % grid[0] == 0 and size[1] % grid[1] == 0


def grid_name(pieces: int) -> str:
    """Name the condition of so many pieces, e.g. ``4x4``."""
    rows, columns = piece_grid(pieces)
    return f"{rows}x{columns}"
