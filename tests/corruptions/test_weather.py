"""Fog's map, frost's textures and water's drops against slow loops and by hand."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image

from robustmix.corruptions import corrupt
from robustmix.corruptions.drops import (
    FIXED,
    box_sum,
    correlated,
    edges,
    equalised,
    nearest_edge,
    touching,
)
from robustmix.corruptions.fog import plasma
from robustmix.corruptions.frost import (
    KINDS,
    PHOTOGRAPHS,
    SLOTS,
    Frost,
    Textures,
    crystals,
    draw,
    procedural,
    shrunk,
)
from robustmix.errors import IntakeError
from robustmix.rng import sample_keys
from tests.reference.vectors import reference_params

FLOAT = torch.float64


def test_the_haze_map_point_by_point() -> None:
    """Side 4, decay 2: five scales' worth of means written out, on a torus."""
    r = torch.rand(1, 15, generator=torch.Generator().manual_seed(0), dtype=FLOAT)
    u = [100 * (200 * v - 100) for v in r[0, :3].tolist()]
    u += [50 * (100 * v - 50) for v in r[0, 3:].tolist()]
    m = np.zeros((4, 4))
    m[2, 2] = u[0]
    m[0, 2] = (2 * m[2, 2] + 2 * m[0, 0]) / 4 + u[1]
    m[2, 0] = (2 * m[2, 2] + 2 * m[0, 0]) / 4 + u[2]
    fine = iter(u[3:])
    for y in (1, 3):
        for x in (1, 3):
            corners = [m[(y + i) % 4, (x + j) % 4] for i in (-1, 1) for j in (-1, 1)]
            m[y, x] = sum(corners) / 4 + next(fine)
    for ys, xs in (((0, 2), (1, 3)), ((1, 3), (0, 2))):
        for y in ys:
            for x in xs:
                near = m[(y - 1) % 4, x] + m[(y + 1) % 4, x] + m[y, (x - 1) % 4] + m[y, (x + 1) % 4]
                m[y, x] = near / 4 + next(fine)
    want = (m - m.min()) / (m - m.min()).max()
    np.testing.assert_allclose(plasma(r, 4, 2.0)[0].numpy(), want, atol=1e-12)


def test_fog_keeps_the_brightest_value_at_most() -> None:
    images = torch.randint(0, 200, (4, 3, 32, 32), dtype=torch.uint8)
    for severity in (1, 3, 5):
        out = corrupt(images, "fog", severity, seed=0)
        assert bool((out.amax((1, 2, 3)) <= images.amax((1, 2, 3))).all())


@pytest.mark.parametrize("path", reference_params("corruptions_*.npz"))
def test_textures_have_the_photographs_colours_and_spectrum(path: Path) -> None:
    """Figures of 2,000 crops of the originals: mean colour, contrast, power in four bands."""
    keys = sample_keys(1, "corruption", "frost/1", 0, [str(i) for i in range(2000)])
    draws = draw(keys, torch.zeros(2000, 3, 32, 32, dtype=torch.uint8), 1, "cifar")
    crops = crystals(procedural(192), draws, 32, 32)
    means = crops.mean(dim=(2, 3))
    assert means.mean(0).tolist() == pytest.approx([144, 165, 177], abs=4)
    assert means.std(0).tolist() == pytest.approx([51, 36, 34], abs=3)
    inside = (crops - means[:, :, None, None]).square().mean((0, 2, 3)).sqrt()
    assert inside.tolist() == pytest.approx([23.4, 21.8, 22.0], abs=2.5)
    centred = (crops - means[:, :, None, None]).numpy()
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(axis=(0, 1)) / 1024**2
    frequency = np.fft.fftfreq(32)
    band = np.digitize(np.hypot(frequency[:, None], frequency), [1 / 8, 1 / 4, 3 / 8])
    bands = [power[band == b].sum() for b in range(4)]
    assert bands == pytest.approx([151, 107, 109, 201], rel=0.15)


def test_frost_by_hand() -> None:
    """One flat texture a slot: a a image + b ice, cut off and clipped."""
    flat = [torch.full((3, 40, 40), 50 * slot, dtype=torch.uint8) for slot in range(5)]
    textures = Textures("photographs", tuple(flat), torch.zeros(5, 3, dtype=FLOAT))
    draws = Frost(
        torch.arange(5), torch.full((5, 2), 0.99, dtype=FLOAT), torch.zeros(5, 3, dtype=FLOAT)
    )
    ice = crystals(textures, draws, 32, 32)
    assert [set(crop.flatten().tolist()) for crop in ice] == [{0}, {50}, {100}, {150}, {200}]


def test_frost_cuts_where_the_draw_says() -> None:
    texture = torch.arange(40 * 50).view(1, 40, 50).remainder(251).to(torch.uint8).expand(3, 40, 50)
    textures = Textures("photographs", (texture,) * 5, torch.zeros(5, 3, dtype=FLOAT))
    corner = torch.tensor([[0.5, 0.25], [0.999, 0.999]], dtype=FLOAT)
    draws = Frost(torch.tensor([0, 3]), corner, torch.zeros(2, 3, dtype=FLOAT))
    ice = crystals(textures, draws, 32, 32)
    for crop, (row, column) in zip(ice, ((4, 4), (7, 17)), strict=True):
        want = texture[:, row : row + 32, column : column + 32].double()
        assert torch.equal(crop, want)


def test_frost_draws_every_kind_as_often_as_the_benchmark() -> None:
    keys = sample_keys(0, "corruption", "frost/1", 0, [str(i) for i in range(5000)])
    draws = draw(keys, torch.zeros(5000, 3, 32, 32, dtype=torch.uint8), 1, "cifar")
    kinds = torch.tensor(SLOTS)[draws.texture]
    share = torch.bincount(kinds, minlength=len(KINDS)) / 5000
    want = torch.tensor([0.2, 0.4, 0.2, 0.2])
    assert float((share - want).abs().max()) < 4 * (0.24 / 5000) ** 0.5


def test_a_fifth_is_every_fifth_pixel() -> None:
    picture = torch.randint(0, 256, (3, 23, 31), dtype=torch.uint8)
    assert torch.equal(shrunk(picture, 0.2), picture[:, 2::5, 2::5])
    assert shrunk(picture, 0.3).shape == (3, 7, 9)
    assert torch.equal(shrunk(picture, 1.0), picture)


def test_photographs_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(IntakeError, match=r"cannot read .*frost1\.png"):
        corrupt(images, "frost", 1, seed=0, frost_dir=tmp_path / "none")
    table = []
    for number, (name, _) in enumerate(PHOTOGRAPHS):
        pixels = np.full((200, 240, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, quality=100)
        table.append((name, hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()))
    with pytest.raises(IntakeError, match="its sha256 differs"):
        corrupt(images, "frost", 1, seed=0, frost_dir=tmp_path)
    monkeypatch.setattr("robustmix.corruptions.frost.PHOTOGRAPHS", tuple(table))
    (tmp_path / "again").mkdir()
    for name, _ in table:
        (tmp_path / "again" / name).write_bytes((tmp_path / name).read_bytes())
    out = corrupt(images, "frost", 5, seed=0, frost_dir=tmp_path / "again")
    levels = {int(0.45 * 40 * number) for number in range(5)}
    assert set(out.flatten().tolist()) <= levels
    other = corrupt(images, "fog", 5, seed=0, frost_dir=tmp_path / "none")  # has no frost
    assert torch.equal(other, corrupt(images, "fog", 5, seed=0))


def slow_distance(found: np.ndarray) -> np.ndarray:
    """Closed form of the chamfer length, over all edge pixels."""
    rows, columns = np.nonzero(found)
    y, x = np.mgrid[: found.shape[0], : found.shape[1]]
    best = np.full(found.shape, np.inf)
    for row, column in zip(rows, columns, strict=True):
        a, b = np.abs(y - row), np.abs(x - column)
        a, b = np.maximum(a, b), np.minimum(a, b)
        straight = (a - 2 * b) + 2.1969 * b
        slanted = 1.4 * (2 * b - a) + 2.1969 * (a - b)
        best = np.minimum(best, np.where(2 * b <= a, straight, slanted))
    return best


def test_the_chamfer_distance_against_its_closed_form() -> None:
    found = torch.rand(3, 19, 27, generator=torch.Generator().manual_seed(0)) < 0.02
    for farthest in (2, 7, 40):
        got = nearest_edge(found, farthest) / FIXED
        for n in range(3):
            assert bool(found[n].any())
            want = slow_distance(found[n].numpy()).clip(max=farthest)
            np.testing.assert_allclose(got[n].numpy(), want, atol=1e-3)
    none = torch.zeros(1, 8, 8, dtype=torch.bool)
    assert torch.equal(nearest_edge(none, 9), torch.full((1, 8, 8), 9 * FIXED, dtype=torch.int32))


def test_equalisation_by_hand() -> None:
    levels = torch.tensor([[[5, 5, 5, 9], [9, 9, 9, 200]]])
    # 3 of the lowest: 9 -> 255 * 4 / 5 = 204, 200 -> 255
    assert equalised(levels).tolist() == [[[0, 0, 0, 204], [204, 204, 204, 255]]]
    assert torch.equal(equalised(levels * 0 + 7), levels * 0 + 7)


def test_correlation_against_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(256, (2, 7, 9), generator=generator, dtype=torch.int32)
    kernel = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
    got = correlated(maps, kernel)
    want = scipy.ndimage.correlate(maps.numpy(), np.array(kernel)[None], mode="mirror")
    np.testing.assert_array_equal(got.numpy(), want)
    assert torch.equal(box_sum(maps), correlated(maps, ((1, 1, 1),) * 3))


def test_pieces_that_touch_something_strong_against_growing_it() -> None:
    """Images are neighbours in the batch, and no piece reaches from one to the next."""
    generator = torch.Generator().manual_seed(1)
    weak = torch.rand(3, 13, 17, generator=generator) < 0.4
    strong = weak & (torch.rand(3, 13, 17, generator=generator) < 0.05)
    want = strong.numpy()
    for _ in range(13 * 17):
        grown = scipy.ndimage.maximum_filter(want, (0, 3, 3), mode="constant")
        want = grown & weak.numpy()
    np.testing.assert_array_equal(touching(weak, strong).numpy(), want)
    assert strong.sum() < want.sum() < weak.sum()


def test_edges_of_a_square_are_its_outline() -> None:
    levels = torch.zeros(1, 16, 16, dtype=torch.int64)
    levels[0, 4:12, 5:11] = 200
    found = edges(levels, low=50, high=150)[0]
    inside = scipy.ndimage.binary_erosion(levels[0].numpy() > 0, iterations=2)
    outside = ~scipy.ndimage.binary_dilation(levels[0].numpy() > 0, iterations=2)
    assert not found.numpy()[inside | outside].any()
    labels, count = scipy.ndimage.label(found.numpy(), structure=np.ones((3, 3)))
    assert count == 1
    assert labels[4:12].any(axis=1).all()
    assert not bool(edges(levels * 0 + 9, low=50, high=150).any())


def test_weak_edges_need_a_strong_neighbour() -> None:
    """A step of 20 has a gradient of 80: above 50, and an edge only where it meets one of 150."""
    levels = torch.zeros(2, 12, 12, dtype=torch.int64)
    levels[:, :, 6:] = 20
    assert not bool(edges(levels, low=50, high=150).any())
    levels[1, :3, 6:] = 60
    found = edges(levels, low=50, high=150)
    assert not bool(found[0].any())
    assert bool(found[1, -1].any())  # grown down along the weak step


def test_a_dry_lens_changes_nothing() -> None:
    from robustmix.corruptions.spatter import Spatter, apply

    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    draws = Spatter(torch.full((2, 32, 32), -9.0, dtype=FLOAT))
    for severity in (1, 5):
        out = apply(images, draws, severity, "cifar")
        assert bool(((out.long() - images.long()).abs() <= 1).all())
