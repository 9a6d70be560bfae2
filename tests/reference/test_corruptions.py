"""Corruptions against stored outputs of the generation scripts, value for value.

Deterministic corruptions must be equal. Random ones are fed the scripts' own draws (numpy's legacy
generator, seeded as stored) and must then be equal too, but for a level here and there in two of
them; the production draws are compared in distribution. What was measured is printed at the end of
the session.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.corruptions import CORRUPTIONS, NAMES, SEVERITIES, corrupt
from robustmix.corruptions.defocus_blur import RADIUS_SIGMA, disk_kernel
from robustmix.corruptions.elastic_transform import Elastic
from robustmix.corruptions.fog import Fog
from robustmix.corruptions.gaussian_noise import GaussianNoise
from robustmix.corruptions.glass_blur import SIGMA_REACH_ROUNDS, GlassBlur
from robustmix.corruptions.impulse_noise import AMOUNT, ImpulseNoise
from robustmix.corruptions.jpeg_compression import (
    CHROMA_FORWARD,
    CHROMA_INVERSE,
    CHROMA_TABLE,
    LUMA_COSINES,
    LUMA_TABLE,
)
from robustmix.corruptions.motion_blur import MotionBlur
from robustmix.corruptions.names import APPROXIMATE
from robustmix.corruptions.shot_noise import PHOTONS, ShotNoise
from robustmix.corruptions.snow import Snow
from robustmix.corruptions.spatter import Spatter
from robustmix.corruptions.speckle_noise import SpeckleNoise
from tests.corruptions.cifar import cifar100_test, needs_cifar100
from tests.reference.tolerances import EPS
from tests.reference.vectors import reference_params

Array: TypeAlias = NDArray[np.float64]
Drawn: TypeAlias = tuple[NDArray[np.generic], ...]
Draw: TypeAlias = Callable[[np.random.RandomState, Array, int], Drawn]

DETERMINISTIC = [name for name in NAMES if CORRUPTIONS[name].deterministic]
RANDOM = [name for name in NAMES if not CORRUPTIONS[name].deterministic]
WITHOUT_PHOTOGRAPHS = {"frost"}  # its draws mean nothing on the textures that stand in for them


class Row(NamedTuple):
    """One line of the printed table."""

    corruption: str
    severity: int
    figure: str
    value: float
    limit: float


ROWS: list[Row] = []


@pytest.fixture(autouse=True)
def recorded(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Hand what a test measured to the table that ``tests/conftest.py`` prints at the end."""
    before = len(ROWS)
    yield
    for row in ROWS[before:]:
        key = [f"{NAMES.index(row.corruption):02}", row.severity, row.figure]
        figures = f"{row.value:10.6f}  <= {row.limit:<5g}  {row.figure}"
        text = f"{row.corruption:18} {row.severity}  {figures}"
        record_property("measured", [key, row.value, text])


def normal_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    return (first(rng.normal(0, 1, x.shape)),)


def poisson_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    return (first(rng.poisson(x * PHOTONS["cifar"][severity - 1])),)


def impulse_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    p = AMOUNT["cifar"][severity - 1]
    flip = rng.choice([True, False], x.shape, p=[p, 1 - p])
    return first(flip), first(rng.choice([True, False], x.shape, p=[0.5, 0.5]))


def glass_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    """Two numbers a pixel, column first, from the lower right corner to the upper left one."""
    _, reach, rounds = SIGMA_REACH_ROUNDS["cifar"][severity - 1]
    down, right = (np.zeros((rounds, *x.shape[:2]), np.int64) for _ in range(2))
    for round_ in range(rounds):
        for row in range(x.shape[0] - reach, reach, -1):
            for column in range(x.shape[1] - reach, reach, -1):
                right[round_, row, column], down[round_, row, column] = rng.randint(
                    -reach, reach, size=2
                )
    return down, right


def motion_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    return (np.asarray(rng.uniform(-45, 45)),)


def fog_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    return (rng.random_sample(x.shape[0] * x.shape[1] - 1),)


def snow_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    return rng.normal(0, 1, x.shape[:2]), np.asarray(rng.uniform(-135, -45))


def elastic_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    return rng.random_sample((3, 2)), rng.random_sample(x.shape[:2]), rng.random_sample(x.shape[:2])


def spatter_draw(rng: np.random.RandomState, x: Array, severity: int) -> Drawn:
    return (rng.normal(0, 1, x.shape[:2]),)


def first(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Move channels, drawn last, to the front."""
    return np.moveaxis(values, -1, 0)


# How the scripts draw for one image (H, W, 3) in [0, 1], and the type that holds a batch of it.
SCRIPT_DRAWS: dict[str, tuple[Draw, Callable[..., object]]] = {
    "gaussian_noise": (normal_draw, GaussianNoise),
    "shot_noise": (poisson_draw, ShotNoise),
    "impulse_noise": (impulse_draw, ImpulseNoise),
    "glass_blur": (glass_draw, GlassBlur),
    "motion_blur": (motion_draw, MotionBlur),
    "snow": (snow_draw, Snow),
    "fog": (fog_draw, Fog),
    "elastic_transform": (elastic_draw, Elastic),
    "speckle_noise": (normal_draw, SpeckleNoise),
    "spatter": (spatter_draw, Spatter),
}


def channels_first(images: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3)))


def off_by(got: Tensor, expected: Tensor) -> tuple[float, int]:
    """Return the share of values that differ and the largest difference in grey levels."""
    difference = (got.long() - expected.long()).abs()
    return float((difference > 0).double().mean()), int(difference.max())


def stored(path: Path, names: list[str]) -> Iterator[tuple[str, int, Tensor, NDArray[np.int64]]]:
    """Yield name, severity, expected images and seeds, for every severity of the names it holds."""
    with np.load(path, allow_pickle=False) as file:
        held = [str(name) for name in file["names"]]
        corrupted, seeds = file["corrupted"], file["seed"]
        for name in names:
            if name in held:
                c = held.index(name)
                for severity in SEVERITIES:
                    expected = channels_first(corrupted[c, severity - 1])
                    yield name, severity, expected, seeds[c, severity - 1]


def test_every_random_corruption_has_its_draws() -> None:
    assert set(SCRIPT_DRAWS) == set(RANDOM) - WITHOUT_PHOTOGRAPHS


@pytest.mark.parametrize("path", reference_params("corruptions_*.npz"))
def test_deterministic_corruptions_are_equal(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        clean = channels_first(file["clean"])
    wrong = []
    for name, severity, expected, _ in stored(path, DETERMINISTIC):
        share, most = off_by(corrupt(clean, name, severity, seed=0), expected)
        ROWS.append(Row(name, severity, f"{path.stem}: share of values off", share, 0))
        if most:
            wrong.append((name, severity, share, most))
    assert not wrong


@pytest.mark.parametrize("path", reference_params("corruptions_*.npz"))
def test_random_corruptions_are_equal_given_the_draws(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        pixels = file["clean"]
    clean, x = channels_first(pixels), pixels / 255
    wrong = []
    for name, severity, expected, seeds in stored(path, list(SCRIPT_DRAWS)):
        draw, hold = SCRIPT_DRAWS[name]
        each = [
            draw(np.random.RandomState(int(seed)), image, severity)
            for seed, image in zip(seeds, x, strict=True)
        ]
        draws = hold(*(torch.from_numpy(np.stack(field)) for field in zip(*each, strict=True)))
        got = CORRUPTIONS[name].apply(clean, draws, severity, "cifar")
        share, most = off_by(got, expected)
        figure = f"{path.stem}: share of values off, given draws"
        allowed = ONE_LEVEL.get(name, 0.0)
        ROWS.append(Row(name, severity, figure, share, allowed))
        if share > allowed or most > 1:
            wrong.append((name, severity, share, most))
    assert not wrong


def statistics(difference: Array) -> dict[str, NDArray[np.float64]]:
    """Return the mean over images (N, 3, 32, 32) of each stored statistic of the change."""
    power = (np.abs(np.fft.fft2(difference)) ** 2).mean(axis=(0, 1)) / 1024**2
    frequency = np.fft.fftfreq(32)
    band = np.digitize(np.hypot(frequency[:, None], frequency), [1 / 8, 1 / 4, 3 / 8])
    return {
        "diff_mean": difference.mean(axis=(0, 2, 3)),
        "abs_mean": np.abs(difference).mean(),
        "frac_changed": (difference != 0).mean(),
        "band_power": np.array([power[band == b].sum() for b in range(4)]),
    }


def deviation_limit(difference: Array) -> float:
    """Return the largest relative error allowed for the deviation of the change.

    Four standard errors of a difference, and half a percent. Values of one image go together, so
    the error is that of a mean over images of their mean square deviation.
    """
    centred = difference - difference.mean(axis=(0, 2, 3), keepdims=True)
    squares = (centred**2).mean(axis=(1, 2, 3))
    error = squares.std() / np.sqrt(len(squares)) / (2 * squares.mean())
    return float(4 * np.sqrt(2) * error + 0.005)


# Share of values that may be off by one level, given the scripts' draws. These two add in float32
# what often makes a whole grey level but for rounding (2 in 1,000 values of snow, most of spatter),
# and are then truncated. The others add in float64, or what is no whole level. Met: 8e-5 and 3e-5.
ONE_LEVEL = {"snow": 5e-4, "spatter": 5e-4}

# What the textures that stand in for the photographs may differ by, as a share of each statistic;
# everything else has half a percent.
STAND_IN = 0.07

# Total variation allowed between histograms of changes, where it is not a hundredth: fog moves
# whole images by an amount of their own, so a thousand of them scatter more.
HISTOGRAM = {"frost": 0.12, "fog": 0.02}


@needs_cifar100
@pytest.mark.parametrize("path", reference_params("corruptions_*.npz"))
@pytest.mark.parametrize(
    "severities", [(1, 3, 5), pytest.param((2, 4), marks=pytest.mark.slow)], ids=str
)
def test_production_draws_have_the_distribution(path: Path, severities: tuple[int, ...]) -> None:
    """Every statistic within four standard errors of a difference and half a percent."""
    with np.load(path, allow_pickle=False) as file:
        if "stat_index" not in file:
            pytest.skip(f"{path.name} holds no statistics")
        held = {key: file[key] for key in file.files if key.startswith("stat_")}
        names = [str(name) for name in file["names"]]
    clean = cifar100_test(torch.from_numpy(held["stat_index"]))
    rows = []
    for name in (name for name in RANDOM if name in names):
        for severity in severities:
            at = names.index(name), severity - 1
            out = corrupt(clean, name, severity, seed=0)
            difference = (out.double() - clean.double()).numpy()
            for figure, value in statistics(difference).items():
                expected = held[f"stat_{figure}"][at]
                error = held[f"stat_{figure}_per_image_std"][at] / np.sqrt(len(clean))
                share = STAND_IN if name in APPROXIMATE else 0.005
                limit = 4 * np.sqrt(2) * error + share * np.abs(expected)
                worst = float(np.max(np.abs(value - expected) / limit))
                rows.append(Row(name, severity, f"{figure}: deviation / limit", worst, 1))
            hist = held["stat_diff_hist"][at]
            relative = difference.std(axis=(0, 2, 3)) / held["stat_diff_std"][at] - 1
            worst, limit = float(np.abs(relative).max()), deviation_limit(difference)
            rows.append(Row(name, severity, "diff_std: relative deviation", worst, limit))
            counts = np.bincount((difference + 255).astype(np.int64).ravel(), minlength=511)
            distance = float(np.abs(counts - hist).sum() / counts.sum() / 2)
            allowed = HISTOGRAM.get(name, 0.01)
            rows.append(Row(name, severity, "histogram: total variation", distance, allowed))
        for severity in severities:
            shares = [row.value / row.limit for row in rows if row[:2] == (name, severity)]
            figure = "production draws: worst statistic / its limit"
            ROWS.append(Row(name, severity, figure, max(shares), 1))
    assert not [row for row in rows if row.value > row.limit]


@needs_cifar100
@pytest.mark.parametrize("path", reference_params("corruptions_*.npz"))
def test_histograms_of_deterministic_corruptions_are_equal(path: Path) -> None:
    """On forty times the images whose pixels are stored."""
    with np.load(path, allow_pickle=False) as file:
        if "stat_index" not in file:
            pytest.skip(f"{path.name} holds no statistics")
        index, hist = file["stat_index"], file["stat_diff_hist"]
        names = [str(name) for name in file["names"]]
    clean = cifar100_test(torch.from_numpy(index))
    for name in (name for name in DETERMINISTIC if name in names):
        for s, severity in enumerate(SEVERITIES):
            difference = corrupt(clean, name, severity, seed=0).long() - clean.long()
            counts = torch.bincount((difference + 255).flatten(), minlength=511).numpy()
            np.testing.assert_array_equal(counts, hist[names.index(name), s])


@needs_cifar100
@pytest.mark.parametrize("path", reference_params("corruptions_*.npz"))
def test_the_stored_images_are_the_data_sets(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        clean, index = channels_first(file["clean"]), torch.from_numpy(file["test_index"])
    assert torch.equal(clean, cifar100_test(index))


@pytest.mark.parametrize("path", reference_params("corruption_constants*.npz"))
def test_constants(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        for key, value in {
            "jpeg_luma_forward": LUMA_COSINES,
            "jpeg_luma_inverse": LUMA_COSINES.T,
            "jpeg_chroma_forward": CHROMA_FORWARD,
            "jpeg_chroma_inverse": CHROMA_INVERSE,
            "jpeg_luma_table": LUMA_TABLE,
            "jpeg_chroma_table": CHROMA_TABLE,
        }.items():
            np.testing.assert_array_equal(value.numpy(), file[key], err_msg=key)
        for profile, table in RADIUS_SIGMA.items():
            for severity in SEVERITIES:
                kernel = disk_kernel(*table[severity - 1]).numpy()
                want = file[f"defocus_kernel_{profile}_{severity}"]
                # Those were made with fused multiply-adds, which round once where ours round twice,
                # in two passes of five.
                limit = 4 * EPS * want.max() if profile == "imagenet" else 0
                np.testing.assert_allclose(kernel, want, rtol=0, atol=limit)
