from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustmix.data import load_dataset
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.transforms import normalise
from robustmix.errors import IncompleteError
from robustmix.methods.momentum_pair import MixPreview
from robustmix.training.pictures import draw_mixing, picture_samples

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
RED, GREEN, BLUE, ORANGE = (200, 10, 20), (10, 200, 20), (10, 20, 200), (250, 150, 0)
# The colour map at 0, a quarter, a half and 1, as published; matplotlib cuts or rounds to 8 bits.
VIRIDIS_0, VIRIDIS_25, VIRIDIS_50, VIRIDIS_1 = (
    (68, 1, 84),
    (58, 82, 139),
    (32, 144, 140),
    (253, 231, 37),
)


def flat(colours: list[tuple[int, int, int]], size: tuple[int, int] = (5, 7)) -> Tensor:
    """Images of one colour each, uint8 (n, 3, *size)."""
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, *size)


def preview_of(sources: Tensor, masks: Tensor, mixed: Tensor) -> MixPreview:
    """From uint8 sources (n, N, 3, H, W) and mixtures (n, 3, H, W)."""
    count = sources.shape[1]
    images = normalise(sources.flatten(0, 1), MEAN, STD).view(sources.shape)
    lam = tuple(2 * (i + 1) / (count * (count + 1)) for i in range(count))
    return MixPreview(images, masks, normalise(mixed, MEAN, STD), lam)


def drawn(preview: MixPreview, path: Path, title: str = "") -> NDArray[np.uint8]:
    draw_mixing(preview, path, mean=MEAN, std=STD, title=title)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def has(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Whether pixels (..., 3) have this colour, up to rounding."""
    return np.asarray((np.abs(picture.astype(int) - colour) <= 1).all(axis=-1))


def places(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the one rectangle that has this colour."""
    rows, columns = np.nonzero(has(picture, colour))
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    assert len(rows) == (bottom - top) * (right - left), "not one full rectangle"
    return int(top), int(left), int(bottom), int(right)


@pytest.fixture
def one_row() -> MixPreview:
    """Three flat sources and an orange mixture; masks are 1, 0 and between."""
    masks = torch.stack([torch.ones(5, 7), torch.zeros(5, 7), torch.full((5, 7), 0.5)])
    return preview_of(flat([RED, GREEN, BLUE])[None], masks[None], flat([ORANGE]))


def test_sources_then_masks_then_the_mixture_in_one_row(
    one_row: MixPreview, tmp_path: Path
) -> None:
    picture = drawn(one_row, tmp_path / "a.png")
    boxes = [places(picture, colour) for colour in (RED, GREEN, BLUE, ORANGE)]
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    assert len({*tops}) == len({*bottoms}) == 1
    assert list(lefts) == sorted(lefts)
    sizes = {(bottom - top, right - left) for top, left, bottom, right in boxes}
    ((height, width),) = sizes
    assert (height % 5, width % 7, height // 5) == (0, 0, width // 7)
    # The masks stand between the last source and the mixture: 1, then 0, then a half.
    between = picture[tops[0] : bottoms[0], rights[2] : lefts[3]]
    (_, first, _, end), (_, second, _, _) = places(between, VIRIDIS_1), places(between, VIRIDIS_0)
    assert end - first == width
    assert first < second
    assert has(between[height // 2, second + width + width // 2], VIRIDIS_50)


@pytest.mark.parametrize("size", [(5, 7), (32, 32), (150, 131)])
def test_images_keep_every_pixel_and_masks_every_value(
    size: tuple[int, int], tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randint(256, (2, 2, 3, *size), generator=generator, dtype=torch.uint8)
    mixed = torch.randint(256, (2, 3, *size), generator=generator, dtype=torch.uint8)
    # A flat frame, in a colour of its own, tells where an image lies.
    frames = [RED, GREEN, BLUE, ORANGE, (1, 2, 3), (3, 2, 1)]
    for image, colour in zip([*sources.flatten(0, 1), *mixed], frames, strict=True):
        for edge in (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]):
            edge[:] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    picture = drawn(preview_of(sources, torch.zeros(2, 2, *size), mixed), tmp_path / "a.png")
    for image, colour in zip([*sources.flatten(0, 1), *mixed], frames, strict=True):
        rows, columns = np.nonzero((picture == colour).all(axis=2))
        box = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        factor = box.shape[0] // size[0]
        wanted = image.permute(1, 2, 0).numpy().repeat(factor, 0).repeat(factor, 1)
        np.testing.assert_array_equal(box, wanted)


def test_a_mask_is_drawn_where_it_is_and_all_have_one_scale(tmp_path: Path) -> None:
    masks = torch.full((1, 2, 5, 7), 0.25)
    masks[0, 0, 1, 2] = 1.0  # one pixel of the first mask
    sources, mixed = flat([RED, GREEN])[None], flat([ORANGE])
    picture = drawn(preview_of(sources, masks, mixed), tmp_path / "a.png")
    top, _, bottom, right = places(picture, GREEN)
    factor = (bottom - top) // 5
    within = picture[top:bottom, right : places(picture, ORANGE)[1]]
    spot = places(within, VIRIDIS_1)
    assert (spot[2] - spot[0], spot[3] - spot[1]) == (factor, factor)
    assert spot[0] == factor
    rest = places(picture, RED)[3] - places(picture, RED)[1]
    quarter = within[factor // 2, spot[1]]  # the same column, the row above
    assert has(quarter, VIRIDIS_25)
    second = within[bottom - top - 1, spot[1] + rest]
    np.testing.assert_array_equal(second, quarter)


def test_the_colour_bar_runs_from_0_to_1(one_row: MixPreview, tmp_path: Path) -> None:
    picture = drawn(one_row, tmp_path / "a.png")
    top, _, bottom, right = places(picture, ORANGE)
    bar = picture[top:bottom, right:]
    column = bar[:, np.nonzero(has(bar, VIRIDIS_50))[1].mean().astype(int)]
    wanted = (VIRIDIS_1, (94, 201, 98), VIRIDIS_50, VIRIDIS_25, VIRIDIS_0)  # the top is 1
    ticks = np.linspace(2, len(column) - 3, 5).round().astype(int)  # inside the frame
    np.testing.assert_allclose(column[ticks].astype(int), wanted, rtol=0, atol=12)


def test_titles_tell_lambda_and_the_range_of_a_mask(
    one_row: MixPreview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    save = Figure.savefig

    def spy(self: Figure, *args: object, **kwargs: object) -> None:
        said.extend(text.get_text() for text in self.texts)
        save(self, *args, **kwargs)  # type: ignore[arg-type] # passes on what it got

    monkeypatch.setattr(Figure, "savefig", spy)
    drawn(one_row, tmp_path / "a.png", title="epoch 10")
    assert {"source 1, λ = 0.17", "source 2, λ = 0.33", "source 3, λ = 0.50"} <= {*said}
    assert {"mask 1", "mask 2", "mask 3", "mixed", "epoch 10"} <= {*said}
    assert "1.000 to 1.000, mean 1.000" in said


def test_the_same_preview_gives_the_same_bytes(one_row: MixPreview, tmp_path: Path) -> None:
    drawn(one_row, tmp_path / "a.png")
    drawn(one_row, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_mask_that_is_no_number_is_seen(one_row: MixPreview, tmp_path: Path) -> None:
    one_row.masks[0, 1] = torch.nan
    one_row.mixed[:] = torch.nan
    picture = drawn(one_row, tmp_path / "a.png")
    top, left, bottom, right = places(picture, (255, 0, 255))
    assert (bottom - top) * (right - left) > 100**2


def test_half_precision_is_drawn(one_row: MixPreview, tmp_path: Path) -> None:
    sources, masks, mixed = (x.bfloat16().requires_grad_() for x in one_row[:3])
    half = MixPreview(sources, masks, mixed, one_row.lam)
    assert drawn(half, tmp_path / "a.png").size > 0


def test_a_failed_write_keeps_the_old_picture_and_leaves_nothing(
    one_row: MixPreview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pictures" / "epoch-0010.png"
    path.parent.mkdir()
    path.write_bytes(b"old")

    def full_disk(self: Figure, where: Path, **kwargs: object) -> None:
        Path(where).write_bytes(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(IncompleteError, match=r"cannot write .*epoch-0010\.png: No space left"):
        drawn(one_row, path)
    assert [p.name for p in path.parent.iterdir()] == ["epoch-0010.png"]
    assert path.read_bytes() == b"old"


def test_a_folder_that_cannot_be_is_an_error_and_left_alone(
    one_row: MixPreview, tmp_path: Path
) -> None:
    (tmp_path / "pictures").write_text("a file")
    with pytest.raises(IncompleteError, match="cannot write"):
        drawn(one_row, tmp_path / "pictures" / "epoch-0010.png")
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]


def image_set(labels: list[int]) -> ImageSet:
    """Image i is of grey level i everywhere."""
    n = len(labels)
    levels = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 2, 3)
    return ImageSet(
        name="grey",
        split="test",
        pixels=TensorPixels(levels),
        labels=torch.tensor(labels),
        sample_ids=tuple(map(str, range(n))),
        class_names=tuple(map(str, range(max(labels, default=0) + 1))),
        mean=MEAN,
        std=STD,
    )


@pytest.mark.parametrize(
    ("labels", "n", "chosen"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 4, [0, 2, 4, 6]),  # a quarter of the way each
        ([0, 0, 0, 0, 0, 0, 1, 2], 2, [0, 6]),  # from the middle on, the next other class
        ([2, 1, 0, 0, 0, 0, 0, 0], 3, [0, 2, 1]),  # none after the place: from the front
        ([0, 0, 0, 0], 2, [0, 2]),  # one class only
        ([0, 1, 0, 1], 4, [0, 1, 2, 3]),
        ([0, 0, 0, 1], 4, [0, 3, 2, 1]),  # the place is taken: the next free one
        ([0, 1], 5, [0, 1]),  # no more than there are
    ],
)
def test_samples_are_spread_over_places_and_classes(
    labels: list[int], n: int, chosen: list[int]
) -> None:
    samples = picture_samples(image_set(labels), n, "cpu")
    wanted = (torch.tensor(chosen)[:, None] / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(samples, wanted[:, :, None, None].expand(-1, -1, 2, 3))


def test_samples_of_digits_are_of_other_classes_and_not_augmented() -> None:
    data = load_dataset("digits", "test")
    one, other = picture_samples(data, 8, "cpu"), picture_samples(data, 8, "cpu")
    assert torch.equal(one, other)
    every = normalise(data.pixels.take(torch.arange(len(data))), data.mean, data.std)
    found = [int((every == image).flatten(1).all(dim=1).nonzero()[0, 0]) for image in one]
    assert len({int(data.labels[i]) for i in found}) == 8
