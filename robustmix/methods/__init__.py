"""Training methods: how a batch becomes a loss. One file each, one registry."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports
from robustmix.methods.names import METHOD_INFO as METHOD_INFO
from robustmix.methods.names import MethodInfo as MethodInfo

if TYPE_CHECKING:
    from robustmix.methods.cutmix import CutMix as CutMix
    from robustmix.methods.cutmix import CutMixConfig as CutMixConfig
    from robustmix.methods.cutmix import cutmix as cutmix
    from robustmix.methods.cutmix import draw_cutmix as draw_cutmix
    from robustmix.methods.losses import cross_entropy as cross_entropy
    from robustmix.methods.losses import mixed_cross_entropy as mixed_cross_entropy
    from robustmix.methods.mixup import Mixup as Mixup
    from robustmix.methods.mixup import MixupConfig as MixupConfig
    from robustmix.methods.mixup import draw_mixup as draw_mixup
    from robustmix.methods.mixup import mixup as mixup
    from robustmix.methods.registry import METHODS as METHODS
    from robustmix.methods.step import Method as Method
    from robustmix.methods.step import Mixed as Mixed
    from robustmix.methods.step import StepResult as StepResult
    from robustmix.methods.vanilla import Vanilla as Vanilla
    from robustmix.methods.vanilla import VanillaConfig as VanillaConfig

_EXPORTS = {
    "CutMix": "robustmix.methods.cutmix",
    "CutMixConfig": "robustmix.methods.cutmix",
    "METHODS": "robustmix.methods.registry",
    "Method": "robustmix.methods.step",
    "Mixed": "robustmix.methods.step",
    "Mixup": "robustmix.methods.mixup",
    "MixupConfig": "robustmix.methods.mixup",
    "StepResult": "robustmix.methods.step",
    "Vanilla": "robustmix.methods.vanilla",
    "VanillaConfig": "robustmix.methods.vanilla",
    "cross_entropy": "robustmix.methods.losses",
    "cutmix": "robustmix.methods.cutmix",
    "draw_cutmix": "robustmix.methods.cutmix",
    "draw_mixup": "robustmix.methods.mixup",
    "mixed_cross_entropy": "robustmix.methods.losses",
    "mixup": "robustmix.methods.mixup",
}

__all__ = [
    "METHOD_INFO",
    "MethodInfo",
    *_EXPORTS,
]

__getattr__ = lazy_exports(__name__, _EXPORTS)
