"""Magnified crops, directional blurs and displaced pixels against slow loops."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from robustmix.corruptions import elastic_on_cpu, elastic_transform, zoom_blur
from robustmix.corruptions.directional import directional_blur, one_sided_taps
from robustmix.corruptions.filters import Border, mirrored, repeated
from robustmix.corruptions.glass_blur import GlassBlur, draw, sources
from robustmix.corruptions.zoom import zoom, zoom_factors, zoom_grid
from robustmix.rng import sample_keys
from tests.reference.vectors import reference_params


def noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("path", reference_params("corruption_constants*.npz"))
def test_the_crops_of_32_pixels(path: object) -> None:
    with np.load(str(path)) as file:
        table = file["zoom_table_32"]
    factors = zoom_factors(len(table), 0.01)
    for factor, (about, crop, top, size, first) in zip(factors, table, strict=True):
        assert factor == pytest.approx(about, abs=1e-9)
        step = (crop - 1) / (size - 1)
        positions = top + (first + np.arange(32)) * step
        grid = zoom_grid(32, factor)
        got = np.array(grid.low) + np.array(grid.fraction)
        np.testing.assert_allclose(got, positions, atol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1.06, 1.25, 1.75, 2.25])
@pytest.mark.parametrize("size", [(32, 32), (30, 41)])
def test_zoom_against_scipy(factor: float, size: tuple[int, int]) -> None:
    """Crop, magnify with scipy's order-1 spline, trim."""
    field = np.random.default_rng(0).random(size)
    pieces = [math.ceil(side / factor) for side in size]
    top, left = ((side - piece) // 2 for side, piece in zip(size, pieces, strict=True))
    crop = field[top : top + pieces[0], left : left + pieces[1]]
    large = scipy.ndimage.zoom(crop, factor, order=1)
    row, column = ((big - side) // 2 for big, side in zip(large.shape, size, strict=True))
    want = large[row : row + size[0], column : column + size[1]]
    got = zoom(torch.from_numpy(field), factor).numpy()
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("severity", [1, 5])
def test_zoom_blur_adds_in_order_what_float32_leaves_open(severity: int) -> None:
    """Noise, a ramp with flat stripes, and a flat image, which is all open."""
    images = noise(3, 3, 75, 61)
    images[1] = (torch.arange(61) // 20 * 85).to(torch.uint8)
    images[2] = 201
    factors = zoom_factors(*zoom_blur.ZOOMS["imagenet"][severity - 1])
    single = (images.double() / 255).float()
    total = torch.zeros_like(single)
    for factor in factors:
        total += zoom(single.double(), factor).float()
    want = ((single + total) / (len(factors) + 1) * 255).to(torch.uint8)
    assert torch.equal(zoom_blur.apply(images, None, severity, "imagenet"), want)
    for i in range(3):
        alone = zoom_blur.apply(images[i : i + 1], None, severity, "imagenet")
        assert torch.equal(alone[0], want[i])


def test_the_directional_blur_against_a_loop() -> None:
    images, angles = noise(3, 2, 9, 7), torch.tensor([-100.0, 0.0, 38.5], dtype=torch.float64)
    taps = one_sided_taps(3.5, 2.0)
    assert len(taps) == 9
    assert sum(taps) == pytest.approx(1)
    got = directional_blur(images, angles, 3.5, 2.0)
    for n, angle in enumerate(angles.tolist()):
        for row in range(9):
            for column in range(7):
                value = np.zeros(2)
                for i, weight in enumerate(taps):
                    x = column + math.ceil(i * math.cos(math.radians(angle)) - 0.5)
                    y = row + math.ceil(i * math.sin(math.radians(angle)) - 0.5)
                    pixel = images[n, :, min(max(y, 0), 8), min(max(x, 0), 6)].numpy()
                    value += weight * pixel.astype(float)
                want = np.floor(np.floor(257 * value + 0.5) / 257)
                np.testing.assert_array_equal(got[n, :, row, column].numpy(), want)


@pytest.mark.parametrize("flat", [False, True])
def test_what_float32_leaves_open_is_added_in_order(flat: bool) -> None:
    """Sums in float64, tap by tap, over whole images; float32 cannot tell all of their levels."""
    images, angles = noise(2, 3, 96, 90), torch.tensor([-38.0, 27.5], dtype=torch.float64)
    images = images // 255 * 100 + 77 if flat else images
    taps = one_sided_taps(20, 15)
    total = np.zeros(images.shape)
    for n, angle in enumerate(angles.tolist()):
        for i, weight in enumerate(taps):
            right, down = (
                math.ceil(i * turn(math.radians(angle)) - 0.5) for turn in (math.cos, math.sin)
            )
            y, x = (np.arange(96) + down).clip(0, 95), (np.arange(90) + right).clip(0, 89)
            total[n] += images[n].double().numpy()[:, y][:, :, x] * weight
    want = np.floor(np.floor(257 * total + 0.5) / 257)
    assert flat or (np.abs(total + 0.5 / 257 - np.rint(total)) < 1e-5).any()
    np.testing.assert_array_equal(directional_blur(images, angles, 20, 15).numpy(), want)


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_displaced_pixels_against_the_walk(reach: int) -> None:
    """The benchmark's loop, from the lower right corner on, copying as it goes."""
    rng = np.random.default_rng(reach)
    height, width = 17, 23
    shape = (2, 2, height, width)
    down, right = (np.zeros(shape, np.int64) for _ in range(2))
    inside = np.s_[:, :, reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    for shifts in (down, right):
        shifts[inside] = rng.integers(-reach, reach, shifts[inside].shape)
    draws = GlassBlur(torch.from_numpy(down), torch.from_numpy(right))
    for round_ in range(2):
        got = sources(draws, round_, reach)
        for n in range(2):
            pixels = np.arange(height * width).reshape(height, width)
            for row in range(height - reach, reach, -1):
                for column in range(width - reach, reach, -1):
                    y = row + down[n, round_, row, column]
                    x = column + right[n, round_, row, column]
                    pixels[row, column] = pixels[y, x]
            np.testing.assert_array_equal(got[n].numpy(), pixels.ravel())


def test_glass_displacements_are_uniform_and_spare_the_border() -> None:
    keys = sample_keys(0, "corruption", "glass_blur/5", 0, [str(i) for i in range(40)])
    draws = draw(keys, torch.zeros(40, 3, 224, 224, dtype=torch.uint8), 5, "imagenet")
    for shifts in draws:  # reach 4
        assert bool((shifts[:, :, :5] == 0).all())
        assert bool((shifts[:, :, :, 221:] == 0).all())
        counts = torch.bincount((shifts[:, :, 5:221, 5:221] + 4).flatten(), minlength=8)
        share = counts / counts.sum()
        assert len(share) == 8
        assert float((share - 1 / 8).abs().max()) < 5 * (0.11 / float(counts.sum())) ** 0.5
    assert not torch.equal(draws.down, draws.right)


@pytest.mark.parametrize("border", ["mirror", "sym"])
@pytest.mark.parametrize("far", [0.1, 0.3, 3])
def test_pixels_in_a_border_are_those_folded_back(far: float, border: Border) -> None:
    """Between pixels up to ``far`` times the image's side outside of it, two images at once."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 11, 7, generator=generator)
    left, top = (
        (torch.randn(2, 5, 13, generator=generator) * far * 7).to(torch.int32) for _ in range(2)
    )
    fx, fy = torch.rand(2, 2, 5, 13, generator=generator, dtype=torch.float64).unbind(0)
    assert (elastic_on_cpu.reach_of(left.numpy(), top.numpy(), 11, 7) is None) == (far == 3)
    got = elastic_transform._between(images, left, top, fx, fy, border)
    fold = mirrored if border == "mirror" else repeated
    columns, rows = ([fold(at + i, size) for i in (0, 1)] for at, size in ((left, 7), (top, 11)))
    want = elastic_transform._between_folded(images, columns, rows, fx, fy)
    assert torch.equal(got, want)


def test_pixels_inside_need_no_border() -> None:
    left, top = np.array([[[0, 5]]], np.int32), np.array([[[9, 0]]], np.int32)
    assert elastic_on_cpu.reach_of(left, top, 11, 7) == 0
    assert elastic_on_cpu.reach_of(left + np.int32(1), top, 11, 7) == 1
    assert elastic_on_cpu.reach_of(left, top - np.int32(2), 11, 7) == 2
