import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from robustmix.corruptions import gaussian_blur
from robustmix.corruptions.defocus_blur import RADIUS_SIGMA, apply, by_transform, disk_kernel
from robustmix.corruptions.filters import (
    FEW_VALUES,
    Border,
    correlate,
    gaussian_filter,
    gaussian_nearly,
    gaussian_taps,
    grow,
    pad,
)
from robustmix.corruptions.pixels import settled, to_grey_levels_, to_unit

NUMPY_MODE: dict[Border, str] = {"edge": "edge", "mirror": "reflect", "sym": "symmetric"}


def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 7, 11, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("border", NUMPY_MODE)
@pytest.mark.parametrize("reach", [0, 1, 6, 23])
@pytest.mark.parametrize("dim", [-1, -2])
def test_pad_against_numpy(border: Border, reach: int, dim: int) -> None:
    width = [(0, 0)] * 4
    width[dim] = (reach, reach)
    expected = np.pad(images().numpy(), width, mode=NUMPY_MODE[border])  # type: ignore[call-overload]  # the mode is a variable
    np.testing.assert_array_equal(pad(images(), reach, border, dim=dim).numpy(), expected)


@pytest.mark.parametrize("border", NUMPY_MODE)
def test_pad_of_a_single_value(border: Border) -> None:
    assert pad(torch.tensor([5.0]), 2, border, dim=0).tolist() == [5.0] * 5


@pytest.mark.parametrize("sigma", [0.4, 1.0, 6.0])
def test_taps_are_a_normalised_gaussian(sigma: float) -> None:
    taps = gaussian_taps(sigma)
    assert len(taps) == int(4 * sigma + 0.5) + 1
    assert taps[0] + 2 * sum(taps[1:]) == pytest.approx(1, abs=1e-15)
    assert taps[1] / taps[0] == pytest.approx(np.exp(-0.5 / sigma**2), rel=1e-14)


def test_tiny_sigma_changes_nothing() -> None:
    assert torch.equal(gaussian_filter(images(), 0.12), images())


@pytest.mark.parametrize("truncate", [3.0, 4.0])
@pytest.mark.parametrize("sigma", [0.4, 0.75, 1.5, 4.0])
def test_gaussian_filter_against_scipy(sigma: float, truncate: float) -> None:
    expected = scipy.ndimage.gaussian_filter(
        images().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=truncate
    )
    got = gaussian_filter(images(), sigma, truncate=truncate).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("border", NUMPY_MODE)
@pytest.mark.parametrize("reach", [1, 3, 30])
@pytest.mark.parametrize("dim", [2, 3])
def test_a_border_grown_in_place_is_that_of_a_pad(border: Border, reach: int, dim: int) -> None:
    size = images().shape[dim]
    wanted = pad(images(), reach, border, dim=dim)
    room = torch.full_like(wanted, torch.nan)
    room.narrow(dim, reach, size).copy_(images())
    grow(room, reach, size, border, dim=dim)
    assert torch.equal(room, wanted)


@pytest.mark.parametrize("border", NUMPY_MODE)
@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
def test_many_values_are_filtered_as_few_are(border: Border, sigma: float) -> None:
    """By torch and by NumPy, to the same bits."""
    few = images()
    many = few.expand(FEW_VALUES // few.numel() + 1, *few.shape)
    assert few.numel() <= FEW_VALUES < many.numel()
    got = gaussian_filter(many, sigma, border=border)
    assert torch.equal(got, gaussian_filter(few, sigma, border=border).expand_as(many))


def test_correlate_against_scipy() -> None:
    """A lopsided kernel, so that a flip, a transposition or a shift would show."""
    kernel = torch.rand(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    kernel[0] = 0
    expected = scipy.ndimage.correlate(images().numpy(), kernel.numpy()[None, None], mode="mirror")
    got = correlate(images(), kernel, border="mirror").numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)


def test_a_disk_below_one_pixel_is_a_small_gaussian() -> None:
    kernel = disk_kernel(*RADIUS_SIGMA["cifar"][0]).double()
    row = np.exp(-(np.arange(-1, 2) ** 2) / (2 * 0.4**2))
    row /= row.sum()
    np.testing.assert_allclose(kernel[7:10, 7:10].numpy(), np.outer(row, row), atol=1e-8)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("severity", "taps"), [(4, 5), (5, 9)])
def test_larger_disks_are_equal_taps(severity: int, taps: int) -> None:
    kernel = disk_kernel(*RADIUS_SIGMA["cifar"][severity - 1])
    counted = kernel[kernel > 1e-4]
    assert len(counted) == taps
    np.testing.assert_allclose(counted.numpy(), 1 / taps, rtol=1e-4)


@pytest.mark.parametrize(("severity", "mass"), [(3, 1.0), (4, 1.0130), (5, 1.0108)])
def test_disks_that_touch_the_lattice_gain_mass(severity: int, mass: float) -> None:
    kernel = disk_kernel(*RADIUS_SIGMA["imagenet"][severity - 1])
    assert float(kernel.sum()) == pytest.approx(mass, abs=5e-5)


@pytest.mark.parametrize("border", NUMPY_MODE)
def test_a_blur_by_products_is_as_near_as_it_says(border: Border) -> None:
    nearly = gaussian_nearly(images(), 4.0, border=border)
    assert nearly is not None
    got, error = nearly
    assert error < 1e-13
    assert float((got - gaussian_filter(images(), 4.0, border=border)).abs().max()) < error


def pictures() -> Tensor:
    """Noise, a flat image, flat pieces that meet, and a ramp: uint8 (4, 3, 61, 53)."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(256, (3, 61, 53), generator=generator, dtype=torch.uint8)
    flat = torch.full_like(noise, 201)
    pieces = torch.full_like(noise, 255)
    pieces[:, 40:, 30:] = torch.tensor([7, 90, 131], dtype=torch.uint8).view(3, 1, 1)
    ramp = (3 * torch.arange(53)).to(torch.uint8).expand(3, 61, 53)
    return torch.stack([noise, flat, pieces, ramp])


@pytest.mark.parametrize("severity", [1, 2, 3, 5])
def test_gaussian_blur_truncates_what_the_filter_gives(severity: int) -> None:
    sigma = gaussian_blur.SIGMA["imagenet"][severity - 1]
    expected = to_grey_levels_(gaussian_filter(to_unit(pictures()), sigma))
    assert torch.equal(gaussian_blur.apply(pictures(), None, severity, "imagenet"), expected)


def test_flat_pieces_are_where_products_do_not_decide() -> None:
    nearly = gaussian_nearly(to_unit(pictures()), 3.0)
    assert nearly is not None
    _, open_ = settled(nearly[0] * 255, 255 * nearly[1])
    assert open_.flatten(1).float().mean(dim=1)[:3].tolist() == [0, 1, pytest.approx(0.7, abs=0.2)]


@pytest.mark.parametrize("shape", [(), (7,), (5, 9), (2, 35, 32, 32), (5, 200, 220), (0, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_are_settled_plane_by_plane(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    levels = (300 * torch.rand(shape, generator=generator, dtype=torch.float64) - 20).to(dtype)
    whole, open_ = settled(levels.clone(), 0.05)
    lower = (levels.double() - 0.05).clamp(0, 255)
    assert torch.equal(whole, lower.floor().to(torch.uint8))
    # So near to the next level that the rounding of float32 decides is not asked about.
    beyond = lower - lower.floor() - (1 - 3 * 0.05)
    clear = beyond.abs() > 1e-4
    assert torch.equal(open_[clear], (beyond > 0)[clear])
    assert clear.double().mean() > 0.99 or not levels.numel()


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_defocus_truncates_what_the_correlation_gives(severity: int) -> None:
    disk = RADIUS_SIGMA["imagenet"][severity - 1]
    x, kernel = to_unit(pictures()), disk_kernel(*disk).double()
    in_order = correlate(x, kernel, border="mirror")
    levels, error = by_transform(pictures(), disk)
    assert error < 1e-9
    assert float((levels - 255 * in_order).abs().max()) < error / 50
    assert torch.equal(apply(pictures(), None, severity, "imagenet"), to_grey_levels_(in_order))
