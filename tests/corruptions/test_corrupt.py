"""The promises of ``corrupt`` that hold for every corruption, whatever it computes."""

import itertools

import pytest
import torch
from torch import Tensor

from robustmix.corruptions import CORRUPTIONS, NAMES, PROFILES, Profile, corrupt
from robustmix.errors import UsageError

RANDOM = [name for name in NAMES if not CORRUPTIONS[name].deterministic]
DETERMINISTIC = [name for name in NAMES if CORRUPTIONS[name].deterministic]


def noise_images(n: int, height: int = 32, width: int = 32) -> Tensor:
    """Smooth colours with some grain: every corruption changes them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    grain = torch.rand(n, 3, height, width, generator=generator)
    return (220 * smooth + 30 * grain).to(torch.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_table_has_five_severities_for_every_profile(name: str) -> None:
    constants = CORRUPTIONS[name].constants
    assert set(constants) == set(PROFILES)
    assert {profile: len(table) for profile, table in constants.items()} == dict.fromkeys(
        PROFILES, 5
    )
    for table in constants.values():
        assert len(set(table)) == 5


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_depends_on_itself_alone(name: str, severity: int) -> None:
    """Batches of 1, of 7, of more than one chunk, permuted, and strided: the same bytes."""
    images = noise_images(97)
    ids = [f"set/test/{i}" for i in range(97)]
    before = images.clone()
    whole = corrupt(images, name, severity, seed=3, sample_ids=ids)

    assert torch.equal(images, before)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    assert not torch.equal(whole, images)
    parts = [
        corrupt(images[i : i + 7], name, severity, seed=3, sample_ids=ids[i : i + 7])
        for i in range(0, 97, 7)
    ]
    assert torch.equal(torch.cat(parts), whole)
    for i in (0, 55):
        alone = corrupt(images[i : i + 1], name, severity, seed=3, sample_ids=ids[i : i + 1])
        assert torch.equal(alone[0], whole[i])
    order = torch.randperm(97, generator=torch.Generator().manual_seed(1))
    shuffled = [ids[i] for i in order.tolist()]
    assert torch.equal(
        corrupt(images[order], name, severity, seed=3, sample_ids=shuffled), whole[order]
    )
    strided = images.to(memory_format=torch.channels_last)
    from_strided = corrupt(strided, name, severity, seed=3, sample_ids=ids)
    assert torch.equal(from_strided, whole)
    assert from_strided.is_contiguous()


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_does_not_matter(name: str) -> None:
    images = noise_images(5)
    one = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = corrupt(images, name, 3, seed=0)
        torch.set_num_threads(3)
        assert torch.equal(corrupt(images, name, 3, seed=0), expected)
    finally:
        torch.set_num_threads(one)


@pytest.mark.parametrize("name", RANDOM)
def test_seed_severity_and_id_change_what_is_random(name: str) -> None:
    images = noise_images(1)

    def draws(seed: int, severity: int, sample_id: str) -> Tensor:
        out = corrupt(images, name, severity, seed=seed, sample_ids=[sample_id])
        return out.long() - images

    variants = [draws(0, 3, "a"), draws(1, 3, "a"), draws(0, 4, "a"), draws(0, 3, "b")]
    for one, other in itertools.combinations(variants, 2):
        assert not torch.equal(one, other)
    assert torch.equal(variants[0], draws(0, 3, "a"))


def test_severities_draw_independently() -> None:
    """Noise shared between severities would survive in the correlation of their outputs."""
    grey = torch.full((3, 3, 32, 32), 128, dtype=torch.uint8)
    noise = [
        corrupt(grey, "gaussian_noise", severity, seed=0).double().flatten() for severity in (1, 5)
    ]
    correlation = torch.corrcoef(torch.stack(noise))[0, 1]
    assert abs(float(correlation)) < 4 / grey.numel() ** 0.5


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_seed_and_id_change_nothing_else(name: str) -> None:
    images = noise_images(2)
    one = corrupt(images, name, 2, seed=0)
    assert torch.equal(one, corrupt(images, name, 2, seed=1, sample_ids=["x", "y"]))


def test_default_ids_are_positions() -> None:
    images = noise_images(3)
    named = corrupt(images, "gaussian_noise", 1, seed=0, sample_ids=["0", "1", "2"])
    assert torch.equal(corrupt(images, "gaussian_noise", 1, seed=0), named)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    for name in NAMES:
        corrupt(noise_images(2), name, 1, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("profile", PROFILES)
def test_any_size_with_a_named_profile(name: str, profile: Profile) -> None:
    images = noise_images(2, 37, 23)
    for severity in (1, 5):
        out = corrupt(images, name, severity, seed=0, profile=profile)
        assert out.shape == images.shape


@pytest.mark.parametrize("name", NAMES)
def test_the_profile_follows_the_size(name: str) -> None:
    images = noise_images(1, 64, 64)
    default = corrupt(images, name, 4, seed=0)
    assert torch.equal(default, corrupt(images, name, 4, seed=0, profile="tiny"))
    table = CORRUPTIONS[name].constants
    differs = table["tiny"] != table["cifar"]
    assert torch.equal(default, corrupt(images, name, 4, seed=0, profile="cifar")) != differs


@pytest.mark.parametrize("name", NAMES)
def test_no_images(name: str) -> None:
    assert corrupt(noise_images(1)[:0], name, 1, seed=0).shape == (0, 3, 32, 32)


def test_an_alias_is_the_same_corruption() -> None:
    images = noise_images(2)
    assert torch.equal(
        corrupt(images, "jpeg", 1, seed=0), corrupt(images, "jpeg_compression", 1, seed=0)
    )


@pytest.mark.parametrize("severity", [0, 6, -1, 2.0])
def test_severity_is_1_to_5(severity: int) -> None:
    with pytest.raises(UsageError, match="severity of 1 to 5"):
        corrupt(noise_images(1), "contrast", severity, seed=0)


@pytest.mark.parametrize(
    "shape", [(1, 3, 3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3), (1, 3, 0, 32)]
)
def test_shape(shape: tuple[int, ...]) -> None:
    images = torch.zeros(shape, dtype=torch.uint8)
    with pytest.raises(UsageError, match=r"\(N, 3, H, W\)"):
        corrupt(images, "contrast", 1, seed=0, profile="cifar")


def test_type() -> None:
    with pytest.raises(UsageError, match="expected images of type uint8"):
        corrupt(torch.zeros(1, 3, 32, 32, dtype=torch.int32), "contrast", 1, seed=0)


def test_one_id_an_image() -> None:
    with pytest.raises(UsageError, match="got 2 for 3"):
        corrupt(noise_images(3), "contrast", 1, seed=0, sample_ids=["a", "b"])


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("level", [0, 255])
def test_trap_24_bright_values_do_not_wrap_around(severity: int, level: int) -> None:
    flat = torch.full((2, 3, 32, 32), level, dtype=torch.uint8)
    shifted = corrupt(flat, "brightness", severity, seed=0).int() - level
    assert (shifted == 0).all() if level == 255 else (shifted > 0).all()
    # Half of the noise lies beyond the end of the range and is cut off there, not wrapped.
    noisy = corrupt(flat, "gaussian_noise", severity, seed=0)
    assert 0.4 < (noisy == level).float().mean() < 0.6
    assert ((noisy.int() - level).abs() < 128).all()
