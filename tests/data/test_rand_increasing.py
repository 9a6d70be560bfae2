import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import auto_augment
from torch import Tensor

from robustmix.data.augment import RGB, Augment
from robustmix.data.images import TensorPixels
from robustmix.data.loader import augmented
from robustmix.data.rand_augment import RandOps, draw_rand_ops, rand_augment
from robustmix.data.rand_increasing import INCREASING, OPERATIONS, strength

FILL: RGB = (104, 116, 124)
TIMM = {
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "PosterizeIncreasing",
    "solarize": "SolarizeIncreasing",
    "solarize-add": "SolarizeAdd",
    "color": "ColorIncreasing",
    "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing",
    "shear-x": "ShearX",
    "shear-y": "ShearY",
    "translate-x": "TranslateXRel",
    "translate-y": "TranslateYRel",
}
LEVELS = (0.0, 0.4, 2.5, 5.0, 7.123, 9.0, 9.41, 9.9999, 10.0)
SIZES = (
    (32, 32, LEVELS),
    (29, 41, LEVELS),
    (10, 30, (10.0,)),  # moved by 4.5 and 13.5 pixels: sources lie on the edge itself
    (224, 224, (3.7, 9.3)),
)


def pictures(height: int, width: int) -> Tensor:
    """Return noise, noise of few values, two smooth images and one of a single colour."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, 3, height, width)
    rough = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    rough[1] = rough[1] // 90 * 60 + 20
    coarse = torch.rand(2, 3, 5, 4, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return torch.cat([rough, smooth.to(torch.uint8), torch.full_like(rough[:1], 77)])


def of_timm(
    images: Tensor, name: str, level: float, negated: bool, monkeypatch: pytest.MonkeyPatch
) -> NDArray[np.uint8]:
    """Return what timm makes of images by an operation at a level, (n, H, W, 3)."""
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    operation = auto_augment.AugmentOp(TIMM[name], prob=1.0, magnitude=level, hparams=hparams)
    monkeypatch.setattr(random, "random", lambda: 0.75 if negated else 0.25)
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    return np.stack([np.asarray(operation(Image.fromarray(array))) for array in arrays])


def ours(images: Tensor, name: str, level: float, negated: bool) -> Tensor:
    shape = (len(images), 1)
    draws = RandOps(
        operation=torch.full(shape, list(OPERATIONS).index(name)),
        level=torch.full(shape, level, dtype=torch.float64),
        applied=torch.ones(shape, dtype=torch.bool),
        negated=torch.full(shape, negated),
    )
    return rand_augment(images, draws, policy=INCREASING, fill=FILL)


def test_the_operations_are_timms() -> None:
    assert list(TIMM) == list(OPERATIONS)
    assert list(TIMM.values()) == auto_augment.rand_augment_choices("inc", increasing=True)
    assert set(OPERATIONS) == INCREASING.colours.keys() | INCREASING.moves.keys()


@pytest.mark.parametrize("negated", [False, True], ids=["as-is", "negated"])
@pytest.mark.parametrize("name", TIMM)
def test_an_image_is_timms_value_for_value(
    name: str, negated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for height, width, levels in SIZES:
        images = pictures(height, width)
        before = images.clone()
        for level in levels:
            if name == "posterize" and level == 10:
                continue  # Pillow 13 refuses 0 bits
            want = of_timm(images, name, level, negated, monkeypatch)
            got = ours(images, name, level, negated).permute(0, 2, 3, 1).numpy()
            assert np.array_equal(got, want), (height, width, level)
        assert torch.equal(images, before)


def test_no_bits_are_a_black_image() -> None:
    images = pictures(7, 5)
    assert not ours(images, "posterize", 10.0, False).any()
    assert set(ours(images, "posterize", 9.99, False).flatten().tolist()) == {0, 128}


@pytest.mark.parametrize("name", TIMM)
def test_strengths_are_timms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    level_to_strength = auto_augment.LEVEL_TO_ARG[TIMM[name]]
    if level_to_strength is None:
        return
    levels = [i / 97 for i in range(971)] + [i / 10 for i in range(101)]
    for negated in (False, True):
        monkeypatch.setattr(random, "random", lambda negated=negated: 0.75 if negated else 0.25)
        want = [level_to_strength(level, {})[0] for level in levels]
        given = torch.tensor(levels, dtype=torch.float64)
        got = strength(name, given, torch.full(given.shape, negated)).tolist()
        if name in ("color", "contrast", "brightness", "sharpness"):
            got = [max(0.1, 1.0 + change) for change in got]  # timm's is the factor itself
        assert got == want


def test_the_loader_takes_the_policy_and_the_fill() -> None:
    pixels, indices = TensorPixels(pictures(17, 13)), torch.tensor([4, 0, 2, 3, 1])
    augment = Augment(rand_ops=2, rand_magnitude=9.0, rand_policy="increasing", rand_fill=FILL)
    for seed in range(5):
        one, other = (torch.Generator().manual_seed(seed) for _ in range(2))
        draws = draw_rand_ops(5, 2, magnitude=9.0, std=0.5, generator=other, choices=15)
        want = rand_augment(pixels.take(indices), draws, policy=INCREASING, fill=FILL)
        assert torch.equal(augmented(pixels, indices, augment, one), want)
        assert torch.equal(one.get_state(), other.get_state())
    fixmatch = augmented(pixels, indices, replace(augment, rand_policy="fixmatch"), one)
    assert not torch.equal(fixmatch, want)


def test_all_operations_are_drawn_alike() -> None:
    generator = torch.Generator().manual_seed(5)
    draws = draw_rand_ops(20_000, 1, magnitude=9.0, std=0.5, generator=generator, choices=15)
    counts = draws.operation.flatten().bincount(minlength=15)
    assert len(counts) == 15
    assert ((counts - 20_000 / 15).abs() < 5 * (20_000 / 15 * 14 / 15) ** 0.5).all()


def test_an_image_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(7)
    images = pictures(13, 17).repeat(12, 1, 1, 1)
    draws = draw_rand_ops(60, 2, magnitude=6.0, std=2.0, generator=generator, choices=15)
    whole = rand_augment(images, draws, policy=INCREASING, fill=FILL)
    for rows in (torch.tensor([5]), torch.arange(59, -1, -1), torch.tensor([58, 3, 3])):
        part = RandOps(*(field[rows] for field in draws))
        again = rand_augment(images[rows], part, policy=INCREASING, fill=FILL)
        assert torch.equal(again, whole[rows])
