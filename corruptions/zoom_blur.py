"""Zoom blur: the mean of the image and of itself at several magnifications."""

import functools
import itertools

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import settled, to_grey_levels_, to_unit
from robustmix.corruptions.zoom import Grid, zoom, zoom_factors, zoom_grid

_SMALL = ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01))

ZOOMS: Severities[tuple[int, float]] = {
    "cifar": _SMALL,
    "tiny": _SMALL,
    "imagenet": ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
}
"""How many magnifications from 1 on, and the step between them."""


def apply(images: Tensor, draws: None, severity: int, profile: Profile) -> Tensor:
    """Average the image with its magnifications, in float32.

    Args:
        images: uint8 (N, 3, H, W).
        draws: None; nothing is random.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    factors = zoom_factors(*ZOOMS[profile][severity - 1])
    if images.device.type != "cpu":
        return _in_order(images, factors)
    blurred, open_ = settled(*_nearly(images, factors))
    places = open_.flatten().nonzero().squeeze(1)
    if len(places) > MANY_PLACES * images.numel():
        return _in_order(images, factors)
    if len(places):
        blurred.flatten()[places] = _in_order_at(images, places, factors)
    return blurred


MANY_PLACES = 0.15
"""If more of an image is open than this (it is flat), all of it is computed in order."""


def _in_order(images: Tensor, factors: tuple[float, ...]) -> Tensor:
    single = to_unit(images).to(torch.float32)
    turned = single.transpose(2, 3).contiguous()
    total = torch.zeros_like(single)
    grid: list[Grid] = []
    zoomed = single
    for factor in factors:
        wanted = [zoom_grid(side, factor) for side in images.shape[2:]]
        if wanted != grid:  # neighbouring magnifications often give the same pixels
            grid, zoomed = wanted, zoom(single, factor, turned=turned).to(torch.float32)
        total += zoomed
    return _levels(total, single, len(factors))


def _levels(total: Tensor, single: Tensor, count: int) -> Tensor:
    mean = total.add_(single).div_(count + 1)
    return to_grey_levels_(mean)


def _nearly(images: Tensor, factors: tuple[float, ...]) -> tuple[Tensor, float]:
    """Average in float32, rows first and then columns: fast, and not in the benchmark's order.

    Returns:
        Grey levels, float32, and how far they may be from the benchmark's, at most.
    """
    height, width = images.shape[2:]
    single = images.to(torch.float32)
    # Both axes change places for the columns; what does not move is added at the end.
    total = single.new_zeros(*images.shape[:2], width, height)
    still = 1
    for (rows, columns), count in _counted(height, width, factors):
        if not (rows.moves() or columns.moves()):
            still += count
            continue
        (top, bottom, fy), (left, right, fx) = (_single_grid(grid) for grid in (rows, columns))
        turned = single.index_select(2, top).lerp_(single.index_select(2, bottom), fy)
        turned = turned.transpose(2, 3).contiguous()
        zoomed = turned.index_select(2, left).lerp_(turned.index_select(2, right), fx)
        total.add_(zoomed, alpha=count)
    mean = single.mul_(still).add_(total.transpose(2, 3)).div_(len(factors) + 1)
    # Both interpolations round four times, both sums once a magnification.
    return mean, (2 * len(factors) + 16) * 2.0**-24 * 255


@functools.lru_cache(maxsize=16)
def _counted(
    height: int, width: int, factors: tuple[float, ...]
) -> list[tuple[tuple[Grid, Grid], int]]:
    """Return the different grids of rows and columns in their order, and how often each comes."""
    pairs = ((zoom_grid(height, factor), zoom_grid(width, factor)) for factor in factors)
    return [(pair, len(list(same))) for pair, same in itertools.groupby(pairs)]


@functools.lru_cache(maxsize=128)
def _single_grid(grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    low, high, fraction = grid.tensors(torch.device("cpu"))
    return low, high, fraction.to(torch.float32).unsqueeze(1)


def _in_order_at(images: Tensor, places: Tensor, factors: tuple[float, ...]) -> Tensor:
    """Return single values of the result, uint8 (M,), as the benchmark computes them.

    Args:
        images: uint8 (N, 3, H, W).
        places: int64 (M,), among the values of ``images``.
        factors: the magnifications.
    """
    height, width = images.shape[2:]
    plane, place = places // (height * width), places % (height * width)
    pixels = to_unit(torch.arange(256, dtype=torch.uint8)).to(torch.float32)
    counted = _counted(height, width, factors)
    rows, columns = (_stacked(tuple(pair[i] for pair, _ in counted)) for i in (0, 1))
    (top, bottom, fy), (left, right, fx) = (
        [table[:, at] for table in tables]
        for tables, at in ((rows, place // width), (columns, place % width))
    )

    def corner(row: Tensor, column: Tensor) -> Tensor:
        return pixels[images.flatten()[(plane * height + row) * width + column].long()].double()

    total = corner(top, left) * ((1 - fy) * (1 - fx))
    total += corner(top, right) * ((1 - fy) * fx)
    total += corner(bottom, left) * (fy * (1 - fx))
    total += corner(bottom, right) * (fy * fx)
    zoomed = total.to(torch.float32)
    added = torch.zeros(len(places))
    for value, (_, count) in zip(zoomed, counted, strict=True):
        for _ in range(count):
            added += value
    return _levels(added, pixels[images.flatten()[places].long()], len(factors))


@functools.lru_cache(maxsize=32)
def _stacked(grids: tuple[Grid, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the grids' tables, one row a grid."""
    low, high, fraction = zip(*(grid.tensors(torch.device("cpu")) for grid in grids), strict=True)
    return torch.stack(low), torch.stack(high), torch.stack(fraction)


CORRUPTION = Corruption(name="zoom_blur", constants=ZOOMS, apply=apply)
