"""Elastic transform: a random affine map, then small local displacements."""

import functools
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.corruptions import elastic_on_cpu
from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.filters import (
    Border,
    gaussian_filter,
    gaussian_nearly,
    mirrored,
    repeated,
)
from robustmix.corruptions.names import Profile
from robustmix.corruptions.pixels import to_grey_levels_, to_single_unit
from robustmix.rng import uniform


class Strength(NamedTuple):
    """The constants of one severity, as shares of ``UNIT``."""

    alpha: float
    """Size of the local displacements."""

    sigma: float
    """How far they reach: deviation of the Gaussian that smooths them."""

    jitter: float
    """Largest shift of the three points that fix the affine map."""


STRENGTH: Severities[Strength] = {
    "cifar": (
        Strength(0, 0, 0.08),
        Strength(0.05, 0.2, 0.07),
        Strength(0.08, 0.06, 0.06),
        Strength(0.1, 0.04, 0.05),
        Strength(0.1, 0.03, 0.03),
    ),
    "tiny": (
        Strength(0, 0, 0.08),
        Strength(0.05, 0.3, 0.06),
        Strength(0.1, 0.08, 0.06),
        Strength(0.1, 0.03, 0.03),
        Strength(0.16, 0.03, 0.02),
    ),
    "imagenet": (
        Strength(2, 0.7, 0.1),
        Strength(2, 0.08, 0.2),
        Strength(0.05, 0.01, 0.02),
        Strength(0.07, 0.01, 0.02),
        Strength(0.12, 0.01, 0.02),
    ),
}

UNIT: dict[Profile, int] = {"cifar": 32, "tiny": 64, "imagenet": 244}
"""Pixels that the constants are shares of; 244 for images of 224 is a slip of the benchmark."""

GRID = 32
"""Positions of the affine map are whole multiples of 1 / GRID pixels, as in OpenCV 4."""

_SCALE = 1024
_TRUNCATE = 3.0


Values = TypeVar("Values", Tensor, NDArray[np.float64])


class Elastic(NamedTuple):
    """What the elastic transform draws, all float64 in [0, 1)."""

    points: Tensor  # (N, 3, 2), shifts of the three points in x and y
    across: Tensor  # (N, H, W), displacements along x before smoothing
    down: Tensor  # (N, H, W), along y


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> Elastic:
    """Draw six numbers an image and two a pixel, whether they are needed or not."""
    n, (height, width) = len(images), images.shape[2:]
    fields = uniform(keys, 2 * height * width, counter_high=1).view(n, 2, height, width)
    return Elastic(uniform(keys, 6).view(n, 3, 2), fields[:, 0], fields[:, 1])


def affine_inverse(points: Tensor, size: tuple[int, int], jitter: float) -> Tensor:
    """Return the maps from the result's pixels to the image's, float64 (N, 2, 3), in (x, y).

    Args:
        points: float64 (N, 3, 2) in [0, 1).
        size: height and width of the image, in pixels.
        jitter: largest shift of a point along x or y, in pixels.
    """
    y, x, reach = size[0] // 2, size[1] // 2, min(size) // 3
    before = _corners(x, y, reach, points.device)
    shifts = (-jitter + 2 * jitter * points).to(torch.float32)
    after = (before + shifts).to(torch.float64)
    if points.device.type == "cpu":  # the same operators on arrays, which take a third of the time
        with np.errstate(all="ignore"):  # images of 2 pixels hold no three points
            on_cpu = _inverse_rows(after.numpy(), x, y, reach)
        return torch.from_numpy(np.stack(on_cpu, axis=1)).view(-1, 2, 3)
    return torch.stack(_inverse_rows(after, x, y, reach), dim=1).view(-1, 2, 3)


def _inverse_rows(after: Values, x: int, y: int, reach: int) -> list[Values]:
    """Return both rows of the maps, (N,) each, from where the three points go, (N, 3, 2)."""
    # The points form a right angle, so the map's columns are two differences.
    along_x = (after[:, 1] - after[:, 2]) / (2 * reach)
    along_y = (after[:, 0] - after[:, 1]) / (2 * reach)
    offset = after[:, 1] - along_x * (x + reach) - along_y * (y - reach)
    (a, c), (b, d), (e, f) = ((one[:, 0], one[:, 1]) for one in (along_x, along_y, offset))
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    return [a, b, -a * e - b * f, c, d, -c * e - d * f]


@functools.lru_cache(maxsize=16)
def _corners(x: int, y: int, reach: int, device: torch.device) -> Tensor:
    corners = [[x + reach, y + reach], [x + reach, y - reach], [x - reach, y - reach]]
    return torch.tensor(corners, dtype=torch.float32).to(device)


def warp_affine(images: Tensor, inverse: Tensor) -> Tensor:
    """Return the images under the maps, linearly between pixels; what lies outside is mirrored.

    Args:
        images: float32 (N, C, H, W).
        inverse: float64 (N, 2, 3), from the result's pixels (x, y) to the image's.
    """
    height, width = images.shape[2:]
    if images.device.type == "cpu":
        found = elastic_on_cpu.affine_places(inverse.numpy(), height, width, _SCALE, GRID)
        left, top, fx, fy = (torch.from_numpy(part) for part in found)
        return _between(images, left, top, fx, fy, "mirror")
    x = torch.arange(width, dtype=torch.float64, device=images.device)
    y = torch.arange(height, dtype=torch.float64, device=images.device).unsqueeze(1)
    places = []
    for row in inverse.unbind(1):
        a, b, c = (value.view(-1, 1, 1) for value in row.unbind(1))
        along, down = torch.round(a * x * _SCALE), torch.round((b * y + c) * _SCALE)
        # Whole numbers: a position of 2^21 pixels would still fit.
        places.append((along + _SCALE // GRID // 2).to(torch.int32) + down.to(torch.int32) >> 5)
    u, v = places
    fx, fy = (((place & (GRID - 1)).to(torch.float32).div_(GRID)) for place in (u, v))
    return _between(images, u >> 5, v >> 5, fx, fy, "mirror")


def displace(images: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Return out(row, col) = image(row + down, col + across), linearly between pixels.

    Args:
        images: float32 (N, C, H, W); beyond the border pixel it is mirrored, the pixel repeated.
        across: float32 (N, H, W), in pixels.
        down: float32 (N, H, W), in pixels.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float64, device=images.device) + across
    y = torch.arange(height, dtype=torch.float64, device=images.device).unsqueeze(1) + down
    return _at(images, x, y)


def _at(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the images at places (x, y), float64 (N, h, w) each: float32 (N, C, h, w)."""
    left, top = x.floor(), y.floor()
    fx, fy = x.sub_(left), y.sub_(top)
    left, top = left.to(torch.int32), top.to(torch.int32)
    return _between(images, left, top, fx, fy, "sym").to(torch.float32)


def _between(
    images: Tensor, left: Tensor, top: Tensor, fx: Tensor, fy: Tensor, border: Border
) -> Tensor:
    """Interpolate linearly in the fractions' type; pixels, int32, and fractions are (N, h, w)."""
    height, width = images.shape[2:]
    if images.device.type == "cpu":
        places = left.numpy(), top.numpy()
        reach = elastic_on_cpu.reach_of(*places, height, width)
        if reach is not None:
            fractions = fx.numpy(), fy.numpy()
            found = elastic_on_cpu.between(images.numpy(), *places, *fractions, border, reach)
            return torch.from_numpy(found)
    fold = mirrored if border == "mirror" else repeated
    columns = [fold(left + i, width) for i in (0, 1)]
    rows = [fold(top + i, height) for i in (0, 1)]
    return _between_folded(images, columns, rows, fx, fy)


def _between_folded(
    images: Tensor, columns: list[Tensor], rows: list[Tensor], fx: Tensor, fy: Tensor
) -> Tensor:
    n, channels, _, width = images.shape
    flat, shape = images.flatten(2), (n, channels, *fx.shape[1:])
    total: Tensor | None = None
    columns = [column.flatten(1).to(torch.int64) for column in columns]
    for row, weight_y in zip(rows, (1 - fy, fy), strict=True):
        before = (row * width).flatten(1).to(torch.int64)
        for column, weight_x in zip(columns, (1 - fx, fx), strict=True):
            index = before + column
            corner = flat.gather(2, index.unsqueeze(1).expand(n, channels, -1)).view(shape)
            corner = corner.to(fx.dtype).mul_((weight_y * weight_x).unsqueeze(1))
            total = corner if total is None else total.add_(corner)
    assert total is not None
    return total


def _fields(draws: Elastic, strength: Strength, unit: int) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest that the displacements can be, float32 (2, N, H, W).

    Both are the same wherever the order of the smoothing's sums does not matter. Along x first,
    then along y, in pixels.
    """
    noise = torch.stack([draws.across, draws.down]).mul_(2).sub_(1)
    smoothing = (strength.sigma * unit, strength.alpha * unit)
    nearly = gaussian_nearly(noise, smoothing[0], truncate=_TRUNCATE, border="sym")
    if nearly is None:
        exact = _fields_in_order(noise, *smoothing)
        return exact, exact
    fields, error = nearly[0].mul_(smoothing[1]), (nearly[1] + 2.0**-52) * smoothing[1]
    return (fields - error).to(torch.float32), (fields + error).to(torch.float32)


def _fields_in_order(noise: Tensor, sigma: float, alpha: float) -> Tensor:
    smooth = gaussian_filter(noise, sigma, truncate=_TRUNCATE, border="sym")
    return smooth.mul_(alpha).to(torch.float32)


def _displaced(warped: Tensor, draws: Elastic, strength: Strength, unit: int) -> Tensor:
    """Displace the pixels and truncate to grey levels, uint8 (N, C, H, W)."""
    low, high = _fields(draws, strength, unit)
    levels = to_grey_levels_(displace(warped, *low))
    if low is high:
        return levels
    differ = low.numpy() != high.numpy()  # on a CPU, as there is a choice
    for i, open_ in enumerate(differ[0] | differ[1]):
        y, x = (torch.from_numpy(places) for places in open_.nonzero())
        if not len(y):
            continue
        # All other pairs of least and greatest displacements, in one go.
        pairs = ((low, high), (high, low), (high, high))
        across = x + torch.stack([one[0, i, y, x] for one, _ in pairs]).double()
        down = y + torch.stack([other[1, i, y, x] for _, other in pairs]).double()
        others = _at(warped[i : i + 1], across.unsqueeze(0), down.unsqueeze(0))[0]
        if bool((to_grey_levels_(others) != levels[i][:, y, x].unsqueeze(1)).any()):
            one = Elastic(*(drawn[i : i + 1] for drawn in draws))
            noise = torch.stack([one.across, one.down]).mul_(2).sub_(1)
            exact = _fields_in_order(noise, strength.sigma * unit, strength.alpha * unit)
            levels[i] = to_grey_levels_(displace(warped[i : i + 1], *exact))[0]
    return levels


def apply(images: Tensor, draws: Elastic, severity: int, profile: Profile) -> Tensor:
    """Map the image by its affine map, then displace its pixels; float32.

    Args:
        images: uint8 (N, 3, H, W).
        draws: the random numbers.
        severity: 1 to 5; on small images the change falls with it.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2; Simard et al. 2003.
    """
    strength, unit = STRENGTH[profile][severity - 1], UNIT[profile]
    x = to_single_unit(images)
    height, width = images.shape[2:]
    inverse = affine_inverse(draws.points, (height, width), strength.jitter * unit)
    warped = warp_affine(x, inverse)
    if strength.alpha:
        return _displaced(warped, draws, strength, unit)
    return to_grey_levels_(warped)


CORRUPTION = Corruption(name="elastic_transform", constants=STRENGTH, apply=apply, draw=draw)
