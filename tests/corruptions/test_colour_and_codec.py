"""HSV, box resampling, JPEG and contrast against other implementations."""

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustmix.corruptions import SEVERITIES, Profile
from robustmix.corruptions.contrast import raster_mean
from robustmix.corruptions.hsv import hsv_to_rgb, rgb_to_hsv
from robustmix.corruptions.jpeg_compression import (
    CHROMA_FORWARD,
    CHROMA_INVERSE,
    CHROMA_TABLE,
    LUMA_COSINES,
    LUMA_TABLE,
    jpeg_round_trip,
    quantisation,
)
from robustmix.corruptions.pixelate import FACTOR, apply


def colours() -> Tensor:
    """Random pixels, then every combination of four levels: ties, greys, pure hues."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(0, 256, (300, 3), generator=generator)
    levels = torch.tensor([0, 1, 128, 255])
    pixels = torch.cat([random, torch.cartesian_prod(levels, levels, levels)])
    return pixels.T.reshape(1, 3, 4, 91).double() / 255


def test_hsv_against_colorsys() -> None:
    pixels = colours()
    got = torch.stack(rgb_to_hsv(pixels), dim=1).flatten(2)[0].T.numpy()
    expected = [colorsys.rgb_to_hsv(*rgb) for rgb in pixels.flatten(2)[0].T.tolist()]
    np.testing.assert_allclose(got, expected, atol=1e-15)


def test_hsv_back_against_colorsys() -> None:
    hsv = rgb_to_hsv(colours())
    hsv = hsv._replace(saturation=0.7 * hsv.saturation, value=0.9 * hsv.value)
    got = hsv_to_rgb(hsv).flatten(2)[0].T.numpy()
    triples = torch.stack(hsv, dim=1).flatten(2)[0].T.tolist()
    np.testing.assert_allclose(got, [colorsys.hsv_to_rgb(*t) for t in triples], atol=1e-15)


def test_hsv_round_trip() -> None:
    torch.testing.assert_close(hsv_to_rgb(rgb_to_hsv(colours())), colours(), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("profile", "sides"),
    [
        ("cifar", (30, 28, 27, 24, 20)),
        ("tiny", (57, 51, 44, 38, 32)),
        ("imagenet", (134, 112, 89, 67, 56)),
    ],
)
def test_small_sides(profile: Profile, sides: tuple[int, ...]) -> None:
    side = {"cifar": 32, "tiny": 64, "imagenet": 224}[profile]
    assert tuple(int(side * factor) for factor in FACTOR[profile]) == sides


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    ("profile", "height", "width"),
    [("cifar", 32, 32), ("tiny", 64, 64), ("imagenet", 224, 224), ("cifar", 37, 23)],
)
def test_pixelate_against_pillow(profile: Profile, height: int, width: int, severity: int) -> None:
    generator = torch.Generator().manual_seed(severity)
    images = torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)
    factor = FACTOR[profile][severity - 1]
    for image, got in zip(images, apply(images, None, severity, profile), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        small = picture.resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
        expected = np.asarray(small.resize((width, height), Image.Resampling.BOX))
        np.testing.assert_array_equal(got.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("quality", [7, 25, 49, 50, 80, 95])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48), (37, 23)])
def test_jpeg_of_grey_against_the_grey_codec(height: int, width: int, quality: int) -> None:
    """A grey picture has no chroma; its luma must pass as in any library's greyscale file."""
    generator = torch.Generator().manual_seed(quality)
    grey = torch.randint(0, 256, (height, width), generator=generator, dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(grey.numpy()).save(file, "JPEG", quality=quality)
    expected = np.asarray(Image.open(file))
    out = jpeg_round_trip(grey.expand(1, 3, height, width), quality)
    for channel in out[0]:
        np.testing.assert_array_equal(channel.numpy(), expected)


@pytest.mark.parametrize("quality", [25, 80])
def test_jpeg_tables_are_those_of_the_codec(quality: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    tables = Image.open(file).quantization  # type: ignore[attr-defined]  # of JPEG files only
    for got, table in ((LUMA_TABLE, tables[0]), (CHROMA_TABLE, tables[1])):
        assert quantisation(got, quality).flatten().int().tolist() == list(table)


def test_jpeg_of_colour_is_close_to_the_codec() -> None:
    """Smooth colour at high quality survives any chroma halving: channels are not swapped."""
    ramp = torch.linspace(0, 200, 32)
    image = torch.stack([ramp.expand(32, 32), 220 - ramp.expand(32, 32), ramp.expand(32, 32).T])
    image = image.to(torch.uint8)
    out = jpeg_round_trip(image.unsqueeze(0), 95)[0]
    assert float((out.double() - image.double()).abs().mean()) < 2
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=95)
    other = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    assert float((out.double() - other.double()).abs().mean()) < 1.5


def in_whole_numbers(image: Tensor, quality: int) -> Tensor:
    """The round trip of one image (3, H, W) of whole blocks, in int64 with shifts."""
    red, green, blue = image.numpy().astype(np.int64)
    colours = [
        ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16) - 128,
        (-11059 * red - 21709 * green + 32768 * blue + 2**15 - 1) >> 16,
        (32768 * red - 27439 * green - 5329 * blue + 2**15 - 1) >> 16,
    ]
    kinds = [(LUMA_COSINES, LUMA_COSINES.T, LUMA_TABLE, 15)]
    kinds += [(CHROMA_FORWARD, CHROMA_INVERSE, CHROMA_TABLE, 17)] * 2
    for colour, (cosines, back, table, bits) in zip(colours, kinds, strict=True):
        forward, inverse = (matrix.numpy().astype(np.int64) for matrix in (cosines, back))
        steps = 8 * quantisation(table, quality).numpy().astype(np.int64)
        side = forward.shape[1]
        for top in range(0, colour.shape[0], side):
            for left in range(0, colour.shape[1], side):
                block = colour[top : top + side, left : left + side]
                rows = (block @ forward.T + 2**10) >> 11
                found = (forward @ rows + 2 ** (bits - 1)) >> bits
                kept = np.sign(found) * ((abs(found) + steps // 2) // steps) * (steps // 8)
                rows = (inverse @ kept + 2**10) >> 11
                block[:] = ((rows @ inverse.T + 2**17) >> 18).clip(-128, 127)
    luma, blueness, redness = colours
    made = [
        91881 * redness,
        -22553 * blueness - 46802 * redness,
        116130 * blueness,
    ]
    levels = [(luma + 128 + ((some + 2**15) >> 16)).clip(0, 255) for some in made]
    return torch.from_numpy(np.stack(levels)).to(torch.uint8)


@pytest.mark.parametrize("quality", [1, 10, 25, 50, 80, 100])
def test_jpeg_against_whole_numbers(quality: int) -> None:
    """Noise, the strongest contrasts, and a ramp of colours; two images at once and each alone."""
    generator = torch.Generator().manual_seed(quality)
    noise = torch.randint(256, (3, 32, 48), generator=generator, dtype=torch.uint8)
    stark = torch.where(noise < 128, 0, 255).to(torch.uint8)
    ramp = torch.arange(48).expand(3, 32, 48) * torch.tensor([5, 3, 1]).view(3, 1, 1)
    images = torch.stack([noise, stark, ramp.to(torch.uint8)])
    expected = torch.stack([in_whole_numbers(image, quality) for image in images])
    assert torch.equal(jpeg_round_trip(images, quality), expected)
    assert torch.equal(jpeg_round_trip(images[1:2], quality), expected[1:2])
    grown = torch.cat([images, images[..., -1:].expand(-1, -1, -1, 16)], dim=3)
    wider = jpeg_round_trip(grown[..., :53], quality)
    beyond = torch.stack([in_whole_numbers(image, quality) for image in grown])
    assert torch.equal(wider, beyond[..., :53])


@pytest.mark.parametrize("cosines", [LUMA_COSINES, CHROMA_FORWARD, CHROMA_INVERSE.T])
def test_fixed_point_cosines_are_cosines(cosines: Tensor) -> None:
    frequency, pixel = torch.arange(8).unsqueeze(1), torch.arange(cosines.shape[1])
    angle = (2 * pixel + 1) * frequency * torch.pi / (2 * cosines.shape[1])
    formula = 8192 * torch.where(frequency == 0, 1.0, 2**0.5) * angle.double().cos()
    assert float((cosines - formula).abs().max()) < 1.6


def test_raster_mean_adds_one_by_one() -> None:
    x = torch.rand(2, 3, 13, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.empty(2, 3, 1, 1, dtype=torch.float64)
    for image in range(2):
        for channel in range(3):
            total = 0.0
            for value in x[image, channel].flatten().tolist():
                total += value
            expected[image, channel] = total / (13 * 17)
    assert torch.equal(raster_mean(x), expected)
