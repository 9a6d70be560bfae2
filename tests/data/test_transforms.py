import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as tv

from robustmix.data.augment import Augment, Interpolation, PadMode
from robustmix.data.transforms import (
    BOX_UNIFORMS,
    Box,
    CropFlip,
    crop_box,
    crop_flip,
    draw_crop_flip,
    normalise,
    resized_crop,
)


def random_images(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)


def every_draw(padding: int) -> CropFlip:
    offsets = range(2 * padding + 1)
    grid = [(t, left, f) for t in offsets for left in offsets for f in (False, True)]
    return CropFlip(
        top=torch.tensor([t for t, _, _ in grid]),
        left=torch.tensor([left for _, left, _ in grid]),
        flip=torch.tensor([f for _, _, f in grid]),
    )


@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize(("height", "width", "padding"), [(7, 5, 4), (11, 13, 2), (5, 7, 0)])
def test_crop_flip_is_torchvisions_pad_crop_and_flip_of_each_image(
    mode: PadMode, height: int, width: int, padding: int
) -> None:
    draws = every_draw(padding)
    images = random_images(len(draws.top), height, width)

    ours = crop_flip(images, draws, padding=padding, mode=mode)

    for i, image in enumerate(images):
        padded = tv.pad(image, [padding], padding_mode="constant" if mode == "zero" else mode)
        cropped = tv.crop(padded, int(draws.top[i]), int(draws.left[i]), height, width)
        expected = tv.hflip(cropped) if draws.flip[i] else cropped
        assert torch.equal(ours[i], expected)


def test_zero_padding_may_be_larger_than_the_image() -> None:
    images = random_images(1, 3, 2)
    padding = 7
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    for top, left in [(0, 0), (14, 14), (5, 8), (9, 6)]:
        draws = CropFlip(torch.tensor([top]), torch.tensor([left]), torch.tensor([False]))
        ours = crop_flip(images, draws, padding=padding, mode="zero")
        np.testing.assert_array_equal(ours.numpy(), padded[:, :, top : top + 3, left : left + 2])


def test_reflection_refuses_a_padding_as_large_as_the_image() -> None:
    draws = every_draw(5)
    with pytest.raises(ValueError, match="got 5 for 11x5"):
        crop_flip(random_images(len(draws.top), 11, 5), draws, padding=5, mode="reflect")


def test_drawn_offsets_are_uniform_and_flips_are_fair() -> None:
    n, padding = 40_000, 4
    draws = draw_crop_flip(n, padding, torch.Generator().manual_seed(3))
    for offsets in (draws.top, draws.left):
        counts = offsets.bincount(minlength=9)
        assert len(counts) == 9
        chi_square = float(((counts - n / 9) ** 2 / (n / 9)).sum())
        assert chi_square < 26.1  # 8 degrees of freedom, p = 0.001
    assert abs(float(draws.flip.float().mean()) - 0.5) < 3.3 * 0.5 / math.sqrt(n)


def test_the_same_generator_state_draws_the_same() -> None:
    first, second = (draw_crop_flip(13, 4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_stream_advances_alike_whatever_the_padding() -> None:
    states = []
    for padding in (0, 2, 4):
        generator = torch.Generator().manual_seed(5)
        draw_crop_flip(13, padding, generator)
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_normalise_is_torchvisions_up_to_rounding_and_right_by_hand() -> None:
    images = random_images(3, 5, 7)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    ours = normalise(images, mean, std)
    assert ours.dtype == torch.float32
    theirs = tv.normalize(images.float() / 255, list(mean), list(std))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    grey = torch.full((1, 3, 1, 1), 51, dtype=torch.uint8)  # 51 / 255 = 0.2
    by_hand = normalise(grey, (0.1, 0.2, 0.4), (0.5, 0.25, 0.1)).flatten()
    torch.testing.assert_close(by_hand, torch.tensor([0.2, 0.0, -2.0]))


BOXES = [Box(0, 0, 13, 11), Box(2, 3, 5, 7), Box(12, 10, 1, 1), Box(0, 4, 13, 2), Box(3, 0, 2, 11)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [13, 29, 2])
def test_resized_crop_is_pillows_bit_for_bit(size: int, interpolation: Interpolation) -> None:
    images = random_images(len(BOXES), 13, 11, seed=size)
    ours = resized_crop(images, BOXES, size, interpolation=interpolation)
    resample = Image.Resampling[interpolation.upper()]
    for image, box, result in zip(images, BOXES, ours, strict=True):
        if box.height > size > box.width:
            continue  # the one case in which Pillow may take the passes in the other order
        cut = Image.fromarray(image.permute(1, 2, 0).numpy()).crop(
            (box.left, box.top, box.left + box.width, box.top + box.height)
        )
        expected = np.asarray(cut.resize((size, size), resample))
        np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)


def test_resized_crop_does_not_depend_on_the_batch() -> None:
    images = random_images(len(BOXES), 13, 11)
    whole = resized_crop(images, BOXES, 17, interpolation="bicubic")
    for i, box in enumerate(BOXES):
        alone = resized_crop(images[i : i + 1], [box], 17, interpolation="bicubic")
        assert torch.equal(alone[0], whole[i])


def uniforms(trials: list[tuple[float, float]], top: float, left: float) -> Tensor:
    filled = trials + [(0.5, 0.5)] * (BOX_UNIFORMS // 2 - 1 - len(trials))
    return torch.tensor([value for pair in filled for value in pair] + [top, left])


def test_crop_box_by_hand() -> None:
    """A 100 x 80 image: half of its area, ratio 1, is a square of side sqrt(4000) = 63.2."""
    scale, ratio = (0.25, 0.75), (0.5, 2.0)
    square = uniforms([(0.5, 0.5)], top=0.0, left=0.999)
    assert crop_box(100, 80, square, scale=scale, ratio=ratio) == Box(0, 17, 63, 63)
    # Three quarters at ratio 2 is 109.5 wide, which does not fit; a quarter at ratio 1/2 does.
    second = uniforms([(1.0, 1.0), (0.0, 0.0)], top=0.5, left=0.5)
    assert crop_box(100, 80, second, scale=scale, ratio=ratio) == Box(19, 24, 63, 32)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 10, Box(43, 0, 13, 10)),  # narrower than 3/4: 10 / (3/4) = 13.3 high
        (10, 100, Box(0, 43, 10, 13)),  # wider than 4/3: 10 * 4/3 = 13.3 wide
        (30, 31, Box(0, 0, 30, 31)),
    ],
)
def test_a_box_that_never_fits_falls_back_to_the_centre(
    height: int, width: int, expected: Box
) -> None:
    extreme = uniforms([(1.0, 1.0)] * 10, 0.0, 0.0)
    box = crop_box(height, width, extreme, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    assert box == expected


def test_boxes_have_the_areas_and_ratios_asked_for() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.rand(4000, BOX_UNIFORMS, generator=generator, dtype=torch.float64)
    boxes = [crop_box(1000, 1000, row, scale=(0.2, 0.5), ratio=(0.5, 2.0)) for row in rows]
    areas = torch.tensor([box.height * box.width / 1e6 for box in boxes])
    logs = torch.tensor([math.log(box.width / box.height) for box in boxes])
    # Both are uniform, and every box of these ranges fits: 1000 sqrt(0.5 * 2) = 1000.
    assert abs(float(areas.mean()) - 0.35) < 4 * 0.3 / math.sqrt(12 * 4000)
    assert abs(float(logs.mean())) < 4 * 2 * math.log(2) / math.sqrt(12 * 4000)
    assert float(areas.min()) > 0.199
    assert float(areas.max()) < 0.501
    assert float(logs.abs().max()) < math.log(2) + 0.01
    tops = torch.tensor([box.top / (1000 - box.height + 1e-9) for box in boxes])
    assert abs(float(tops.mean()) - 0.5) < 0.02
    assert all(b.top + b.height <= 1000 and b.left + b.width <= 1000 for b in boxes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"padding": -1}, "padding >= 0"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.9, 0.1)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"size": 0}, "size >= 1"),
        ({"resize": -3}, "resize >= 1"),
    ],
)
def test_impossible_augmentations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**change)  # type: ignore[arg-type]
