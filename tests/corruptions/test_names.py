import importlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import robustmix.corruptions
from robustmix.corruptions import (
    ALIASES,
    CORRUPTIONS,
    EXTRA,
    GROUPS,
    MAIN,
    NAMES,
    PROFILES,
    Corruption,
    canonical_name,
    choose_profile,
    corrupt,
    names,
)
from robustmix.corruptions.registry import BENCHMARK
from robustmix.errors import IntakeError, UsageError
from robustmix.rng import sample_keys


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_nineteen_names_in_canonical_order() -> None:
    assert (len(MAIN), len(EXTRA), len(set(NAMES))) == (15, 4, 19)
    assert NAMES == MAIN + EXTRA
    assert (NAMES[0], NAMES[14], NAMES[18]) == ("gaussian_noise", "jpeg_compression", "saturate")


def test_groups_partition_the_names() -> None:
    members = [name for group in GROUPS.values() for name in group]
    assert sorted(members) == sorted(NAMES)
    assert {group: len(names) for group, names in GROUPS.items()} == {
        "noise": 4,
        "blur": 5,
        "weather": 5,
        "digital": 5,
    }


def test_the_table_has_every_name_with_its_help() -> None:
    assert tuple(BENCHMARK) == NAMES
    assert tuple(CORRUPTIONS)[:19] == NAMES
    assert all(10 < len(CORRUPTIONS.row(name).help) < 80 for name in NAMES)
    assert tuple(CORRUPTIONS[name].name for name in NAMES) == NAMES


def darker(images: Tensor, severity: int) -> Tensor:
    """Values shifted right by the severity."""
    images >>= severity  # in place, on purpose
    return images


def flip_some(keys: Tensor, images: Tensor, severity: int, profile: str) -> Tensor:
    return keys % 2 == 0


def flipped(images: Tensor, draws: Tensor, severity: int, profile: str) -> Tensor:
    return torch.where(draws.view(-1, 1, 1, 1), images.flip(3), images)


@pytest.fixture
def twentieth() -> Iterator[None]:
    with CORRUPTIONS.temporary():
        CORRUPTIONS.register("mine", darker)
        yield


@pytest.mark.usefixtures("twentieth")
def test_a_twentieth_is_applied_and_changes_no_fixed_list() -> None:
    images = torch.full((2, 3, 32, 32), 200, dtype=torch.uint8)
    assert set(corrupt(images, "mine", 3).flatten().tolist()) == {25}
    assert set(images.flatten().tolist()) == {200}
    assert canonical_name("mine") == "mine"
    assert list(CORRUPTIONS)[-1] == "mine"
    assert CORRUPTIONS.row("mine").group == "other"
    assert CORRUPTIONS.row("mine").help == "Values shifted right by the severity."
    modules = (robustmix.corruptions, importlib.reload(names))
    for module in modules:
        assert (len(module.MAIN), len(module.EXTRA), len(module.NAMES)) == (15, 4, 19)
        assert "mine" not in module.NAMES
        assert "other" not in module.GROUPS


def test_what_is_registered_is_gone_afterwards() -> None:
    with CORRUPTIONS.temporary():
        CORRUPTIONS.register("mine", darker)
    with pytest.raises(UsageError, match="unknown corruption 'mine'"):
        corrupt(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "mine", 1)


def test_a_foreign_corruption_draws_by_its_name_and_the_samples() -> None:
    thing = Corruption(name="theirs", constants={}, apply=flipped, draw=flip_some)
    images = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8, generator=seeded())
    ids = [f"s{i}" for i in range(9)]
    with CORRUPTIONS.temporary():
        CORRUPTIONS.register("mine", thing, "some are mirrored", group="geometry")
        got = corrupt(images, "mine", 2, seed=5, sample_ids=ids)
        alone = corrupt(images[4:5], "mine", 2, seed=5, sample_ids=ids[4:5])
        assert CORRUPTIONS.row("mine").group == "geometry"
    even = sample_keys(5, "corruption", "mine/2", 0, ids) % 2 == 0
    assert 0 < int(even.sum()) < 9
    want = torch.where(even.view(-1, 1, 1, 1), images.flip(3), images)
    assert torch.equal(got, want)
    assert torch.equal(alone, want[4:5])


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda images, severity: images.float(), "torch.float32 (1, 3, 32, 32)"),
        (lambda images, severity: images[:, :1], "torch.uint8 (1, 1, 32, 32)"),
        (lambda images, severity: None, "NoneType"),
    ],
)
def test_what_is_no_image_is_refused(function: object, got: str) -> None:
    with CORRUPTIONS.temporary():
        CORRUPTIONS.register("mine", function, "broken")
        with pytest.raises(IntakeError, match=re.escape(f"'mine' returned {got} for uint8")):
            corrupt(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "mine", 1)


@pytest.mark.parametrize("name", ["fog", "jpeg", "all", "main", "extra"])
def test_names_that_mean_something_cannot_be_taken(name: str) -> None:
    with pytest.raises(UsageError, match="exists already, from robustmix itself") as caught:
        CORRUPTIONS.register(name, darker)
    assert caught.value.code == "E-NAME-TAKEN"


def test_what_is_neither_a_corruption_nor_a_function_is_refused() -> None:
    with CORRUPTIONS.temporary():
        CORRUPTIONS.register("mine", 3, "a number")
        with pytest.raises(UsageError, match="'mine' is a int; give a Corruption, or a function"):
            CORRUPTIONS["mine"]
        with pytest.raises(UsageError, match="the benchmark's corruptions are fixed"):
            CORRUPTIONS.register("other", darker, benchmark="main")


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_aliases_lead_to_names(alias: str) -> None:
    assert canonical_name(alias) == ALIASES[alias]
    assert canonical_name(alias) in NAMES


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'gaussian_noise'") as caught:
        canonical_name("gausian_noise")
    assert caught.value.code == "E-UNKNOWN-CORRUPTION"


@pytest.mark.parametrize(("profile", "side"), PROFILES.items())
def test_profile_by_size(profile: str, side: int) -> None:
    assert choose_profile(None, side, side) == profile
    assert choose_profile(profile, 7, 299) == profile


@pytest.mark.parametrize(("height", "width"), [(32, 64), (31, 31), (299, 299)])
def test_other_sizes_must_name_a_profile(height: int, width: int) -> None:
    with pytest.raises(UsageError, match=f"{height}x{width}.*name one") as caught:
        choose_profile(None, height, width)
    assert caught.value.code == "E-PROFILE"


def test_unknown_profile() -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar'"):
        choose_profile("cifar10", 32, 32)


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys, robustmix.corruptions as c;"
        "c.canonical_name('jpeg'), c.NAMES, c.APPROXIMATE, c.CORRUPTIONS.rows();"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_exists() -> None:
    for name in robustmix.corruptions.__all__:
        assert getattr(robustmix.corruptions, name) is not None
