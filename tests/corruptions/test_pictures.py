"""Images as people hold them: what is given decides what comes back, never the pixels."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from robustmix import corruptions
from robustmix.errors import UsageError

corrupt = partial(corruptions.corrupt, profile="cifar")

PIXELS = torch.randint(
    256, (3, 3, 32, 48), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
)
HWC: npt.NDArray[np.uint8] = PIXELS.permute(0, 2, 3, 1).contiguous().numpy()
NAME = "gaussian_noise"  # random, so that ids and their order are seen
EXPECTED = corrupt(PIXELS, NAME, 2, seed=7)
HWC_EXPECTED = EXPECTED.permute(0, 2, 3, 1).numpy()


def test_arrays_have_their_colours_last() -> None:
    found = corrupt(HWC, NAME, 2, seed=7)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, HWC_EXPECTED)
    np.testing.assert_array_equal(corrupt(HWC[0], NAME, 2, seed=7), HWC_EXPECTED[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_floats_are_levels_over_255(dtype: str) -> None:
    floats = (HWC / 255).astype(dtype)
    found = corrupt(floats, NAME, 2, seed=7)
    assert found.dtype == floats.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, (HWC_EXPECTED / 255).astype(found.dtype))


def test_floats_are_rounded_to_the_nearest_level() -> None:
    half = np.full((32, 32, 3), 100.4 / 255)
    near, far = corrupt(half, "brightness", 1), corrupt(half + 0.2 / 255, "brightness", 1)
    level = np.full((32, 32, 3), 100, np.uint8)
    np.testing.assert_array_equal(near * 255, corrupt(level, "brightness", 1))
    np.testing.assert_array_equal((far * 255).round(), corrupt(level + 1, "brightness", 1))


def test_tensors_of_floats_and_of_one_image() -> None:
    one = corrupt(PIXELS[0], NAME, 2, seed=7)
    assert torch.equal(one, EXPECTED[0])
    half = corrupt(PIXELS[0].half() / 255, NAME, 2, seed=7)
    assert (half.dtype, half.shape) == (torch.float16, (3, 32, 48))
    assert torch.equal(half, EXPECTED[0].half() / 255)


def test_pictures_come_back_as_pictures() -> None:
    found = corrupt(Image.fromarray(HWC[0]), NAME, 2, seed=7)
    assert (found.mode, found.size) == ("RGB", (48, 32))
    np.testing.assert_array_equal(np.asarray(found), HWC_EXPECTED[0])
    grey = Image.fromarray(HWC[0, :, :, 0])
    three = np.repeat(HWC[0, :, :, :1], 3, axis=2)
    np.testing.assert_array_equal(
        np.asarray(corrupt(grey, "contrast", 3)), corrupt(three, "contrast", 3)
    )


def test_lists_may_hold_images_of_any_size_and_kind() -> None:
    small = np.ascontiguousarray(HWC[1, :20, :30])
    found: list[Any] = corrupt([Image.fromarray(HWC[0]), small, PIXELS[2]], NAME, 2, seed=7)
    np.testing.assert_array_equal(np.asarray(found[0]), HWC_EXPECTED[0])
    expected = corrupt(small, NAME, 2, seed=7, sample_ids=["1"])
    np.testing.assert_array_equal(found[1], expected)
    assert torch.equal(found[2], EXPECTED[2])
    assert corrupt([], NAME, 2) == []


def test_ids_name_the_images_of_a_list() -> None:
    found = corrupt([HWC[0], HWC[1]], NAME, 2, seed=7, sample_ids=["1", "0"])
    again = corrupt(HWC[[1, 0]], NAME, 2, seed=7)
    np.testing.assert_array_equal(found[0], again[1])  # image 0 by the draws of the second
    assert not np.array_equal(found[0], HWC_EXPECTED[0])
    whole = corrupt(HWC[:2], NAME, 2, seed=7, sample_ids=["1", "0"])
    np.testing.assert_array_equal(np.stack(found), whole)
    with pytest.raises(UsageError, match="one sample id an image, got 1 for 2"):
        corrupt([HWC[0], HWC[1]], NAME, 2, sample_ids=["x"])


def test_what_was_given_is_not_changed() -> None:
    given, floats = HWC.copy(), HWC / 255
    kept = floats.copy()
    given.setflags(write=False)
    flipped = given[:, ::-1]
    np.testing.assert_array_equal(
        corrupt(flipped, "contrast", 5), corrupt(flipped.copy(), "contrast", 5)
    )
    corrupt(floats, "contrast", 5)
    np.testing.assert_array_equal(floats, kept)
    np.testing.assert_array_equal(given, HWC)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 3, 32, 32), np.uint8), "the colours last, got (4, 3, 32, 32)"),
        (np.zeros((32, 32), np.uint8), "the colours last, got (32, 32)"),
        (np.zeros((32, 32, 3), np.int64), "uint8, or floats in [0, 1], got int64"),
        (np.full((32, 32, 3), 200.0), "floats in [0, 1], got 200 to 200"),
        (np.full((32, 32, 3), np.nan), "floats in [0, 1], got nan"),
        (torch.full((1, 3, 8, 8), -0.1), "floats in [0, 1], got -0.1 to -0.1"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int16), "uint8, or floats in [0, 1], got torch.int16"),
        ("cat.png", "a PIL image or a list of these, got str"),
    ],
)
def test_what_is_no_image_is_told(images: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        corrupt(images, "contrast", 1)
    assert message in caught.value.message
