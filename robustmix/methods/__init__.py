"""Training methods: how a batch becomes a loss. One file each, one registry."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports
from robustmix.methods.names import METHOD_INFO as METHOD_INFO
from robustmix.methods.names import MethodInfo as MethodInfo

if TYPE_CHECKING:
    from robustmix.methods.adautomix import AdAutoMix as AdAutoMix
    from robustmix.methods.adautomix import AdAutoMixConfig as AdAutoMixConfig
    from robustmix.methods.adautomix import AdAutoMixDraws as AdAutoMixDraws
    from robustmix.methods.adautomix import draw_adautomix as draw_adautomix
    from robustmix.methods.automix import AutoMix as AutoMix
    from robustmix.methods.automix import AutoMixConfig as AutoMixConfig
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
    from robustmix.methods.samix import SAMix as SAMix
    from robustmix.methods.samix import SAMixConfig as SAMixConfig
    from robustmix.methods.step import Method as Method
    from robustmix.methods.step import Mixed as Mixed
    from robustmix.methods.step import Setup as Setup
    from robustmix.methods.step import StepResult as StepResult
    from robustmix.methods.teacher import MixPreview as MixPreview
    from robustmix.methods.teacher import MomentumPair as MomentumPair
    from robustmix.methods.teacher import TeacherMethod as TeacherMethod
    from robustmix.methods.teacher import ema_momentum as ema_momentum
    from robustmix.methods.vanilla import Vanilla as Vanilla
    from robustmix.methods.vanilla import VanillaConfig as VanillaConfig

_EXPORTS = {
    "AdAutoMix": "robustmix.methods.adautomix",
    "AdAutoMixConfig": "robustmix.methods.adautomix",
    "AdAutoMixDraws": "robustmix.methods.adautomix",
    "AutoMix": "robustmix.methods.automix",
    "AutoMixConfig": "robustmix.methods.automix",
    "CutMix": "robustmix.methods.cutmix",
    "CutMixConfig": "robustmix.methods.cutmix",
    "METHODS": "robustmix.methods.registry",
    "Method": "robustmix.methods.step",
    "MixPreview": "robustmix.methods.teacher",
    "Mixed": "robustmix.methods.step",
    "Mixup": "robustmix.methods.mixup",
    "MixupConfig": "robustmix.methods.mixup",
    "MomentumPair": "robustmix.methods.teacher",
    "SAMix": "robustmix.methods.samix",
    "SAMixConfig": "robustmix.methods.samix",
    "Setup": "robustmix.methods.step",
    "StepResult": "robustmix.methods.step",
    "TeacherMethod": "robustmix.methods.teacher",
    "Vanilla": "robustmix.methods.vanilla",
    "VanillaConfig": "robustmix.methods.vanilla",
    "cross_entropy": "robustmix.methods.losses",
    "cutmix": "robustmix.methods.cutmix",
    "draw_adautomix": "robustmix.methods.adautomix",
    "draw_cutmix": "robustmix.methods.cutmix",
    "draw_mixup": "robustmix.methods.mixup",
    "ema_momentum": "robustmix.methods.teacher",
    "mixed_cross_entropy": "robustmix.methods.losses",
    "mixup": "robustmix.methods.mixup",
}

__all__ = [
    "METHOD_INFO",
    "MethodInfo",
    *_EXPORTS,
]

__getattr__ = lazy_exports(__name__, _EXPORTS)
