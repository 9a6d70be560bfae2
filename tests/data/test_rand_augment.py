from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import norm
from torch import Tensor

from robustmix.data.augment import CIFAR_FILL as FILL
from robustmix.data.augment import RGB, Augment
from robustmix.data.images import TensorPixels
from robustmix.data.loader import augmented
from robustmix.data.rand_augment import (
    FIXMATCH,
    OPERATIONS,
    RandOps,
    draw_rand_ops,
    rand_augment,
    strength,
    warp,
)

Bytes = NDArray[np.uint8]
NAMES = tuple(OPERATIONS)


def noise(height: int = 29, width: int = 31) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (6, 3, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    images[1] = images[1] // 3 + 40  # reaches neither 0 nor 255
    images[2, 0] = 77  # one value in a channel
    images[3] = images[3] // 100  # three values
    images[4, :, :3] = 0  # many zeros
    return images


def smooth(height: int = 31, width: int = 37) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(6, 3, 4, 5, generator=generator) * 255
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return images.to(torch.uint8)


def strengths(name: str, n: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    level = 10 * torch.rand(n, generator=generator, dtype=torch.float64)
    return strength(name, level, torch.arange(n) % 2 == 0)


def apply(name: str, images: Tensor, given: Tensor) -> Tensor:
    if name in FIXMATCH.moves:
        return FIXMATCH.moves[name](images, given, FILL)
    return FIXMATCH.colours[name](images, given)


def arrays(images: Tensor) -> Bytes:
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance], image: Bytes, s: float) -> Bytes:
    return np.asarray(kind(Image.fromarray(image)).enhance(1 + s))


def exchanged(image: Bytes) -> Bytes:
    """Red and blue exchanged: the released code converts to grey with exchanged weights."""
    return np.ascontiguousarray(image[..., ::-1])


def shifted(image: Bytes, *coefficients: float) -> Bytes:
    picture = Image.fromarray(image)
    return np.asarray(
        picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            coefficients,
            Image.Resampling.BICUBIC,
            fillcolor=FILL,
        )
    )


PILLOW: dict[str, Callable[[Bytes, float], Bytes]] = {
    "autocontrast": lambda image, s: np.asarray(ImageOps.autocontrast(Image.fromarray(image))),
    "equalize": lambda image, s: np.asarray(ImageOps.equalize(Image.fromarray(image))),
    "posterize": lambda image, s: np.asarray(ImageOps.posterize(Image.fromarray(image), int(s))),
    "solarize": lambda image, s: np.asarray(ImageOps.solarize(Image.fromarray(image), ceil(s))),
    "brightness": lambda image, s: enhanced(ImageEnhance.Brightness, image, s),
    "color": lambda image, s: exchanged(enhanced(ImageEnhance.Color, exchanged(image), s)),
    "contrast": lambda image, s: exchanged(enhanced(ImageEnhance.Contrast, exchanged(image), s)),
    "sharpness": lambda image, s: enhanced(ImageEnhance.Sharpness, image, s),
    # Pillow turns the other way round, and its coordinates count from the pixel's corner.
    "rotate": lambda image, s: np.asarray(
        Image.fromarray(image).rotate(-s, Image.Resampling.BICUBIC, fillcolor=FILL)
    ),
    "shear-x": lambda image, s: shifted(image, 1, -s, s / 2, 0, 1, 0),
    "shear-y": lambda image, s: shifted(image, 1, 0, 0, -s, 1, s / 2),
    "translate-x": lambda image, s: shifted(image, 1, 0, -s * image.shape[1], 0, 1, 0),
    "translate-y": lambda image, s: shifted(image, 1, 0, 0, 0, 1, -s * image.shape[0]),
}
WARPS = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")


def test_every_operation_has_a_second_implementation() -> None:
    assert set(WARPS) == set(FIXMATCH.moves)
    assert set(PILLOW) == FIXMATCH.colours.keys() | FIXMATCH.moves.keys()
    assert set(PILLOW) == set(OPERATIONS) - {"identity"}


@pytest.mark.parametrize("name", [name for name in PILLOW if name not in WARPS])
@pytest.mark.parametrize("images", [noise(), smooth()], ids=["noise", "smooth"])
def test_colours_are_pillows(name: str, images: Tensor) -> None:
    before = images.clone()
    given = strengths(name)
    got = arrays(apply(name, images, given))
    want = np.stack(
        [PILLOW[name](image, float(s)) for image, s in zip(arrays(images), given, strict=True)]
    )
    assert torch.equal(images, before)
    if name == "sharpness":  # Pillow leaves the edge as it is
        got, want = got[:, 1:-1, 1:-1], want[:, 1:-1, 1:-1]
    # The released code rounds this one, and Pillow cuts off.
    most = 1 if name == "color" else 0
    assert np.abs(got.astype(int) - want).max() <= most


def test_colour_is_rounded() -> None:
    image = torch.tensor([[200, 100, 51]], dtype=torch.uint8)[:, :, None, None]
    grey = round(0.114 * 200 + 0.587 * 100 + 0.299 * 51)
    got = apply("color", image, torch.tensor([-0.35], dtype=torch.float64)).flatten().tolist()
    assert got == [round(0.65 * value + 0.35 * grey) for value in (200, 100, 51)]


def test_the_edge_is_sharpened_as_if_the_image_were_mirrored() -> None:
    images, given = noise(), strengths("sharpness")
    mirrored = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="reflect")
    got = apply("sharpness", images, given)
    whole = apply("sharpness", mirrored.to(torch.uint8), given)
    assert torch.equal(got, whole[:, :, 1:-1, 1:-1])
    assert not torch.equal(got[:, :, 0], images[:, :, 0])


@pytest.mark.parametrize("name", WARPS)
def test_movements_are_pillows_on_smooth_images(name: str) -> None:
    # OpenCV's cubic (-0.75) is not that of Pillow's transform (-1), and it rounds coordinates to
    # 1/32: small differences inside; at the edge the two also treat what lies outside differently.
    images, given = smooth(), strengths(name)
    got = arrays(apply(name, images, given)).astype(int)
    want = np.stack(
        [PILLOW[name](image, float(s)) for image, s in zip(arrays(images), given, strict=True)]
    )
    near = [PILLOW[name](np.full_like(arrays(images)[0], 255), float(s)) for s in given]
    inside = np.stack([_shrunk((image == 255).all(axis=2)) for image in near])
    assert inside.mean() > 0.3
    assert np.abs(got - want)[inside].max() <= 3
    outside = np.stack([_shrunk((image == np.array(FILL)).all(axis=2)) for image in near])
    assert (got[outside] == np.array(FILL)).all()


def _shrunk(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(area, 2)
    height, width = area.shape
    shrunk = np.ones_like(area)
    for y, x in product(range(5), repeat=2):
        shrunk &= padded[y : y + height, x : x + width]
    return shrunk


@pytest.mark.parametrize("name", WARPS)
def test_movements_are_a_slow_loop(name: str) -> None:
    # The loop does not round coordinates. Rounding moves them by up to 1/64 + 1/1024 of a pixel in
    # either direction; with steps of 60 grey levels that is less than 3.
    images, given = smooth(13, 17)[:2], strengths(name, 2)
    got = apply(name, images, given).double()
    for image, s, result in zip(images.double(), given.tolist(), got, strict=True):
        assert (_slow(name, s, image) - result).abs().max() <= 3


def _slow(name: str, s: float, image: Tensor) -> Tensor:
    _, height, width = image.shape
    result = torch.empty_like(image)
    for y, x in product(range(height), range(width)):
        u, v = float(x), float(y)
        if name == "rotate":
            turn = np.exp(-1j * np.deg2rad(s)) * complex(x - (width - 1) / 2, y - (height - 1) / 2)
            u, v = turn.real + (width - 1) / 2, turn.imag + (height - 1) / 2
        u -= {"shear-x": s * y, "translate-x": s * width}.get(name, 0.0)
        v -= {"shear-y": s * x, "translate-y": s * height}.get(name, 0.0)
        total = torch.zeros(3, dtype=torch.float64)
        for j, i in product(range(-1, 3), repeat=2):
            column, row = int(np.floor(u)) + i, int(np.floor(v)) + j
            inside = 0 <= row < height and 0 <= column < width
            pixel = image[:, row, column] if inside else torch.tensor(FILL, dtype=torch.float64)
            total += _cubic(u - column) * _cubic(v - row) * pixel
        result[:, y, x] = total.clamp(0, 255).round()
    return result


def _cubic(distance: float) -> float:
    """Keys' convolution kernel with a = -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def test_movements_by_whole_pixels_copy() -> None:
    images = noise(10, 20)
    right = apply("translate-x", images, torch.full((6,), 0.15, dtype=torch.float64))
    assert torch.equal(right[..., 3:], images[..., :-3])
    up = apply("translate-y", images, torch.full((6,), -0.2, dtype=torch.float64))
    assert torch.equal(up[:, :, :-2], images[:, :, 2:])
    fill = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
    assert (right[..., :3] == fill).all()
    assert (up[:, :, -2:] == fill).all()
    square = images[..., :10]
    quarter = apply("rotate", square, torch.full((6,), 90.0, dtype=torch.float64))
    assert torch.equal(quarter, square.rot90(-1, (2, 3)))


def test_what_is_uncovered_is_the_mean_colour_backwards() -> None:
    red_green_blue = (0.4914, 0.4822, 0.4465)
    assert tuple(round(255 * share) for share in reversed(red_green_blue)) == FILL


def test_solarizing_begins_at_the_threshold() -> None:
    values = torch.tensor([0, 99, 100, 101, 255], dtype=torch.uint8).expand(1, 3, 1, 5)
    got = apply("solarize", values, torch.tensor([100.0], dtype=torch.float64))
    assert got[0, 0, 0].tolist() == [0, 99, 155, 154, 0]


def test_a_warp_far_outside_is_all_fill() -> None:
    away = torch.tensor([[[1.0, 0.0, 1e4], [0.0, 1.0, -1e4]]], dtype=torch.float64)
    fill = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
    assert (warp(noise()[:1], away, FILL) == fill).all()


@pytest.mark.parametrize("name", WARPS)
def test_what_is_uncovered_has_the_colour_that_is_given(name: str) -> None:
    ours: RGB = (3, 250, 77)
    images = torch.tensor(ours, dtype=torch.uint8)[:, None, None].repeat(6, 1, 13, 17)
    given = strengths(name)
    assert torch.equal(FIXMATCH.moves[name](images, given, ours), images)
    assert not torch.equal(FIXMATCH.moves[name](images, given, FILL), images)


def test_strengths_are_the_published_ranges() -> None:
    level = torch.tensor([0.0, 7.0, 10.0], dtype=torch.float64)
    no, yes = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    want = {
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.05, 0.68, 0.95)),
        **dict.fromkeys(("shear-x", "shear-y", "translate-x", "translate-y"), (0.0, 0.21, 0.3)),
        "rotate": (0.0, 21.0, 30.0),
        "posterize": (4.0, 6.8, 8.0),
        "solarize": (256.0, 76.8, 0.0),
    }
    unsigned = ("posterize", "solarize")
    for name, values in want.items():
        expected = torch.tensor(values, dtype=torch.float64)
        torch.testing.assert_close(strength(name, level, no), expected)
        sign = 1 if name in unsigned else -1
        torch.testing.assert_close(strength(name, level, yes), sign * expected)
    assert len(OPERATIONS) == 14
    assert set(OPERATIONS) - set(want) == {"autocontrast", "equalize", "identity"}


def test_draws_are_four_uniforms_an_operation() -> None:
    one, other = (torch.Generator().manual_seed(4) for _ in range(2))
    draws = draw_rand_ops(23, 3, magnitude=7.0, std=0.5, generator=one)
    u = torch.rand(23, 3, 4, generator=other, dtype=torch.float64)
    assert torch.equal(one.get_state(), other.get_state())
    assert torch.equal(draws.operation, (14 * u[..., 0]).floor().long())
    level = np.clip(7 + 0.5 * norm.ppf(u[..., 1].numpy()), 0, 10)
    np.testing.assert_allclose(draws.level.numpy(), level, atol=1e-9)
    assert torch.equal(draws.applied, u[..., 2] < 0.5)
    assert torch.equal(draws.negated, u[..., 3] < 0.5)


def test_draws_are_distributed_as_published() -> None:
    n = 20_000
    generator = torch.Generator().manual_seed(5)
    draws = draw_rand_ops(n, 2, magnitude=7.0, std=0.5, generator=generator)
    for column in range(2):
        counts = draws.operation[:, column].bincount(minlength=14)
        share = 1 / 14
        assert ((counts - n * share).abs() < 5 * (n * share * (1 - share)) ** 0.5).all()
        for coin in (draws.applied, draws.negated):
            assert abs(int(coin[:, column].sum()) - n / 2) < 5 * (n / 4) ** 0.5
    assert abs(draws.level.mean() - 7) < 5 * 0.5 / (2 * n) ** 0.5
    assert abs(draws.level.std() - 0.5) < 5 * 0.5 / (4 * n) ** 0.5
    together = (draws.applied[:, 0] & draws.applied[:, 1]).sum()
    assert abs(int(together) - n / 4) < 5 * (n * 3 / 16) ** 0.5


def test_levels_end_at_0_and_10() -> None:
    generator = torch.Generator().manual_seed(6)
    for magnitude, end in ((0.0, 0.0), (10.0, 10.0)):
        level = draw_rand_ops(400, 1, magnitude=magnitude, std=3.0, generator=generator).level
        assert 100 < int((level == end).sum()) < 300
        assert 0 <= level.min() <= level.max() <= 10
    steady = draw_rand_ops(50, 1, magnitude=7.0, std=0.0, generator=generator).level
    assert (steady == 7).all()


def fixed(*names: str, level: float, applied: bool = True, n: int = 6) -> RandOps:
    shape = (n, len(names))
    return RandOps(
        operation=torch.tensor([NAMES.index(name) for name in names]).expand(shape),
        level=torch.full(shape, level, dtype=torch.float64),
        applied=torch.full(shape, applied),
        negated=torch.zeros(shape, dtype=torch.bool),
    )


@pytest.mark.parametrize("name", [*WARPS, "solarize", "identity"])
def test_level_0_changes_nothing(name: str) -> None:
    images = noise()
    assert torch.equal(rand_augment(images, fixed(name, level=0.0)), images)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_applied_changes_nothing(name: str) -> None:
    images = noise()
    draws = fixed(name, level=9.0, applied=False)
    assert torch.equal(rand_augment(images, draws), images)
    changed = not torch.equal(rand_augment(images, fixed(name, level=6.0)), images)
    assert changed == (name != "identity")


def test_operations_follow_each_other() -> None:
    images = noise()
    both = rand_augment(images, fixed("solarize", "rotate", level=6.0))
    first = rand_augment(images, fixed("solarize", level=6.0))
    assert torch.equal(both, rand_augment(first, fixed("rotate", level=6.0)))
    assert not torch.equal(both, rand_augment(images, fixed("rotate", "solarize", level=6.0)))


def test_an_image_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(7)
    images = smooth(13, 17).repeat(12, 1, 1, 1)
    draws = draw_rand_ops(72, 2, magnitude=6.0, std=2.0, generator=generator)
    whole = rand_augment(images, draws)
    assert (whole != images).flatten(1).any(dim=1).float().mean() > 0.5
    for rows in (torch.tensor([5]), torch.arange(71, -1, -1), torch.tensor([70, 3, 3])):
        part = RandOps(*(field[rows] for field in draws))
        assert torch.equal(rand_augment(images[rows], part), whole[rows])


KINDS = (
    Augment(),
    Augment(kind="crop-flip"),
    Augment(kind="random-resized-crop", size=9, scale=(0.5, 1.0)),
)


@pytest.mark.parametrize("augment", KINDS, ids=lambda augment: augment.kind)
def test_the_loader_applies_it_last(augment: Augment) -> None:
    pixels, indices = TensorPixels(noise(11, 11)), torch.tensor([4, 0, 5, 1, 2, 3])
    one, other = (torch.Generator().manual_seed(8) for _ in range(2))
    plain = augmented(pixels, indices, augment, other)
    draws = draw_rand_ops(6, 2, magnitude=8.0, std=1.0, generator=other)
    more = replace(augment, rand_ops=2, rand_magnitude=8.0, rand_std=1.0)
    got = augmented(pixels, indices, more, one)
    assert torch.equal(got, rand_augment(plain, draws))
    assert not torch.equal(got, plain)
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize(
    "values",
    [
        {"rand_ops": -1},
        {"rand_magnitude": -0.1},
        {"rand_magnitude": 10.1},
        {"rand_std": -1.0},
        {"rand_std": float("inf")},
        {"rand_std": float("nan")},
        {"rand_policy": "decreasing"},
        {"rand_fill": (104, 116)},
        {"rand_fill": (104, 116, 256)},
        {"rand_fill": (-1, 116, 124)},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Augment(**values)
