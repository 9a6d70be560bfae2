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
    from robustmix.methods.alignmix import AlignMix as AlignMix
    from robustmix.methods.alignmix import AlignMixConfig as AlignMixConfig
    from robustmix.methods.alignmix import alignmix as alignmix
    from robustmix.methods.alignmix import draw_alignmix as draw_alignmix
    from robustmix.methods.attentivemix import AttentiveMix as AttentiveMix
    from robustmix.methods.attentivemix import AttentiveMixConfig as AttentiveMixConfig
    from robustmix.methods.attentivemix import attentivemix as attentivemix
    from robustmix.methods.attentivemix import draw_attentivemix as draw_attentivemix
    from robustmix.methods.augmix import AugMix as AugMix
    from robustmix.methods.augmix import AugMixConfig as AugMixConfig
    from robustmix.methods.augmix import augmix as augmix
    from robustmix.methods.augmix import draw_augmix as draw_augmix
    from robustmix.methods.automix import AutoMix as AutoMix
    from robustmix.methods.automix import AutoMixConfig as AutoMixConfig
    from robustmix.methods.comixup import CoMixup as CoMixup
    from robustmix.methods.comixup import CoMixupConfig as CoMixupConfig
    from robustmix.methods.comixup import comixup as comixup
    from robustmix.methods.comixup import draw_comixup as draw_comixup
    from robustmix.methods.cutmix import CutMix as CutMix
    from robustmix.methods.cutmix import CutMixConfig as CutMixConfig
    from robustmix.methods.cutmix import cutmix as cutmix
    from robustmix.methods.cutmix import draw_cutmix as draw_cutmix
    from robustmix.methods.deit import DeiT as DeiT
    from robustmix.methods.deit import DeiTConfig as DeiTConfig
    from robustmix.methods.fmix import FMix as FMix
    from robustmix.methods.fmix import FMixConfig as FMixConfig
    from robustmix.methods.fmix import draw_fmix as draw_fmix
    from robustmix.methods.fmix import fmix as fmix
    from robustmix.methods.gridmix import GridMix as GridMix
    from robustmix.methods.gridmix import GridMixConfig as GridMixConfig
    from robustmix.methods.gridmix import draw_gridmix as draw_gridmix
    from robustmix.methods.gridmix import gridmix as gridmix
    from robustmix.methods.losses import cross_entropy as cross_entropy
    from robustmix.methods.losses import mixed_cross_entropy as mixed_cross_entropy
    from robustmix.methods.manifoldmix import ManifoldMix as ManifoldMix
    from robustmix.methods.manifoldmix import ManifoldMixConfig as ManifoldMixConfig
    from robustmix.methods.manifoldmix import draw_manifoldmix as draw_manifoldmix
    from robustmix.methods.method import Method as Method
    from robustmix.methods.method import Mixed as Mixed
    from robustmix.methods.method import Setup as Setup
    from robustmix.methods.method import StepResult as StepResult
    from robustmix.methods.mixing import Blend as Blend
    from robustmix.methods.mixing import soft_targets as soft_targets
    from robustmix.methods.mixup import Mixup as Mixup
    from robustmix.methods.mixup import MixupConfig as MixupConfig
    from robustmix.methods.mixup import draw_mixup as draw_mixup
    from robustmix.methods.mixup import mixup as mixup
    from robustmix.methods.momentum_pair import MixPreview as MixPreview
    from robustmix.methods.momentum_pair import MomentumPair as MomentumPair
    from robustmix.methods.momentum_pair import TeacherMethod as TeacherMethod
    from robustmix.methods.momentum_pair import ema_momentum as ema_momentum
    from robustmix.methods.puzzlemix import PuzzleMix as PuzzleMix
    from robustmix.methods.puzzlemix import PuzzleMixConfig as PuzzleMixConfig
    from robustmix.methods.puzzlemix import draw_puzzlemix as draw_puzzlemix
    from robustmix.methods.puzzlemix import puzzlemix as puzzlemix
    from robustmix.methods.registry import METHODS as METHODS
    from robustmix.methods.resizemix import ResizeMix as ResizeMix
    from robustmix.methods.resizemix import ResizeMixConfig as ResizeMixConfig
    from robustmix.methods.resizemix import draw_resizemix as draw_resizemix
    from robustmix.methods.resizemix import resizemix as resizemix
    from robustmix.methods.rsb import RSB as RSB
    from robustmix.methods.rsb import RSBConfig as RSBConfig
    from robustmix.methods.saliencymix import SaliencyMix as SaliencyMix
    from robustmix.methods.saliencymix import SaliencyMixConfig as SaliencyMixConfig
    from robustmix.methods.saliencymix import draw_saliencymix as draw_saliencymix
    from robustmix.methods.saliencymix import saliencymix as saliencymix
    from robustmix.methods.samix import SAMix as SAMix
    from robustmix.methods.samix import SAMixConfig as SAMixConfig
    from robustmix.methods.smoothmix import SmoothMix as SmoothMix
    from robustmix.methods.smoothmix import SmoothMixConfig as SmoothMixConfig
    from robustmix.methods.smoothmix import draw_smoothmix as draw_smoothmix
    from robustmix.methods.smoothmix import smoothmix as smoothmix
    from robustmix.methods.snapmix import SnapMix as SnapMix
    from robustmix.methods.snapmix import SnapMixConfig as SnapMixConfig
    from robustmix.methods.snapmix import draw_snapmix as draw_snapmix
    from robustmix.methods.snapmix import snapmix as snapmix
    from robustmix.methods.supermix import SuperMix as SuperMix
    from robustmix.methods.supermix import SuperMixConfig as SuperMixConfig
    from robustmix.methods.supermix import draw_supermix as draw_supermix
    from robustmix.methods.supermix import supermix as supermix
    from robustmix.methods.transmix import TransMix as TransMix
    from robustmix.methods.transmix import TransMixConfig as TransMixConfig
    from robustmix.methods.vanilla import Vanilla as Vanilla
    from robustmix.methods.vanilla import VanillaConfig as VanillaConfig

_EXPORTS = {
    "AdAutoMix": "robustmix.methods.adautomix",
    "AdAutoMixConfig": "robustmix.methods.adautomix",
    "AdAutoMixDraws": "robustmix.methods.adautomix",
    "AlignMix": "robustmix.methods.alignmix",
    "AlignMixConfig": "robustmix.methods.alignmix",
    "AttentiveMix": "robustmix.methods.attentivemix",
    "AttentiveMixConfig": "robustmix.methods.attentivemix",
    "AugMix": "robustmix.methods.augmix",
    "AugMixConfig": "robustmix.methods.augmix",
    "AutoMix": "robustmix.methods.automix",
    "AutoMixConfig": "robustmix.methods.automix",
    "Blend": "robustmix.methods.mixing",
    "CoMixup": "robustmix.methods.comixup",
    "CoMixupConfig": "robustmix.methods.comixup",
    "CutMix": "robustmix.methods.cutmix",
    "CutMixConfig": "robustmix.methods.cutmix",
    "DeiT": "robustmix.methods.deit",
    "DeiTConfig": "robustmix.methods.deit",
    "FMix": "robustmix.methods.fmix",
    "FMixConfig": "robustmix.methods.fmix",
    "GridMix": "robustmix.methods.gridmix",
    "GridMixConfig": "robustmix.methods.gridmix",
    "METHODS": "robustmix.methods.registry",
    "ManifoldMix": "robustmix.methods.manifoldmix",
    "ManifoldMixConfig": "robustmix.methods.manifoldmix",
    "Method": "robustmix.methods.method",
    "MixPreview": "robustmix.methods.momentum_pair",
    "Mixed": "robustmix.methods.method",
    "Mixup": "robustmix.methods.mixup",
    "MixupConfig": "robustmix.methods.mixup",
    "MomentumPair": "robustmix.methods.momentum_pair",
    "PuzzleMix": "robustmix.methods.puzzlemix",
    "PuzzleMixConfig": "robustmix.methods.puzzlemix",
    "RSB": "robustmix.methods.rsb",
    "RSBConfig": "robustmix.methods.rsb",
    "ResizeMix": "robustmix.methods.resizemix",
    "ResizeMixConfig": "robustmix.methods.resizemix",
    "SAMix": "robustmix.methods.samix",
    "SAMixConfig": "robustmix.methods.samix",
    "SaliencyMix": "robustmix.methods.saliencymix",
    "SaliencyMixConfig": "robustmix.methods.saliencymix",
    "Setup": "robustmix.methods.method",
    "SmoothMix": "robustmix.methods.smoothmix",
    "SmoothMixConfig": "robustmix.methods.smoothmix",
    "SnapMix": "robustmix.methods.snapmix",
    "SnapMixConfig": "robustmix.methods.snapmix",
    "StepResult": "robustmix.methods.method",
    "SuperMix": "robustmix.methods.supermix",
    "SuperMixConfig": "robustmix.methods.supermix",
    "TeacherMethod": "robustmix.methods.momentum_pair",
    "TransMix": "robustmix.methods.transmix",
    "TransMixConfig": "robustmix.methods.transmix",
    "Vanilla": "robustmix.methods.vanilla",
    "VanillaConfig": "robustmix.methods.vanilla",
    "alignmix": "robustmix.methods.alignmix",
    "attentivemix": "robustmix.methods.attentivemix",
    "augmix": "robustmix.methods.augmix",
    "comixup": "robustmix.methods.comixup",
    "cross_entropy": "robustmix.methods.losses",
    "cutmix": "robustmix.methods.cutmix",
    "draw_adautomix": "robustmix.methods.adautomix",
    "draw_alignmix": "robustmix.methods.alignmix",
    "draw_attentivemix": "robustmix.methods.attentivemix",
    "draw_augmix": "robustmix.methods.augmix",
    "draw_comixup": "robustmix.methods.comixup",
    "draw_cutmix": "robustmix.methods.cutmix",
    "draw_fmix": "robustmix.methods.fmix",
    "draw_gridmix": "robustmix.methods.gridmix",
    "draw_manifoldmix": "robustmix.methods.manifoldmix",
    "draw_mixup": "robustmix.methods.mixup",
    "draw_puzzlemix": "robustmix.methods.puzzlemix",
    "draw_resizemix": "robustmix.methods.resizemix",
    "draw_saliencymix": "robustmix.methods.saliencymix",
    "draw_smoothmix": "robustmix.methods.smoothmix",
    "draw_snapmix": "robustmix.methods.snapmix",
    "draw_supermix": "robustmix.methods.supermix",
    "ema_momentum": "robustmix.methods.momentum_pair",
    "fmix": "robustmix.methods.fmix",
    "gridmix": "robustmix.methods.gridmix",
    "mixed_cross_entropy": "robustmix.methods.losses",
    "mixup": "robustmix.methods.mixup",
    "puzzlemix": "robustmix.methods.puzzlemix",
    "resizemix": "robustmix.methods.resizemix",
    "saliencymix": "robustmix.methods.saliencymix",
    "smoothmix": "robustmix.methods.smoothmix",
    "snapmix": "robustmix.methods.snapmix",
    "soft_targets": "robustmix.methods.mixing",
    "supermix": "robustmix.methods.supermix",
}

__all__ = [
    "METHOD_INFO",
    "MethodInfo",
    *_EXPORTS,
]

__getattr__ = lazy_exports(__name__, _EXPORTS)
