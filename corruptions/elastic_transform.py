"""Elastic transform: a random affine map, then small local displacements."""

from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.filters import gaussian_filter, mirrored, repeated
from robustmix.corruptions.names import Profile
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
    before = torch.tensor(
        [[x + reach, y + reach], [x + reach, y - reach], [x - reach, y - reach]],
        dtype=torch.float32,
        device=points.device,
    )
    shifts = (-jitter + 2 * jitter * points).to(torch.float32)
    after = (before + shifts).to(torch.float64)
    # The points form a right angle, so the map's columns are two differences.
    along_x = (after[:, 1] - after[:, 2]) / (2 * reach)
    along_y = (after[:, 0] - after[:, 1]) / (2 * reach)
    offset = after[:, 1] - along_x * (x + reach) - along_y * (y - reach)
    (a, c), (b, d), (e, f) = along_x.unbind(1), along_y.unbind(1), offset.unbind(1)
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    rows = [a, b, -a * e - b * f, c, d, -c * e - d * f]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def warp_affine(images: Tensor, inverse: Tensor) -> Tensor:
    """Return the images under the maps, linearly between pixels; what lies outside is mirrored.

    Args:
        images: float32 (N, C, H, W).
        inverse: float64 (N, 2, 3), from the result's pixels (x, y) to the image's.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float64, device=images.device)
    y = torch.arange(height, dtype=torch.float64, device=images.device).unsqueeze(1)
    places = []
    for row in inverse.unbind(1):
        a, b, c = (value.view(-1, 1, 1) for value in row.unbind(1))
        fixed = torch.round(a * x * _SCALE) + torch.round((b * y + c) * _SCALE)
        places.append((fixed + _SCALE // GRID // 2).to(torch.int64) >> 5)
    u, v = places
    weights = [((place & (GRID - 1)).to(torch.float32) / GRID) for place in (u, v)]
    return _between(
        images,
        [mirrored((u >> 5) + i, width) for i in (0, 1)],
        [mirrored((v >> 5) + i, height) for i in (0, 1)],
        *weights,
    )


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
    left, top = x.floor(), y.floor()
    columns = [repeated(left.to(torch.int64) + i, width) for i in (0, 1)]
    rows = [repeated(top.to(torch.int64) + i, height) for i in (0, 1)]
    return _between(images.double(), columns, rows, x - left, y - top).to(torch.float32)


def _between(
    images: Tensor, columns: list[Tensor], rows: list[Tensor], fx: Tensor, fy: Tensor
) -> Tensor:
    """Interpolate linearly; indices and fractions are (N, H, W)."""
    n, channels, height, width = images.shape
    flat = images.flatten(2)
    fx, fy = fx.unsqueeze(1), fy.unsqueeze(1)
    total = torch.zeros_like(images)
    for row, weight_y in zip(rows, (1 - fy, fy), strict=True):
        for column, weight_x in zip(columns, (1 - fx, fx), strict=True):
            index = (row * width + column).flatten(1).unsqueeze(1).expand(n, channels, -1)
            corner = flat.gather(2, index).view(n, channels, height, width)
            total += corner * (weight_y * weight_x)
    return total


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
    x = images.to(torch.float32) / 255
    height, width = images.shape[2:]
    inverse = affine_inverse(draws.points, (height, width), strength.jitter * unit)
    warped = warp_affine(x, inverse)
    if strength.alpha:
        across, down = (
            (
                gaussian_filter(
                    2 * field - 1, strength.sigma * unit, truncate=_TRUNCATE, border="sym"
                )
                * (strength.alpha * unit)
            ).to(torch.float32)
            for field in (draws.across, draws.down)
        )
        warped = displace(warped, across, down)
    return warped.clamp(0, 1).mul_(255).to(torch.uint8)


CORRUPTION = Corruption(name="elastic_transform", constants=STRENGTH, apply=apply, draw=draw)
