import subprocess
import sys

import pytest

import robustmix.corruptions
from robustmix.corruptions import (
    ALIASES,
    CORRUPTIONS,
    DESCRIPTIONS,
    EXTRA,
    GROUPS,
    MAIN,
    NAMES,
    PROFILES,
    canonical_name,
    choose_profile,
)
from robustmix.errors import UsageError


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


def test_every_name_is_described() -> None:
    assert tuple(DESCRIPTIONS) == NAMES


def test_the_registry_has_every_name() -> None:
    assert tuple(CORRUPTIONS) == NAMES
    assert tuple(corruption.name for corruption in CORRUPTIONS.values()) == NAMES


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
        "c.canonical_name('jpeg'), c.NAMES, c.APPROXIMATE;"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_exists() -> None:
    for name in robustmix.corruptions.__all__:
        assert getattr(robustmix.corruptions, name) is not None
