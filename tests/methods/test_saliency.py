"""Fine-grained saliency against a plain loop, and the boxes that it places."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robustmix.methods.saliency import fine_grained_saliency, float_bytes_saliency, peaks
from robustmix.methods.saliencymix import SaliencyMixDraws, draw_saliencymix, saliencymix

REACHES = [3 * 4, 3 * 4 * 2, 3 * 4 * 2 * 2, 7 * 4, 7 * 4 * 2, 7 * 4 * 2 * 2]


def slow_saliency(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixel by pixel, (3, H, W) -> (H, W)."""
    _, height, width = image.shape
    red, green, blue = image.astype(int)
    grey = (9798 * red + 19235 * green + 3735 * blue + 2**14) // 2**15
    for _ in range(2):
        padded = np.pad(grey, 1, mode="reflect")
        smooth = np.zeros_like(grey)
        for dy, a in ((0, 1), (1, 2), (2, 1)):
            for dx, b in ((0, 1), (1, 2), (2, 1)):
                smooth += a * b * padded[dy : dy + height, dx : dx + width]
        grey = (smooth + 8) // 16
    on, off = np.zeros((2, height, width), dtype=int)
    for reach in REACHES:
        for y in range(height):
            for x in range(width):
                top, left = max(y - reach + 1, 0), max(x - reach + 1, 0)
                around = grey[top : y + reach + 1, left : x + reach + 1]
                mean = (around.sum() - grey[y, x]) / (around.size - 1)
                on[y, x] += int(max(grey[y, x] - mean, 0))
                off[y, x] += int(max(mean - grey[y, x], 0))
    scaled = [(255 * (m / max(m.max(), 1))).astype(int) for m in (on, off)]
    largest = max(scaled[0].max(), scaled[1].max(), 1)
    levels = (255 * (scaled[0] + scaled[1]) / largest).astype(np.int64)
    return np.asarray(np.minimum(levels, 255))


@pytest.mark.parametrize("size", [(13, 17), (31, 7)])
def test_saliency_is_that_of_a_plain_loop(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 3, *size), dtype=np.uint8)
    images[1] //= 8
    images[2, :, 3:6, 2:5] = 255
    got = fine_grained_saliency(torch.from_numpy(images))
    for map_, image in zip(got.numpy(), images, strict=True):
        off = np.abs(map_.astype(int) - slow_saliency(image))
        # float32 shares on one side, float64 on the other: a level, in few places.
        assert off.max() <= 1
        assert (off > 0).mean() <= 0.02


def test_a_bright_spot_is_as_salient_as_can_be_and_a_flat_image_has_no_peak() -> None:
    images = torch.full((2, 3, 19, 23), 40, dtype=torch.uint8)
    images[0, :, 5, 11] = 255
    maps = fine_grained_saliency(images)
    assert int(maps[0, 5, 11]) == 255 == int(maps[0].max())
    assert not maps[1].any()
    assert peaks(maps)[1].tolist() == [0, 0]


def test_a_map_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5, 3, 12, 15), generator=generator).to(torch.uint8)
    whole = fine_grained_saliency(images)
    normalised = images.float() / 99 - 1
    bytes_of_all = float_bytes_saliency(normalised)
    for i in range(5):
        assert torch.equal(fine_grained_saliency(images[i : i + 1])[0], whole[i])
        assert torch.equal(float_bytes_saliency(normalised[i : i + 1])[0], bytes_of_all[i])


def test_bytes_of_floats_wrap_as_in_c() -> None:
    # Grey is -300 = 0xC3960000 everywhere, so the centres are 0, 0, 150, 195 over and over, and
    # every surround is the image without its centre's byte: (-300 * 64 - byte) / 63. Centre less
    # surround is 304.8, 457.1 and 502.9, which leaves bytes 48, 201 and 246; nothing is below its
    # surround.
    got = float_bytes_saliency(torch.full((1, 3, 8, 8), -300.0))
    want = [int(255 * byte / 246) for byte in (48, 48, 201, 246)] * 2
    assert got[0].tolist() == [want] * 8


def test_batches_are_worked_off_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (5, 3, 9, 11), generator=generator).to(torch.uint8)
    whole = fine_grained_saliency(images)
    monkeypatch.setattr("robustmix.methods.saliency.CACHED", 2 * 9 * 11)
    assert torch.equal(fine_grained_saliency(images), whole)


def test_every_image_gets_its_partner_s_box() -> None:
    images = torch.arange(3 * 7 * 11, dtype=torch.float32).view(3, 1, 7, 11)
    centres = torch.tensor([[3, 5], [0, 10], [6, 0]])
    perm = torch.tensor([1, 2, 0])
    # Sides int(7 * 0.5) = 3 and int(11 * 0.5) = 5, reaching 1 and 2 from the centre.
    boxes = [(range(0, 1), range(8, 11)), (range(5, 7), range(0, 2)), (range(2, 4), range(3, 7))]
    got = saliencymix(images, SaliencyMixDraws(0.75, perm), centres)
    for i, (rows, cols) in enumerate(boxes):
        for y in range(7):
            for x in range(11):
                source = int(perm[i]) if y in rows and x in cols else i
                assert got.images[i, 0, y, x] == images[source, 0, y, x]
        assert float(got.lam[i]) == pytest.approx(1 - len(rows) * len(cols) / 77)


def test_one_box_is_that_of_the_first_image_s_partner() -> None:
    images = torch.randn(3, 3, 7, 11, generator=torch.Generator().manual_seed(0))
    centres, perm = torch.tensor([[3, 5], [0, 10], [6, 0]]), torch.tensor([1, 2, 0])
    draws = SaliencyMixDraws(0.75, perm)
    got = saliencymix(images, draws, centres, one_box=True)
    want = images.clone()
    want[:, :, 0:1, 8:11] = images[perm][:, :, 0:1, 8:11]
    assert torch.equal(got.images, want)
    torch.testing.assert_close(got.lam, torch.full((3,), 1 - 3 / 77))


def test_partners_are_others_as_a_rule() -> None:
    rng = np.random.default_rng(0)
    fixed = sum(
        bool((draw_saliencymix(7, 0.2, rng).perm == torch.arange(7)).any()) for _ in range(500)
    )
    assert fixed <= 20  # 1 % expected
