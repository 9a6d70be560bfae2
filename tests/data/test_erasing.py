import math
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from scipy.stats import kstest
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from robustmix.data.augment import Augment
from robustmix.data.erasing import (
    ERASE_TRIALS,
    ERASE_UNIFORMS,
    NOTHING,
    Erasing,
    draw_erasing,
    erase,
    erase_box,
)
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.loader import Batch, train_batches
from robustmix.data.transforms import normalise

MARK = 1000.0
"""A value that noise never has."""


def drawn(n: int, seed: int = 0) -> Erasing:
    return draw_erasing(n, torch.Generator().manual_seed(seed))


def marked(n: int, height: int, width: int) -> Tensor:
    return torch.full((n, 3, height, width), MARK)


class Replay:
    """Python's random numbers, made of the uniforms of one image in the order timm asks."""

    def __init__(self, uniforms: Tensor) -> None:
        first, *trials, self.down, self.across = uniforms.tolist()
        self.stream: Iterator[float] = iter([first, *trials])
        self.offsets = iter([self.down, self.across])

    def random(self) -> float:
        return next(self.stream)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self.stream)

    def randint(self, low: int, high: int) -> int:
        return low + int(next(self.offsets) * (high - low + 1))


def of_timm(
    uniforms: Tensor, shape: tuple[int, int], prob: float, patch: pytest.MonkeyPatch
) -> Tensor:
    """Return where timm erases an image, bool (H, W)."""
    replay = Replay(uniforms)
    for name in ("random", "uniform", "randint"):
        patch.setattr(random, name, getattr(replay, name))
    image = torch.full((3, *shape), MARK)
    RandomErasing(probability=prob, mode="pixel", device="cpu")(image)
    erased = image != MARK
    assert torch.equal(erased[0], erased.all(dim=0))
    return erased[0]


@pytest.mark.parametrize("shape", [(32, 32), (224, 224), (61, 23), (5, 190)], ids=str)
@pytest.mark.parametrize("prob", [0.25, 1.0])
def test_the_rectangle_is_timms(
    shape: tuple[int, int], prob: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = drawn(150)
    got = erase(marked(150, *shape), draws, prob=prob) != MARK
    assert torch.equal(got[:, 0], got.all(dim=1))
    with monkeypatch.context() as patch:
        want = torch.stack([of_timm(row, shape, prob, patch) for row in draws.uniforms])
    assert torch.equal(got[:, 0], want)
    assert got.any()
    assert not got.all()


def test_a_rectangle_worked_by_hand() -> None:
    uniforms = torch.full((ERASE_UNIFORMS,), 0.5, dtype=torch.float64)
    # Area (.02 + 1/3) / 2 of 40 x 50 pixels, as high as wide: sqrt(353.3) = 18.8; of 22 and 32
    # places of its upper left corner the middle ones.
    assert erase_box(40, 50, uniforms, prob=0.6) == (11, 16, 19, 19)
    assert erase_box(40, 50, uniforms, prob=0.5) == NOTHING
    # The first rectangle of a flat image is too high, the second is narrow and low enough.
    uniforms[[3, 4]] = torch.tensor([0.0, 0.0], dtype=torch.float64)
    side = math.sqrt(0.02 * 8 * 300)
    low, wide = round(side * math.sqrt(0.3)), round(side / math.sqrt(0.3))
    box = erase_box(8, 300, uniforms, prob=1.0)
    assert box == ((8 - low + 1) // 2, (300 - wide + 1) // 2, low, wide)
    assert erase_box(2, 2000, torch.full_like(uniforms, 0.5), prob=1.0) == NOTHING


def test_draws_do_not_depend_on_the_images() -> None:
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    draws = draw_erasing(7, one)
    assert draws.uniforms.shape == (7, 2 * ERASE_TRIALS + 3)
    torch.rand(7, ERASE_UNIFORMS, generator=other, dtype=torch.float64)
    torch.randint(-(2**63), 2**63 - 1, (7,), generator=other)
    assert torch.equal(one.get_state(), other.get_state())
    assert len(set(draws.keys.tolist())) == 7


@pytest.mark.parametrize("prob", [0.0, 0.25, 0.9])
def test_as_many_images_are_erased_as_asked(prob: float) -> None:
    n = 4000
    erased = (erase(marked(n, 16, 16), drawn(n), prob=prob) != MARK).flatten(1).any(dim=1)
    assert abs(int(erased.sum()) - n * prob) <= 5 * math.sqrt(n * prob * (1 - prob))


def test_noise_is_standard_normal_and_independent() -> None:
    images = marked(40, 32, 32)
    noisy = erase(images, drawn(40), prob=1.0)
    assert (images == MARK).all()
    erased = noisy != MARK
    values = noisy[erased].double()
    assert len(values) > 10_000
    assert kstest(values.numpy(), "norm").pvalue > 1e-3
    assert len(set(values.tolist())) > 0.99 * len(values)  # no noise is used twice
    red, green = noisy[:, 0][erased[:, 0]], noisy[:, 1][erased[:, 1]]
    correlation = torch.corrcoef(torch.stack([red, green]))[0, 1]
    assert abs(correlation) < 5 / math.sqrt(len(red))


def test_an_image_does_not_depend_on_its_batch() -> None:
    images, draws = torch.rand(20, 3, 19, 13), drawn(20)
    whole = erase(images, draws, prob=0.6)
    for rows in (torch.tensor([5]), torch.arange(19, -1, -1), torch.tensor([18, 3, 3])):
        part = Erasing(*(field[rows] for field in draws))
        assert torch.equal(erase(images[rows], part, prob=0.6), whole[rows])


def image_set() -> ImageSet:
    pixels = torch.arange(17 * 3 * 9 * 11, dtype=torch.int64).view(17, 3, 9, 11) % 251
    return ImageSet(
        name="made-up",
        split="train",
        pixels=TensorPixels(pixels.to(torch.uint8)),
        labels=torch.arange(17) % 3,
        sample_ids=tuple(f"made-up/train/{i}" for i in range(17)),
        class_names=("a", "b", "c"),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
    )


def epoch(augment: Augment, draws: torch.Generator, start: int = 0) -> Iterator[Batch]:
    return train_batches(
        image_set(),
        batch_size=5,
        augment=augment,
        order=torch.Generator().manual_seed(0),
        draws=draws,
        device="cpu",
        start=start,
    )


ERASING = Augment(kind="crop-flip", padding=2, erase_prob=0.7)


def test_the_loader_erases_last() -> None:
    one, other = (torch.Generator().manual_seed(8) for _ in range(2))
    got, plain = next(epoch(ERASING, one)), next(epoch(replace(ERASING, erase_prob=0.0), other))
    want = erase(plain.images, draw_erasing(5, other), prob=0.7)
    assert torch.equal(got.images, want)
    assert not torch.equal(got.images, plain.images)
    assert torch.equal(one.get_state(), other.get_state())


def test_a_resumed_epoch_repeats_its_noise() -> None:
    draws = torch.Generator().manual_seed(8)
    batches = epoch(ERASING, draws)
    next(batches)
    state = draws.get_state()
    rest = list(batches)
    draws = torch.Generator()
    draws.set_state(state)
    again = list(epoch(ERASING, draws, start=1))
    assert len(rest) == len(again) == 3
    for before, after in zip(rest, again, strict=True):
        assert torch.equal(before.images, after.images)


def test_nothing_is_drawn_where_nothing_is_erased() -> None:
    draws = torch.Generator().manual_seed(8)
    state = draws.get_state()
    data = image_set()
    for batch in epoch(Augment(), draws):
        plain = normalise(data.pixels.take(batch.indices), data.mean, data.std)
        assert torch.equal(batch.images, plain)
    assert torch.equal(draws.get_state(), state)


@pytest.mark.parametrize("prob", [-0.01, 1.01, float("nan")])
def test_impossible_shares_are_refused(prob: float) -> None:
    with pytest.raises(ValueError, match="erase_prob"):
        Augment(erase_prob=prob)
