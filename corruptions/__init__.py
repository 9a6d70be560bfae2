"""The common corruptions of CIFAR-C and ImageNet-C as batched functions on uint8 images.

A corruption is arithmetic on pixels (``apply``) and, if it is random, a ``draw`` that makes
everything random beforehand, one independent stream a sample. Hence the result for a sample depends
on the seed, the corruption, its severity and the sample's id alone: not on its batch, its order or
its device.

Reference:
    Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3 and appendix B.
"""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.corruptions.cifar_c import CifarC as CifarC
    from robustmix.corruptions.corrupt import corrupt as corrupt
    from robustmix.corruptions.corruption import Corruption as Corruption
    from robustmix.corruptions.names import APPROXIMATE as APPROXIMATE
    from robustmix.corruptions.names import EXTRA as EXTRA
    from robustmix.corruptions.names import GENERATOR_VERSION as GENERATOR_VERSION
    from robustmix.corruptions.names import GROUPS as GROUPS
    from robustmix.corruptions.names import MAIN as MAIN
    from robustmix.corruptions.names import NAMES as NAMES
    from robustmix.corruptions.names import PROFILES as PROFILES
    from robustmix.corruptions.names import SEVERITIES as SEVERITIES
    from robustmix.corruptions.names import Profile as Profile
    from robustmix.corruptions.names import canonical_name as canonical_name
    from robustmix.corruptions.names import choose_profile as choose_profile
    from robustmix.corruptions.registry import ALIASES as ALIASES
    from robustmix.corruptions.registry import CORRUPTIONS as CORRUPTIONS
    from robustmix.corruptions.registry import CorruptionRow as CorruptionRow

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
