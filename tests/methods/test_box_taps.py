"""Boxes filled by taps, against slices and ``F.interpolate``."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from robustmix.methods.box_taps import filled_box, traced_box
from robustmix.methods.cutmix import Box
from robustmix.methods.snapmix import boxes_of, draw_snapmix, paste_resized, paste_traced

SIZE = (9, 12)


def drawn_box(rng: np.random.Generator) -> Box:
    """Return any box, an empty one now and then."""
    (top, bottom), (left, right) = (
        sorted(int(end) for end in rng.integers(side + 1, size=2)) for side in SIZE
    )
    return Box(top, bottom, left, right)


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_box_is_filled_as_torch_resizes(align_corners: bool) -> None:
    """Within 2^-20: places below 16 are rounded to 2^-21, images differ by 2 at most."""
    rng, empty = np.random.default_rng(0), 0
    generator = torch.Generator().manual_seed(0)
    images, partners = (torch.rand(2, 3, *SIZE, generator=generator) * 2 - 1 for _ in range(2))
    for _ in range(200):
        box, source = drawn_box(rng), drawn_box(rng)
        got = filled_box(
            images, partners, traced_box(box, source, SIZE, align_corners=align_corners)
        )
        want = images.clone()
        shape = (box.bottom - box.top, box.right - box.left)
        part = partners[:, :, source.top : source.bottom, source.left : source.right]
        if min(shape) and part.numel():
            want[:, :, box.top : box.bottom, box.left : box.right] = F.interpolate(
                part, size=shape, mode="bilinear", align_corners=align_corners
            )
        else:
            empty += 1
        torch.testing.assert_close(got, want, rtol=0, atol=2**-20)
    assert 0 < empty < 150


def test_half_a_place_by_hand() -> None:
    images, partners = torch.zeros(1, 1, 1, 5), torch.tensor([0.0, 8, 4, 0, 2]).view(1, 1, 1, 5)
    traced: dict[str, Any] = {
        "box": Box(0, 1, 1, 4),  # three places
        "source": Box(0, 1, 1, 3),  # made of two
        "size": (1, 5),
    }
    ends = filled_box(images, partners, traced_box(**traced, align_corners=True))
    assert ends.flatten().tolist() == [0, 8, 6, 4, 0]
    cells = filled_box(images, partners, traced_box(**traced, align_corners=False))
    torch.testing.assert_close(cells.flatten(), torch.tensor([0.0, 8, 6, 4, 0]))


def test_snapmix_weighs_by_boxes_that_are_tensors() -> None:
    rng, seen = np.random.default_rng(1), set()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, *SIZE, generator=generator)
    activation = torch.rand(4, *SIZE, generator=generator)
    for _ in range(100):
        draws = boxes_of(draw_snapmix(4, SIZE, 0.3, rng), SIZE)
        want = paste_resized(images, draws, activation)
        got = paste_traced(images, draws.perm, draws.traced, draws.traced_other, activation)
        for left, right in zip(got, want, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=2e-6)
        seen.add(bool((want.own == 1).all()))
    assert seen == {False, True}  # with and without anything pasted
