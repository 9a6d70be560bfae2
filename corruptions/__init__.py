"""The common corruptions of CIFAR-C and ImageNet-C as batched functions on uint8 images.

A corruption is arithmetic on pixels (``apply``) and, if it is random, a ``draw`` that makes
everything random beforehand, one independent stream a sample. Hence the result for a sample depends
on the seed, the corruption, its severity and the sample's id alone: not on its batch, its order or
its device.

Reference:
    Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3 and appendix B.
"""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports
from robustmix.corruptions.names import (
    ALIASES,
    APPROXIMATE,
    DESCRIPTIONS,
    EXTRA,
    GENERATOR_VERSION,
    GROUPS,
    MAIN,
    NAMES,
    PROFILES,
    SEVERITIES,
    Profile,
    canonical_name,
    choose_profile,
)

if TYPE_CHECKING:
    from robustmix.corruptions.cifar_c import CifarC
    from robustmix.corruptions.corruption import Corruption
    from robustmix.corruptions.registry import CORRUPTIONS, corrupt

__all__ = [
    "ALIASES",
    "APPROXIMATE",
    "CORRUPTIONS",
    "DESCRIPTIONS",
    "EXTRA",
    "GENERATOR_VERSION",
    "GROUPS",
    "MAIN",
    "NAMES",
    "PROFILES",
    "SEVERITIES",
    "CifarC",
    "Corruption",
    "Profile",
    "canonical_name",
    "choose_profile",
    "corrupt",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "CORRUPTIONS": "robustmix.corruptions.registry",
        "CifarC": "robustmix.corruptions.cifar_c",
        "Corruption": "robustmix.corruptions.corruption",
        "corrupt": "robustmix.corruptions.registry",
    },
)
