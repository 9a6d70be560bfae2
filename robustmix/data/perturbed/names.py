"""The perturbations of ImageNet-P and of CIFAR-P: which count, and what is compared in each.

Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
"""

from collections.abc import Mapping

_BOTH = (
    "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "brightness", "translate",
    "rotate", "tilt", "scale",
)  # fmt: skip

IMAGENET = (*_BOTH[:4], "snow", *_BOTH[4:])
"""The ten that means are taken over on ImageNet-P, and on Tiny-ImageNet-P."""

CIFAR = (*_BOTH[:4], "spatter", *_BOTH[4:])
"""The ten on CIFAR-P: spatter in the place of snow."""

HELD_OUT = ("speckle_noise", "gaussian_blur", "snow", "spatter", "shear")
"""Those beside them; of snow and spatter one counts."""

COUNTED: Mapping[str, tuple[str, ...]] = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "tiny-imagenet": IMAGENET,
    "imagenet-1k": IMAGENET,
}

FOLDERS: Mapping[str, tuple[str, ...]] = {
    "cifar10": ("CIFAR-10-P",),
    "cifar100": ("CIFAR-100-P",),
    "tiny-imagenet": ("Tiny-ImageNet-P",),
    "imagenet-1k": ("ImageNet-P",),
}
"""Data set -> where its sequences are looked for in the data folder."""

DIFFICULTIES = (1, 2, 3)


def all_names(dataset: str) -> tuple[str, ...]:
    """Name every perturbation of a data set, those that count first.

    Example:
        >>> all_names("cifar10")[10:]
        ('speckle_noise', 'gaussian_blur', 'snow', 'shear')
    """
    counted = COUNTED[dataset]
    return (*counted, *(name for name in HELD_OUT if name not in counted))


def is_noise(name: str) -> bool:
    """Tell whether pictures are compared with the first one, which is clean, not with the last."""
    return "noise" in name


def stored_name(name: str, difficulty: int) -> str:
    """Give the file or folder of a perturbation: harder noise is stored, all else is not.

    Example:
        >>> stored_name("shot_noise", 2), stored_name("tilt", 2), stored_name("shot_noise", 1)
        ('shot_noise_2', 'tilt', 'shot_noise')
    """
    return f"{name}_{difficulty}" if difficulty > 1 and is_noise(name) else name
