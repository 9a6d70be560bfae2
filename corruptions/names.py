"""Names of the corruptions, their groups, and the severity profiles; needs no torch."""

from typing import Literal, TypeAlias

from robustmix.errors import UsageError, unknown_name

GENERATOR_VERSION = "2"
"""Changes whenever a generated pixel may change; recorded beside every generated set."""

Profile: TypeAlias = Literal["cifar", "tiny", "imagenet"]

PROFILES: dict[Profile, int] = {"cifar": 32, "tiny": 64, "imagenet": 224}
"""Severity profile -> the side of the images that its constants were chosen for, in pixels."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

MAIN: tuple[str, ...] = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 of the benchmark."""

EXTRA: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four meant for validation; papers on CIFAR-C average over all 19."""

NAMES: tuple[str, ...] = MAIN + EXTRA
"""All 19 in canonical order."""

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "weather": ("snow", "frost", "fog", "brightness", "spatter"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
}

ALIASES: dict[str, str] = {
    "frosted_glass_blur": "glass_blur",
    "elastic": "elastic_transform",
    "jpeg": "jpeg_compression",
}

DESCRIPTIONS: dict[str, str] = {
    "gaussian_noise": "normal noise on every value, as in low light",
    "shot_noise": "Poisson noise: light counted in few photons",
    "impulse_noise": "salt and pepper: single values become black or white",
    "defocus_blur": "a disk-shaped blur, as out of focus",
    "glass_blur": "pixels displaced at random between two blurs, as behind frosted glass",
    "motion_blur": "a one-sided blur along a random direction",
    "zoom_blur": "the mean of the image at several magnifications",
    "snow": "falling flakes, smeared by motion, on a whitened image",
    "frost": "ice crystals laid over the image",
    "fog": "a fractal haze that also lowers contrast",
    "brightness": "a constant added to the HSV value",
    "contrast": "values drawn towards the mean of their channel",
    "elastic_transform": "a random affine map and small local displacements",
    "pixelate": "the image scaled down and up again with a box filter",
    "jpeg_compression": "JPEG at low quality (IJG library 9, 4:2:0)",
    "speckle_noise": "normal noise in proportion to the value",
    "gaussian_blur": "a blur with a Gaussian kernel",
    "spatter": "drops of water or splashes of mud on the lens",
    "saturate": "the HSV saturation lowered or raised",
}

APPROXIMATE: tuple[str, ...] = ("frost",)
"""Those whose default is a substitute: frost, without the benchmark's photographs."""


def canonical_name(name: str) -> str:
    """Return the canonical name of a corruption, resolving aliases.

    Raises:
        UsageError: no corruption is called ``name``; the nearest name is suggested.

    Example:
        >>> canonical_name("jpeg")
        'jpeg_compression'
    """
    name = ALIASES.get(name, name)
    if name not in NAMES:
        raise unknown_name("corruption", name, [*NAMES, *ALIASES])
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
