"""What the corruptions of the benchmark are called, and the severity profiles; needs no torch."""

from typing import Literal, TypeAlias

from robustmix.corruptions.registry import ALIASES, BENCHMARK, CORRUPTIONS
from robustmix.errors import UsageError, unknown_name

GENERATOR_VERSION = "2"
"""Changes whenever a generated pixel may change; recorded beside every generated set."""

Profile: TypeAlias = Literal["cifar", "tiny", "imagenet"]

PROFILES: dict[Profile, int] = {"cifar": 32, "tiny": 64, "imagenet": 224}
"""Severity profile -> the side of the images that its constants were chosen for, in pixels."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

MAIN: tuple[str, ...] = tuple(name for name, row in BENCHMARK.items() if row.benchmark == "main")
"""The 15 of the benchmark."""

EXTRA: tuple[str, ...] = tuple(name for name, row in BENCHMARK.items() if row.benchmark == "extra")
"""The four meant for validation; papers on CIFAR-C average over all 19."""

NAMES: tuple[str, ...] = MAIN + EXTRA
"""All 19 in canonical order. A corruption that is registered joins ``CORRUPTIONS``, not these."""

GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name in NAMES if BENCHMARK[name].group == group)
    for group in dict.fromkeys(row.group for row in BENCHMARK.values())
}

APPROXIMATE: tuple[str, ...] = ("frost",)
"""Those whose default is a substitute: frost, without the benchmark's photographs."""


def canonical_name(name: str) -> str:
    """Return the name of a corruption in ``CORRUPTIONS``, resolving aliases.

    Raises:
        UsageError: no corruption is called ``name``; the nearest name is suggested.

    Example:
        >>> canonical_name("jpeg")
        'jpeg_compression'
    """
    name = ALIASES.get(name, name)
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, [*CORRUPTIONS, *ALIASES])
    return name


def choose_profile(profile: str | None, height: int, width: int) -> Profile:
    """Return the severity profile to use for images of ``height`` by ``width`` pixels.

    A named profile is taken as it is: strengths made for another size are the caller's decision,
    never a default.

    Raises:
        UsageError: ``profile`` is unknown, or None for a size that no profile was made for.

    Example:
        >>> choose_profile(None, 64, 64)
        'tiny'
    """
    for known, side in PROFILES.items():
        if known == profile or (profile is None and height == width == side):
            return known
    if profile is not None:
        raise unknown_name("profile", profile, PROFILES)
    raise UsageError(
        f"no corruption profile for images of {height}x{width} pixels",
        "name one: " + ", ".join(f"{name} ({side})" for name, side in PROFILES.items()),
        code="E-PROFILE",
    )
