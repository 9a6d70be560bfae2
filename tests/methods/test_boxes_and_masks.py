"""ResizeMix, GridMix, SmoothMix, FMix and AttentiveMix by hand, by loops or in closed form."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from robustmix.methods.attentivemix import (
    AttentiveMixConfig,
    AttentiveMixDraws,
    attentivemix,
    draw_attentivemix,
)
from robustmix.methods.fmix import (
    FMixConfig,
    FMixDraws,
    draw_fmix,
    fmix,
    fmix_mask,
    low_frequency_image,
)
from robustmix.methods.gridmix import (
    GridMixConfig,
    GridMixDraws,
    draw_gridmix,
    grid_mask,
    gridmix,
)
from robustmix.methods.manifoldmix import ManifoldMixConfig
from robustmix.methods.resizemix import (
    ResizeMixConfig,
    ResizeMixDraws,
    draw_resizemix,
    resizemix,
)
from robustmix.methods.saliencymix import SaliencyMixConfig
from robustmix.methods.smoothmix import (
    SmoothMixConfig,
    SmoothMixDraws,
    draw_smoothmix,
    smooth_mask,
    smoothmix,
)
from robustmix.methods.snapmix import SnapMixConfig

SWAP = torch.tensor([1, 0])


def numbered(height: int, width: int) -> torch.Tensor:
    """Two one-channel images whose every pixel is another number."""
    return torch.arange(2 * height * width, dtype=torch.float32).view(2, 1, height, width)


def test_resizemix_by_hand() -> None:
    # Sides int(7 * 0.6) = 4 and int(11 * 0.6) = 6, so 2 and 3 to either side of (2, 9): rows 0 to
    # 3 and columns 6 to 10, the last column of the box cut off. Nearest: floor(i * 7 / 4) and
    # floor(j * 11 / 5).
    images = numbered(7, 11)
    got = resizemix(images, ResizeMixDraws(tau=0.6, row=2, col=9, perm=SWAP))
    want = images.clone()
    for i in range(4):
        for j in range(5):
            want[:, 0, i, 6 + j] = images.flip(0)[:, 0, i * 7 // 4, j * 11 // 5]
    assert torch.equal(got.images, want)
    assert got.lam == 1 - 20 / 77


def test_a_resized_box_without_area_changes_nothing() -> None:
    images = numbered(7, 11)
    got = resizemix(images, ResizeMixDraws(tau=0.1, row=0, col=0, perm=SWAP))
    assert torch.equal(got.images, images)
    assert got.lam == 1


@pytest.mark.parametrize("use_alpha", [True, False])
def test_scales_are_in_their_range(use_alpha: bool) -> None:
    config, rng = ResizeMixConfig(alpha=0.3, use_alpha=use_alpha), np.random.default_rng(0)
    draws = [draw_resizemix(2, (3, 7), config, rng) for _ in range(2000)]
    taus = np.array([draw.tau for draw in draws])
    assert 0.1 <= taus.min() < 0.11
    assert 0.79 < taus.max() <= 0.8
    assert {draw.row for draw in draws} == set(range(3))
    assert {draw.col for draw in draws} == set(range(7))
    # Uniform: mean 0.45, variance 0.7^2 / 12; of the Beta one more than half falls outside.
    if not use_alpha:
        assert abs(taus.mean() - 0.45) < 5 * math.sqrt(0.49 / 12 / 2000)


GRID = GridMixDraws(
    lam=0.75, holes=2, hole_aspect=1.0, crop_area=1.0, crop_aspect=1.0, x=0.5, y=0.5, perm=SWAP
)


def test_gridmix_by_hand() -> None:
    # Crop int(sqrt(8 * 8)) = 8 by 8; patches 4 by 4; rectangles int(4 * 0.5) = 2 by 2 at 0 and 4.
    want = torch.zeros(8, 8, dtype=torch.bool)
    for top in (0, 4):
        for left in (0, 4):
            want[top : top + 2, left : left + 2] = True
    assert torch.equal(grid_mask((8, 8), GRID), want)
    images = numbered(8, 8)
    got = gridmix(images, GRID)
    assert torch.equal(got.images, torch.where(want, images.flip(0), images))
    assert got.lam == 0.75


def test_a_crop_wider_than_the_image_is_cut_off_or_wraps() -> None:
    # Crop width int(sqrt(64 / 0.25)) = 16, height 4, from column int(-8 * 0.5) = -4; patches 8 by
    # 8, rectangles 4 by 4 at columns -4 and 4, and rows 2 and 6 = the crop's end.
    draws = GRID._replace(crop_aspect=0.25)
    mask = grid_mask((8, 8), draws)
    want = torch.zeros(8, 8, dtype=torch.bool)
    want[2:6, 4:8] = True
    assert torch.equal(mask, want)
    # Sliced as it is, [-4:0] holds nothing; from column -6 it is [-6:-2], which is [2:6].
    assert torch.equal(grid_mask((8, 8), draws, wrap=True), want)
    moved = draws._replace(x=0.75)
    want[2:6, 2:6] = True
    assert torch.equal(grid_mask((8, 8), moved, wrap=True)[:, 2:6], want[:, 2:6])
    assert not grid_mask((8, 8), moved)[:, 6:].any() or not moved.holes


@pytest.mark.parametrize("size", [(7, 11), (32, 32), (5, 3)])
def test_grids_are_as_drawn(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        draws = draw_gridmix(3, GridMixConfig(), rng)
        assert 2 <= draws.holes <= 6
        assert 0.5 <= draws.crop_area <= 1
        assert 0.5 <= draws.crop_aspect <= 2
        share = float(grid_mask(size, draws).float().mean())
        assert 0 <= share < 1
        shares.append(share)
    assert max(shares) > 0.2


def test_smoothmix_in_closed_form() -> None:
    # row = H / 2 and col = W / 2 move nothing: the bell's middle is the image's, (H - 1) / 2.
    height, width = 6, 10
    draws = SmoothMixDraws(col=5, row=3, width=0.4, perm=SWAP)
    sigma = (0.4 / 4 + 0.25) * height
    mask = smooth_mask((height, width), draws)
    for y in range(height):
        for x in range(width):
            distance = (y - 2.5) ** 2 + (x - 4.5) ** 2
            assert float(mask[y, x]) == pytest.approx(math.exp(-distance / (2 * sigma**2)))
    images = numbered(height, width).double()
    got = smoothmix(images, draws)
    torch.testing.assert_close(got.images, (1 - mask) * images + mask * images.flip(0))
    assert got.lam == pytest.approx(1 - float(mask.mean()))


def test_the_smooth_mask_moves_down_and_right() -> None:
    size = (12, 12)
    centre = smooth_mask(size, SmoothMixDraws(col=6, row=6, width=0.0, perm=SWAP))
    moved = smooth_mask(size, SmoothMixDraws(col=9, row=8, width=0.0, perm=SWAP))
    torch.testing.assert_close(moved[2:, 3:], centre[:-2, :-3])


def test_smooth_draws_cover_the_image() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_smoothmix(2, (3, 7), rng) for _ in range(300)]
    assert {d.row for d in draws} == set(range(3))
    assert {d.col for d in draws} == set(range(7))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (7, 11), (32, 32)])
def test_an_fmix_mask_has_lam_of_the_pixels(size: tuple[int, int], full: bool) -> None:
    rng = np.random.default_rng(0)
    pixels = size[0] * size[1]
    for _ in range(20):
        draws = draw_fmix(2, size, 1.0, rng)
        mask = fmix_mask(size, draws, full_spectrum=full)
        rounded = math.ceil if draws.coin > 0.5 else math.floor
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert mask.sum() == rounded(draws.lam * pixels)
        # The kept pixels are the brightest ones.
        image = low_frequency_image(draws.noise, size, full_spectrum=full)
        if 0 < mask.sum() < pixels:
            assert image[mask == 1].min() >= image[mask == 0].max()


def test_the_full_spectrum_is_the_inverse_of_a_fourier_transform() -> None:
    size = (6, 10)
    noise = np.random.default_rng(1).standard_normal((6, 6, 2))
    image = low_frequency_image(noise, size, decay=2.0, full_spectrum=True)
    slow = np.zeros(size)
    for fy in range(6):
        for fx in range(10):
            # The half that is not drawn is the conjugate of the other.
            y, x, sign = (fy, fx, 1) if fx <= 5 else ((-fy) % 6, 10 - fx, -1)
            down, across = (y if y < 3 else y - 6) / 6, (x if x < 5 else -5) / 10
            amplitude = 1 / max(math.hypot(down, across), 1 / 10) ** 2
            value = amplitude * (noise[y, x, 0] + sign * 1j * noise[y, x, 1])
            if x in (0, 5):  # numpy takes the real signal's share of these columns
                other = amplitude * (noise[-y % 6, x, 0] - 1j * noise[-y % 6, x, 1])
                value = (amplitude * (noise[y, x, 0] + 1j * noise[y, x, 1]) + other) / 2
            rows, cols = np.arange(6)[:, None], np.arange(10)
            slow += (value * np.exp(2j * np.pi * (fy * rows / 6 + fx * cols / 10))).real
    slow = (slow - slow.min()) / (slow.max() - slow.min())
    np.testing.assert_allclose(image, slow, atol=1e-10)


def test_soft_edges_fall_evenly() -> None:
    size, lam = (10, 10), 0.5
    noise = np.random.default_rng(0).standard_normal((10, 6, 2))
    draws = FMixDraws(lam=lam, noise=noise, coin=0.0, perm=SWAP)
    mask = fmix_mask(size, draws, max_soft=0.2)
    values = np.sort(mask.reshape(-1))[::-1]
    # Ranks 30 to 69 fall from 1 to 0; the mean stays lam.
    np.testing.assert_allclose(values[30:70], np.linspace(1, 0, 40))
    assert (values[:30] == 1).all()
    assert (values[70:] == 0).all()
    assert values.mean() == pytest.approx(lam)
    images = numbered(10, 10).double()
    got = fmix(images, draws, max_soft=0.2)
    share = torch.from_numpy(mask)
    torch.testing.assert_close(got.images, share * images + (1 - share) * images.flip(0))


def test_attentivemix_by_hand() -> None:
    # 2 x 3 cells of 2 x 2 pixels; int(6 * 0.4) = 2 are kept, of each image its own best.
    features = torch.zeros(2, 4, 2, 3)
    features[0, :, 0, 1], features[0, :, 1, 2] = 5.0, 3.0
    features[1, 0, 1, 0], features[1, :, 0, 0] = 9.0, 2.0  # means 2.25 and 2
    images = numbered(4, 6)
    got = attentivemix(images, AttentiveMixDraws(lam=0.4, perm=SWAP), features)
    want = images.flip(0).clone()
    want[0, :, 0:2, 2:4], want[0, :, 2:4, 4:6] = images[0, :, 0:2, 2:4], images[0, :, 2:4, 4:6]
    want[1, :, 2:4, 0:2], want[1, :, 0:2, 0:2] = images[1, :, 2:4, 0:2], images[1, :, 0:2, 0:2]
    assert torch.equal(got.images, want)
    assert got.lam == 2 / 6
    few = attentivemix(images, AttentiveMixDraws(lam=0.0, perm=SWAP), features)
    assert few.lam == 1 / 6
    six = attentivemix(images, AttentiveMixDraws(lam=0.0, perm=SWAP), features, top_k=6)
    assert torch.equal(six.images, images)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: draw_fmix(1, (3, 5), 0.5, rng).lam,
        lambda rng: draw_gridmix(1, GridMixConfig(alpha=0.5), rng).lam,
        lambda rng: draw_attentivemix(1, 0.5, rng).lam,
    ],
    ids=["fmix", "gridmix", "attentivemix"],
)
def test_lam_is_beta_distributed(draw: Callable[[np.random.Generator], float]) -> None:
    rng, n = np.random.default_rng(0), 2000
    lam = np.array([draw(rng) for _ in range(n)])
    variance = 1 / 8  # 1 / (4 (2 alpha + 1))
    assert abs(lam.mean() - 0.5) < 5 * math.sqrt(variance / n)
    assert abs(((lam - 0.5) ** 2).mean() - variance) < 5 * variance * math.sqrt(0.5 / n)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (AttentiveMixConfig, {"top_k": -1}, "top_k >= 0"),
        (AttentiveMixConfig, {"alpha": 0.0}, "alpha > 0"),
        (FMixConfig, {"alpha": math.nan}, "alpha > 0"),
        (FMixConfig, {"max_soft": 1.5}, r"max_soft in \[0, 1\]"),
        (FMixConfig, {"decay": -1.0}, "decay >= 0"),
        (GridMixConfig, {"fewest_holes": 0}, "fewest_holes"),
        (GridMixConfig, {"smallest_crop": 0.0}, "smallest_crop"),
        (GridMixConfig, {"widest_aspect": 0.5}, "widest_aspect"),
        (ManifoldMixConfig, {"alpha": -1.0}, "alpha > 0"),
        (ResizeMixConfig, {"smallest": 0.9}, "smallest <= largest"),
        (ResizeMixConfig, {"interpolation": "cubic"}, "interpolation: one of nearest, bilinear"),
        (SaliencyMixConfig, {"alpha": math.inf}, "alpha > 0"),
        (SmoothMixConfig, {"label": "other"}, "label: one of share, swapped"),
        (SnapMixConfig, {"alpha": 0.0}, "alpha > 0"),
    ],
)
def test_impossible_options(config: Callable[..., Any], values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)
