"""Magnified crops: the piece of an image that fills it at a given magnification."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """Where the rows (or columns) of a magnified image lie between those of the image."""

    low: tuple[int, ...]
    """The row at or above each position."""

    high: tuple[int, ...]
    """The row after it, or the same at the end."""

    fraction: tuple[float, ...]
    """How far the position is from ``low`` towards ``high``, in [0, 1)."""

    def moves(self) -> bool:
        """Return whether any row is not where it was."""
        return self.low != tuple(range(len(self.low))) or any(self.fraction)

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three as tensors, int64, int64 and float64."""
        low, high = (torch.tensor(rows, device=device) for rows in (self.low, self.high))
        return low, high, torch.tensor(self.fraction, dtype=torch.float64, device=device)


def zoom_factors(count: int, step: float) -> tuple[float, ...]:
    """Return ``count`` magnifications from 1 on.

    Their last bits decide how large some crops are. They are those of the benchmark's
    floating-point range: whole multiples of the rounded difference between its first two values.

    Example:
        >>> zoom_factors(3, 0.01)
        (1.0, 1.01, 1.02)
        >>> 26 * zoom_factors(26, 0.01)[-1] > 32.5
        True
    """
    difference = (1.0 + step) - 1.0
    return tuple(1.0 + i * difference for i in range(count))


@functools.cache
def zoom_grid(side: int, factor: float) -> Grid:
    """Return the grid of an axis of ``side`` pixels, magnified ``factor`` times.

    A centred crop of ceil(side / factor) pixels is resampled, corner on corner, to
    round(crop * factor) pixels, of which ``side`` are kept; hence the image is pulled up and left
    by up to half a pixel, and 1.02 shrinks the grid without centring it. As the benchmark does.
    """
    crop = math.ceil(side / factor)
    top = (side - crop) // 2
    size = round(crop * factor)
    first = (size - side) // 2
    low, high, fraction = [], [], []
    for j in range(first, first + side):
        position = j * (crop - 1) / (size - 1)
        base = min(math.floor(position), crop - 1)
        low.append(top + base)
        high.append(top + min(base + 1, crop - 1))
        fraction.append(position - base)
    return Grid(tuple(low), tuple(high), tuple(fraction))


def zoom(fields: Tensor, factor: float, *, turned: Tensor | None = None) -> Tensor:
    """Magnify fields by linear interpolation.

    Args:
        fields: floating point (..., H, W).
        factor: magnification, at least 1.
        turned: ``fields`` with both last axes exchanged and contiguous, if at hand.

    Returns:
        float64, same shape; ``fields`` itself if nothing moves.
    """
    height, width = fields.shape[-2:]
    if not any(zoom_grid(side, factor).moves() for side in (height, width)):
        return fields
    grids = (_grid_on(side, factor, fields.device) for side in (height, width))
    (top, bottom, fy), (left, right, fx) = grids
    fy = fy.unsqueeze(1)
    turned = fields.transpose(-2, -1).contiguous() if turned is None else turned
    # Rows are copied whole; columns one value at a time, unless they are rows of a turned field.
    lefts, rights = (
        turned.index_select(-2, places).transpose(-2, -1).contiguous() for places in (left, right)
    )
    # The four corners one after the other: the sum's order shows in the published bytes.
    total = lefts.index_select(-2, top).double().mul_((1 - fy) * (1 - fx))
    total += rights.index_select(-2, top).double().mul_((1 - fy) * fx)
    total += lefts.index_select(-2, bottom).double().mul_(fy * (1 - fx))
    total += rights.index_select(-2, bottom).double().mul_(fy * fx)
    return total


@functools.lru_cache(maxsize=128)
def _grid_on(side: int, factor: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return zoom_grid(side, factor).tensors(device)
